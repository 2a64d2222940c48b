"""Reads what changed of each neuron between two runs of a model: computed once a layer, then kept.

Two checkpoints, dtypes, corpora or seeds of one model have the same neurons, so each is compared
with itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from sqlalchemy import Connection, Row, bindparam, select

from app.differences.schemas import Differences, DifferenceSort, NeuronDifference, first_order
from app.errors import Invalid, NotFound
from app.examples.common import common_contexts
from app.examples.queries import contexts_of
from app.reading import cursors, packed
from app.reading.columns import columns
from app.reading.runs import pick, run_of_id, run_ref, runs_of
from app.reading.store import Reading, Store
from app.reading.unit_names import name_at
from app.reading.vocabulary import text_of
from app.schemas import Order
from app.sets import ModelSet
from indexer.store import schema
from indexer.store.checksums import cover
from indexer.store.packing.codec import unpack_kinds
from indexer.store.places import Places

MOST_AT_ONCE = 8_192
"""The most neurons of a comparison over all layers; a larger model is compared layer by layer."""
_BATCH = 5_000
"""Contexts a SELECT: databases limit the number of bound values."""
_TOP = schema.KINDS.index("top")
_COVER = cover(schema.examples)
_EXAMPLES = select(*_COVER.selected).where(
    schema.examples.c.neuron_id.between(bindparam("first"), bindparam("last")),
    schema.examples.c.kind == _TOP,  # a row can hold several kinds, and this is its first
)

Values = Float64[np.ndarray, " neurons"]


@dataclass(frozen=True, slots=True)
class LayerChange:
    """What changed of a layer's neurons from run `a` to run `b`; NaN: unknown."""

    contexts: int
    """The number of contexts that correlations are over."""
    correlation: Values
    shared: Values
    max: tuple[Values, Values]
    density: tuple[Values, Values]
    peak_tokens: tuple[list[float], list[float]]
    """NaN for a unit that never fires."""


def readings(
    store: Store, connection: Connection, model: ModelSet, a: int | None, b: int | None
) -> tuple[Reading, Reading]:
    """The two runs of a model to compare: by default its default run with the newest other one at
    the same hook point. Raises NotFound, Invalid."""
    rows = runs_of(connection, [model.model]).get(model.model, [])
    for run in (a, b):
        _check_model(connection, model, rows, run)
    first = pick(model, rows, a)
    if b is None:
        alike = (first.set_name, first.hook_point)
        others = [
            row for row in rows if row.id != first.id and (row.set_name, row.hook_point) == alike
        ]
        if not others:
            raise NotFound(
                f"{model} has only one run at {first.hook_point}: index it once more, such as at "
                "another revision or over another corpus, to see what changes."
            )
        second = others[0]
    else:
        second = pick(model, rows, b)
    if first.hook_point != second.hook_point:
        raise Invalid(
            f"Run {first.id} is at {first.hook_point} and run {second.id} at {second.hook_point}: "
            "they have different neurons. Choose two runs at the same hook point."
        )
    return store.open_row(connection, first, rows), store.open_row(connection, second, rows)


def at_once(a: Reading, b: Reading) -> bool:
    """Whether the neurons of all layers are compared in one table."""
    return sum(_widths(a, b)) <= MOST_AT_ONCE


def _check_model(
    connection: Connection, model: ModelSet, rows: Sequence[Row[Any]], run: int | None
) -> None:
    """Raises NotFound for a run of another model, one indexed under another name."""
    if not rows or run is None or any(row.id == run for row in rows):
        return
    try:
        other = run_of_id(connection, run)
    except NotFound:  # `pick` says which runs there are
        return
    raise NotFound(
        f"Run {run} is of model {other!r}, not of {model.model!r}: differences are between runs "
        "indexed under one name (--name)."
    )


def _usual_sort(a: Reading, b: Reading, changes: Iterable[LayerChange]) -> DifferenceSort:
    """What differences are sorted by unless the reader chooses. Peaks correlate only over common
    contexts, and runs over different text share no top examples."""
    if common_contexts(a, b).known:
        return "correlation"
    return "shared" if any((change.shared > 0).any() for change in changes) else "max"


