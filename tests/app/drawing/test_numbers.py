"""Numbers as text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.drawing.numbers import number, numbers

EDGES = [0.0, -0.0, 1e-4, 9.9999e-5, -1e-4, 998.9999, 999.0, -999.5, 100.0, 99.95, 0.5, 1.0, -1.0]


@given(st.lists(st.none() | st.floats(width=64) | st.floats(-2000, 2000) | st.sampled_from(EDGES)))
def test_many_numbers_are_written_as_each_is(values: list[float | None]) -> None:
    """Small and large numbers, None, infinities and NaN."""
    assert numbers(values) == [number(value) for value in values]
