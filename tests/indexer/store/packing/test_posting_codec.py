"""Packing the neurons of contexts and of tokens loses nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.store.packing.codec import Packer
from indexer.store.packing.postings import (
    PLACE,
    pack_places,
    pack_tokens,
    unpack_places,
    unpack_token,
)

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)


Token = tuple[list[tuple[int, float, int]], bool]
tokens = st.tuples(
    st.lists(st.tuples(st.integers(0, 2**31 - 1), finite, st.integers(1, 99)), min_size=1),
    st.booleans(),
)
places = st.lists(
    st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 1), st.integers(0, 2**16 - 1), finite)
).map(sorted)


@given(st.lists(tokens))
def test_tokens_neurons_come_back_as_they_were(tokens_in: list[Token]) -> None:
    """With and without counts, for any number of tokens; a wrong number of neurons is refused."""
    rows = [row for own, _ in tokens_in for row in own]
    columns = (
        np.array([row[index] for row in rows], dtype)
        for index, dtype in enumerate(("<i4", "<f4", "<i4"))
    )
    sizes = np.array([len(own) for own, _ in tokens_in], np.int64)
    packed = pack_tokens(*columns, sizes, np.array([counted for _, counted in tokens_in], np.bool_))
    assert len(packed) == len(tokens_in)
    for item, (own, counted) in zip(packed, tokens_in, strict=True):
        ids, values, counts = unpack_token(item, len(own))
        assert ids.tolist() == [row[0] for row in own]
        assert values.tolist() == [row[1] for row in own]
        assert (counts is not None) == counted
        assert counts is None or counts.tolist() == [row[2] for row in own]
        for wrong in (0, 4 * len(own)):
            with pytest.raises(ValueError, match="the stated number of neurons"):
                unpack_token(item, wrong)


@given(st.lists(places))
def test_contexts_places_come_back_as_they_were(contexts: list[list[tuple[int, ...]]]) -> None:
    """No neuron, one, or the same neuron twice, for any number of contexts."""
    rows = [row for own in contexts for row in own]
    together = np.array(rows, PLACE)
    packed = pack_places(together, [len(own) for own in contexts], Packer())
    assert [unpack_places(item).tolist() for item in packed] == contexts
    assert together.tolist() == rows  # packing does not modify its input


def test_more_neurons_than_two_bytes_count() -> None:
    """A context of a large model may be an example of most of its neurons."""
    places = np.zeros(200_000, PLACE)
    places["neuron"] = np.arange(200_000) // 2
    places["kind"] = np.arange(200_000) % 2
    (packed,) = pack_places(places, [len(places)], Packer())
    assert len(packed) < 2_000
    assert (unpack_places(packed) == places).all()


def test_what_is_no_list_of_places_is_refused() -> None:
    """Another format, truncated bytes, an incomplete row."""
    packer = Packer()
    (good,) = pack_places(np.zeros(3, PLACE), [3], packer)
    for bad in (b"", b"\x09" + good[1:], good[:-3], good[:1] + packer.fast(b"12345")):
        with pytest.raises(ValueError, match=r"neurons|unpacked"):
            unpack_places(bad)
