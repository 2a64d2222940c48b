"""Numbers as text, so that every page writes a number the same way."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import numpy as np

MINUS = "\N{MINUS SIGN}"
MISSING = "\N{EM DASH}"


def _sign(text: str) -> str:
    return text.replace("-", MINUS)


def known(rows: Iterable[Any], name: str) -> bool:
    """Whether any of a table's rows has a value of this name: a column without is left out."""
    return any(getattr(row, name) is not None for row in rows)


def number(value: float | None, digits: int = 3) -> str:
    """A measured value to `digits` significant digits; `—` for None."""
    if value is None:
        return MISSING
    if value == 0:
        return "0"
    size = abs(value)
    if 1e-4 <= size < 999:  # nearly all of the thousands of numbers on a page
        text = (f"{size:#.3g}" if digits == 3 else f"{size:#.{digits}g}").rstrip(".")
        return text if value > 0 else MINUS + text
    if not math.isfinite(value):
        return _sign(str(value))
    if size >= 1e9 or size < 1e-4:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return _sign(f"{mantissa}e{int(exponent)}")
    return _sign(f"{value:,.0f}")


def numbers(values: Sequence[float | None]) -> list[str]:
    """`number` of each value, but several times as fast for thousands."""
    known = np.array([math.nan if value is None else value for value in values], np.float64)
    size = np.abs(known)
    usual = (size >= 1e-4) & (size < 999)
    formatted = np.where(usual, known, 1.0).tolist()
    joined = ("%#.3g " * len(formatted)) % tuple(formatted)
    texts = joined.replace(". ", " ").replace("-", MINUS).split(" ")[:-1]
    for i in np.flatnonzero(~usual).tolist():
        texts[i] = number(values[i])
    return texts


@lru_cache(maxsize=1 << 12)
def exact(value: float) -> str:
    """A float32 in the fewest digits that read back as the same float32."""
    if not math.isfinite(value):
        return _sign(str(value))
    single = np.float32(value)
    if single == 0:
        return "0"
    if 1e-4 <= abs(single) < 1e9:
        return _sign(np.format_float_positional(single, unique=True, trim="-"))
    mantissa, exponent = np.format_float_scientific(single, unique=True, trim="-").split("e")
    return _sign(f"{mantissa}e{int(exponent)}")


@lru_cache(maxsize=1 << 12)
def share(value: float) -> str:
    """A share from 0 to 1 as a percentage: `38.5%`, `0.012%`; `0%` and `100%` only if exact."""
    percent = value * 100
    if percent in (0, 100):
        return f"{percent:.0f}%"
    if percent > 99.9:
        return ">99.9%"
    if percent < 0.001:
        return "<0.001%"
    if percent >= 10:
        return f"{percent:.1f}%"
    return f"{float(f'{percent:.2g}')}%"


def count(value: int) -> str:
    """A whole number with thousands separators: `46,080`."""
    return _sign(f"{value:,}")


def compact(value: float) -> str:
    """A count in a few characters, for axes and cards: `950`, `12k`, `1.2M`."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            scaled = value / size
            text = f"{scaled:.1f}" if abs(scaled) < 10 else f"{scaled:.0f}"
            return _sign(text.removesuffix(".0") + unit)
    return _sign(f"{value:.0f}")


def when(moment: datetime) -> str:
    """A time to the minute, in UTC; a time without a zone counts as UTC."""
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    return f"{moment:%Y-%m-%d %H:%M} UTC"
