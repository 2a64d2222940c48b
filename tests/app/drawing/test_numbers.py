"""Many numbers at once are written as each of them is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.drawing.numbers import number, numbers

EDGES = [0.0, -0.0, 1e-4, 9.9999e-5, -1e-4, 998.9999, 999.0, -999.5, 100.0, 99.95, 0.5, 1.0, -1.0]


@given(st.lists(st.none() | st.floats(width=64) | st.floats(-2000, 2000) | st.sampled_from(EDGES)))
def test_numbers_are_written_alike(values: list[float | None]) -> None:
    """Small and large ones, none, and those that are not finite."""
    assert numbers(values) == [number(value) for value in values]
