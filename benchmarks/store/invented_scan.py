"""A finished scan that nobody made: a state of any size, to be written as a real one is.

What is real: the arrays a scan holds, their sizes, how many examples each neuron has of each kind,
and which of them are the same: most of a band's examples are random ones as well, and two thirds of
those by source are top examples. What is drawn: all the values. A neuron's windows are some of
`POOL` that were made first, so that a state of gigabytes is there in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.store import invented
from indexer.measure.peaks import BANDS, SignCounts
from indexer.measure.selection import Payload, Selection
from indexer.scan.shape import SOURCE_EXAMPLES, ScanShape
from indexer.scan.state import Scan
from indexer.store.packing.codec import quantize

POOL = 20_000
SHARED_BANDS = 9
"""Of the twelve examples of the bands, how many are among the random ones (measured: 9.5)."""
SHARED_SOURCES = 2
"""Of the three examples of a source, how many are among the top ones."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class InventedCorpus:
    """A corpus of which only the ids of tokens are there."""

    token_ids: Array
    source_index: Array

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of the sources."""
        return invented.SOURCES

    @property
    def document_index(self) -> Array:
        """Four contexts a document."""
        return np.arange(len(self.token_ids)) // 4

    @property
    def included_from(self) -> Array:
        """A BOS leads every context."""
        return np.ones(len(self.token_ids), np.int64)

    def context(self, context_id: int) -> Array:
        """Token ids of one context."""
        ids: Array = self.token_ids[context_id]
        return ids


@dataclass(frozen=True)
class InventedFacts:
    """What the weights of a layer say."""

    scalars: dict[str, Array]
    arrays: dict[str, Array]


def corpus(rng: np.random.Generator, contexts: int, vocabulary: int) -> InventedCorpus:
    """So many contexts of 128 tokens; token frequencies fall off as in text."""
    some = invented.contexts(rng, contexts, contexts, vocabulary)
    return InventedCorpus(some.token_ids, some.source_index)


def shape(layers: int, width: int, contexts: int) -> ScanShape:
    """The default settings' scan, at contexts of 128 tokens and four sources."""
    sample = np.arange(min(invented.SAMPLE_CONTEXTS, contexts))
    kept = invented.EXAMPLES
    return ScanShape(
        widths=(width,) * layers,
        sample=sample,
        top_k=kept["top"],
        bottom_k=kept["bottom"],
        window=invented.CTX_LEN,
        source_slots=len(invented.SOURCES),
    )


def scan(rng: np.random.Generator, of: ScanShape, some: InventedCorpus) -> Scan:
    """A scan of that shape with everything in it."""
    made = Scan(of, some.source_index)
    sample = made.sample
    assert sample is not None
    pool = _pool(rng)
    sample.signs = SignCounts(of.neurons)
    sample.signs.counts[:] = [30_000, 20_000, 45_000, 35_000]
    sample.moments.count[:] = invented.SAMPLE_POSITIONS
    sample.moments.low[:], sample.moments.high[:] = -1.0, 6.0
    sample.histogram.above[:] = sample.histogram.below[:] = -4
    sample.histogram.high[:] = 6.0
    for layer in range(len(of.widths)):
        _fill(rng, made, made.places.layer(layer), pool, len(some.token_ids))
    return made


def facts(rng: np.random.Generator, widths: tuple[int, ...], vocabulary: int) -> InventedFacts:
    """Facts of one layer, in the numbers and types a gated model's have."""
    width, neurons = widths[0], sum(widths)
    near = invented.NEIGHBOURS

    def falling(count: int) -> Array:
        return -np.sort(-rng.uniform(0.1, 3.0, (width, count)).astype(np.float32))

    arrays: dict[str, Array] = {}
    each = {"in": invented.INPUT_TOKENS, "gate": invented.INPUT_TOKENS}
    for name, tokens in {"logit": invented.LOGIT_EFFECTS, **each}.items():
        arrays[f"{name}_values"] = np.concatenate([falling(tokens), -falling(tokens)], axis=1)
        arrays[f"{name}_token_ids"] = rng.integers(0, vocabulary, (width, 2 * tokens), np.int32)
    for name in ("alike", "upstream", "downstream"):
        arrays[f"{name}_neurons"] = rng.integers(0, neurons, (width, near), np.int32)
        arrays[f"{name}_values"] = falling(near)
        if name != "alike":
            arrays[f"{name}_parts"] = rng.integers(0, 2, (width, near), np.uint8)
    bell = np.exp(-0.5 * ((np.arange(41) - 20) / 6) ** 2)
    arrays["effect_histogram_range"] = rng.normal(-1.0, 0.1, (width, 2))
    arrays["effect_histogram_counts"] = rng.poisson(vocabulary * bell / bell.sum(), (width, 41))
    arrays["effect_moments"] = rng.normal(0.0, 0.1, (width, 2))
    scalars = {
        "effect_kurtosis": rng.gamma(1.0, 1.0, width),
        "in_out_cosine": rng.normal(0.0, 0.2, width),
        "gate_out_cosine": rng.normal(0.0, 0.2, width),
    }
    return InventedFacts(scalars, arrays)


def state_bytes(made: Scan) -> int:
    """Bytes of all arrays the scan holds."""
    return sum(array.nbytes for array in made.arrays().values())


