"""Packing and unpacking lose nothing except quantisation error, which is within its bound."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.store.packing.codec import (
    LAYER_ARRAYS,
    NEURON_ARRAYS,
    ExampleArrays,
    activations_of,
    pack_arrays,
    pack_token_ids,
    quantize,
    unpack_arrays,
    unpack_kinds,
    unpack_lists,
    unpack_token_ids,
)
from tests.helpers.packed_lists import pack_lists

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


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 30))
def test_examples_come_back_as_they_were(seed: int, count: int) -> None:
    """Unpacking restores every array bit by bit."""
    examples = _examples(np.random.default_rng(seed), count)
    (back,) = unpack_lists(pack_lists([examples]))
    for name in ExampleArrays.__dataclass_fields__:
        assert getattr(back, name).tolist() == getattr(examples, name).tolist()


def _same(back: ExampleArrays, examples: ExampleArrays) -> None:
    for name in ExampleArrays.__dataclass_fields__:
        mine, theirs = getattr(back, name), getattr(examples, name)
        assert mine.dtype == theirs.dtype, name
        assert mine.tobytes() == theirs.tobytes(), name


def _selected(examples: ExampleArrays, places: list[int]) -> ExampleArrays:
    """The examples at `places`, in that order, possibly repeated."""
    _, ends = activations_of(examples)
    rows = [examples.quantized[ends[place] : ends[place + 1]] for place in places]
    fields = {
        name: getattr(examples, name)[places]
        for name in ExampleArrays.__dataclass_fields__
        if name != "quantized"
    }
    quantized = np.concatenate([np.empty(0, np.int8), *rows])
    return ExampleArrays(quantized=quantized, **fields)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.lists(st.integers(0, 7)), max_size=6))
def test_lists_that_share_examples_come_back_as_they_were(
    seed: int, chosen: list[list[int]]
) -> None:
    """Examples in several lists of a neuron, or twice in one, are all restored."""
    examples = _examples(np.random.default_rng(seed), 8)
    lists = [_selected(examples, places) for places in chosen]
    back = unpack_lists(pack_lists(lists))
    assert len(back) == len(lists)
    for mine, theirs in zip(back, lists, strict=True):
        _same(mine, theirs)


def test_an_example_in_two_lists_is_stored_once() -> None:
    """A second list of the same examples costs a few bytes; a list of others costs as much as the
    first."""
    rng = np.random.default_rng(0)
    examples, others = _examples(rng, 20), _examples(rng, 20)
    alone = len(pack_lists([examples]))
    assert len(pack_lists([examples, _selected(examples, list(range(19, -1, -1)))])) < alone + 60
    assert len(pack_lists([examples, others])) > 1.7 * alone


def test_examples_of_one_context_that_differ_are_both_kept() -> None:
    """Any difference counts: another window, a gate of NaN, one activation."""
    examples = _examples(np.random.default_rng(3), 2)
    for name in ExampleArrays.__dataclass_fields__:
        if name in ("context_ids", "lengths"):
            continue
        other = _selected(examples, [0, 1])
        values = getattr(other, name)
        values[-1] = np.nan if name in ("gates", "linears") else values[-1] + values.dtype.type(1)
        first, second = unpack_lists(pack_lists([examples, other]))
        _same(first, examples)
        _same(second, other)


def test_rows_say_which_kinds_they_hold() -> None:
    """A row has lists of consecutive kinds; empty lists are omitted."""
    rng = np.random.default_rng(4)
    lists = [_examples(rng, count) for count in (2, 0, 1, 3)]
    unpacked = unpack_kinds([(0, pack_lists(lists[:3])), (4, pack_lists(lists[3:]))])
    assert list(unpacked) == [0, 2, 4]
    _same(unpacked[0], lists[0])
    _same(unpacked[4], lists[3])


def test_arrays_of_fewer_names_are_read() -> None:
    """Names added later are empty in older bytes."""
    names = {"a": "<f8", "b": "<i4", "c": "<f8"}
    packed = pack_arrays({"a": np.array([0.5]), "b": np.array([3, 4])}, {"a": "<f8", "b": "<i4"})
    unpacked = unpack_arrays(packed, names)
    assert {name: values.tolist() for name, values in unpacked.items()} == {
        "a": [0.5],
        "b": [3, 4],
        "c": [],
    }
    with pytest.raises(ValueError, match="does not know"):
        unpack_arrays(packed, {"a": "<f8"})


@given(st.lists(finite, min_size=1, max_size=40))
def test_quantizing_keeps_within_1_254_of_the_largest(values: list[float]) -> None:
    """The error is at most 1/254 of the row's largest magnitude."""
    row = np.array([values], np.float32)
    included = np.ones(row.shape, np.bool_)
    integers, scales = quantize(row, included)
    back = integers.astype(np.float64) * scales[:, None].astype(np.float64)
    bound = np.abs(row).max() / 254 * (1 + 1e-5) + 1e-43
    assert np.abs(back - row).max() <= bound


