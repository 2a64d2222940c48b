"""What a run will do and need, from its sizes alone: shown to the user before it begins."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from indexer.config import IndexConfig
from indexer.corpus.prepared import PreparedCorpus
from indexer.errors import NeurariumError
from indexer.heads import sizes
from indexer.heads.measure import head_shape
from indexer.measure.peaks import KEPT_PEAKS
from indexer.memory import readable_bytes
from indexer.models.loaded import LoadedModel
from indexer.scan.job import Job
from indexer.scan.shape import ScanShape
from indexer.store.bands import BANDS
from indexer.store.files import file_of
from indexer.store.sizes import BAND_EXAMPLES, different, in_pages

# Bytes in the store, measured with the demo's model and SmolLM2-135M.
_UNIT = 2500
_EXAMPLE, _ACTIVATION = 24, 0.68
"""Of a dense unit's example, and of each activation in its window, compressed."""
_SPARSE_EXAMPLE = 20
_CONTEXT, _POSITION = 100, 8.5
"""Of a context, and of each of its tokens: the id and the index of its text."""
_TOKEN = 18
"""Of the vocabulary."""
_FIRING = 0.65
"""A sparse unit's examples as a share of those it can have: many fire in few contexts."""
_OF_SOURCES = 0.3
"""Examples by source that are no other example."""


@dataclass(frozen=True)
class Plan:
    """What a run will do, and what it will need."""

    model: str
    layers: int
    neurons: int
    contexts: int
    tokens: int
    scan_bytes: int
    """Memory of the scan's state in bytes, without the model and its forward pass."""
    store_bytes: int
    """Bytes the run takes in the database, roughly."""


def make_plan(job: Job) -> Plan:
    """Estimate what the run will need."""
    shape, corpus = job.shape, job.corpus
    length = corpus.included_tokens / corpus.contexts + 1  # with its BOS
    examples = _distinct(shape)
    held = shape.bytes_held()
    stored = shape.neurons * _unit_bytes(shape, different(corpus.contexts, examples), length)
    if job.model.units.has_pairs:
        pairs = head_shape(job)
        held += sizes.bytes_held(pairs, length)
        stored += sizes.bytes_stored(pairs, corpus.lengths)
        examples += sizes.distinct(pairs)
    # Of the contexts only those are stored that are an example of a unit.
    used = different(corpus.contexts, examples * shape.neurons)
    stored += used * (_CONTEXT + _POSITION * length)
    return Plan(
        model=job.name,
        layers=len(shape.widths),
        neurons=shape.neurons,
        contexts=corpus.contexts,
        tokens=corpus.included_tokens,
        scan_bytes=held,
        store_bytes=int(stored) + _TOKEN * job.model.d_vocab,
    )


def _distinct(shape: ScanShape) -> float:
    """A unit's examples that are stored, where there are contexts enough: one that is an example
    for several reasons is stored once."""
    if shape.sparse:
        return _FIRING * shape.examples
    # Intermediate examples are nearly always random ones too.
    return shape.examples - BANDS * BAND_EXAMPLES + _OF_SOURCES * shape.source_examples


def _unit_bytes(shape: ScanShape, examples: float, length: float) -> float:
    """Bytes of a unit: its row, its places in indices and lists of tokens, its examples."""
    if shape.sparse:  # nearly all of a window is 0
        return _UNIT + examples * _SPARSE_EXAMPLE
    window = min(shape.window, length)
    return (
        _UNIT
        + 4 * shape.top_k
        + 2 * min(len(shape.sample), KEPT_PEAKS)
        + in_pages(examples * (_EXAMPLE + _ACTIVATION * window))
    )


def describe_plan(
    plan: Plan, config: IndexConfig, model: LoadedModel, corpus: PreparedCorpus, where: str
) -> str:
    """The plan in three lines, for the user."""
    skipped = f", {corpus.duplicates:,} duplicates skipped" if corpus.duplicates else ""
    broken = f", {corpus.broken_lines:,} broken lines skipped" if corpus.broken_lines else ""
    ready = ", tokenised already" if corpus.pretokenized else ""
    dtype = str(model.dtype).removeprefix("torch.")
    units = model.units
    where_captured = f"{plan.neurons:,} {units.noun}s at {units.hook_point}"
    remark = f", {units.remark}" if units.remark else ""
    return (
        f"{plan.model}: {plan.layers} layers, {where_captured}, "
        f"{dtype} on {model.device}{remark}\n"
        f"{corpus.label}: {plan.contexts:,} contexts of up to {config.ctx_len} tokens, "
        f"{plan.tokens:,} tokens{ready}{skipped}{broken}\n"
        f"Expected: {readable_bytes(plan.scan_bytes)} of memory beside the model, about "
        f"{readable_bytes(plan.store_bytes)} in {where}"
    )


def check_disk(plan: Plan, engine: Engine, checkpoints: Path) -> None:
    """Refuse a run for which a disk is too full: its checkpoints', or an SQLite database's.

    Raises NeurariumError.
    """
    _check_room(checkpoints, 2 * plan.scan_bytes, "for its checkpoints", "--state")
    database = file_of(engine.url)
    if database is None:
        return
    folder = database.absolute().parent
    # SQLite's journal holds a second copy until the end.
    _check_room(folder, 2 * plan.store_bytes, "while it writes", "--database")


def _check_room(folder: Path, needed: int, why: str, option: str) -> None:
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise NeurariumError(
            f"The disk of {folder} has {readable_bytes(free)} free and this run needs about "
            f"{readable_bytes(needed)} {why}: free space, or choose another place with {option}."
        )
