"""Laying out a block gives the same bytes as laying out its neurons one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.store.packing import layout
from indexer.store.packing.layout import Columns, Windows

NAMES = {"wide": "<f8", "counts": "<i4", "parts": "u1", "more": "<f8", "ids": "<i8", "x": "<f4"}


def windows(rng: np.random.Generator, count: int, width: int) -> Windows:
    """Examples of few contexts, so that some are equal."""
    few = rng.integers(0, 3, count)
    lengths = np.minimum(few + 1, width).astype(np.uint16)
    quantized = np.repeat(few[:, None], width, axis=1).astype(np.int8)
    quantized[np.arange(width) >= lengths[:, None]] = 0
    return Windows(
        peaks=few.astype(np.float32),
        peak_positions=few.astype(np.uint16),
        troughs=-few.astype(np.float32),
        trough_positions=few.astype(np.uint16),
        context_ids=(few << rng.integers(0, 61)) + 1,
        starts=few.astype(np.uint16),
        lengths=lengths,
        scales=(few / 127).astype(np.float32),
        gates=np.where(rng.random(count) < 0.2, np.nan, few).astype(np.float32),
        linears=np.full(count, np.nan, np.float32),
        quantized=quantized,
    )


def rows(examples: Windows, first: int, end: int) -> Windows:
    return Windows(**{name: values[first:end] for name, values in vars(examples).items()})


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(0, 4), st.integers(1, 5))
def test_lists_of_a_block(seed: int, neurons: int, lists: int, width: int) -> None:
    """A neuron's bytes do not depend on its neighbours."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 6, (neurons, lists))
    examples = windows(rng, int(counts.sum()), width)
    heads, activations = layout.lists_bytes(counts, examples)
    assert len(heads) == len(activations) == neurons
    end = 0
    for neuron in range(neurons):
        first, end = end, end + int(counts[neuron].sum())
        alone = layout.lists_bytes(counts[neuron : neuron + 1], rows(examples, first, end))
        assert (heads[neuron], activations[neuron]) == (alone[0][0], alone[1][0])


def test_the_bytes_of_two_lists() -> None:
    """Two neurons laid out by hand; the second repeats its first example."""
    examples = Windows(
        peaks=np.array([1, 2, 2], np.float32),
        peak_positions=np.array([3, 4, 4], np.uint16),
        troughs=np.array([-1, -1, -1], np.float32),
        trough_positions=np.array([5, 6, 6], np.uint16),
        context_ids=np.array([258, 7, 7]),
        starts=np.array([0, 0, 0], np.uint16),
        lengths=np.array([2, 1, 1], np.uint16),
        scales=np.array([1 / 127, 0, 0], np.float32),
        gates=np.zeros(3, np.float32),
        linears=np.zeros(3, np.float32),
        quantized=np.array([[127, -5], [9, 0], [9, 0]], np.int8),
    )
    heads, activations = layout.lists_bytes(np.array([[1, 0], [1, 1]]), examples)
    assert activations == [bytes([127, 251]), bytes([9])]
    first = bytes([2, 1, 0, 0, 0, 1, 0, 0, 0])  # two lists, of 1 and 0; 1 distinct; a new one
    first += np.float32(1).tobytes() + bytes([3, 0]) + np.float32(-1).tobytes() + bytes([5, 0])
    first += bytes([2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0]) + bytes(8)
    assert heads[0] == first
    second = bytes([2, 1, 1, 0, 0, 1, 0, 0, 1, 0, 0])  # the second lies one back
    second += np.float32(2).tobytes() + bytes([4, 0]) + np.float32(-1).tobytes() + bytes([6, 0])
    expected = np.float32(2) / np.float32(127)
    second += bytes([7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]) + expected.tobytes() + bytes(8)
    assert heads[1] == second


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_arrays_of_a_block(seed: int, neurons: int) -> None:
    """With equal or different lengths, a neuron's bytes do not depend on its neighbours."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, Columns] = {}
    for name, dtype in NAMES.items():
        values: Any = rng.integers(0, 200, (neurons, int(rng.integers(0, 5)))).astype(dtype)
        counts = rng.integers(0, values.shape[1] + 1, neurons)
        kind = rng.integers(3)
        if kind:
            arrays[name] = Columns(values, counts if kind == 1 else None)
    laid_out = layout.arrays_bytes(neurons, arrays, NAMES)
    for neuron in range(neurons):
        alone = {
            name: Columns(columns.values[neuron : neuron + 1, : columns.lengths[neuron]])
            for name, columns in arrays.items()
        }
        assert [laid_out[neuron]] == layout.arrays_bytes(1, alone, NAMES)


def test_too_many_to_count_are_refused() -> None:
    """Lengths have 16 bits."""
    with pytest.raises(ValueError, match=r"65,536 numbers"):
        layout.arrays_bytes(1, {"x": Columns(np.zeros((1, 65_536)))}, NAMES)
    many = windows(np.random.default_rng(0), 65_536, 1)
    with pytest.raises(ValueError, match=r"65,536 examples"):
        layout.lists_bytes(np.array([[65_536]]), many)
