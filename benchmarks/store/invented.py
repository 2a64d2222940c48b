"""Neurons nobody found: example lists and small arrays that look, packed, like a real run's.

Apart from `synthetic.py`, which puts them in a database, because it knows nothing of databases.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from indexer.measure.peaks import KEPT_PEAKS
from indexer.store import schema
from indexer.store.packing.codec import ExampleArrays, pack_arrays, pack_lists, quantize

CTX_LEN = 128
SOURCES = ("web", "books", "code", "encyclopaedia")
EXAMPLES = {"top": 20, "bottom": 10, "random": 15, "band": 12, "source": 3 * len(SOURCES)}
"""Examples a neuron by kind: as many as the indexer keeps by default."""
LOGIT_EFFECTS = 15
INPUT_TOKENS = 10
"""Tokens each way in a list of tokens."""
NEIGHBOURS = 5
"""Neurons in a list of neurons."""
SAMPLE_CONTEXTS = 1024
SAMPLE_POSITIONS = SAMPLE_CONTEXTS * (CTX_LEN - 1)
BAND_CUTS = (3.0, 4.0, 5.0)
SHARED_BANDS = 9
"""Of the examples of bands, how many are random ones as well (measured: 9.5)."""
SHARED_SOURCES = 2
"""Of the three examples of a source, how many are top ones as well."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Contexts:
    """The contexts that all invented runs share: they are of one corpus and one tokenizer."""

    ids: Array  # int64, ascending
    source_index: Array  # one a context
    token_ids: Array  # [contexts, CTX_LEN]


@dataclass(frozen=True)
class PackedExamples:
    """The examples of one neuron, ready to be written, and what its scalars have to agree with."""

    packed: bytes
    peak: float
    trough: float
    peak_token_id: int


@dataclass(frozen=True)
class PackedArrays:
    """The small arrays of one neuron, ready to be written."""

    packed: bytes
    promoted_token_id: int


def vocabulary(rng: np.random.Generator, size: int) -> list[bytes]:
    """Token texts, all different: a BOS, then words, the frequent ones short, most with a space."""
    onsets = np.array([*"bcdfghjklmnprstvw", "st", "tr", "ch", "pl"])
    vowels = np.array(["a", "e", "i", "o", "u", "ea", "ou"])
    texts, seen = [b"<|endoftext|>"], {"<|endoftext|>"}
    while len(texts) < size:
        # A syllable has about 2.4 letters: words of 3 letters at first, of 6 at the end.
        syllables = 1 + rng.poisson(min(1.7, len(texts) / size * 2.3))
        parts = zip(rng.choice(onsets, syllables), rng.choice(vowels, syllables), strict=True)
        text = " " * int(rng.random() < 0.7) + "".join(onset + vowel for onset, vowel in parts)
        if text in seen:
            text += str(rng.choice(onsets)) + str(rng.choice(vowels))
        if text not in seen:
            seen.add(text)
            texts.append(text.encode())
    return texts


def contexts(rng: np.random.Generator, count: int, corpus: int, vocabulary_size: int) -> Contexts:
    """`count` of a corpus' `corpus` contexts; token frequencies fall off as in text (Zipf)."""
    frequency = 1 / (np.arange(1, vocabulary_size) + 2.7)
    cumulative = np.cumsum(frequency / frequency.sum())
    drawn = np.searchsorted(cumulative, rng.random((count, CTX_LEN))).astype(np.uint32) + 1
    token_ids = np.minimum(drawn, vocabulary_size - 1)
    token_ids[:, 0] = 0  # BOS
    return Contexts(
        ids=np.sort(rng.choice(corpus, count, replace=False)).astype(np.int64),
        source_index=rng.integers(0, len(SOURCES), count),
        token_ids=token_ids,
    )


def examples(rng: np.random.Generator, some: Contexts, window: int | None) -> PackedExamples:
    """All examples of one neuron, each over a window of so many positions round its peak."""
    kinds = lists(rng, some, window)
    top, place = kinds[0], int(kinds[0].peak_positions[0])
    row = int(np.searchsorted(some.ids, top.context_ids[0]))
    return PackedExamples(
        packed=pack_lists(kinds),
        peak=float(top.peaks[0]),
        trough=float(min(arrays.troughs.min() for arrays in kinds)),
        peak_token_id=int(some.token_ids[row, place]),
    )


