"""The state of a pass over pairs as arrays, so that a stopped pass resumes where it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from indexer.heads.examples import Examples
from indexer.heads.scan import HeadScan

Array = np.ndarray[Any, Any]


def arrays_of(scan: HeadScan) -> dict[str, Array]:
    """The arrays of a scan by name, as `restore` takes them. Patterns are concatenated bytes, with
    the length of each."""
    arrays: dict[str, Array] = {
        "pairs": np.array(scan.pairs, np.int64),
        "scores.counts": scan.scores.counts,
    }
    for layer, sums in enumerate(scan.scores.sums):
        arrays[f"scores.{layer}"] = sums
    for name, ranking in scan.rankings.items():
        arrays |= {f"{name}.{key}": value for key, value in ranking.arrays().items()}
    arrays |= {f"tokens.{key}": value for key, value in scan.tokens.arrays().items()}
    for name, examples in _examples(scan).items():
        arrays |= {f"{name}.{key}": value for key, value in examples.columns.items()}
        lengths = [len(pattern) for pattern in examples.patterns]
        arrays[f"{name}.lengths"] = np.array(lengths, np.int64)
        arrays[f"{name}.patterns"] = np.frombuffer(b"".join(examples.patterns), np.uint8)
    return arrays


def restore(scan: HeadScan, arrays: Mapping[str, Array]) -> None:
    """Put saved arrays into a new scan of the same shape. Raises KeyError and ValueError for arrays
    of another shape."""
    scan.pairs = int(arrays["pairs"])
    _fill(scan.scores.counts, arrays["scores.counts"])
    for layer, sums in enumerate(scan.scores.sums):
        _fill(sums, arrays[f"scores.{layer}"])
    for name, ranking in scan.rankings.items():
        for key, value in ranking.arrays().items():
            _fill(value, arrays[f"{name}.{key}"])
    for key, value in scan.tokens.arrays().items():
        _fill(value, arrays[f"tokens.{key}"])
    for name, examples in _examples(scan).items():
        for key, value in examples.columns.items():
            _fill(value, arrays[f"{name}.{key}"])
        lengths, data = arrays[f"{name}.lengths"], arrays[f"{name}.patterns"].tobytes()
        if len(lengths) != len(examples.patterns) or lengths.sum() != len(data):
            raise ValueError("it is of another shape")
        starts = (np.cumsum(lengths) - lengths).tolist()
        pairs = zip(starts, lengths.tolist(), strict=True)
        examples.patterns[:] = [data[start : start + length] for start, length in pairs]


def _examples(scan: HeadScan) -> dict[str, Examples]:
    named = {f"{name}.examples": ranking.examples for name, ranking in scan.rankings.items()}
    return named | {"random.examples": scan.random}


def _fill(mine: Array, saved: Array) -> None:
    if (mine.shape, mine.dtype) != (saved.shape, saved.dtype):
        raise ValueError("it is of another shape")
    mine[...] = saved
