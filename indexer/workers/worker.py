"""The code in a worker's process: loads the model and the corpus, and scans batches."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

import torch

from indexer.corpus.prepared import PreparedCorpus, open_prepared
from indexer.errors import NeurariumError
from indexer.models.asked import Asked
from indexer.models.load import load_model
from indexer.models.loaded import LoadedModel
from indexer.models.source import ModelSource
from indexer.scan.job import Job
from indexer.workers.orders import Order, OrderResult, OrderScanner
from indexer.workers.pairs import PairsOrder, PairsResult


@dataclass(frozen=True)
class Task:
    """What a worker loads: the model and corpus of the run."""

    source: ModelSource
    weights_hash: str
    asked: Asked
    """The set of units."""
    dtype: str
    device: str
    """The type only, such as "cuda": Ray assigns the device itself."""
    trust_remote_code: bool
    corpus: Path
    fingerprint: str
    """Of the corpus."""

    @classmethod
    def of(cls, job: Job) -> Task:
        """The task of a job's workers."""
        return cls(
            source=job.model.source,
            weights_hash=job.model.weights_hash,
            asked=job.model.units.asked,
            dtype=str(job.model.dtype).removeprefix("torch."),
            device=job.model.device.type,
            trust_remote_code=job.config.trust_remote_code,
            corpus=job.corpus.path.resolve(),
            fingerprint=job.corpus.fingerprint,
        )


class Worker:
    """A worker. It loads on its first order, which may have no batches."""

    def __init__(self, task: Task, threads: int | None) -> None:
        """`threads`: for computing on CPUs; None: torch's default."""
        self.task, self.threads = task, threads
        self._loaded: tuple[LoadedModel, PreparedCorpus, OrderScanner] | None = None

    def process(self) -> int:
        """The process id."""
        return os.getpid()

    def scan(self, order: Order | PairsOrder) -> OrderResult | PairsResult:
        """The result of an order. Raises NeurariumError."""
        if self._loaded is None:
            model, corpus = self._load()
            self._loaded = model, corpus, OrderScanner(model, corpus, corpus.source_index)
        model, corpus, scanner = self._loaded
        return order.scan(model, corpus) if isinstance(order, PairsOrder) else scanner.scan(order)

    def _load(self) -> tuple[LoadedModel, PreparedCorpus]:
        task, host = self.task, socket.gethostname()
        # Otherwise transformers asks a service of the hub, on a thread, to convert old weights.
        os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        if not task.corpus.is_dir():
            raise NeurariumError(
                f"The worker on {host} does not see the prepared corpus {task.corpus}: set "
                "NEURARIUM_CACHE_DIR to a folder shared by all machines of the cluster."
            )
        corpus = open_prepared(task.corpus)
        if corpus.fingerprint != task.fingerprint:
            raise NeurariumError(
                f"The worker on {host} sees another corpus in {task.corpus} than the machine that "
                "started the run: set NEURARIUM_CACHE_DIR to a folder shared by all machines."
            )
        model = load_model(
            task.source,
            asked=task.asked,
            dtype=task.dtype,
            device=task.device,
            trust_remote_code=task.trust_remote_code,
        )
        if model.weights_hash != task.weights_hash:
            raise NeurariumError(
                f"The worker on {host} found other weights of {task.source.label!r} than the "
                "machine that started the run: give all machines the same files."
            )
        return model, corpus
