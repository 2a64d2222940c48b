"""What a run says about its whole corpus: how often each token and each source occurs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64
from sqlalchemy import Connection, bindparam, select

from indexer.store import schema
from indexer.store.checksums import cover, missing
from indexer.store.packing.codec import unpack_counts

_TABLE = schema.corpus_counts
_COVER = cover(_TABLE)
_COUNTS = select(*_COVER.selected).where(_TABLE.c.run_id == bindparam("run_id"))


@dataclass(frozen=True)
class CorpusCounts:
    """Counts over the whole corpus."""

    tokens: Int64[np.ndarray, " vocabulary"]
    """Included positions of each token."""
    sources: Int64[np.ndarray, " sources"]
    """Contexts of each source."""

    def occurrences(self, token_id: int) -> int:
        """How often a token occurs."""
        return int(self.tokens[token_id])

    def share(self, source_index: int) -> float:
        """A source's share of the contexts."""
        return float(self.sources[source_index] / self.sources.sum())


def corpus_counts(connection: Connection, run_id: int) -> CorpusCounts:
    """The counts of a run. Raises Damaged."""
    row = connection.execute(_COUNTS, {"run_id": run_id}).first()
    if row is None:
        raise missing(_TABLE, run_id=run_id)
    _COVER.check([row])
    return CorpusCounts(unpack_counts(bytes(row.tokens)), unpack_counts(bytes(row.sources)))
