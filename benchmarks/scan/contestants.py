"""What is timed on each batch: the trunk, the forward pass a user knows, the scan, and the others'
ways. One model serves all of a dtype but TransformerLens's bridge, which changes its own copy.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.scan.others import Concatenated, Neuroscope, RunWithCache, Way, on_device
from benchmarks.scan.pieces import Clocks, clocked
from benchmarks.scan.rounds import Contestant, part_of
from indexer.corpus.batches import Batch, BatchPlan, fill_batch
from indexer.models.loaded import LoadedModel
from indexer.scan.job import Job
from indexer.scan.loop import scan_batch
from indexer.scan.state import Scan

TRUNK = "trunk"
PLAIN = "model(tokens)"
SCAN = "Neurarium's scan"
NEUROSCOPE = "Neuroscope's way"
CACHED = "run_with_cache, top-k"
JOINED = "concatenate and gather"
OTHERS = (NEUROSCOPE, CACHED, JOINED)


@dataclass(frozen=True)
class Field:
    """All that competes at one dtype, with what each keeps from batch to batch."""

    dtype: str
    job: Job
    scan: Scan
    others: dict[str, Way]
    clocks: dict[str, Clocks] | None
    """By part of the run, where the scan has clocks inside."""

    @classmethod
    def of(cls, dtype: str, job: Job, *, others: bool, profile: bool) -> Field:
        """Begin anew: a scan and others' ways that have seen nothing yet."""
        scan = Scan(job.shape, job.corpus.source_index)
        clocks = {"sample": Clocks(), "rest": Clocks()} if profile else None
        return cls(dtype, job, scan, _others(job) if others else {}, clocks)

    def contestants(self, others_every: int) -> list[Contestant]:
        """The trunk and the scan alone where that has clocks inside, else everything."""
        model, dtype = self.job.model, self.dtype
        some = [
            Contestant(TRUNK, dtype, trunk(model)),
            Contestant(SCAN, dtype, self.scan_batch),
        ]
        if self.clocks is None:
            some.append(Contestant(PLAIN, dtype, plain_forward(model)))
        others = self.others.items()
        return some + [Contestant(name, dtype, way.add, others_every) for name, way in others]

    def scan_batch(self, batch: Batch) -> None:
        """The scan, with everything on. The batch is read anew: a run has to do that as well."""
        plan = BatchPlan(batch.part, batch.context_ids)
        with clocked(self.clocks[part_of(batch)]) if self.clocks else nullcontext():
            own = fill_batch(plan, self.job.corpus, padding_id=0)
            scan_batch(self.job.model, own, self.scan)

    def held(self) -> dict[str, int]:
        """Bytes that the scan and the others' ways keep from batch to batch."""
        scan = {SCAN: sum(array.nbytes for array in self.scan.arrays().values())}
        others = self.others.items()
        return scan | {
            name: sum(part.numel() * part.element_size() for part in way.held)
            for name, way in others
        }


def trunk(model: LoadedModel) -> Callable[[Batch], None]:
    """The limit: the model's body on the batch, and nothing done with what it gives."""
    body: Any = model.root.base_model

    def run(batch: Batch) -> None:
        tokens, attention = on_device(batch, model.device)
        with torch.inference_mode():
            body(input_ids=tokens, attention_mask=attention, use_cache=False)

    return run


def plain_forward(model: LoadedModel) -> Callable[[Batch], None]:
    """What a user knows: the whole model, called as it comes."""

    def run(batch: Batch) -> None:
        tokens, attention = on_device(batch, model.device)
        with torch.inference_mode():
            model.root(input_ids=tokens, attention_mask=attention)

    return run


def _others(job: Job) -> dict[str, Way]:
    k = job.shape.top_k
    positions = int((job.corpus.lengths - job.corpus.included_from).max())
    return {
        NEUROSCOPE: Neuroscope(job.model, k),
        CACHED: RunWithCache(job.model, k),
        JOINED: Concatenated(job.model, k, positions),
    }
