"""Slots of sources: contexts in one slot compete for the same examples by source.

The first sources in corpus order have a slot each; all later sources share one more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int64

from indexer.store.sizes import SOURCE_SLOTS


def count_slots(sources: int) -> int:
    """The number of slots for a corpus's number of sources; 0 for a single source."""
    return 0 if sources < 2 else min(sources, SOURCE_SLOTS + 1)


def slots_of(source_index: np.ndarray[Any, Any]) -> Int64[np.ndarray, " contexts"]:
    """The slot of each context, from the index of its source."""
    slots: Int64[np.ndarray, " contexts"] = np.minimum(source_index, SOURCE_SLOTS).astype(np.int64)
    return slots
