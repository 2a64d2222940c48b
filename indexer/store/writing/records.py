"""What a run is made of on its way into the store: its facts, its neurons, its contexts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from jaxtyping import Int64

from indexer.store.packing.layout import Columns, Windows

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class RunRecord:
    """What is known of a run when its scan has ended."""

    model: str
    model_id: str
    revision: str | None
    hook_point: str
    is_default_hook_point: bool
    corpus: str
    dtype: str
    ctx_len: int
    contexts: int
    tokens: int
    sample_contexts: int
    sample_positions: int
    sample_identity: str
    """Of the contexts whose peaks are kept: `sample.sample_identity`."""
    widths: tuple[int, ...]
    sources: tuple[str, ...]
    vocabulary: list[bytes]
    provenance: dict[str, Any]
    created_at: datetime


@dataclass(frozen=True)
class NeuronBlock:
    """Neurons of one layer that follow one another: everything of all of them, array by array."""

    layer: int
    first: int
    """The first one's index in its layer."""
    scalars: dict[str, Array]
    """By column of `neurons`, one number a neuron. NaN: not known."""
    arrays: dict[str, Columns]
    """By the names of codec.NEURON_ARRAYS."""
    counts: Int64[np.ndarray, "neurons kinds"]
    """How many examples of each kind each neuron has, in the order of schema.KINDS."""
    examples: Windows
    """Of all neurons, neuron by neuron, kind by kind, best first."""

    def __len__(self) -> int:
        return len(self.counts)


@dataclass(frozen=True)
class ContextRecord:
    """One context that is an example of some neuron."""

    context_id: int
    document_index: int
    source_index: int
    included_from: int
    token_ids: Array


def plain(column: Array) -> list[Any]:
    """A column of scalars as Python's own numbers: None for NaN, and no −0, whose sign SQLite does
    not keep and PostgreSQL does."""
    values: list[Any]
    if column.dtype.kind != "f":
        values = column.tolist()
        return values
    values = (column + 0.0).tolist()
    return [None if value != value else value for value in values]
