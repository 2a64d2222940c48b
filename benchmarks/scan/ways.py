"""The ways that are timed on each batch: the model's body alone, a whole forward pass, Neurarium's
scan, and other people's ways of finding top contexts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from benchmarks.scan.others import Neuroscope, RunWithCache, Way, on_device
from indexer.corpus.batches import Batch, BatchPlan, fill_batch
from indexer.measure.lookup import NO_TOKENS
from indexer.models.loaded import LoadedModel
from indexer.scan.job import Job
from indexer.scan.loop import scan_batch
from indexer.scan.state import Scan

TRUNK = "trunk"
FORWARD = "model(tokens)"
SCAN = "scan"
NO_LOOKUP = "scan without the token-lookup score"
OTHERS: dict[str, Callable[[LoadedModel, int], Way]] = {
    "Neuroscope's way": Neuroscope,
    "run_with_cache, top-k": RunWithCache,
}
"""From a model and k."""


@dataclass(frozen=True)
class Ways:
    """All ways at one dtype; each keeps its state from batch to batch."""

    run: dict[str, Callable[[Batch], None]]
    scan: Scan
    others: dict[str, Way]


def ways_of(job: Job, *, others: bool) -> Ways:
    """Every way by name, with nothing seen yet. TransformerLens's bridge gets a copy of the model;
    the rest share one."""
    scan = Scan(job.shape, job.corpus.source_index)
    bare = Scan(replace(job.shape, lookup=NO_TOKENS), job.corpus.source_index)
    makers = OTHERS if others else {}
    made = {name: make(job.model, job.shape.top_k) for name, make in makers.items()}

    def scanning(into: Scan) -> Callable[[Batch], None]:
        def run(batch: Batch) -> None:
            # The batch is read from the token file again: a run has to do that as well.
            own = fill_batch(BatchPlan(batch.part, batch.context_ids), job.corpus, padding_id=0)
            scan_batch(job.model, own, into)

        return run

    run = {
        TRUNK: trunk(job.model),
        FORWARD: forward(job.model),
        SCAN: scanning(scan),
        NO_LOOKUP: scanning(bare),
    }
    return Ways(run | {name: way.add for name, way in made.items()}, scan, made)


def trunk(model: LoadedModel) -> Callable[[Batch], None]:
    """The upper limit: the model's body, without unembedding or cache; its output is dropped."""
    body: Any = model.root.base_model

    def run(batch: Batch) -> None:
        tokens, attention = on_device(batch, model.device)
        with torch.inference_mode():
            body(input_ids=tokens, attention_mask=attention, use_cache=False)

    return run


def forward(model: LoadedModel) -> Callable[[Batch], None]:
    """The whole model as users call it: with logits and a key-value cache."""

    def run(batch: Batch) -> None:
        tokens, attention = on_device(batch, model.device)
        with torch.inference_mode():
            model.root(input_ids=tokens, attention_mask=attention)

    return run
