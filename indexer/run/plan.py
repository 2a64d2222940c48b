"""What a run will do and need, from its sizes alone: shown to the user before it begins."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from indexer.config import IndexConfig
from indexer.corpus.prepared import PreparedCorpus
from indexer.errors import NeurariumError
from indexer.memory import readable_bytes
from indexer.models.loaded import LoadedModel
from indexer.scan.shape import ScanShape
from indexer.store.files import file_of


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


def make_plan(name: str, shape: ScanShape, corpus: PreparedCorpus) -> Plan:
    """Estimate what the run will need."""
    # Activations compress to about four fifths of a byte.
    examples = shape.examples * (32 + 0.8 * shape.window)
    examples += shape.source_examples * (32 + 0.8 * shape.window)
    a_neuron = 2500 + 4 * shape.top_k + examples
    return Plan(
        model=name,
        layers=len(shape.widths),
        neurons=shape.neurons,
        contexts=corpus.contexts,
        tokens=corpus.included_tokens,
        scan_bytes=shape.bytes_held(),
        store_bytes=int(shape.neurons * a_neuron) + corpus.contexts * (60 + 4 * corpus.ctx_len),
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
