"""A finished scan with invented values, of any size, to be written as a real one is.

As in a real scan: the arrays and their sizes, how many examples of each kind a neuron has, and how
many it shares between kinds. Drawn at random: all values. A neuron's examples come from a pool of
windows that are made first, so a state of gigabytes is there in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from indexer.measure.peaks import SignCounts
from indexer.measure.selection import Payload, Selection
from indexer.scan.shape import ScanShape
from indexer.scan.state import Scan
from indexer.store.bands import BANDS
from indexer.store.packing.codec import quantize
from indexer.store.sizes import SOURCE_EXAMPLES
from indexer.store.writing.records import RunRecord
from indexer.weights.facts import LayerFacts

CTX_LEN = 128
SOURCES = ("web", "books", "code", "encyclopaedia")
TOP, BOTTOM, SAMPLE = 20, 10, 1024
LISTED = {"logit": 15, "in": 10, "gate": 10}
"""Tokens at each end of a list of tokens."""
NEIGHBOURS = 5
"""Neurons in a list of neurons."""
POOL = 20_000
SHARED_BANDS = 9
"""Of the twelve examples of the bands, how many are among the random ones (measured: 9.5)."""
SHARED_SOURCES = 2
"""Of the three examples of a source, how many are among the top ones."""
_MADE = datetime(2026, 1, 1, tzinfo=UTC)

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Corpus:
    """Contexts of random tokens, four to a document. A BOS, token 0, starts each."""

    token_ids: Array  # [contexts, CTX_LEN]
    source_index: Array  # [contexts]
    sources: tuple[str, ...] = SOURCES

    @property
    def document_index(self) -> Array:
        """[contexts]"""
        return np.arange(len(self.token_ids)) // 4

    @property
    def included_from(self) -> Array:
        """[contexts]"""
        return np.ones(len(self.token_ids), np.int64)

    def context(self, context_id: int) -> Array:
        """Token ids of one context."""
        ids: Array = self.token_ids[context_id]
        return ids


def corpus(rng: np.random.Generator, contexts: int, vocabulary: int) -> Corpus:
    """So many contexts; token frequencies fall off as in text (Zipf)."""
    frequency = 1 / (np.arange(1, vocabulary) + 2.7)
    cumulative = np.cumsum(frequency / frequency.sum())
    drawn = np.searchsorted(cumulative, rng.random((contexts, CTX_LEN))).astype(np.uint32) + 1
    token_ids = np.minimum(drawn, vocabulary - 1)
    token_ids[:, 0] = 0
    return Corpus(token_ids, rng.integers(0, len(SOURCES), contexts))


def vocabulary(size: int) -> list[bytes]:
    """Token texts, all different."""
    return [b" %d" % index for index in range(size)]


def run_record(
    name: str, widths: tuple[int, ...], contexts: int, vocabulary: list[bytes]
) -> RunRecord:
    """A run of the default settings."""
    return RunRecord(
        model=name,
        model_id=f"invented/{name}",
        revision=None,
        hook_point="mlp.hook_post",
        is_default_hook_point=True,
        corpus="invented",
        dtype="float32",
        ctx_len=CTX_LEN,
        contexts=contexts,
        tokens=contexts * (CTX_LEN - 1),
        sample_contexts=min(SAMPLE, contexts),
        sample_positions=min(SAMPLE, contexts) * (CTX_LEN - 1),
        sample_identity="invented",
        widths=widths,
        sources=SOURCES,
        vocabulary=vocabulary,
        token_counts=np.full(len(vocabulary), 7),
        source_contexts=np.full(len(SOURCES), contexts // len(SOURCES)),
        provenance={"note": "invented by a benchmark: no model computed this"},
        created_at=_MADE,
    )


def shape(widths: tuple[int, ...], contexts: int) -> ScanShape:
    """The default settings' scan of so many contexts."""
    return ScanShape(
        widths=widths,
        sample=np.arange(min(SAMPLE, contexts)),
        top_k=TOP,
        bottom_k=BOTTOM,
        window=CTX_LEN,
        source_slots=len(SOURCES),
    )


def scan(rng: np.random.Generator, of: ScanShape, text: Corpus, pool: Payload) -> Scan:
    """A scan of that shape with everything in it."""
    made = Scan(of, text.source_index)
    sample = made.sample
    assert sample is not None
    sample.signs = SignCounts(of.neurons)
    sample.signs.counts[:] = [30_000, 20_000, 45_000, 35_000]
    sample.moments.count[:] = SAMPLE * (CTX_LEN - 1)
    sample.moments.low[:], sample.moments.high[:] = -1.0, 6.0
    sample.histogram.above[:] = sample.histogram.below[:] = -4
    sample.histogram.high[:] = 6.0
    for first, width in zip(made.places.offsets, of.widths, strict=False):
        _fill(rng, made, slice(first, first + width), pool, len(text.token_ids))
    return made


