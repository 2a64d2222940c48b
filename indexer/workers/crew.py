"""Runs a scan's workers on Ray, on this machine or on a cluster it belongs to.

Each worker is a process with its own model. This process has the scan and its checkpoints, and
divides the work (`orders`).
"""

from __future__ import annotations

import os
import secrets
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indexer import memory
from indexer.config import Execution
from indexer.errors import NeurariumError
from indexer.reporter import Reporter
from indexer.scan.job import Job
from indexer.scan.loop import scan_batches
from indexer.scan.slices import SHARE
from indexer.scan.state import Scan
from indexer.workers.needed import check_workers, uses_ray
from indexer.workers.orders import UnitsWork, Work, scan_by_crew
from indexer.workers.worker import Task, Worker

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "(?s).*",  # its processes would print to this terminal
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
    "RAY_SCHEDULER_EVENTS": "0",
}
"""Silences Ray: we report everything that matters to the user."""
_STORE_LEAST = 128 << 20


@dataclass(frozen=True)
class WorkerResources:
    """The resources of one worker."""

    cpus: int
    gpus: int
    threads: int | None
    """Threads for computing on CPUs; None on a GPU."""


class RayCrew:
    """Workers as Ray actors, replaced when they die; see `indexer.workers.orders.Crew`."""

    def __init__(self, ray: Any, task: Task, count: int, resources: WorkerResources) -> None:
        self._ray, self._task, self._resources = ray, task, resources
        self.lost: type[Exception] = ray.exceptions.RayError
        """Raised when Ray itself has ended."""
        self._class = ray.remote(Worker).options(num_cpus=resources.cpus, num_gpus=resources.gpus)
        self._actors = [self._start_worker() for _ in range(count)]
        self._orders: dict[Any, int] = {}

    def __len__(self) -> int:
        return len(self._actors)

    def give(self, worker: int, order: Any) -> None:
        """Start an order, without waiting."""
        self._orders[self._actors[worker].scan.remote(order)] = worker

    def wait(self, seconds: float) -> list[tuple[int, Any]]:
        """Workers that finish within `seconds`, with their results."""
        done, _ = self._ray.wait(list(self._orders), timeout=seconds)
        finished = [(self._orders.pop(reference), self._result(reference)) for reference in done]
        for worker, result in finished:
            if result is None:
                self._ray.kill(self._actors[worker])  # it may live on, with only its result lost
                self._actors[worker] = self._start_worker()
        return finished

    def processes(self) -> list[int]:
        """The process ids of the workers."""
        processes: list[int] = self._ray.get([actor.process.remote() for actor in self._actors])
        return processes

    def close(self) -> None:
        """Kill all workers."""
        for actor in self._actors:
            self._ray.kill(actor)

    def _start_worker(self) -> Any:
        return self._class.remote(self._task, self._resources.threads)

    def _result(self, reference: Any) -> Any:
        try:
            result = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, NeurariumError):
                raise NeurariumError(str(error.cause)) from None
            cause = error.cause or error
            reason = " ".join(str(cause).split())
            raise NeurariumError(f"A worker failed: {type(cause).__name__}: {reason}") from error
        except self._ray.exceptions.RayError:  # process, machine or result is lost
            return None
        return result


