"""Rows on their way to another order, kept in files of ranges: what is sorted at once is one range,
so that the memory it takes does not grow with the run."""

from __future__ import annotations

import tempfile
from typing import IO, Any

import numpy as np

Array = np.ndarray[Any, Any]


def rows_at(rows: Array, places: Array) -> Array:
    """`rows[places]`, moved whole instead of field by field: a tenth of the time."""
    taken: Array = rows.view(f"V{rows.itemsize}")[places].view(rows.dtype)
    return taken


class Spool:
    """Rows of one dtype, put in by any key and taken out range of keys by range of keys."""

    def __init__(self, dtype: np.dtype[Any], keys: int, ranges: int = 64) -> None:
        """`keys`: all keys are below it."""
        self._dtype = dtype
        self._step = max(1, -(-keys // ranges))
        self._files: list[IO[bytes] | None] = [None] * -(-max(1, keys) // self._step)

    def put(self, keys: Array, rows: Array) -> None:
        """Keep rows, each under its key."""
        at = (keys // self._step).astype(np.uint16)  # of few bytes: sorted by counting
        order = np.argsort(at, kind="stable")
        ends = np.searchsorted(at[order], np.arange(len(self._files) + 1))
        rows = rows_at(rows, order)
        for index in np.flatnonzero(np.diff(ends)).tolist():
            file = self._files[index]
            if file is None:
                file = self._files[index] = tempfile.TemporaryFile()  # noqa: SIM115 - close() does
            file.write(rows[ends[index] : ends[index + 1]].tobytes())

    def range_of(self, key: int) -> int:
        """The number of the range that a key is in."""
        return key // self._step

    def __len__(self) -> int:
        """How many ranges there are."""
        return len(self._files)

    def take(self, index: int) -> Array:
        """The rows of a range in the order they came. They are kept no longer."""
        file = self._files[index]
        if file is None:
            return np.empty(0, self._dtype)
        with file:
            file.seek(0)
            rows = np.frombuffer(file.read(), self._dtype)
        self._files[index] = None
        return rows

    def close(self) -> None:
        """Let go of all that was not taken."""
        for index in range(len(self._files)):
            self.take(index)
