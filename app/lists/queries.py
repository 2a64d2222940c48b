"""Reading a list of neurons of any models and runs, in as many SELECTs as for one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, or_, select

from app.errors import NotFound
from app.examples.queries import Context, Kept, context
from app.examples.schemas import Example
from app.lists.entries import Entry, full_text
from app.lists.schemas import ListRow
from app.reading import runs as run_query
from app.reading.neurons import ROW_COLUMNS, neuron_row
from app.reading.vocabulary import Vocabularies
from app.web.address import NeuronPlace
from indexer.store import schema
from indexer.store.packing.codec import ExampleArrays, unpack_kinds

_TOP = schema.KINDS.index("top")
_NEURONS = select(schema.neurons.c.id, *ROW_COLUMNS).where(
    schema.neurons.c.id.in_(bindparam("keys", expanding=True))
)
_EXAMPLES = select(
    schema.examples.c.neuron_id, schema.examples.c.kind, schema.examples.c.packed
).where(
    schema.examples.c.neuron_id.in_(bindparam("keys", expanding=True)),
    schema.examples.c.kind == _TOP,  # the first list of a row is that of its kind
)
_contexts = schema.contexts


@dataclass(frozen=True, slots=True)
class _Chosen:
    """An entry that is there."""

    text: str
    run: Row[Any]
    key: int


def rows(
    connection: Connection,
    vocabularies: Vocabularies,
    entries: Sequence[Entry],
    reach: int | None = None,
) -> list[ListRow]:
    """A row an entry, but for one that is the same as one before it; `reach` as in `Kept.shown`."""
    models = {entry.place.model for entry in entries if entry.place}
    runs = run_query.runs_of(connection, models)
    found: dict[str, _Chosen | ListRow] = {}
    for entry in entries:
        try:
            chosen = _chosen(entry, runs)
        except NotFound as error:
            model = entry.place.model if entry.place else None
            found.setdefault(entry.text, _missing(entry.text, model, error.detail))
        else:
            found.setdefault(chosen.text, chosen)
    there = [one for one in found.values() if isinstance(one, _Chosen)]
    made = _read(connection, vocabularies, there, reach) if there else {}
    return [made[one.key] if isinstance(one, _Chosen) else one for one in found.values()]


def _missing(text: str, model: str | None, why: str) -> ListRow:
    return ListRow(
        address=text, missing=why, model=model, run=None, scale=None, neuron=None, example=None
    )


def _chosen(entry: Entry, runs: dict[str, list[Row[Any]]]) -> _Chosen:
    place = entry.place
    if place is None:
        raise NotFound(entry.wrong)
    of_model = runs.get(place.model, [])
    default = run_query.picked(place.model, of_model, None)
    run = run_query.seen(place.model, of_model, place.run, entry.hook_points)
    flat = run_query.flat(run, place.layer, place.neuron)
    named = None if run.id == default.id else run.id
    text = full_text(NeuronPlace(place.model, place.layer, place.neuron, named))
    return _Chosen(text, run, schema.neuron_key(run.id, flat))


def _read(
    connection: Connection,
    vocabularies: Vocabularies,
    chosen: Sequence[_Chosen],
    reach: int | None,
) -> dict[int, ListRow]:
    """The rows of neurons that are there, by key."""
    keys = {"keys": [one.key for one in chosen]}
    neurons = {row.id: row for row in connection.execute(_NEURONS, keys)}
    tops = {
        row.neuron_id: arrays
        for row in connection.execute(_EXAMPLES, keys)
        if (arrays := unpack_kinds([(row.kind, row.packed)]).get(_TOP)) is not None
    }
    contexts = _first_contexts(connection, chosen, tops)
    made = {}
    for one in chosen:
        row, run = neurons[one.key], one.run
        vocabulary = vocabularies.get(connection, run.vocabulary_id, run.identity)
        example: Example | None = None
        if one.key in tops:
            kept = Kept({_TOP: tops[one.key]}, contexts[one.key], vocabulary)
            (example,) = kept.shown("top", [0], reach)
        made[one.key] = ListRow(
            address=one.text,
            missing=None,
            model=run.model,
            run=run_query.run_ref(run),
            scale=max(abs(row.max), abs(row.min)),
            neuron=neuron_row(row, vocabulary),
            example=example,
        )
    return made


def _first_contexts(
    connection: Connection, chosen: Sequence[_Chosen], tops: dict[int, ExampleArrays]
) -> dict[int, dict[int, Context]]:
    """The context of each neuron's first example, by neuron's key and then by its own number."""
    wanted = {
        one.key: (one.run.id, int(tops[one.key].context_ids[0]))
        for one in chosen
        if one.key in tops
    }
    if not wanted:
        return {}
    by_run: dict[int, set[int]] = {}
    for run_id, context_id in wanted.values():
        by_run.setdefault(run_id, set()).add(context_id)
    # Not an IN of pairs: SQLite would read all contexts for that.
    places = [
        and_(_contexts.c.run_id == run_id, _contexts.c.context_id.in_(sorted(ids)))
        for run_id, ids in by_run.items()
    ]
    found = connection.execute(
        select(
            _contexts.c.run_id,
            _contexts.c.context_id,
            _contexts.c.document_index,
            _contexts.c.source_index,
            _contexts.c.included_from,
            _contexts.c.token_ids,
        ).where(or_(*places))
    )
    sources = {one.run.id: one.run.sources for one in chosen}
    read = {(run, number): context(sources[run], *rest) for run, number, *rest in found}
    return {key: {at[1]: read[at]} for key, at in wanted.items()}