def facts(
    rng: np.random.Generator, widths: tuple[int, ...], layer: int, vocabulary: int
) -> LayerFacts:
    """Facts of one layer: upstream neurons are in earlier layers, downstream ones in later."""
    width, first = widths[layer], sum(widths[:layer])
    after, neurons = first + width, sum(widths)

    def falling(count: int) -> Array:
        return -np.sort(-rng.uniform(0.1, 3.0, (width, count)).astype(np.float32))

    arrays: dict[str, Array] = {}
    for name, tokens in LISTED.items():
        arrays[f"{name}_values"] = np.concatenate([falling(tokens), -falling(tokens)], axis=1)
        arrays[f"{name}_token_ids"] = rng.integers(0, vocabulary, (width, 2 * tokens), np.int32)
    ranges = {"alike": (0, neurons), "upstream": (0, first), "downstream": (after, neurons)}
    for name, (low, high) in ranges.items():
        near = NEIGHBOURS if high > low else 0
        arrays[f"{name}_neurons"] = rng.integers(low, max(high, low + 1), (width, near), np.int32)
        arrays[f"{name}_values"] = falling(near)
        if name != "alike":
            arrays[f"{name}_parts"] = rng.integers(0, 2, (width, near), np.uint8)
    bell = np.exp(-0.5 * ((np.arange(41) - 20) / 6) ** 2)
    low_end = rng.normal(-1.0, 0.1, width)
    arrays["effect_histogram_range"] = np.stack([low_end, rng.uniform(0.04, 0.06, width)], axis=1)
    arrays["effect_histogram_counts"] = rng.poisson(vocabulary * bell / bell.sum(), (width, 41))
    arrays["effect_moments"] = rng.normal(0.0, 0.1, (width, 2))
    scalars = {
        "effect_kurtosis": rng.gamma(1.0, 1.0, width),
        "in_out_cosine": rng.normal(0.0, 0.2, width),
        "gate_out_cosine": rng.normal(0.0, 0.2, width),
    }
    return LayerFacts(scalars, arrays)


def pool(rng: np.random.Generator) -> Payload:
    """Windows that look like a model's: small values everywhere, a few large ones. The highest peak
    comes first."""
    width = CTX_LEN
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
    """Fills places in a scan with windows of the pool and contexts of the corpus."""

    rng: np.random.Generator
    pool: Payload
    contexts: int

    def rows(self, selection: Selection, where: slice, rows: int, k: int) -> None:
        """All entries of some rows of a selection, highest peak first."""
        places = slice(where.start * k, where.stop * k)
        self.payload(selection.payload, places, k)
        selection.values[where] = selection.payload.peaks[places].reshape(rows, k)
        # One context of each k-th part of the corpus, so that none comes twice in a row.
        part = self.contexts // k
        ids = self.rng.integers(0, part, (rows, k)) + part * self.rng.permuted(
            np.broadcast_to(np.arange(k), (rows, k)), axis=1
        )
        selection.ids[where] = ids
        selection.payload.context_ids[places] = ids.ravel()

    def payload(self, payload: Payload, places: slice, k: int = 1) -> None:
        """Some places of a payload; within each k of them peaks fall."""
        count = places.stop - places.start
        drawn = np.sort(self.rng.integers(0, POOL, (count // k, k)), axis=1).ravel()
        for mine, theirs in zip(payload.arrays(), self.pool.arrays(), strict=True):
            mine[places] = theirs[drawn]


def _share(
    source: Payload, places: slice, into: Selection, rows: slice, neurons: int, count: int
) -> None:
    """Copy each neuron's first `count` examples in `source` over its first in a selection."""
    k = into.k
    each = (places.stop - places.start) // neurons
    mine = (rows.stop - rows.start) // neurons * k
    for have, give in zip(into.payload.arrays(), source.arrays(), strict=True):
        there = have[rows.start * k : rows.stop * k].reshape(neurons, mine, *have.shape[1:])
        there[:, :count] = give[places].reshape(neurons, each, *give.shape[1:])[:, :count]
    ids = into.payload.context_ids[rows.start * k : rows.stop * k]
    into.ids[rows] = ids.reshape(-1, k)
