"""Numbers as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.drawing.numbers import MINUS, compact, exact, number, numbers, share, when

EDGES = [0.0, -0.0, 1e-4, 9.9999e-5, -1e-4, 998.9999, 999.0, -999.5, 100.0, 99.95, 0.5, 1.0, -1.0]


@given(st.lists(st.none() | st.floats(width=64) | st.floats(-2000, 2000) | st.sampled_from(EDGES)))
def test_many_numbers_are_written_as_each_is(values: list[float | None]) -> None:
    """Small and large numbers, None, infinities and NaN."""
    assert numbers(values) == [number(value) for value in values]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "—"),
        (0.0, "0"),
        (-0.0, "0"),
        (5.3, "5.30"),
        (-0.16990139, "−0.170"),
        (123.4, "123"),
        (12345.6, "12,346"),
        (0.000012345, "1.23e−5"),
        (2.5e12, "2.50e12"),
        (float("inf"), "inf"),
        (float("-inf"), "−inf"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    """Three significant digits, a true minus sign, powers of ten only at the far ends."""
    assert number(value) == text


@settings(deadline=None)
@given(st.floats(width=32, allow_nan=False))
def test_exact_gives_the_same_float32_back(value: float) -> None:
    """Nothing of a peak is lost in its text."""
    text = exact(value).replace(MINUS, "-")
    assert np.float32(text) == np.float32(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0%"),
        (1, "100%"),
        (0.99999, ">99.9%"),
        (0.385, "38.5%"),
        (0.0731, "7.3%"),
        (0.00012, "0.012%"),
        (1e-9, "<0.001%"),
    ],
)
def test_share(value: float, text: str) -> None:
    """Neither 0% nor 100% unless it is exactly that."""
    assert share(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(7, "7"), (1000, "1k"), (1234, "1.2k"), (46_080, "46k"), (2e6, "2M")]
)
def test_compact(value: float, text: str) -> None:
    """Counts on an axis."""
    assert compact(value) == text


def test_when_is_utc() -> None:
    """A time with a zone is converted, one without is taken as UTC."""
    moment = datetime(2026, 3, 14, 15, 9)
    assert when(moment) == "2026-03-14 15:09 UTC"
    assert when(moment.replace(tzinfo=UTC)) == "2026-03-14 15:09 UTC"
    east = timezone(timedelta(hours=5))
    assert when(moment.replace(tzinfo=east)) == "2026-03-14 10:09 UTC"
