"""What pairs of positions take in memory and in the store, estimated before a pass from its sizes
alone. The figures were measured with the demo's model and SmolLM2-135M."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

from indexer.heads.examples import RANKINGS
from indexer.heads.scan import PAIRS_KEPT, HeadShape
from indexer.store.sizes import different, in_pages

_HELD_A_POSITION, _STORED_A_POSITION = 31, 22
"""Bytes of a pattern's row: at most eight keys of 4 bytes; compressed."""
_EXAMPLE = 100
"""Bytes of an example in memory besides its pattern."""
_FACTS, _FACTS_AN_EXAMPLE = 4000, 150
"""Bytes of a head's scores and circuits as JSON, and of an example's place there."""
_DISTINCT = 0.9
"""Share of a head's examples that are of different contexts: a pattern is stored once."""


def _examples(shape: HeadShape) -> int:
    """The number of a head's examples: of all rankings, and random ones."""
    return len(RANKINGS) * shape.examples + len(shape.random)


def distinct(shape: HeadShape) -> float:
    """A head's examples that are of different contexts, where there are contexts enough."""
    return _DISTINCT * _examples(shape)


def bytes_held(shape: HeadShape, length: float) -> int:
    """Memory of a scan's state in bytes, over contexts of `length` positions on average."""
    an_example = _HELD_A_POSITION * length + _EXAMPLE
    return int(shape.heads * (_examples(shape) * an_example + 36 * PAIRS_KEPT))


def bytes_stored(shape: HeadShape, lengths: Int64[np.ndarray, " contexts"]) -> int:
    """Bytes in the store besides what every unit takes there, of contexts of these lengths."""
    positions, counts = np.unique(lengths, return_counts=True)
    # The bytes of a row jump at half a page: those of the mean length are not the mean bytes.
    sizes = [in_pages(_STORED_A_POSITION * length) for length in positions.tolist()]
    patterns = different(len(lengths), distinct(shape)) * float(np.average(sizes, weights=counts))
    return int(shape.heads * (_FACTS + _FACTS_AN_EXAMPLE * _examples(shape) + patterns))
