"""The ways that are timed on each batch: the model's body alone, a whole forward pass, the scan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from indexer.corpus.batches import Batch, BatchPlan, fill_batch
from indexer.models.loaded import LoadedModel
from indexer.scan.job import Job
from indexer.scan.loop import scan_batch
from indexer.scan.state import Scan

TRUNK = "trunk"
FORWARD = "model(tokens)"
SCAN = "scan"


def on_device(batch: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
    """A batch's token ids and attention mask, on the model's device."""
    tokens = torch.from_numpy(batch.tokens).to(device)
    return tokens, torch.from_numpy(batch.attention).to(device, torch.long)


def ways_of(job: Job) -> dict[str, Callable[[Batch], None]]:
    """Every way by name. The scan keeps its state from batch to batch."""
    return {
        TRUNK: trunk(job.model),
        FORWARD: forward(job.model),
        SCAN: scanning(job, Scan(job.shape, job.corpus.source_index)),
    }


def scanning(job: Job, into: Scan) -> Callable[[Batch], None]:
    """The scan of a batch, which is read from the token file again, as a run has to do."""

    def run(batch: Batch) -> None:
        own = fill_batch(BatchPlan(batch.part, batch.context_ids), job.corpus, padding_id=0)
        scan_batch(job.model, own, into)

    return run


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