def differences(
    a: Reading,
    b: Reading,
    layer: int | None,
    sort: DifferenceSort | None,
    order: Order | None,
    limit: int,
    cursor: str | None,
) -> Differences:
    """A page of the neurons that both runs have, of a layer or of all layers (of the first layer
    with units, if there are too many). Neurons without the value that sorts come last. Without
    `sort`, see `_usual_sort`; without `order`, those that changed most come first.

    Raises NotFound, and Invalid for a cursor of another list."""
    widths, layers = _widths(a, b), layers_of(a, b)
    if layer is None and not at_once(a, b):
        layer = layers[0]
    if layer is not None:
        _check_layer(a, layer, widths)
        layers = [layer]
    changes = {one: _change(a, b, one, widths[one]) for one in layers}
    sort = sort or _usual_sort(a, b, changes.values())
    order = order or first_order(sort)
    places = [(one, neuron) for one in layers for neuron in range(widths[one])]
    keys = np.concatenate(
        [np.empty(0), *(_keys(changes[one], sort, one, widths) for one in layers)]
    )
    signed = keys if order == "asc" else -keys
    ranked = np.lexsort((np.arange(len(keys)), np.where(np.isnan(signed), np.inf, signed)))
    begin = 0
    about = ["all" if layer is None else str(layer), sort, order, f"{a.run.id}-{b.run.id}"]
    if cursor is not None:
        *its_list, begin = cursors.decode(cursor, str, str, str, str, int)
        if its_list != about or begin < 0:
            raise Invalid("The cursor belongs to another list: start again without it.")
    page = ranked[begin : begin + limit].tolist()
    more = cursors.encode(*about, begin + limit) if begin + limit < len(ranked) else None
    return Differences(
        model=a.run.model,
        a=run_ref(a.run),
        b=run_ref(b.run),
        layer=layer,
        n_layers=len(widths),
        at_once=at_once(a, b),
        sort=sort,
        order=order,
        contexts=max((change.contexts for change in changes.values()), default=0),
        fewest=common_contexts(a, b).fewest,
        total=len(places),
        items=[_item(a, b, changes, *places[at]) for at in page],
        next=more,
    )


def layers_of(a: Reading, b: Reading) -> list[int]:
    """The layers that have units in both runs."""
    return [layer for layer, width in enumerate(_widths(a, b)) if width]


def _check_layer(a: Reading, layer: int, widths: Sequence[int]) -> None:
    """Raises NotFound for a layer that has no units in both runs."""
    if layer >= len(widths):
        raise NotFound(f"The two runs have layers 0 to {len(widths) - 1}: no layer {layer}.")
    if not widths[layer]:
        raise NotFound(f"Layer {layer} has no {a.units.noun}s that both runs have.")


def _widths(a: Reading, b: Reading) -> list[int]:
    """The number of neurons that both runs have in each layer that both have."""
    return [min(pair) for pair in zip(a.run.widths, b.run.widths, strict=False)]


def _keys(change: LayerChange, sort: DifferenceSort, layer: int, widths: Sequence[int]) -> Values:
    if sort == "neuron":
        places: Values = Places(widths).offsets[layer] + np.arange(widths[layer], dtype=np.float64)
        return places
    if sort == "correlation":
        return change.correlation
    if sort == "shared":
        return change.shared
    before, after = change.max if sort == "max" else change.density
    change_of: Values = np.abs(after - before)
    return change_of


def _item(
    a: Reading, b: Reading, changes: dict[int, LayerChange], layer: int, neuron: int
) -> NeuronDifference:
    change = changes[layer]
    return NeuronDifference(
        layer=layer,
        neuron=neuron,
        name=name_at(a, layer, neuron),
        correlation=_known(change.correlation[neuron]),
        shared=_known(change.shared[neuron]),
        max_a=float(change.max[0][neuron]),
        max_b=float(change.max[1][neuron]),
        density_a=float(change.density[0][neuron]),
        density_b=float(change.density[1][neuron]),
        peak_token_a=text_of(a.vocabulary, change.peak_tokens[0][neuron]),
        peak_token_b=text_of(b.vocabulary, change.peak_tokens[1][neuron]),
    )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _change(a: Reading, b: Reading, layer: int, width: int) -> LayerChange:
    return a.derived.of(
        f"change {layer}", a.run, b.run, compute=lambda: _read_change(a, b, layer, width)
    )


