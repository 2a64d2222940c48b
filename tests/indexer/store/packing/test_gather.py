"""Reading arrays of many neurons at once gives the same as one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.store.packing.codec import NEURON_ARRAYS, pack_arrays, unpack_arrays
from indexer.store.packing.gather import gather

Array = np.ndarray[Any, Any]


def some_arrays(rng: np.random.Generator) -> dict[str, Array]:
    """Random arrays of one neuron."""
    return {
        name: rng.integers(0, 256, int(dtype[-1]) * int(rng.integers(0, 9)))
        .astype(np.uint8)
        .view(dtype)
        for name, dtype in NEURON_ARRAYS.items()
        if rng.random() < 0.8
    }


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 6))
def test_all_at_once_is_as_one_by_one(seed: int, count: int) -> None:
    """All arrays are equal bit by bit, padded with 0."""
    rng = np.random.default_rng(seed)
    packed = [pack_arrays(some_arrays(rng)) for _ in range(count)]
    gathered = gather(packed, list(NEURON_ARRAYS))
    for at, arrays in enumerate(map(unpack_arrays, packed)):
        for name, values in arrays.items():
            row, length = gathered[name].values[at], gathered[name].lengths[at]
            assert length == len(values)
            assert row[:length].tobytes() == values.tobytes()
            assert not row[length:].any()


def test_only_what_is_wanted_is_read() -> None:
    """Only wanted arrays are returned; an unknown name is an error."""
    packed = [pack_arrays({"histogram_counts": np.array([1, 2], np.int32)})]
    assert set(gather(packed, ["histogram_counts"])) == {"histogram_counts"}
    with pytest.raises(KeyError):
        gather(packed, ["histogram_count"])


@pytest.mark.parametrize("damage", [b"", b"\7", b"cut"])
def test_damaged_bytes_are_refused(damage: bytes) -> None:
    """Bytes in no known format, or truncated, are an error."""
    good = pack_arrays({"histogram_counts": np.arange(5, dtype=np.int32)})
    with pytest.raises(ValueError, match="packed"):
        gather([good, good[:-3] if damage == b"cut" else damage], ["histogram_counts"])
