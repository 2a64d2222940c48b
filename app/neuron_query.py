"""Reading one neuron: its rows, its contexts' tokens and the vocabulary, put together."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, select

from app.schemas import (
    Band,
    Example,
    Examples,
    Histogram,
    LogitEffect,
    LogitEffects,
    PeakQuantiles,
    Stats,
)
from indexer.store import schema
from indexer.store.codec import (
    ExampleArrays,
    activations_of,
    unpack_examples,
    unpack_numbers,
    unpack_token_ids,
)

BAND_SHARES = (0.5, 0.4, 0.09, 0.01)
"""What the bands' quantiles promise, lowest band first."""
_CACHED_VOCABULARIES = 8


class Vocabularies:
    """Token texts by vocabulary, read once a process: a vocabulary never changes."""

    def __init__(self) -> None:
        self._texts: OrderedDict[str, list[str]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, connection: Connection, vocabulary_id: int) -> list[str]:
        """Text of every token id; bytes that are no whole character stand as \\xNN."""
        # By identity: a deleted vocabulary's number can be given to another.
        named = schema.vocabularies
        identity = connection.execute(
            select(named.c.identity).where(named.c.id == vocabulary_id)
        ).scalar_one()
        with self._lock:
            if identity in self._texts:
                self._texts.move_to_end(identity)
                return self._texts[identity]
        table = schema.vocabulary
        rows = connection.execute(
            select(table.c.bytes)
            .where(table.c.vocabulary_id == vocabulary_id)
            .order_by(table.c.token_id)
        )
        texts = [bytes(row.bytes).decode("utf-8", "backslashreplace") for row in rows]
        with self._lock:
            self._texts[identity] = texts
            while len(self._texts) > _CACHED_VOCABULARIES:
                self._texts.popitem(last=False)
        return texts


@dataclass(frozen=True)
class NeuronFacts:
    """What the store knows of one neuron."""

    stats: Stats
    histogram: Histogram
    examples: Examples
    logit_effects: LogitEffects


@dataclass(frozen=True)
class _Context:
    document_index: int
    source: str | None
    included_from: int
    token_ids: np.ndarray[Any, np.dtype[np.uint32]]


def neuron_facts(
    connection: Connection, vocabularies: Vocabularies, run: Row[Any], flat: int
) -> NeuronFacts:
    """Read a neuron by its index counted over all layers."""
    key = schema.neuron_key(run.id, flat)
    neurons, examples = schema.neurons, schema.examples
    row = connection.execute(select(neurons).where(neurons.c.id == key)).one()
    packed = connection.execute(
        select(examples.c.kind, examples.c.packed).where(examples.c.neuron_id == key)
    )
    kinds = {schema.KINDS[some.kind]: unpack_examples(bytes(some.packed)) for some in packed}
    contexts = _contexts(connection, run, kinds)
    vocabulary = vocabularies.get(connection, run.vocabulary_id)

    def shown(kind: str, of: range | None = None) -> list[Example]:
        return _examples(kinds.get(kind), contexts, vocabulary, of)

    return NeuronFacts(
        stats=_stats(row),
        histogram=_histogram(row),
        examples=Examples(
            top=shown("top"),
            bottom=shown("bottom"),
            random=shown("random"),
            bands=_bands(row, kinds.get("band"), shown),
        ),
        logit_effects=_logit_effects(row, vocabulary),
    )


def _contexts(
    connection: Connection, run: Row[Any], kinds: dict[str, ExampleArrays]
) -> dict[int, _Context]:
    wanted = sorted({int(c) for some in kinds.values() for c in some.context_ids})
    table = schema.contexts
    rows = connection.execute(
        select(
            table.c.context_id,
            table.c.document_index,
            table.c.source_index,
            table.c.included_from,
            table.c.token_ids,
        ).where(table.c.run_id == run.id, table.c.context_id.in_(wanted))
    )
    return {
        row.context_id: _Context(
            document_index=row.document_index,
            source=run.sources[row.source_index] or None,
            included_from=row.included_from,
            token_ids=unpack_token_ids(bytes(row.token_ids)),
        )
        for row in rows
    }


