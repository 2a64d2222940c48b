"""What a run is about to do and will need, from its sizes alone: said before it begins."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from indexer.config import IndexConfig
from indexer.corpus.prepared import PreparedCorpus
from indexer.errors import NeurariumError
from indexer.memory import readable_bytes
from indexer.models.hook_points import HOOK_POST
from indexer.models.load import LoadedModel
from indexer.scan.shape import ScanShape
from indexer.store.database import file_of


@dataclass(frozen=True)
class Plan:
    """What a run is about to do, and what it expects to need."""

    model: str
    layers: int
    neurons: int
    contexts: int
    tokens: int
    scan_bytes: int
    """Memory the scan's state takes, beyond the model and its forward pass."""
    store_bytes: int
    """About what the run takes in the database."""


def make_plan(name: str, shape: ScanShape, corpus: PreparedCorpus) -> Plan:
    """What the run will need, from its sizes alone."""
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
    """The plan in two lines, for the user."""
    skipped = f", {corpus.duplicates:,} duplicates skipped" if corpus.duplicates else ""
    broken = f", {corpus.broken_lines:,} broken lines skipped" if corpus.broken_lines else ""
    ready = ", tokenised already" if corpus.pretokenized else ""
    dtype = str(model.dtype).removeprefix("torch.")
    unknown = model.gated and model.hook_point == HOOK_POST and not model.knows_parts
    parts = ", the values of gates and linear parts unknown" if unknown else ""
    return (
        f"{plan.model}: {plan.layers} layers, {plan.neurons:,} neurons at {model.hook_point}, "
        f"{dtype} on {model.device}{parts}\n"
        f"{corpus.label}: {plan.contexts:,} contexts of up to {config.ctx_len} tokens, "
        f"{plan.tokens:,} tokens{ready}{skipped}{broken}\n"
        f"Expected: {readable_bytes(plan.scan_bytes)} of memory beside the model, about "
        f"{readable_bytes(plan.store_bytes)} in {where}"
    )


def check_disk(plan: Plan, engine: Engine, checkpoints: Path) -> None:
    """Refuse a run that a full disk would stop: at a checkpoint, or for SQLite at its very end."""
    _check_room(checkpoints, 2 * plan.scan_bytes, "for its checkpoints", "--state")
    database = file_of(engine.url)
    if database is None:
        return
    folder = database.absolute().parent
    # The journal holds it all once more until the end.
    _check_room(folder, 2 * plan.store_bytes, "while it writes", "--database")


def _check_room(folder: Path, needed: int, why: str, option: str) -> None:
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise NeurariumError(
            f"The disk of {folder} has {readable_bytes(free)} free and this run needs about "
            f"{readable_bytes(needed)} {why}: make room, or name another place with {option}."
        )