class Workers:
    """All workers of a run, and Ray, started when there is work."""

    def __init__(self, job: Job, execution: Execution, reporter: Reporter) -> None:
        self._job, self._execution, self._reporter = job, execution, reporter
        self._crew: RayCrew | None = None
        self._needed = 0
        """Bytes of results in transfer at a time."""
        self._opened = ExitStack()

    def scan(
        self,
        scan: Scan,
        todo: Sequence[int],
        positions: Any,
        after: Callable[..., None],
    ) -> None:
        """Scan the batches `todo`, as `indexer.workers.orders.scan_by_crew` does."""
        job, shape = self._job, scan.shape

        def here(sample: Sequence[int]) -> None:
            scan_batches(job.model, job.corpus, scan, job.plans, sample, after)

        count = self._execution.workers or 1
        self._needed = count * shape.extremes_bytes() + shape.sample_bytes()
        self.divide(UnitsWork(scan), todo, positions, here, after)

    def divide(
        self,
        work: Work,
        todo: Sequence[int],
        positions: Any,
        here: Callable[[Sequence[int]], None],
        after: Callable[..., None],
    ) -> None:
        """Do any work on the batches `todo`. Raises NeurariumError if Ray ends.

        A partly scanned sample is finished in this process first, by `here`, since one process has
        to measure all of it.
        """
        job = self._job
        sample = [number for number in todo if job.plans[number].part != "rest"]
        if 0 < len(sample) < sum(plan.part != "rest" for plan in job.plans):
            here(sample)
            todo = [number for number in todo if job.plans[number].part == "rest"]
        if not todo:
            return
        if self._crew is None:
            self._crew = self._start()
        try:
            scan_by_crew(self._crew, work, job.plans, positions, todo, after)
        except self._crew.lost as error:
            after()  # a signal to stop may have reached Ray's processes as well
            raise NeurariumError(
                "Ray ended before the scan: the same command continues from the last checkpoint."
            ) from error

    def close(self) -> None:
        """End the workers, and Ray if this process started it."""
        self._opened.close()

    def _start(self) -> RayCrew:
        where = self._execution.ray_address or "this machine"
        self._reporter.say(f"Starting workers on {where}")
        job, wanted = self._job, self._execution.workers
        ray = self._opened.enter_context(connected(self._execution, self._needed))
        count, resources = allocate(
            ray, job.model.device.type, wanted, own=not self._execution.ray_address
        )
        crew = RayCrew(ray, Task.of(job), count, resources)
        self._opened.callback(crew.close)
        return crew


@contextmanager
def many_workers(job: Job, execution: Execution, reporter: Reporter) -> Iterator[Workers | None]:
    """The workers of a run, ended afterwards; None if this process scans alone.

    Raises NeurariumError for a device with an index.
    """
    if not uses_ray(execution):
        yield None
        return
    if job.model.device.index is not None:
        raise NeurariumError(
            f"--device {job.model.device} names one device, but each worker needs its own: "
            f"use --device {job.model.device.type}."
        )
    workers = Workers(job, execution, reporter)
    try:
        yield workers
    finally:
        workers.close()


def memory_for(job: Job, execution: Execution) -> int | None:
    """Bytes that the state of one scan may take in this process; None: most of the free memory.

    `Execution.memory` limits all states together: the one here, one per worker on this machine, and
    as many results in transfer.
    """
    if not uses_ray(execution):
        return execution.memory
    own = 0 if execution.ray_address else execution.workers or 1
    allowed = execution.memory
    if allowed is None:
        free = memory.available()
        if free is None:
            return None
        models = 0 if job.model.device.type == "cuda" else own * _model_bytes(job)
        allowed = max(0, int(SHARE * (free - models)))
    return allowed // (2 + 2 * own)


def _model_bytes(job: Job) -> int:
    return sum(part.numel() * part.element_size() for part in job.model.root.parameters())


