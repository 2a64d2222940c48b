"""Reads a list of neurons of any models and runs, in as many SELECTs as for one neuron."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, or_, select

from app.errors import NotFound
from app.examples.queries import CONTEXTS, EXAMPLES, Context, NeuronExamples, context
from app.examples.schemas import Example
from app.lists.entries import Entry, full_text
from app.lists.schemas import ListRow
from app.reading.neurons import neuron_row, rows_at
from app.reading.runs import at_hook_points, pick, run_ref, runs_of
from app.reading.store import Reading, Store
from app.web.address import NeuronPlace
from indexer.store import schema
from indexer.store.checksums import missing
from indexer.store.packing.codec import ExampleArrays, unpack_kinds

_TOP = schema.KINDS.index("top")
_EXAMPLES = select(*EXAMPLES.selected).where(
    schema.examples.c.neuron_id.in_(bindparam("keys", expanding=True)),
    schema.examples.c.kind == _TOP,  # a row can hold several kinds, and this is its first
)
_contexts = schema.contexts


@dataclass(frozen=True, slots=True)
class _Match:
    """An entry whose neuron exists."""

    text: str
    reading: Reading
    key: int


def rows(store: Store, entries: Sequence[Entry], reach: int | None = None) -> list[ListRow]:
    """The rows of a list, without repetitions; `reach` is as in `NeuronExamples.of_kind`. Raises
    Damaged."""
    with store.connect() as connection:
        runs = runs_of(connection, {entry.place.model for entry in entries if entry.place})
        by_text: dict[str, _Match | ListRow] = {}
        for entry in entries:
            try:
                match = _match(store, connection, entry, runs)
            except NotFound as error:
                model = entry.place.model if entry.place else None
                by_text.setdefault(entry.text, _missing(entry.text, model, error.detail))
            else:
                by_text.setdefault(match.text, match)
        matches = [row for row in by_text.values() if isinstance(row, _Match)]
        read = _read(connection, matches, reach) if matches else {}
        return [read[row.key] if isinstance(row, _Match) else row for row in by_text.values()]


def _missing(text: str, model: str | None, why: str) -> ListRow:
    return ListRow(
        address=text, missing=why, model=model, run=None, scale=None, neuron=None, example=None
    )


def _match(
    store: Store, connection: Connection, entry: Entry, runs: dict[str, list[Row[Any]]]
) -> _Match:
    """The neuron of an entry. Raises NotFound."""
    place = entry.place
    if place is None:
        raise NotFound(entry.wrong)
    rows = runs.get(place.model, [])
    default = pick(place.name, rows, None)
    run = at_hook_points(place.name, rows, place.run, entry.hook_points)
    reading = store.open_row(connection, run, rows)
    index = reading.index_of(place.layer, place.neuron)
    named_run = None if run.id == default.id else run.id
    text = full_text(NeuronPlace(place.model, place.layer, place.neuron, named_run, place.set))
    return _Match(text, reading, schema.neuron_key(run.id, index))


def _read(
    connection: Connection, matches: Sequence[_Match], reach: int | None
) -> dict[int, ListRow]:
    """The rows of neurons that exist, by key."""
    keys = sorted({match.key for match in matches})
    neurons = rows_at(connection, keys)
    examples = EXAMPLES.check(connection.execute(_EXAMPLES, {"keys": keys}).all())
    for key in set(keys) - {row.neuron_id for row in examples}:
        raise missing(schema.examples, neuron_id=key, kind=_TOP)
    tops = {
        row.neuron_id: arrays
        for row in examples
        if (arrays := unpack_kinds([(row.kind, row.packed)]).get(_TOP)) is not None
    }
    contexts = _first_contexts(connection, matches, tops)
    rows = {}
    for match in matches:
        row = neurons[match.key]
        example: Example | None = None
        if match.key in tops:
            top = NeuronExamples({_TOP: tops[match.key]}, contexts[match.key], match.reading)
            (example,) = top.of_kind("top", [0], reach)
        rows[match.key] = ListRow(
            address=match.text,
            missing=None,
            model=match.reading.run.model,
            run=run_ref(match.reading.run),
            scale=max(abs(row.max), abs(row.min)),
            neuron=neuron_row(row, match.reading),
            example=example,
        )
    return rows


def _first_contexts(
    connection: Connection, matches: Sequence[_Match], tops: dict[int, ExampleArrays]
) -> dict[int, dict[int, Context]]:
    """The context of each neuron's first example, by the neuron's key and the context's id."""
    places = {
        match.key: (match.reading.run.id, int(tops[match.key].context_ids[0]))
        for match in matches
        if match.key in tops
    }
    if not places:
        return {}
    by_run: dict[int, set[int]] = {}
    for run_id, context_id in places.values():
        by_run.setdefault(run_id, set()).add(context_id)
    # Not an IN of pairs, for which SQLite would read all contexts.
    conditions = [
        and_(_contexts.c.run_id == run_id, _contexts.c.context_id.in_(sorted(ids)))
        for run_id, ids in by_run.items()
    ]
    selected = connection.execute(select(*CONTEXTS.selected).where(or_(*conditions))).all()
    sources = {match.reading.run.id: match.reading.run.sources for match in matches}
    contexts = {
        (row.run_id, row.context_id): context(sources[row.run_id], row)
        for row in CONTEXTS.check(selected)
    }
    for run_id, context_id in places.values():
        if (run_id, context_id) not in contexts:
            raise missing(_contexts, run_id=run_id, context_id=context_id)
    return {key: {place[1]: contexts[place]} for key, place in places.items()}
