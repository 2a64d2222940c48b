"""How many random and intermediate examples a neuron has, and the sizes that follow."""

from __future__ import annotations

import math

RANDOM_EXAMPLES = 15
BAND_EXAMPLES = 3
"""In each band."""
FIRING_PEAKS = 200
"""Contexts in which a unit of a sparse set fires, of which its peaks are stored."""
SOURCE_EXAMPLES = 3
"""In each source slot."""
SOURCE_SLOTS = 8
"""Sources with a slot of their own; all later ones share one more, "other"."""
_PAGE = 4096


def different(contexts: int, chosen: float) -> float:
    """How many of the contexts are among `chosen` that are drawn one by one, on average."""
    return contexts * (1 - math.exp(-chosen / contexts))


def in_pages(row: float) -> float:
    """Bytes that a row of `row` bytes takes in a database: a row of more than half a page shares
    its page with no other."""
    return _PAGE if _PAGE / 2 < row <= _PAGE else 1.1 * row