def _pool(rng: np.random.Generator) -> Payload:
    """Windows that look like a gated model's, the highest peak first."""
    width = invented.CTX_LEN
    values = rng.standard_normal((POOL, width)) * rng.gamma(0.6, 1.0, (POOL, width))
    values = np.where(values < 0, values * 0.3, values).astype(np.float32)
    values = values[np.argsort(-values[:, 1:].max(axis=1))]
    included = np.broadcast_to(np.arange(width) > 0, values.shape)
    quantized, scales = quantize(values, included)
    index = np.arange(POOL)
    peaks, troughs = values[:, 1:].argmax(axis=1) + 1, values[:, 1:].argmin(axis=1) + 1
    lengths = np.where(rng.random(POOL) < 0.97, width, rng.integers(20, width, POOL))
    lengths = np.maximum(lengths, np.maximum(peaks, troughs) + 1)  # the last of a document
    quantized[np.arange(width) >= lengths[:, None]] = 0
    return Payload(
        context_ids=np.zeros(POOL, np.int64),
        peaks=values[index, peaks],
        peak_positions=peaks.astype(np.uint16),
        troughs=values[index, troughs],
        trough_positions=troughs.astype(np.uint16),
        starts=np.zeros(POOL, np.uint16),
        lengths=lengths.astype(np.uint16),
        scales=scales,
        gates=rng.normal(0, 2, POOL).astype(np.float32),
        linears=rng.normal(0, 2, POOL).astype(np.float32),
        quantized=quantized,
    )


def _fill(rng: np.random.Generator, made: Scan, where: slice, pool: Payload, contexts: int) -> None:
    """One layer's neurons."""
    sample, of = made.sample, made.shape
    assert sample is not None
    neurons = where.stop - where.start
    draw = _Draw(rng, pool, contexts)
    draw.rows(made.top, where, neurons, of.top_k)
    draw.rows(made.bottom, where, neurons, of.bottom_k)
    each = len(of.random_contexts)
    random = slice(where.start * each, where.stop * each)
    draw.payload(sample.random, random)
    sample.random.context_ids[random] = np.tile(of.random_contexts, neurons)
    bands = slice(where.start * BANDS, where.stop * BANDS)
    draw.rows(sample.bands, bands, neurons * BANDS, sample.bands.k)
    _share(sample.random, random, sample.bands, bands, neurons, SHARED_BANDS)
    slots = of.source_slots
    sources = slice(where.start * slots, where.stop * slots)
    draw.rows(made.by_source, sources, neurons * slots, SOURCE_EXAMPLES)
    top = slice(where.start * of.top_k, where.stop * of.top_k)
    _share(made.top.payload, top, made.by_source, sources, neurons, SHARED_SOURCES * slots)
    made.maximum[where] = made.top.payload.peaks[top][:: of.top_k]
    made.minimum[where] = rng.uniform(-2.0, -1.0, neurons)
    half = len(of.sample) // 2
    peaks = rng.gamma(2.0, 0.6, (neurons, len(of.sample)))
    sample.peaks[where] = peaks + rng.normal(0, 0.3, (1, len(of.sample)))
    sample.band_counts[where] = rng.multinomial(half, (0.5, 0.4, 0.09, 0.01), neurons)
    moments = sample.moments
    moments.exponent[where] = 2
    moments.powers[:, where] = (rng.uniform(0.1, 1.0, (4, neurons)).T * [1, 40, 2, 90]).T * 100
    moments.positive[where] = rng.integers(1000, 100_000, neurons)
    bins = sample.histogram.counts.shape[1]
    heights = np.exp(-np.abs(np.arange(bins) - bins // 2) / 8.0) * 8000
    sample.histogram.counts[where] = rng.poisson(heights, (64, bins))[np.arange(neurons) % 64]


@dataclass(frozen=True)
class _Draw:
    """Fills places with windows of the pool and contexts of the corpus."""

    rng: np.random.Generator
    pool: Payload
    contexts: int

    def rows(self, selection: Selection, where: slice, rows: int, k: int) -> None:
        """All entries of some rows of a selection, the highest peak first."""
        places = slice(where.start * k, where.stop * k)
        self.payload(selection.payload, places, k)
        selection.values[where] = selection.payload.peaks[places].reshape(rows, k)
        # Distinct in a row: one context of each k-th part of the corpus.
        part = self.contexts // k
        ids = self.rng.integers(0, part, (rows, k)) + part * self.rng.permuted(
            np.broadcast_to(np.arange(k), (rows, k)), axis=1
        )
        selection.ids[where] = ids
        selection.payload.context_ids[places] = ids.ravel()

    def payload(self, payload: Payload, places: slice, k: int = 1) -> None:
        """Some places of a payload; peaks fall in every k that follow one another."""
        count = places.stop - places.start
        drawn = np.sort(self.rng.integers(0, POOL, (count // k, k)), axis=1).ravel()
        for mine, theirs in zip(payload.arrays(), self.pool.arrays(), strict=True):
            mine[places] = theirs[drawn]


def _share(
    source: Payload, places: slice, into: Selection, rows: slice, neurons: int, count: int
) -> None:
    """The first examples of each neuron in `source` are also its first ones in a selection."""
    k = into.k
    each = (places.stop - places.start) // neurons
    mine = (rows.stop - rows.start) // neurons * k
    for have, give in zip(into.payload.arrays(), source.arrays(), strict=True):
        there = have[rows.start * k : rows.stop * k].reshape(neurons, mine, *have.shape[1:])
        there[:, :count] = give[places].reshape(neurons, each, *give.shape[1:])[:, :count]
    ids = into.payload.context_ids[rows.start * k : rows.stop * k]
    into.ids[rows] = ids.reshape(-1, k)