def test_positions_that_are_not_included_do_not_set_the_scale() -> None:
    """A huge activation on BOS is stored as 0 and does not affect precision."""
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
    values, places = activations_of(examples)
    assert places.tolist() == [0, 2, 5]
    assert values[:2].tolist() == [1.0, 0.25]
    assert values[2:].tolist() == pytest.approx([-0.5, 0.999, 0.07])


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(NEURON_ARRAYS)), st.lists(st.integers(0, 200))))
def test_named_arrays_come_back_as_they_were(lists: dict[str, list[int]]) -> None:
    """Every name has an array in its dtype; missing arrays are empty."""
    back = unpack_arrays(pack_arrays({name: np.array(numbers) for name, numbers in lists.items()}))
    assert list(back) == list(NEURON_ARRAYS)
    for name, dtype in NEURON_ARRAYS.items():
        assert back[name].tolist() == lists.get(name, [])
        assert back[name].dtype == dtype


def test_an_array_of_no_known_name_is_refused() -> None:
    """A misspelt name is an error."""
    with pytest.raises(KeyError, match="peak_quantile"):
        pack_arrays({"peak_quantile": np.zeros(1)}, LAYER_ARRAYS)


def test_token_ids_come_back_as_they_were() -> None:
    """Ids up to 32 bits survive."""
    ids = np.array([0, 1, 49_151, 2**32 - 1], np.uint32)
    assert unpack_token_ids(pack_token_ids(ids)).tolist() == ids.tolist()


@pytest.mark.parametrize(
    "broken", [b"", b"\x03abcdef", b"\x01abcdef", b"\x02", b"\x02\x01\0\0\0abc"]
)
def test_bytes_of_another_format_are_refused(broken: bytes) -> None:
    """Bytes that this version did not write are an error."""
    with pytest.raises(ValueError, match=r"format|cannot be unpacked"):
        unpack_lists(broken)


def test_a_list_that_ends_too_early_is_refused() -> None:
    """A head cut off anywhere is an error."""
    packed = pack_lists([_examples(np.random.default_rng(6), 3)])
    (size,) = struct.unpack_from("<I", packed, 1)
    head = zstandard.decompress(packed[5 : 5 + size])
    assert len(unpack_lists(packed)[0]) == 3
    for end in range(len(head)):
        frame = zstandard.compress(head[:end])
        with pytest.raises(ValueError, match="A packed"):
            unpack_lists(struct.pack("<BI", 2, len(frame)) + frame + packed[5 + size :])


def test_a_list_that_lost_activations_is_refused() -> None:
    """The number of activations must match the lengths."""
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
        pack_lists([short])
    packed = pack_lists([examples])
    (size,) = struct.unpack_from("<I", packed, 1)
    lost = zstandard.compress(zstandard.decompress(packed[5 + size :])[:-1])
    with pytest.raises(ValueError, match="as many activations"):
        unpack_lists(packed[: 5 + size] + lost)
