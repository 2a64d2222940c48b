"""Reads a neuron's examples: their packed activations, and the tokens of their contexts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, Row, bindparam, select

from app.examples.schemas import Band, Example, Examples, PeakToken, SourceExamples
from app.reading.store import Reading
from indexer.store import schema
from indexer.store.bands import BAND_SHARES, band_of
from indexer.store.checksums import cover, missing
from indexer.store.packing.codec import (
    ExampleArrays,
    activations_of,
    unpack_kinds,
    unpack_token_ids,
)
from indexer.store.sizes import SOURCE_SLOTS

_BOTTOM = schema.KINDS.index("bottom")

Array = np.ndarray[Any, Any]

# Built once: SQLAlchemy takes longer to put a statement together than SQLite to answer it.
EXAMPLES = cover(schema.examples)
_EXAMPLES = select(*EXAMPLES.selected).where(schema.examples.c.neuron_id == bindparam("neuron_id"))
CONTEXTS = cover(schema.contexts)
_CONTEXTS = select(*CONTEXTS.selected).where(
    schema.contexts.c.run_id == bindparam("run_id"),
    schema.contexts.c.context_id.in_(bindparam("context_ids", expanding=True)),
)


class Context(NamedTuple):
    """A stored context."""

    document_index: int
    source_index: int
    source: str | None
    included_from: int
    token_ids: np.ndarray[Any, np.dtype[np.uint32]]

    @property
    def included_ids(self) -> list[int]:
        """The token ids at its included positions."""
        ids: list[int] = self.token_ids[self.included_from :].tolist()
        return ids


@dataclass(frozen=True)
class Stored:
    """The examples of one kind as Python numbers, which are much faster to read one by one.

    The activations of example i, clipped to its exact extremes, are
    `values[offsets[i] : offsets[i + 1]]`, at the context's positions from `starts[i]` on.
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
    """Of all examples, concatenated [positions], float."""
    offsets: list[int]
    """Where each begins in `values`, and the end: one more than there are examples."""


class NeuronExamples:
    """All examples of a neuron, unpacked."""

    def __init__(
        self,
        kinds: dict[int, ExampleArrays],
        contexts: dict[int, Context],
        reading: Reading,
    ) -> None:
        self._kinds = kinds
        self._stored = {kind: _stored(arrays) for kind, arrays in kinds.items()}
        self.contexts = contexts
        self._reading = reading
        self._vocabulary = reading.vocabulary
        self._special = reading.special_token_ids

    def arrays(self, kind: str) -> ExampleArrays | None:
        """The packed arrays of a kind; None if the neuron has no such examples."""
        return self._kinds.get(schema.KINDS.index(kind))

    def of_kind(
        self, kind: str, indices: Iterable[int] | None = None, reach: int | None = None
    ) -> list[Example]:
        """The examples of a kind, or those at `indices` among them, ranked from 1.

        `reach` is the number of positions on either side of the peak (of the trough, for bottom
        examples); None: all stored positions.
        """
        number = schema.KINDS.index(kind)
        arrays = self._kinds.get(number)
        if arrays is None:
            return []
        selected = range(len(arrays)) if indices is None else indices
        return [self._example(number, index, rank, reach) for rank, index in enumerate(selected, 1)]

    def _example(self, kind: int, index: int, rank: int, reach: int | None) -> Example:
        stored = self._stored[kind]
        context_id = stored.context_ids[index]
        context = self.contexts[context_id]
        first = start = stored.starts[index]
        begin, end = stored.offsets[index], stored.offsets[index + 1]
        peak, trough = stored.peak_positions[index], stored.trough_positions[index]
        end += first - begin
        if reach is not None:
            centre = trough if kind == _BOTTOM else peak
            start = max(first, centre - reach)
            end = min(end, centre + reach + 1)
        begin -= first
        activations: list[float | None] = stored.values[begin + start : begin + end].tolist()
        not_included = max(0, min(context.included_from, end) - start)
        activations[:not_included] = [None] * not_included
        token_ids = context.token_ids[start:end].tolist()
        if self._special:
            activations = [
                None if token_id in self._special else value
                for token_id, value in zip(token_ids, activations, strict=True)
            ]
        # Peak and trough are stored exactly, the other activations are rounded.
        if start <= trough < end:
            activations[trough - start] = stored.troughs[index]
        if start <= peak < end:
            activations[peak - start] = stored.peaks[index]
        return Example(
            rank=rank,
            peak=stored.peaks[index],
            peak_position=peak,
            trough=stored.troughs[index],
            trough_position=trough,
            context_id=context_id,
            document_index=context.document_index,
            source=context.source,
            gate=_known(stored.gates[index]),
            linear=_known(stored.linears[index]),
            start=start,
            tokens=self._texts(token_ids, start, context),
            token_ids=token_ids,
            activations=activations,
        )

    def whole(self, context_id: int) -> tuple[list[str], Example, range] | None:
        """A whole context: the kinds of example it is, the example with the longest stored window
        extended to all tokens, and the positions of that window.

        Positions outside the window have no activation. None if the context is no example.
        """
        matches = [
            (kind, int(index))
            for kind, arrays in self._kinds.items()
            for index in np.flatnonzero(arrays.context_ids == context_id)
        ]
        if not matches:
            return None
        # Bottom examples come last, because their gate and linear part are those at the trough.
        kind, index = max(
            matches,
            key=lambda match: (int(self._kinds[match[0]].lengths[match[1]]), match[0] != _BOTTOM),
        )
        stored = self._example(kind, index, index + 1, None)
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
                "tokens": self._texts(token_ids, 0, self.contexts[context_id]),
                "token_ids": token_ids,
                "activations": activations,
            }
        )
        kinds = sorted({kind for kind, _ in matches})
        positions = range(stored.start, stored.start + len(stored.activations))
        return [schema.KINDS[kind] for kind in kinds], example, positions

    def _texts(self, token_ids: list[int], start: int, context: Context) -> list[str]:
        """The texts of a context's tokens from position `start` on."""
        texts = list(map(self._vocabulary.__getitem__, token_ids))
        last = start + len(texts) == len(context.token_ids)
        return self._reading.in_context(texts, context.included_from, first=not start, last=last)

    def peak_tokens(self) -> list[PeakToken]:
        """The tokens that examples of any kind peak on, most frequent first; a context counts
        once."""
        peaks: dict[int, tuple[int, float]] = {}
        for stored in self._stored.values():
            for context_id, position, peak in zip(
                stored.context_ids, stored.peak_positions, stored.peaks, strict=True
            ):
                peaks[context_id] = int(self.contexts[context_id].token_ids[position]), peak
        by_token: dict[int, list[float]] = {}
        for token_id, peak in peaks.values():
            by_token.setdefault(token_id, []).append(peak)
        tokens = [
            PeakToken(
                token=self._vocabulary[token_id],
                token_id=token_id,
                count=len(values),
                mean=math.fsum(values) / len(values),
            )
            for token_id, values in by_token.items()
        ]
        return sorted(tokens, key=lambda token: (-token.count, -token.mean, token.token_id))