def allocate(
    ray: Any, device: str, wanted: int | None, *, own: bool
) -> tuple[int, WorkerResources]:
    """The number of workers, and the resources of each: a GPU or an equal share of the CPUs.

    `wanted` None means one per GPU or, without GPUs, one per machine. `own`: Ray was started here,
    for these workers only. Raises NeurariumError if they do not fit.
    """
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if device == "cuda":
        gpus = sum(int(machine.get("GPU", 0)) for machine in machines)
        if gpus < (wanted or 1):
            raise NeurariumError(
                f"There {_are(gpus, 'GPU')} for {_many(wanted or 1, 'worker')}: each needs its "
                "own. Set --workers to the number of GPUs, or --device cpu."
            )
        return wanted or gpus, WorkerResources(cpus=0, gpus=1, threads=None)
    if own:
        count = wanted or 1
        return count, WorkerResources(cpus=1, gpus=0, threads=max(1, _cores() // count))
    cpus = [int(machine.get("CPU", 0)) for machine in machines]
    count = wanted or sum(number > 0 for number in cpus)
    share = max(cpus, default=0)
    while share and sum(number // share for number in cpus) < count:
        share -= 1
    if not share or not count:
        raise NeurariumError(
            f"The cluster {_has(sum(cpus), 'CPU')} for {_many(count, 'worker')}: each needs one. "
            "Set fewer --workers."
        )
    return count, WorkerResources(cpus=share, gpus=0, threads=share)


@contextmanager
def connected(execution: Execution, needed: int) -> Iterator[Any]:
    """Ray: a cluster, or started on this machine unless this process has already started it.

    Args:
        execution: has the cluster's address, if any.
        needed: bytes of results in transfer at a time.

    Raises NeurariumError if Ray is missing or cannot be reached or started.
    """
    check_workers(execution)
    for name, value in environment(execution.ray_address).items():
        os.environ.setdefault(name, value)
    import ray

    if execution.ray_address is None and ray.is_initialized():
        yield ray
        return
    with ExitStack() as opened:
        options: dict[str, Any] = {"address": execution.ray_address}
        if execution.ray_address is None:
            options = opened.enter_context(_local(ray, execution.workers or 1, needed))
        try:
            with _same_signals():
                ray.init(log_to_driver=False, logging_level="critical", **options)
        except Exception as error:  # Ray raises many types
            raise NeurariumError(_why(error, execution.ray_address)) from error
        opened.callback(ray.shutdown)
        yield ray


def environment(address: str | None) -> dict[str, str]:
    """Environment variables for Ray, read on import; the user's own values take precedence."""
    if address is not None:
        return _QUIET | {"RAY_NUM_REDIS_GET_RETRIES": "1"}  # otherwise it retries for 15 minutes
    return _QUIET | {
        # Anyone who reaches Ray's ports can run code: require a token.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_worker_niceness": "0",  # the default lets other processes go first
    }


@contextmanager
def _local(ray: Any, workers: int, needed: int) -> Iterator[dict[str, Any]]:
    """Options to start Ray for this process only: on the loopback address, in a temporary
    folder."""
    free = memory.available()
    store = max(_STORE_LEAST, min(needed, needed if free is None else int(0.3 * free)))
    # A short path: names of sockets have at most about 100 characters.
    short = "/tmp" if Path("/tmp").is_dir() else None
    with (
        tempfile.TemporaryDirectory(
            prefix="neurarium-", dir=short, ignore_cleanup_errors=True
        ) as folder,
        _on_loopback(ray),
    ):
        yield {
            "address": "local",
            "num_cpus": workers,
            "object_store_memory": store,
            "include_dashboard": False,
            "_node_ip_address": "127.0.0.1",
            "_temp_dir": folder,
        }


@contextmanager
def _on_loopback(ray: Any) -> Iterator[None]:
    """Make Ray listen on 127.0.0.1, which it otherwise replaces by an address of the network."""
    services = ray._private.services
    before = services.resolve_ip_for_localhost
    services.resolve_ip_for_localhost = lambda host: host
    try:
        yield
    finally:
        services.resolve_ip_for_localhost = before


@contextmanager
def _same_signals() -> Iterator[None]:
    """Restore our SIGTERM handler, which Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _why(error: Exception, address: str | None) -> str:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason")
    if address is None:
        return f"Ray cannot be started on this machine: {reason}"
    return f"The Ray cluster at {address} cannot be joined: {reason}"


def _cores() -> int:
    """CPU cores this process may use."""
    with suppress(AttributeError):  # not Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _many(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def _are(count: int, what: str) -> str:
    return ("is " if count == 1 else "are ") + _many(count, what)


def _has(count: int, what: str) -> str:
    return "has " + _many(count, what)
