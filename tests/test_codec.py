"""Packing and unpacking: nothing lost but what quantizing may lose, and that within its bound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.store.codec import (
    LAYER_ARRAYS,
    NEURON_ARRAYS,
    ExampleArrays,
    activations_of,
    pack_arrays,
    pack_examples,
    pack_numbers,
    pack_token_ids,
    quantize,
    unpack_arrays,
    unpack_examples,
    unpack_numbers,
    unpack_token_ids,
)

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


def _examples(rng: np.random.Generator, count: int) -> ExampleArrays:
    lengths = rng.integers(1, 9, count).astype(np.uint16)
    return ExampleArrays(
        peaks=rng.normal(size=count).astype(np.float32),
        peak_positions=rng.integers(0, 2**16, count).astype(np.uint16),
        troughs=rng.normal(size=count).astype(np.float32),
        trough_positions=rng.integers(0, 2**16, count).astype(np.uint16),
        context_ids=rng.integers(0, 2**62, count),
        starts=rng.integers(0, 2**16, count).astype(np.uint16),
        lengths=lengths,
        scales=rng.random(count).astype(np.float32),
        gates=rng.normal(size=count).astype(np.float32),
        linears=rng.normal(size=count).astype(np.float32),
        quantized=rng.integers(-127, 128, int(lengths.sum())).astype(np.int8),
    )


@given(st.integers(0, 2**32 - 1), st.integers(0, 30))
def test_examples_come_back_as_they_were(seed: int, count: int) -> None:
    """Unpacking gives every array again, bit by bit."""
    examples = _examples(np.random.default_rng(seed), count)
    back = unpack_examples(pack_examples(examples))
    for name in ExampleArrays.__dataclass_fields__:
        assert getattr(back, name).tolist() == getattr(examples, name).tolist()


@given(st.lists(finite, min_size=1, max_size=40))
def test_quantizing_keeps_within_1_254_of_the_largest(values: list[float]) -> None:
    """The error is at most 1/254 of the row's largest magnitude, and the extremes stay in reach."""
    row = np.array([values], np.float32)
    included = np.ones(row.shape, np.bool_)
    integers, scales = quantize(row, included)
    back = integers.astype(np.float64) * scales[:, None].astype(np.float64)
    bound = np.abs(row).max() / 254 * (1 + 1e-5) + 1e-43
    assert np.abs(back - row).max() <= bound


def test_positions_that_are_not_included_do_not_set_the_scale() -> None:
    """A huge activation on BOS costs the others no precision and is stored as nothing."""
    row = np.array([[3000.0, 1.0, -0.5]], np.float32)
    integers, scales = quantize(row, np.array([[False, True, True]]))
    assert integers.tolist() == [[0, 127, -64]]
    assert scales[0] == np.float32(1 / 127)


def test_activations_are_clipped_to_the_exact_peak_and_trough() -> None:
    """Rounding never shows a value above the peak or below the trough."""
    examples = ExampleArrays(
        peaks=np.array([1.0, 0.999], np.float32),
        peak_positions=np.array([0, 1], np.uint16),
        troughs=np.array([0.25, -0.5], np.float32),
        trough_positions=np.array([1, 0], np.uint16),
        context_ids=np.array([4, 5]),
        starts=np.array([0, 3], np.uint16),
        lengths=np.array([2, 3], np.uint16),
        scales=np.array([0.01, 0.01], np.float32),
        gates=np.array([np.nan, np.nan], np.float32),
        linears=np.array([np.nan, np.nan], np.float32),
        quantized=np.array([127, 20, -60, 100, 7], np.int8),
    )
    assert activations_of(examples, 0).tolist() == [1.0, 0.25]
    assert activations_of(examples, 1).tolist() == pytest.approx([-0.5, 0.999, 0.07])


@given(
    st.sampled_from(["float32", "float64", "int32", "int64", ">i4"]),
    st.lists(st.integers(-1000, 1000), max_size=20),
)
def test_numbers_come_back_as_they_were(dtype: str, values: list[int]) -> None:
    """A packed array keeps its kind and values, whatever the byte order it came in."""
    array = np.array(values, dtype)
    back = unpack_numbers(pack_numbers(array))
    assert back.tolist() == array.tolist()
    assert back.dtype == array.dtype.newbyteorder("<")


@given(st.dictionaries(st.sampled_from(sorted(NEURON_ARRAYS)), st.lists(st.integers(0, 200))))
def test_named_arrays_come_back_as_they_were(lists: dict[str, list[int]]) -> None:
    """Every name has its array in its own dtype; those that were not given are empty."""
    back = unpack_arrays(pack_arrays({name: np.array(some) for name, some in lists.items()}))
    assert list(back) == list(NEURON_ARRAYS)
    for name, dtype in NEURON_ARRAYS.items():
        assert back[name].tolist() == lists.get(name, [])
        assert back[name].dtype == dtype


def test_an_array_of_no_known_name_is_refused() -> None:
    """A misspelt name is an error, not an array that is lost."""
    with pytest.raises(KeyError, match="peak_quantile"):
        pack_arrays({"peak_quantile": np.zeros(1)}, LAYER_ARRAYS)


def test_token_ids_come_back_as_they_were() -> None:
    """Ids up to 32 bits survive."""
    ids = np.array([0, 1, 49_151, 2**32 - 1], np.uint32)
    assert unpack_token_ids(pack_token_ids(ids)).tolist() == ids.tolist()


@pytest.mark.parametrize("broken", [b"", b"\x02abc", b"\x01"])
def test_bytes_of_another_format_are_refused(broken: bytes) -> None:
    """What this version did not write is an error, not garbage on a page."""
    with pytest.raises(ValueError, match=r"format|cannot be unpacked"):
        unpack_examples(broken)


def test_a_list_that_lost_activations_is_refused() -> None:
    """The number of activations has to be what the lengths say."""
    examples = _examples(np.random.default_rng(1), 3)
    short = ExampleArrays(
        **{
            name: getattr(examples, name)
            for name in ExampleArrays.__dataclass_fields__
            if name != "quantized"
        },
        quantized=examples.quantized[:-1],
    )
    with pytest.raises(ValueError, match="as many activations"):
        unpack_examples(pack_examples(short))