def lists(rng: np.random.Generator, some: Contexts, window: int | None) -> list[ExampleArrays]:
    """The examples of one neuron in the order of `schema.KINDS`; kinds share as many as real
    ones do."""
    drawn = {kind: _rows(rng, kind, count, some) for kind, count in EXAMPLES.items()}
    aims = {kind: _aims(rng, kind, count) for kind, count in EXAMPLES.items()}
    aims["random"][:SHARED_BANDS] = aims["band"][:SHARED_BANDS]
    of_sources = drawn["source"].reshape(len(SOURCES), 3)[:, :SHARED_SOURCES].reshape(-1)
    others = rng.permutation(np.setdiff1d(drawn["top"], of_sources))
    drawn["top"] = np.concatenate([of_sources, others])[: EXAMPLES["top"]]
    kinds = {
        kind: _examples(rng, kind, drawn[kind], aims[kind], some, window) for kind in schema.KINDS
    }
    shared = np.arange(SHARED_BANDS)
    kinds["band"] = _replaced(kinds["band"], shared, kinds["random"], shared)
    _, in_top, in_sources = np.intersect1d(
        kinds["top"].context_ids, kinds["source"].context_ids, return_indices=True
    )
    # The best of each source first: those of the top list, then its own.
    sources = _replaced(kinds["source"], in_sources, kinds["top"], in_top)
    order = np.lexsort((-sources.peaks, np.repeat(np.arange(len(SOURCES)), 3)))
    kinds["source"] = _replaced(sources, np.arange(len(order)), sources, order)
    return list(kinds.values())


