"""What contexts and tokens say of neurons comes back as it was, however many there are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.store.codec import Packer
from indexer.store.posting_codec import (
    PLACE,
    pack_places,
    pack_token,
    unpack_places,
    unpack_token,
)

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(st.lists(st.tuples(st.integers(0, 2**31 - 1), finite, st.integers(1, 99)), min_size=1))
def test_a_tokens_neurons_come_back_as_they_were(rows: list[tuple[int, float, int]]) -> None:
    """With and without counts; a number of neurons that is not theirs is refused."""
    neurons, values, counts = (
        np.array(column, dtype)
        for column, dtype in zip(zip(*rows, strict=True), ("<i4", "<f4", "<i4"), strict=True)
    )
    for kept in (counts, None):
        back = unpack_token(pack_token(neurons, values, kept), len(rows))
        assert back[0].tolist() == neurons.tolist()
        assert back[1].tolist() == values.tolist()
        assert (None if back[2] is None else back[2].tolist()) == (
            None if kept is None else kept.tolist()
        )
        for wrong in (0, 4 * len(rows)):
            with pytest.raises(ValueError, match="another number of neurons"):
                unpack_token(pack_token(neurons, values, kept), wrong)


@given(
    st.lists(
        st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 1), st.integers(0, 2**16 - 1), finite)
    )
)
def test_a_contexts_places_come_back_as_they_were(rows: list[tuple[int, int, int, float]]) -> None:
    """None, one, the same neuron twice."""
    places = np.array(sorted(rows), PLACE)
    assert unpack_places(pack_places(places, Packer())).tolist() == places.tolist()
    assert places.tolist() == sorted(rows)  # nothing is changed in packing


def test_more_neurons_than_two_bytes_count() -> None:
    """A context of a large model may be an example of most of its neurons."""
    places = np.zeros(200_000, PLACE)
    places["neuron"] = np.arange(200_000) // 2
    places["kind"] = np.arange(200_000) % 2
    packed = pack_places(places, Packer())
    assert len(packed) < 2_000
    assert (unpack_places(packed) == places).all()


def test_what_is_no_list_of_places_is_refused() -> None:
    """Another format, cut short, of half a row."""
    packer = Packer()
    good = pack_places(np.zeros(3, PLACE), packer)
    for bad in (b"", b"\x09" + good[1:], good[:-3], good[:1] + packer.fast(b"12345")):
        with pytest.raises(ValueError, match=r"neurons|unpacked"):
            unpack_places(bad)
