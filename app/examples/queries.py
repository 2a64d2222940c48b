"""Reading the examples of one neuron: packed activations, contexts' tokens and texts together."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, Row, bindparam, select

from app.examples.schemas import Band, Example, Examples, PeakToken, SourceExamples
from indexer.store import schema
from indexer.store.packing.codec import (
    ExampleArrays,
    activations_of,
    unpack_kinds,
    unpack_token_ids,
)

BAND_SHARES = (0.5, 0.4, 0.09, 0.01)
"""What the bands' quantiles promise, lowest band first."""
_BOTTOM = schema.KINDS.index("bottom")

Array = np.ndarray[Any, Any]

# Built once: SQLAlchemy takes longer to put a statement together than SQLite to answer it.
_EXAMPLES = select(schema.examples.c.kind, schema.examples.c.packed).where(
    schema.examples.c.neuron_id == bindparam("neuron_id")
)
_CONTEXTS = select(
    schema.contexts.c.context_id,
    schema.contexts.c.document_index,
    schema.contexts.c.source_index,
    schema.contexts.c.included_from,
    schema.contexts.c.token_ids,
).where(
    schema.contexts.c.run_id == bindparam("run_id"),
    schema.contexts.c.context_id.in_(bindparam("context_ids", expanding=True)),
)


class Context(NamedTuple):
    """A context as the store has it."""

    document_index: int
    source_index: int
    source: str | None
    included_from: int
    token_ids: np.ndarray[Any, np.dtype[np.uint32]]

    @property
    def included_ids(self) -> list[int]:
        """The ids at its included positions."""
        ids: list[int] = self.token_ids[self.included_from :].tolist()
        return ids


@dataclass(frozen=True)
class Stored:
    """One kind of examples as Python's own numbers, which are read one by one much faster.

    Example i has its activations, clipped to its exact extremes, at `offsets[i]` to
    `offsets[i + 1]` of `values`: the context's positions from `starts[i]` on.
    """

    peaks: list[float]
    peak_positions: list[int]
    troughs: list[float]
    trough_positions: list[int]
    context_ids: list[int]
    starts: list[int]
    gates: list[float]
    linears: list[float]
    values: Array
    offsets: list[int]


class Kept:
    """All examples of one neuron, unpacked once and read in any part."""

    def __init__(
        self,
        kinds: dict[int, ExampleArrays],
        contexts: dict[int, Context],
        vocabulary: list[str],
    ) -> None:
        self._kinds = kinds
        self._stored = {kind: _stored(arrays) for kind, arrays in kinds.items()}
        self.contexts = contexts
        self._vocabulary = vocabulary

    def arrays(self, kind: str) -> ExampleArrays | None:
        """One kind as it is stored; None where there is none."""
        return self._kinds.get(schema.KINDS.index(kind))

    def shown(
        self, kind: str, of: Iterable[int] | None = None, reach: int | None = None
    ) -> list[Example]:
        """Examples of a kind, ranked from 1: all, or those at the places `of`.

        `reach` cuts each to so many positions on either side of its peak (its trough, for bottom
        examples); None leaves all that is stored.
        """
        number = schema.KINDS.index(kind)
        arrays = self._kinds.get(number)
        if arrays is None:
            return []
        places = range(len(arrays)) if of is None else of
        return [self._example(number, place, rank, reach) for rank, place in enumerate(places, 1)]

    def _example(self, kind: int, place: int, rank: int, reach: int | None) -> Example:
        stored = self._stored[kind]
        context_id = stored.context_ids[place]
        context = self.contexts[context_id]
        first = start = stored.starts[place]
        begin, end = stored.offsets[place], stored.offsets[place + 1]
        peak, trough = stored.peak_positions[place], stored.trough_positions[place]
        end += first - begin
        if reach is not None:
            centre = trough if kind == _BOTTOM else peak
            start = max(first, centre - reach)
            end = min(end, centre + reach + 1)
        begin -= first
        # A plain Python list is what both the JSON and the page want.
        shown: list[float | None] = stored.values[begin + start : begin + end].tolist()
        out = max(0, min(context.included_from, end) - start)
        shown[:out] = [None] * out
        # The peak and the trough themselves are exact, not to within the rounding of the rest.
        if start <= trough < end:
            shown[trough - start] = stored.troughs[place]
        if start <= peak < end:
            shown[peak - start] = stored.peaks[place]
        token_ids = context.token_ids[start:end].tolist()
        return Example(
            rank=rank,
            peak=stored.peaks[place],
            peak_position=peak,
            trough=stored.troughs[place],
            trough_position=trough,
            context_id=context_id,
            document_index=context.document_index,
            source=context.source,
            gate=_known(stored.gates[place]),
            linear=_known(stored.linears[place]),
            start=start,
            tokens=list(map(self._vocabulary.__getitem__, token_ids)),
            token_ids=token_ids,
            activations=shown,
        )

    def whole(self, context_id: int) -> tuple[list[str], Example, range] | None:
        """A context in full: its kinds, the longest of what is stored of it, and where that is.

        Positions that are not stored have no activation. None if it is nobody's example.
        """
        found = [
            (kind, int(place))
            for kind, arrays in self._kinds.items()
            for place in np.flatnonzero(arrays.context_ids == context_id)
        ]
        if not found:
            return None
        # Bottom examples last: gate and linear part are those at the trough there.
        kind, place = max(
            found, key=lambda one: (int(self._kinds[one[0]].lengths[one[1]]), one[0] != _BOTTOM)
        )
        stored = self._example(kind, place, place + 1, None)
        token_ids = self.contexts[context_id].token_ids.tolist()
        after = len(token_ids) - stored.start - len(stored.activations)
        activations = [*[None] * stored.start, *stored.activations, *[None] * after]
        for position, value in (
            (stored.trough_position, stored.trough),
            (stored.peak_position, stored.peak),
        ):
            activations[position] = value
        example = stored.model_copy(
            update={
                "start": 0,
                "tokens": [self._vocabulary[token_id] for token_id in token_ids],
                "token_ids": token_ids,
                "activations": activations,
            }
        )
        kinds = sorted({kind for kind, _ in found})
        positions = range(stored.start, stored.start + len(stored.activations))
        return [schema.KINDS[kind] for kind in kinds], example, positions

    def peak_tokens(self) -> list[PeakToken]:
        """The tokens the kept examples peak on, each context once; most frequent first."""
        peaks: dict[int, tuple[int, float]] = {}
        for stored in self._stored.values():
            for context_id, position, peak in zip(
                stored.context_ids, stored.peak_positions, stored.peaks, strict=True
            ):
                peaks[context_id] = int(self.contexts[context_id].token_ids[position]), peak
        by_token: dict[int, list[float]] = {}
        for token_id, peak in peaks.values():
            by_token.setdefault(token_id, []).append(peak)
        found = [
            PeakToken(
                token=self._vocabulary[token_id],
                token_id=token_id,
                count=len(some),
                mean=math.fsum(some) / len(some),
            )
            for token_id, some in by_token.items()
        ]
        return sorted(found, key=lambda one: (-one.count, -one.mean, one.token_id))


