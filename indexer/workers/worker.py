"""What runs in a worker's own process: it loads the model and the corpus, and measures batches."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

import torch

from indexer.corpus.prepare import open_prepared
from indexer.errors import NeurariumError
from indexer.models.load import load_model
from indexer.models.source import ModelSource
from indexer.scan.job import Job
from indexer.workers.orders import Found, Order, UnitScanner


@dataclass(frozen=True)
class Task:
    """What a worker loads: what the process that began the run has loaded."""

    source: ModelSource
    weights_hash: str
    hook_point: str
    dtype: str
    device: str
    """Its type alone: which one of several is the worker's own."""
    trust_remote_code: bool
    corpus: Path
    fingerprint: str
    """The corpus's."""

    @classmethod
    def of(cls, job: Job) -> Task:
        """The task of a job's workers."""
        return cls(
            source=job.model.source,
            weights_hash=job.model.weights_hash,
            hook_point=job.model.units.hook_point,
            dtype=str(job.model.dtype).removeprefix("torch."),
            device=job.model.device.type,
            trust_remote_code=job.config.trust_remote_code,
            corpus=job.corpus.path.resolve(),
            fingerprint=job.corpus.fingerprint,
        )


class Worker:
    """One worker. It loads when its first order comes: an order of no batches does only that."""

    def __init__(self, task: Task, threads: int | None) -> None:
        """`threads` for computing on a CPU; None leaves them as they are."""
        self.task, self.threads = task, threads
        self._scanner: UnitScanner | None = None

    def process(self) -> int:
        """The process's id."""
        return os.getpid()

    def scan(self, order: Order) -> Found:
        """Measure batches. Raises NeurariumError."""
        if self._scanner is None:
            self._scanner = self._load()
        return self._scanner.scan(order)

    def _load(self) -> UnitScanner:
        task, here = self.task, socket.gethostname()
        # transformers would ask a service of the hub, in a thread, to convert weights that are old.
        os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        if not task.corpus.is_dir():
            raise NeurariumError(
                f"The worker on {here} does not see the prepared corpus {task.corpus}: set "
                "NEURARIUM_CACHE_DIR to a folder that all machines of the cluster share."
            )
        corpus = open_prepared(task.corpus)
        if corpus.fingerprint != task.fingerprint:
            raise NeurariumError(
                f"The worker on {here} sees another corpus in {task.corpus} than the machine that "
                "began the run: set NEURARIUM_CACHE_DIR to a folder that all machines share."
            )
        model = load_model(
            task.source,
            hook_point=task.hook_point,
            dtype=task.dtype,
            device=task.device,
            trust_remote_code=task.trust_remote_code,
        )
        if model.weights_hash != task.weights_hash:
            raise NeurariumError(
                f"The worker on {here} found other weights of {task.source.label!r} than the "
                "machine that began the run: give all machines the same files."
            )
        return UnitScanner(model, corpus, corpus.source_index)
