"""Sources → slots: which contexts compete for the same examples by source. Pure.

The first sources in corpus order have a slot each; all later ones share one more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int64

NAMED_SOURCES = 8
"""Sources that have a slot of their own; the store's schema says the same."""


def count_slots(sources: int) -> int:
    """How many slots a corpus of so many sources has: none where there is nothing to compare."""
    return 0 if sources < 2 else min(sources, NAMED_SOURCES + 1)


def slots_of(source_index: np.ndarray[Any, Any]) -> Int64[np.ndarray, " contexts"]:
    """The slot of each context, from the index of its source."""
    slots: Int64[np.ndarray, " contexts"] = np.minimum(source_index, NAMED_SOURCES).astype(np.int64)
    return slots