def read_kept(connection: Connection, run: Row[Any], key: int, vocabulary: list[str]) -> Kept:
    """All examples of the neuron with this key."""
    rows = connection.execute(_EXAMPLES, {"neuron_id": key}).all()
    kinds = unpack_kinds((row.kind, row.packed) for row in rows)
    wanted = {c for some in kinds.values() for c in some.context_ids.tolist()}
    return Kept(kinds, contexts_of(connection, run, wanted), vocabulary)


def examples_of(
    kept: Kept, run: Row[Any], facts: dict[str, Array], reach: int | None = None
) -> Examples:
    """A neuron's examples by kind; `facts` are its small arrays, `reach` as in `Kept.shown`."""
    return Examples(
        top=kept.shown("top", reach=reach),
        bottom=kept.shown("bottom", reach=reach),
        random=kept.shown("random", reach=reach),
        bands=_bands(kept, facts, reach),
        sources=_sources(kept, run, facts, reach),
    )


def contexts_of(
    connection: Connection, run: Row[Any], context_ids: Iterable[int]
) -> dict[int, Context]:
    """Contexts of a run by id."""
    wanted = {"run_id": run.id, "context_ids": sorted(context_ids)}
    sources = run.sources
    return {
        context_id: context(sources, *rest)
        for context_id, *rest in connection.execute(_CONTEXTS, wanted).all()
    }


def context(
    sources: list[str], document: int, source: int, included_from: int, token_ids: bytes
) -> Context:
    """A context from its columns; `sources` are the run's."""
    return Context(
        document_index=document,
        source_index=source,
        source=sources[source] or None,
        included_from=included_from,
        token_ids=unpack_token_ids(bytes(token_ids)),
    )


def _stored(arrays: ExampleArrays) -> Stored:
    values, offsets = activations_of(arrays)
    return Stored(
        peaks=arrays.peaks.tolist(),
        peak_positions=arrays.peak_positions.tolist(),
        troughs=arrays.troughs.tolist(),
        trough_positions=arrays.trough_positions.tolist(),
        context_ids=arrays.context_ids.tolist(),
        starts=arrays.starts.tolist(),
        gates=arrays.gates.tolist(),
        linears=arrays.linears.tolist(),
        values=values,
        offsets=offsets.tolist(),
    )


def _known(number: float) -> float | None:
    return None if math.isnan(number) else number


def _bands(kept: Kept, facts: dict[str, Array], reach: int | None) -> list[Band]:
    """Bands from the highest down: what is next to the top examples comes first."""
    cuts, counts = facts["band_cuts"], facts["band_counts"]
    if not len(cuts) or not np.isfinite(cuts).all():  # a sample too small to have two halves
        return []
    arrays = kept.arrays("band")
    peaks = np.empty(0, np.float32) if arrays is None else arrays.peaks
    member = (peaks[:, None].astype(np.float64) >= cuts).sum(axis=1)
    edges = [None, *cuts.tolist(), None]
    bands = []
    for index, (low, high) in enumerate(pairwise(edges)):
        if low is not None and low == high:  # ties at the cut points: nothing can fall here
            continue
        bands.append(
            Band(
                low=low,
                high=high,
                nominal_share=BAND_SHARES[index],
                share=float(counts[index] / max(1, counts.sum())),
                examples=kept.shown("band", np.flatnonzero(member == index).tolist(), reach),
            )
        )
    return bands[::-1]


def _sources(
    kept: Kept, run: Row[Any], facts: dict[str, Array], reach: int | None
) -> list[SourceExamples]:
    means = facts["source_mean_peaks"].tolist()
    arrays = kept.arrays("source")
    places: dict[int, list[int]] = {slot: [] for slot in range(len(means))}
    for place, context_id in enumerate(() if arrays is None else arrays.context_ids.tolist()):
        slot = min(kept.contexts[context_id].source_index, schema.SOURCE_SLOTS)
        places.setdefault(slot, []).append(place)
    return [
        SourceExamples(
            source=None if slot == schema.SOURCE_SLOTS else run.sources[slot] or None,
            other=slot == schema.SOURCE_SLOTS,
            mean_peak=None if math.isnan(mean) else mean,
            examples=kept.shown("source", places[slot], reach),
        )
        for slot, mean in enumerate(means)
    ]
