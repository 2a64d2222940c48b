"""The state of a pass over pairs as arrays, so that a stopped pass resumes where it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from indexer.heads.examples import HeadExample
from indexer.heads.scan import HeadScan

Array = np.ndarray[Any, Any]

_INTEGERS = ("context_id", "query", "key")
_FLOATS = ("value", "attention", "moved", "effect")


def arrays_of(scan: HeadScan) -> dict[str, Array]:
    """All that `restore` needs."""
    arrays: dict[str, Array] = {
        "pairs": np.array(scan.pairs, np.int64),
        "scores.counts": scan.scores.counts,
    }
    for layer, sums in enumerate(scan.scores.sums):
        arrays[f"scores.{layer}"] = sums
    for name, ranking in scan.rankings.items():
        arrays |= {f"{name}.{key}": value for key, value in ranking.arrays().items()}
        arrays |= _examples(f"{name}.examples", ranking.kept)
    arrays |= {f"tokens.{key}": value for key, value in scan.tokens.arrays().items()}
    random = [
        of_head.get(context) for of_head in scan.random for context in scan.shape.random.tolist()
    ]
    return arrays | _examples("random", random)


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
        kept = _read(f"{name}.examples", arrays)
        if len(kept) != len(ranking.kept):
            raise ValueError("it is of another shape")
        ranking.kept[:] = kept
    for key, value in scan.tokens.arrays().items():
        _fill(value, arrays[f"tokens.{key}"])
    random = iter(_read("random", arrays))
    for of_head in scan.random:
        for context in scan.shape.random.tolist():
            example = next(random, None)
            if example is not None:
                of_head[context] = example


def _fill(mine: Array, saved: Array) -> None:
    if (mine.shape, mine.dtype) != (saved.shape, saved.dtype):
        raise ValueError("it is of another shape")
    mine[...] = saved


def _examples(name: str, examples: Sequence[HeadExample | None]) -> dict[str, Array]:
    """Examples as columns; which of them there are, in `known`."""
    known = [example for example in examples if example is not None]
    patterns = [example.pattern for example in known]
    columns: dict[str, Array] = {
        "known": np.array([example is not None for example in examples], np.bool_),
        "lengths": np.array([len(pattern) for pattern in patterns], np.int64),
        "patterns": np.frombuffer(b"".join(patterns), np.uint8),
    }
    for field in _INTEGERS:
        columns[field] = np.array([getattr(example, field) for example in known], np.int64)
    for field in _FLOATS:  # an effect of None becomes NaN
        columns[field] = np.array([getattr(example, field) for example in known], np.float64)
    return {f"{name}.{key}": column for key, column in columns.items()}


def _read(name: str, arrays: Mapping[str, Array]) -> list[HeadExample | None]:
    """The inverse of `_examples`."""
    ends = np.cumsum(arrays[f"{name}.lengths"]).tolist()
    data = arrays[f"{name}.patterns"].tobytes()
    fields = {field: arrays[f"{name}.{field}"].tolist() for field in (*_INTEGERS, *_FLOATS)}
    fields["effect"] = [None if value != value else value for value in fields["effect"]]
    known = (
        HeadExample(
            **{field: values[number] for field, values in fields.items()},
            pattern=data[start:end],
        )
        for number, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=False))
    )
    return [next(known) if there else None for there in arrays[f"{name}.known"].tolist()]
