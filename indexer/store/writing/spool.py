"""Groups rows by ranges of a key in temporary files, so that sorting them range by range needs
memory independent of the size of a run."""

from __future__ import annotations

import tempfile
from typing import IO, Any

import numpy as np

Array = np.ndarray[Any, Any]


def rows_at(rows: Array, places: Array) -> Array:
    """`rows[places]`, copied row by row instead of field by field, ten times as fast."""
    taken: Array = rows.view(f"V{rows.itemsize}")[places].view(rows.dtype)
    return taken


class Spool:
    """Rows of one dtype, put in any order of keys and taken out by ranges of keys."""

    def __init__(self, dtype: np.dtype[Any], keys: int, ranges: int = 64) -> None:
        """`keys`: an upper bound of all keys, exclusive."""
        self._dtype = dtype
        self._step = max(1, -(-keys // ranges))
        self._files: list[IO[bytes] | None] = [None] * -(-max(1, keys) // self._step)

    def put(self, keys: Array, rows: Array) -> None:
        """Add rows [n], each with its key [n]."""
        at = (keys // self._step).astype(np.uint16)  # small integers sort by counting
        order = np.argsort(at, kind="stable")
        ends = np.searchsorted(at[order], np.arange(len(self._files) + 1))
        rows = rows_at(rows, order)
        for index in np.flatnonzero(np.diff(ends)).tolist():
            file = self._files[index]
            if file is None:
                file = self._files[index] = tempfile.TemporaryFile()  # noqa: SIM115 - close() does
            file.write(rows[ends[index] : ends[index + 1]].tobytes())

    def range_of(self, key: int) -> int:
        """The index of a key's range."""
        return key // self._step

    def __len__(self) -> int:
        """The number of ranges."""
        return len(self._files)

    def take(self, index: int) -> Array:
        """Remove the rows of a range and return them [n] in the order they were added."""
        file = self._files[index]
        if file is None:
            return np.empty(0, self._dtype)
        with file:
            file.seek(0)
            rows = np.frombuffer(file.read(), self._dtype)
        self._files[index] = None
        return rows

    def close(self) -> None:
        """Delete all remaining rows."""
        for index in range(len(self._files)):
            self.take(index)