def _examples(
    rng: np.random.Generator,
    kind: str,
    rows: Array,
    aims: Array,
    some: Contexts,
    window: int | None,
) -> ExampleArrays:
    count = len(rows)
    # What real neurons do: small values everywhere, few large ones, some of those in runs.
    values = rng.standard_normal((count, CTX_LEN)) * rng.gamma(0.6, 1.0, (count, CTX_LEN))
    values = np.where(values < 0, values * 0.3, values)
    values[:, 0] = 0  # the BOS: not included
    index = np.arange(count)
    if kind == "bottom":
        values[index, 1 + rng.integers(0, CTX_LEN - 1, count)] = aims
    else:
        values *= (aims / values[:, 1:].max(axis=1))[:, None]
    values = values.astype(np.float32)
    peak_positions = 1 + values[:, 1:].argmax(axis=1)
    trough_positions = 1 + values[:, 1:].argmin(axis=1)
    order = np.arange(count)
    if kind == "top":
        order = np.lexsort((some.ids[rows], -values[index, peak_positions]))
    elif kind == "bottom":
        order = np.lexsort((some.ids[rows], values[index, trough_positions]))
    rows, values = rows[order], values[order]
    peak_positions, trough_positions = peak_positions[order], trough_positions[order]
    length = min(CTX_LEN, window or CTX_LEN)
    centres = trough_positions if kind == "bottom" else peak_positions
    starts = np.clip(centres - length // 2, 0, CTX_LEN - length)
    windows = np.take_along_axis(values, starts[:, None] + np.arange(length), axis=1)
    quantized, scales = quantize(windows, np.ones(windows.shape, bool))
    unknown = np.full(count, np.nan, np.float32)  # these models are not gated
    return ExampleArrays(
        peaks=values[index, peak_positions],
        peak_positions=peak_positions.astype(np.uint16),
        troughs=values[index, trough_positions],
        trough_positions=trough_positions.astype(np.uint16),
        context_ids=some.ids[rows],
        starts=starts.astype(np.uint16),
        lengths=np.full(count, length, np.uint16),
        scales=scales,
        gates=unknown,
        linears=unknown,
        quantized=quantized.reshape(-1),
    )


def _replaced(
    examples: ExampleArrays, places: Array, others: ExampleArrays, of: Array
) -> ExampleArrays:
    """Other examples, with windows as long, in the place of some."""
    fields = {}
    for name, values in vars(examples).items():
        rows = values.copy().reshape(len(examples), -1)
        rows[places] = getattr(others, name).reshape(len(others), -1)[of]
        fields[name] = rows.reshape(-1)
    return ExampleArrays(**fields)


def _rows(rng: np.random.Generator, kind: str, count: int, some: Contexts) -> Array:
    """Which contexts the examples are: random ones are the same for every neuron."""
    if kind == "random":
        return np.arange(count) * len(some.ids) // count
    if kind != "source":
        return rng.choice(len(some.ids), count, replace=False)
    drawn = [
        rng.choice(np.flatnonzero(some.source_index == slot), 3, replace=False)
        for slot in range(len(SOURCES))
    ]
    return np.concatenate(drawn)


def _aims(rng: np.random.Generator, kind: str, count: int) -> Array:
    """The peaks the examples should have; bottom examples: troughs."""
    if kind == "top":
        return 6.0 + rng.gamma(2.0, 0.5, count)
    if kind == "bottom":
        return -1.5 - rng.gamma(2.0, 0.1, count)
    if kind == "band":  # three in each band, lowest band first
        lowest = BAND_CUTS[0] - 1
        return np.repeat(lowest + np.arange(4), 3) + rng.uniform(0.1, 0.9, count)
    if kind == "source":
        return rng.uniform(4.5, 6.0, count)
    return rng.uniform(1.0, 4.5, count)


def arrays(
    rng: np.random.Generator, widths: tuple[int, ...], layer: int, vocabulary_size: int
) -> PackedArrays:
    """The small arrays of a neuron of one layer: lists of neurons name such as there are."""
    first = sum(widths[:layer])
    after = first + widths[layer]

    def neurons(low: int, high: int) -> Array:
        number = min(NEIGHBOURS, high - low)
        return low + rng.choice(high - low, number, replace=False) if number else np.empty(0, int)

    def falling(count: int, high: float) -> Array:
        return -np.sort(-rng.uniform(0.1, high, count))

    def tokens(name: str, count: int, high: float) -> dict[str, Array]:
        ids = rng.choice(vocabulary_size, 2 * count, replace=False)
        ways = [falling(count, high), -falling(count, high)]
        return {f"{name}_values": np.concatenate(ways), f"{name}_token_ids": ids}

    def histogram(name: str, low: float, high: float, bins: int, total: int) -> dict[str, Array]:
        shares = rng.dirichlet(np.exp(-0.2 * np.arange(bins)) * 5 + 0.02)
        counts = rng.multinomial(total, shares)
        return {f"{name}_range": np.array([low, (high - low) / bins]), f"{name}_counts": counts}

    half = SAMPLE_CONTEXTS // 2
    together, alike = neurons(first, after), neurons(0, sum(widths))
    upstream, downstream = neurons(0, first), neurons(after, sum(widths))
    some: dict[str, Array] = {
        "peak_quantiles": np.sort(rng.uniform(0.0, 5.5, 7)),
        **histogram("histogram", -1.0, 6.0, 64, SAMPLE_POSITIONS),
        **histogram("peak_histogram", 0.5, 6.0, 40, SAMPLE_CONTEXTS),
        "band_cuts": np.array(BAND_CUTS),
        "band_counts": rng.multinomial(half, (0.5, 0.4, 0.09, 0.01)),
        "source_mean_peaks": rng.uniform(0.5, 3.5, len(SOURCES)),
        "together_neurons": together,
        "together_values": falling(len(together), 0.9),
        **tokens("logit", LOGIT_EFFECTS, 1.5),
        **histogram("effect_histogram", -1.5, 1.5, 41, vocabulary_size),
        "effect_moments": np.array([rng.normal(0.0, 0.01), rng.uniform(0.1, 0.4)]),
        **tokens("in", INPUT_TOKENS, 4.0),
        "alike_neurons": alike,
        "alike_values": falling(len(alike), 0.7),
        "upstream_neurons": upstream,
        "upstream_values": falling(len(upstream), 1.0),
        "upstream_parts": np.zeros(len(upstream)),
        "downstream_neurons": downstream,
        "downstream_values": falling(len(downstream), 1.0),
        "downstream_parts": np.zeros(len(downstream)),
        "sample_peaks": rng.uniform(0.1, 1.0, KEPT_PEAKS),
    }
    return PackedArrays(pack_arrays(some), int(some["logit_token_ids"][0]))
