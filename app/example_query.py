"""Reading the examples of one neuron: packed activations, contexts' tokens and texts together."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, select

from app.schemas import Band, Example, Examples, PeakToken, SourceExamples
from indexer.store import schema
from indexer.store.codec import ExampleArrays, unpack_examples, unpack_token_ids

BAND_SHARES = (0.5, 0.4, 0.09, 0.01)
"""What the bands' quantiles promise, lowest band first."""
_BOTTOM = schema.KINDS.index("bottom")

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Context:
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


class Kept:
    """All examples of one neuron, unpacked once and read in any part."""

    def __init__(
        self, connection: Connection, run: Row[Any], key: int, vocabulary: list[str]
    ) -> None:
        table = schema.examples
        rows = connection.execute(
            select(table.c.kind, table.c.packed).where(table.c.neuron_id == key)
        )
        self._kinds = {row.kind: unpack_examples(bytes(row.packed)) for row in rows}
        self._values = {kind: _activations(arrays) for kind, arrays in self._kinds.items()}
        wanted = {c for some in self._kinds.values() for c in some.context_ids.tolist()}
        self.contexts = contexts_of(connection, run, wanted)
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
        return [
            self._example(number, arrays, place, rank, reach)
            for rank, place in enumerate(places, 1)
        ]

    def _example(
        self, kind: int, arrays: ExampleArrays, place: int, rank: int, reach: int | None
    ) -> Example:
        context_id = int(arrays.context_ids[place])
        context = self.contexts[context_id]
        first, end, values = self._stored(kind, arrays, place)
        start = first
        peak, trough = int(arrays.peak_positions[place]), int(arrays.trough_positions[place])
        if reach is not None:
            centre = trough if kind == _BOTTOM else peak
            start = max(first, centre - reach)
            end = min(end, centre + reach + 1)
        # An unpadded Python list is what both the JSON and the page want.
        shown: list[float | None] = values[start - first : end - first].tolist()
        out = max(0, min(context.included_from, end) - start)
        shown[:out] = [None] * out
        # The peak and the trough themselves are exact, not to within the rounding of the rest.
        for position, value in ((trough, arrays.troughs[place]), (peak, arrays.peaks[place])):
            if start <= position < end:
                shown[position - start] = float(value)
        token_ids = context.token_ids[start:end].tolist()
        return Example(
            rank=rank,
            peak=float(arrays.peaks[place]),
            peak_position=peak,
            trough=float(arrays.troughs[place]),
            trough_position=trough,
            context_id=context_id,
            document_index=context.document_index,
            source=context.source,
            gate=_known(arrays.gates[place]),
            linear=_known(arrays.linears[place]),
            start=start,
            tokens=[self._vocabulary[token_id] for token_id in token_ids],
            token_ids=token_ids,
            activations=shown,
        )

    def _stored(self, kind: int, arrays: ExampleArrays, place: int) -> tuple[int, int, Array]:
        """First and end position of what is stored of an example, and its activations."""
        values, offsets = self._values[kind]
        start = int(arrays.starts[place])
        first, end = int(offsets[place]), int(offsets[place + 1])
        return start, start + end - first, values[first:end]

    def whole(self, context_id: int) -> tuple[list[str], Example] | None:
        """A context in full: the kinds it is an example of, and the longest of what is stored.

        Positions that are not stored have no activation. None if it is nobody's example.
        """
        found = [
            (kind, int(place))
            for kind, arrays in self._kinds.items()
            for place in np.flatnonzero(arrays.context_ids == context_id)
        ]
        if not found:
            return None
        kind, place = max(found, key=lambda one: int(self._kinds[one[0]].lengths[one[1]]))
        stored = self._example(kind, self._kinds[kind], place, 1, None)
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
        return sorted({schema.KINDS[kind] for kind, _ in found}, key=schema.KINDS.index), example

    def peak_tokens(self) -> list[PeakToken]:
        """The tokens the kept examples peak on, each context once; most frequent first."""
        peaks: dict[int, tuple[int, float]] = {}
        for arrays in self._kinds.values():
            for context_id, position, peak in zip(
                arrays.context_ids.tolist(),
                arrays.peak_positions.tolist(),
                arrays.peaks.tolist(),
                strict=True,
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
    table = schema.contexts
    rows = connection.execute(
        select(
            table.c.context_id,
            table.c.document_index,
            table.c.source_index,
            table.c.included_from,
            table.c.token_ids,
        ).where(table.c.run_id == run.id, table.c.context_id.in_(sorted(context_ids)))
    )
    return {
        row.context_id: Context(
            document_index=row.document_index,
            source_index=row.source_index,
            source=run.sources[row.source_index] or None,
            included_from=row.included_from,
            token_ids=unpack_token_ids(bytes(row.token_ids)),
        )
        for row in rows
    }


def _activations(arrays: ExampleArrays) -> tuple[Array, Array]:
    """All activations of a kind, clipped to the exact extremes, and where each example begins."""
    lengths = arrays.lengths.astype(np.int64)
    values = arrays.quantized.astype(np.float32) * np.repeat(arrays.scales, lengths)
    low, high = np.repeat(arrays.troughs, lengths), np.repeat(arrays.peaks, lengths)
    return np.clip(values, low, high), np.concatenate([[0], np.cumsum(lengths)])


def _known(value: np.float32) -> float | None:
    number = float(value)
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
