"""The tokens of a run's contexts, looked up by position."""

from __future__ import annotations

import tempfile
from array import array
from typing import Any

import numpy as np

from app.reading.store import Reading
from indexer.store.transfer.records import read_contexts

Array = np.ndarray[Any, Any]


class ContextTokens:
    """The tokens of all stored contexts of a run, to look positions up. They are in a file without
    a name: in memory a context takes 24 bytes."""

    def __init__(self, reading: Reading) -> None:
        ids, included, lengths = array("q"), array("q"), array("q")
        with tempfile.TemporaryFile() as file:
            for record in read_contexts(reading.connection, reading.run.id):
                ids.append(record.context_id)
                included.append(record.included_from)
                lengths.append(len(record.token_ids))
                file.write(record.token_ids.astype("<u4").tobytes())
            file.flush()
            not_empty = file.tell() > 0
            self._flat = np.memmap(file, "<u4", "r") if not_empty else np.empty(0, "<u4")
        self._ids, self._included = np.array(ids), np.array(included)
        self._begins = np.cumsum(lengths) - np.array(lengths)

    def included_from(self, context_ids: Array) -> Array:
        """The first included position of each context [n]. `context_ids` [n] are of stored
        contexts."""
        included: Array = self._included[np.searchsorted(self._ids, context_ids)]
        return included

    def tokens_at(self, context_ids: Array, positions: Array, counts: Any = 1) -> Array:
        """Token ids [sum of counts] at `positions` [sum of counts] of contexts [n]: the first
        `counts[0]` positions are in the first context, and so on."""
        begins = self._begins[np.searchsorted(self._ids, context_ids)]
        tokens: Array = self._flat[np.repeat(begins, counts) + positions].astype(np.int32)
        return tokens