def _examples(
    arrays: ExampleArrays | None,
    contexts: dict[int, _Context],
    vocabulary: list[str],
    of: range | None,
) -> list[Example]:
    if arrays is None:
        return []
    chosen = range(len(arrays)) if of is None else of
    return [
        _example(rank, arrays, index, contexts[int(arrays.context_ids[index])], vocabulary)
        for rank, index in enumerate(chosen, 1)
    ]


def _example(
    rank: int, arrays: ExampleArrays, index: int, context: _Context, vocabulary: list[str]
) -> Example:
    start, length = int(arrays.starts[index]), int(arrays.lengths[index])
    token_ids = context.token_ids[start : start + length].tolist()
    values = activations_of(arrays, index).tolist()
    values[: max(0, context.included_from - start)] = [None] * max(0, context.included_from - start)
    # The peak and the trough themselves are exact, not to within the rounding of the rest.
    exact = (
        (arrays.trough_positions[index], arrays.troughs[index]),
        (arrays.peak_positions[index], arrays.peaks[index]),
    )
    for position, value in exact:
        if start <= position < start + length:
            values[int(position) - start] = float(value)
    return Example(
        rank=rank,
        peak=float(arrays.peaks[index]),
        peak_position=int(arrays.peak_positions[index]),
        trough=float(arrays.troughs[index]),
        trough_position=int(arrays.trough_positions[index]),
        context_id=int(arrays.context_ids[index]),
        document_index=context.document_index,
        source=context.source,
        start=start,
        tokens=[vocabulary[token_id] for token_id in token_ids],
        token_ids=token_ids,
        activations=values,
    )


def _bands(row: Row[Any], arrays: ExampleArrays | None, shown: Any) -> list[Band]:
    """Bands from the highest down: what is next to the top examples comes first."""
    cuts = unpack_numbers(row.band_cuts)
    counts = unpack_numbers(row.band_counts)
    if not np.isfinite(cuts).all():  # a sample too small to have two halves
        return []
    peaks = np.empty(0, np.float32) if arrays is None else arrays.peaks
    member = (peaks[:, None].astype(np.float64) >= cuts).sum(axis=1)
    edges = [None, *cuts.tolist(), None]
    bands = []
    for index, (low, high) in enumerate(pairwise(edges)):
        if low is not None and low == high:  # ties at the cut points: nothing can fall here
            continue
        places = np.flatnonzero(member == index)
        first = int(places[0]) if len(places) else 0
        bands.append(
            Band(
                low=low,
                high=high,
                nominal_share=BAND_SHARES[index],
                share=float(counts[index] / max(1, counts.sum())),
                examples=shown("band", range(first, first + len(places))),
            )
        )
    return bands[::-1]


def _histogram(row: Row[Any]) -> Histogram:
    start, width = unpack_numbers(row.histogram_range)
    counts = unpack_numbers(row.histogram_counts)
    edges = start + width * np.arange(len(counts) + 1)
    return Histogram(edges=edges.tolist(), counts=counts.tolist())


def finite(value: float) -> float | None:
    """A number as JSON knows it; the store's −inf ("never varied", so that it sorts) is None."""
    return value if math.isfinite(value) else None


def _stats(row: Row[Any]) -> Stats:
    quantiles = unpack_numbers(row.peak_quantiles).tolist()
    return Stats(
        max=row.max,
        min=row.min,
        mean=row.mean,
        std=row.std,
        skewness=row.skewness,
        kurtosis=finite(row.kurtosis),
        density=row.density,
        density_over_tenth=row.density_over_tenth,
        tenth=row.tenth,
        dead=row.dead,
        peak_quantiles=PeakQuantiles(
            **dict(zip(PeakQuantiles.model_fields, quantiles, strict=True))
        ),
    )


def _logit_effects(row: Row[Any], vocabulary: list[str]) -> LogitEffects:
    ids = unpack_numbers(row.logit_token_ids).reshape(2, -1).tolist()
    values = unpack_numbers(row.logit_values).reshape(2, -1).tolist()
    top, bottom = (
        [
            LogitEffect(token=vocabulary[token_id], token_id=token_id, value=value)
            for token_id, value in zip(ids[way], values[way], strict=True)
        ]
        for way in (0, 1)
    )
    return LogitEffects(top=top, bottom=bottom)
