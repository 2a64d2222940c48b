"""The parts of a run that the writer takes: its metadata, neurons and contexts."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from jaxtyping import Int64

from indexer.store.packing.layout import Columns, Windows
from indexer.store.units import NEURONS, Units

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class RunRecord:
    """The metadata of a run, known after its scan."""

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
    """Hash of the contexts of `sample_peaks` (`measure.peaks.sample_identity`)."""
    widths: tuple[int, ...]
    sources: tuple[str, ...]
    vocabulary: list[bytes]
    token_counts: Int64[np.ndarray, " vocabulary"]
    """Included positions of each token in the whole corpus."""
    source_contexts: Int64[np.ndarray, " sources"]
    """Contexts of each source."""
    provenance: dict[str, Any]
    created_at: datetime
    set_name: str = NEURONS
    units: Units = field(default_factory=Units)


@dataclass(frozen=True)
class NeuronBlock:
    """All data of consecutive neurons of one layer, array by array."""

    layer: int
    first: int
    """Index of the first neuron in the layer."""
    scalars: dict[str, Array]
    """By column of `neurons`, one number per neuron. NaN: unknown."""
    arrays: dict[str, Columns]
    """By name in codec.NEURON_ARRAYS."""
    counts: Int64[np.ndarray, "neurons kinds"]
    """Examples of each kind, in the order of schema.KINDS."""
    examples: Windows
    """Of all neurons, neuron by neuron, kind by kind, best first."""

    def __len__(self) -> int:
        return len(self.counts)


@dataclass(frozen=True)
class ContextRecord:
    """A context that is an example of at least one neuron."""

    context_id: int
    document_index: int
    source_index: int
    included_from: int
    token_ids: Array
    """[pos], including BOS."""


def plain(column: Array) -> list[Any]:
    """A column as Python numbers: None for NaN, and 0 for −0, whose sign only PostgreSQL stores."""
    values: list[Any]
    if column.dtype.kind != "f":
        values = column.tolist()
        return values
    values = (column + 0.0).tolist()
    return [None if value != value else value for value in values]


@dataclass(frozen=True)
class HeadRecord:
    """What is stored of an attention head besides what every unit has."""

    facts: dict[str, Any]
    """JSON: `scores`, `tokens`, `circuits`, `examples`."""
    patterns: dict[int, bytes]
    """Packed patterns (`packing.pattern`) by context, of all its examples."""


@dataclass(frozen=True)
class HeadRecords:
    """All heads of a run, and what is stored once for the run."""

    heads: list[HeadRecord]
    """In the order of units."""
    columns: dict[str, list[Array]]
    """Scores by name, of `schema.HEAD_COLUMNS`: an array a layer; NaN where unknown."""
    run: dict[str, Any]
    """JSON, for the run's provenance."""

    @property
    def contexts(self) -> Int64[np.ndarray, " n"]:
        """The contexts of all examples."""
        used = {context for head in self.heads for context in head.patterns}
        return np.array(sorted(used), np.int64)