def read_kinds(reading: Reading, key: int) -> dict[int, ExampleArrays]:
    """The examples of the neuron with this key as stored, by the index of their kind. Raises
    Damaged."""
    rows = EXAMPLES.check(reading.connection.execute(_EXAMPLES, {"neuron_id": key}).all())
    if not any(row.kind == 0 for row in rows):
        raise missing(schema.examples, neuron_id=key, kind=0)
    return unpack_kinds((row.kind, row.packed) for row in rows)


def read_examples(reading: Reading, key: int) -> NeuronExamples:
    """All examples of the neuron with this key. Raises Damaged."""
    kinds = read_kinds(reading, key)
    ids = {context_id for arrays in kinds.values() for context_id in arrays.context_ids.tolist()}
    contexts = contexts_of(reading.connection, reading.run, ids)
    return NeuronExamples(kinds, contexts, reading)


def examples_of(
    examples: NeuronExamples,
    run: Row[Any],
    arrays: dict[str, Array],
    reach: int | None = None,
) -> Examples:
    """A neuron's examples by kind. `arrays` are its unpacked `neuron_arrays`; `reach` is as in
    `NeuronExamples.of_kind`."""
    return Examples(
        top=examples.of_kind("top", reach=reach),
        bottom=examples.of_kind("bottom", reach=reach),
        random=examples.of_kind("random", reach=reach),
        bands=_bands(examples, arrays, reach),
        sources=_sources(examples, run, arrays, reach),
    )


def contexts_of(
    connection: Connection, run: Row[Any], context_ids: Iterable[int]
) -> dict[int, Context]:
    """Contexts of a run by id. Raises Damaged."""
    parameters = {"run_id": run.id, "context_ids": sorted(context_ids)}
    rows = CONTEXTS.check(connection.execute(_CONTEXTS, parameters).all())
    contexts = {row.context_id: context(run.sources, row) for row in rows}
    for context_id in parameters["context_ids"]:
        if context_id not in contexts:
            raise missing(schema.contexts, run_id=run.id, context_id=context_id)
    return contexts


def context(sources: list[str], row: Row[Any]) -> Context:
    """A context from its row and the run's sources."""
    return Context(
        document_index=row.document_index,
        source_index=row.source_index,
        source=sources[row.source_index] or None,
        included_from=row.included_from,
        token_ids=unpack_token_ids(bytes(row.token_ids)),
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


def _bands(examples: NeuronExamples, arrays: dict[str, Array], reach: int | None) -> list[Band]:
    """The bands with their examples, highest band first."""
    cuts, counts = arrays["band_cuts"], arrays["band_counts"]
    if not len(cuts) or not np.isfinite(cuts).all():  # the sample is too small to have two halves
        return []
    stored = examples.arrays("band")
    peaks = np.empty(0, np.float32) if stored is None else stored.peaks
    band = band_of(cuts, peaks)
    edges = [None, *cuts.tolist(), None]
    bands = []
    for index, (low, high) in enumerate(pairwise(edges)):
        if low is not None and low == high:  # the cut points are tied, so the band is empty
            continue
        bands.append(
            Band(
                low=low,
                high=high,
                nominal_share=BAND_SHARES[index],
                share=float(counts[index] / max(1, counts.sum())),
                examples=examples.of_kind("band", np.flatnonzero(band == index).tolist(), reach),
            )
        )
    return bands[::-1]


def _sources(
    examples: NeuronExamples, run: Row[Any], arrays: dict[str, Array], reach: int | None
) -> list[SourceExamples]:
    """The examples of each source, in corpus order; the last slot is for all further sources."""
    means = arrays["source_mean_peaks"].tolist()
    stored = examples.arrays("source")
    indices: dict[int, list[int]] = {slot: [] for slot in range(len(means))}
    for index, context_id in enumerate(() if stored is None else stored.context_ids.tolist()):
        slot = min(examples.contexts[context_id].source_index, SOURCE_SLOTS)
        indices.setdefault(slot, []).append(index)
    return [
        SourceExamples(
            source=None if slot == SOURCE_SLOTS else run.sources[slot] or None,
            other=slot == SOURCE_SLOTS,
            mean_peak=None if math.isnan(mean) else mean,
            examples=examples.of_kind("source", indices[slot], reach),
        )
        for slot, mean in enumerate(means)
    ]