def _read_change(a: Reading, b: Reading, layer: int, width: int) -> LayerChange:
    names = ("max", "density", "peak_token_id")
    sides = [columns(side.connection, side.run, names, [layer]) for side in (a, b)]
    before, after = ({name: side[name][:width] for name in names} for side in sides)
    contexts, correlation = _correlation(a, b, layer, width)
    return LayerChange(
        contexts=contexts,
        correlation=correlation,
        shared=_shared(a, b, layer, width),
        max=(before["max"], after["max"]),
        density=(before["density"], after["density"]),
        peak_tokens=(before["peak_token_id"].tolist(), after["peak_token_id"].tolist()),
    )


def _range(reading: Reading, layer: int, width: int) -> dict[str, int]:
    first = schema.neuron_key(reading.run.id, reading.places.index(layer, 0))
    return {"first": first, "last": first + width - 1}


def _correlation(a: Reading, b: Reading, layer: int, width: int) -> tuple[int, Values]:
    """The number of contexts that both runs' samples have, and Pearson's correlation of each
    neuron's peaks over them."""
    values = np.full(width, np.nan)
    common, contexts = common_contexts(a, b), 0
    both = [_sample_peaks(side, layer)[:width] for side in (a, b)]
    for neuron, kept in enumerate(zip(*both, strict=True)):
        one, other = common.peaks(*kept)
        contexts = max(contexts, len(one))
        if len(one) >= common.fewest and np.ptp(one) > 0 and np.ptp(other) > 0:
            values[neuron] = np.corrcoef(one, other)[0, 1].clip(-1, 1)
    return contexts, values


def _sample_peaks(reading: Reading, layer: int) -> list[Values]:
    """The peaks of each neuron, in a unit of its own: correlations do not depend on it."""
    peaks: list[Values] = []
    for _, arrays in packed.stored_arrays(reading, layer, ("sample_peaks",)):
        values, lengths = arrays["sample_peaks"]
        peaks += [
            row[:length] for row, length in zip(values.astype(np.float64), lengths, strict=True)
        ]
    return peaks


def _shared(a: Reading, b: Reading, layer: int, width: int) -> Values:
    """The share of each neuron's top examples in `a` that are top examples in `b` too."""
    values = np.full(width, np.nan)
    if a.run.identity != b.run.identity:
        return values
    of_a, of_b = (_top_texts(side, layer, width) for side in (a, b))
    for neuron in range(width):
        if tops := of_a.get(neuron):
            values[neuron] = len(tops & of_b.get(neuron, set())) / len(tops)
    return values


def _top_texts(reading: Reading, layer: int, width: int) -> dict[int, set[bytes]]:
    """The top examples of each neuron of a layer, as hashes of their tokens."""
    keys = _range(reading, layer, width)
    ids: dict[int, list[int]] = {}
    for row in _COVER.check(reading.connection.execute(_EXAMPLES, keys).all()):
        top = unpack_kinds([(row.kind, row.packed)]).get(_TOP)
        if top is not None:
            ids[row.neuron_id - keys["first"]] = top.context_ids.tolist()
    known = _texts(reading, sorted({one for of_neuron in ids.values() for one in of_neuron}))
    return {neuron: {known[one] for one in of_neuron} for neuron, of_neuron in ids.items()}


def _texts(reading: Reading, ids: list[int]) -> dict[int, bytes]:
    """A hash of the tokens of each context."""
    run: Row[Any] = reading.run
    hashes = {}
    for batch in (ids[at : at + _BATCH] for at in range(0, len(ids), _BATCH)):
        for context_id, context in contexts_of(reading.connection, run, batch).items():
            tokens = context.token_ids[context.included_from :].tobytes()
            hashes[context_id] = hashlib.blake2b(tokens, digest_size=16).digest()
    return hashes
