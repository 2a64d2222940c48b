"""Checks what callers give, before a database or a server is asked."""

from __future__ import annotations

from operator import index
from typing import Any

from indexer.errors import NeurariumError

_LARGEST = 2**63 - 1
"""The largest number that a database can hold."""
LARGEST_TOKEN = 2**31 - 1


def number(name: str, value: Any, first: int = 0, last: int = _LARGEST) -> int:
    """A Python integer from an integer of any library, such as numpy's. Raises NeurariumError for
    another value, and for one that is not between `first` and `last`."""
    try:
        made = index(value)
    except TypeError:
        raise NeurariumError(
            f"{name} {value!r} is not a whole number: use an integer from {first} on."
        ) from None
    if not first <= made <= last:
        raise NeurariumError(f"{name} {made} is out of range: use an integer from {first} on.")
    return made


def optional_number(name: str, value: Any, first: int = 0, last: int = _LARGEST) -> int | None:
    """As `number`; None stays None."""
    return None if value is None else number(name, value, first, last)


def words(name: str, value: Any) -> str:
    """A text as it is. Raises NeurariumError for any other value."""
    if not isinstance(value, str):
        raise NeurariumError(f"{name} {value!r} is not a text: use a string.")
    return value
