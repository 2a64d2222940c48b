"""Workers on a real Ray give the content of a single process, even after deaths and stops."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, ClassVar

import psutil
import pytest
import torch
import transformers

from app.cli import main as cli
from indexer import memory
from indexer.config import Execution, IndexConfig
from indexer.errors import NeurariumError
from indexer.run import passes
from indexer.run.stopping import Stopped
from indexer.scan import slices
from indexer.workers import crew as cluster
from indexer.workers.crew import (
    RayCrew,
    WorkerResources,
    allocate,
    connected,
    environment,
    many_workers,
    memory_for,
)
from indexer.workers.orders import Order, OrderResult
from indexer.workers.worker import Worker
from tests.conftest import Silent
from tests.helpers.small_latents import latents_config
from tests.helpers.stopped_runs import OFTEN, Place, stopped_after
from tests.helpers.tiny_models import save_tiny_model

CONFIG = IndexConfig(
    model="demo", max_tokens=12_000, sample=40, top_k=5, bottom_k=3, batch_tokens=512
)
OPTIONS = "--max-tokens 12000 --sample 40 --top-k 5 --bottom-k 3 --batch-tokens 512"
TWO = replace(OFTEN, workers=2)
START_SECONDS = 120


@pytest.fixture(scope="module", autouse=True)
def token() -> Iterator[None]:
    """One token for all Ray instances, since a process reads it once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", "0" * 64)
        yield


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The content hash of a run by a single process."""
    alone = Place(tmp_path_factory.mktemp("alone"))
    alone.index(CONFIG, Execution())
    (result,) = alone.hashes()
    return result


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A cluster of one machine, as a user starts one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sysconfig.get_path("scripts")) / "ray", "start", "--head", "--block"]
    options = [f"--port={port}", "--num-cpus=1", "--include-dashboard=false"]
    with (
        TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as short,  # for its sockets
        (tmp_path / "ray.log").open("w") as log,
        subprocess.Popen(
            [*map(str, command), *options, f"--temp-dir={short}", "--disable-usage-stats"],
            stdout=log,
            stderr=subprocess.STDOUT,
        ) as head,
    ):
        try:
            deadline = time.monotonic() + START_SECONDS
            while "Ray runtime started" not in (tmp_path / "ray.log").read_text():
                assert time.monotonic() < deadline
                assert head.poll() is None, (tmp_path / "ray.log").read_text()
                time.sleep(0.2)
            yield f"127.0.0.1:{port}"
        finally:
            head.terminate()
            try:
                head.wait(60)
            except subprocess.TimeoutExpired:
                head.kill()


def test_an_error_in_a_worker_of_a_cluster_is_one_line(address: str, tmp_path: Path) -> None:
    """Values that are not finite end the run, as without workers."""
    folder = save_tiny_model(tmp_path / "broken", "gpt2")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.transformer.wpe.weight[40, ::2] = 3e38  # finite, and their spread is not
        model.transformer.wpe.weight[40, 1::2] = -3e38
    model.save_pretrained(folder)
    config = IndexConfig(model=str(folder), corpus="demo", max_tokens=2000, ctx_len=64, sample=8)
    place = Place(tmp_path)
    with pytest.raises(NeurariumError, match=r"^The model gave a value that is not finite"):
        place.index(config, Execution(ray_address=address))
    with pytest.raises(NeurariumError, match="The cluster has 1 CPU for 2 workers"):
        place.index(config, Execution(ray_address=address, workers=2))
    assert place.hashes() == []


class Reused(RayCrew):
    """Workers that begin anew in the processes of those before them, which have imported all they
    need: a process of its own takes ten seconds to import it."""

    free: ClassVar[list[Any]] = []

    def close(self) -> None:
        self.free.extend(self._actors)

    def _start_worker(self) -> Any:
        if not self.free:
            return super()._start_worker()
        actor = self.free.pop()
        actor.__ray_call__.remote(Worker.__init__, self._task, self._resources.threads)
        return actor


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """Ray on this machine with two workers, used by the runs in this module."""
    with connected(TWO, needed=0) as begun, pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "RayCrew", Reused)
        yield begun
    Reused.free.clear()


class Doomed(Reused):
    """The worker with the fourth order is killed; the user stops soon after."""

    requested = threading.Event()
    orders = 0
    killed = 0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.victims = self.processes()

    def give(self, worker: int, order: Order) -> None:
        super().give(worker, order)
        self.orders += 1
        if self.orders == 4:
            os.kill(self.victims[worker], signal.SIGKILL)

    def wait(self, seconds: float) -> list[tuple[int, OrderResult | None]]:
        ended = super().wait(seconds)
        type(self).killed += any(result is None for _, result in ended)
        if self.killed and any(result is not None for _, result in ended):
            self.requested.set()
        return ended


def test_a_worker_is_killed_and_the_run_is_stopped_and_carried_on(
    ray: Any,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """kill -9 in the middle, then the user's stop, then a single process: the same content, and no
    output from Ray."""

    @contextmanager
    def requests() -> Iterator[threading.Event]:
        yield Doomed.requested

    place = Place(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(cluster, "RayCrew", Doomed)
        patch.setattr(passes, "stop_requests", requests)
        with pytest.raises(Stopped, match="Stopped after"):
            place.index(CONFIG, TWO)
    assert Doomed.killed == 1
    assert place.hashes() == []
    lines = place.index(CONFIG)
    assert any("resuming after" in line for line in lines)
    assert place.hashes() == [expected]
    assert capfd.readouterr() == ("", "")


def test_a_run_begun_by_one_process_is_carried_on_by_two(
    ray: Any,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Stopped in the middle of the sample, then continued with `--workers 2`."""
    place = Place(tmp_path)
    with stopped_after(monkeypatch, 3), pytest.raises(Stopped):
        place.index(CONFIG)
    words = f"neurarium index demo {OPTIONS} --workers 2"
    monkeypatch.setattr("sys.argv", words.split())
    monkeypatch.setenv("NEURARIUM_DATABASE_URL", place.url)
    monkeypatch.setenv("NEURARIUM_CACHE_DIR", str(place.cache))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    output = capfd.readouterr()
    assert (ended.value.code, output.err) == (0, ""), output.err
    assert "resuming after" in output.out
    assert "Starting workers on this machine" in output.out
    assert place.hashes() == [expected]


@pytest.mark.parametrize("heads", [False, True])
def test_two_workers_make_a_run_of_latents_and_of_heads(
    ray: Any, tmp_path: Path, heads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The content of a single process, which scans heads and pairs in one pass; of latents also
    where memory does not hold a layer, which is cut."""
    config = latents_config(tmp_path / "small")
    ways = {"alone": Execution(), "two": TWO}
    if heads:
        config = replace(config, dictionary=None, force=False, heads=True)
    else:
        ways["cut"] = replace(TWO, memory=6 * 50_000)
    hashes = []
    for name, execution in ways.items():
        monkeypatch.setattr(slices, "LEAST_UNITS", 4)
        (tmp_path / name).mkdir()
        place = Place(tmp_path / name)
        lines = place.index(config, execution)
        assert any("passes" in line for line in lines) == (name == "cut"), lines
        hashes += place.hashes()
    assert len(hashes) == len(ways)
    assert len(set(hashes)) == 1


def test_ray_listens_to_this_machine_alone(ray: Any) -> None:
    """Ray's ports run code, so they must only listen on the loopback address."""
    ports: set[str] = set()
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):  # a process may end meanwhile
            ports |= {
                connection.laddr.ip.removeprefix("::ffff:")
                for connection in process.net_connections("tcp")
                if connection.status == psutil.CONN_LISTEN
            }
    assert ports == {"127.0.0.1"}


def test_ray_on_this_machine_wants_a_token_of_its_own() -> None:
    """A new token each time; on a cluster the user's settings apply."""
    first, second = environment(None), environment(None)
    assert first["RAY_AUTH_MODE"] == "token"
    assert len(first["RAY_AUTH_TOKEN"]) == 64
    assert first["RAY_AUTH_TOKEN"] != second["RAY_AUTH_TOKEN"]
    assert not any("AUTH" in name for name in environment("somewhere:6379"))


class FakeCluster:
    """A fake Ray of machines with these CPUs and GPUs."""

    def __init__(self, *machines: tuple[int, int]) -> None:
        self.machines = machines

    def nodes(self) -> list[dict[str, Any]]:
        living = [
            {"Alive": True, "Resources": {"CPU": float(cpus), "GPU": float(gpus), "memory": 1e9}}
            for cpus, gpus in self.machines
        ]
        return [*living, {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}]


def test_each_worker_has_a_seat() -> None:
    """A GPU each, or the largest equal share of cores that fits on the machines."""
    small = FakeCluster((4, 0), (6, 0))
    assert allocate(small, "cpu", None, own=False) == (2, WorkerResources(4, 0, 4))
    assert allocate(small, "cpu", 3, own=False) == (3, WorkerResources(3, 0, 3))
    assert allocate(small, "cpu", 4, own=False) == (4, WorkerResources(2, 0, 2))
    assert allocate(small, "cpu", 10, own=False) == (10, WorkerResources(1, 0, 1))
    with pytest.raises(NeurariumError, match="The cluster has 10 CPUs for 11 workers"):
        allocate(small, "cpu", 11, own=False)
    large = FakeCluster((64, 8), (64, 4), (64, 0))
    assert allocate(large, "cuda", None, own=False) == (12, WorkerResources(0, 1, None))
    assert allocate(large, "cuda", 3, own=False) == (3, WorkerResources(0, 1, None))
    with pytest.raises(NeurariumError, match="There is 1 GPU for 2 workers"):
        allocate(FakeCluster((8, 1)), "cuda", 2, own=True)
    with pytest.raises(NeurariumError, match="There are 0 GPUs for 1 worker"):
        allocate(FakeCluster((8, 0)), "cuda", None, own=False)


def test_cores_of_this_machine_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """More workers than cores have one thread each."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    result = [
        allocate(FakeCluster(), "cpu", count, own=True)[1].threads for count in (1, 2, 3, 8, 20)
    ]
    assert result == [8, 4, 2, 1, 1]


@dataclass
class FakeJob:
    """The parts of a job that are read before workers start."""

    model: Any


def fake_job(device: str, parameters: int = 1) -> Any:
    """A job with a float32 model on a device."""
    root = torch.nn.Linear(parameters, 1, bias=False)
    return FakeJob(SimpleNamespace(device=torch.device(device), root=root))


def test_memory_is_shared_with_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Local workers each have a scan and a model; remote ones only results in transfer."""
    monkeypatch.setattr(memory, "available", lambda: 10_000)
    job = fake_job("cpu", 500)
    assert memory_for(job, Execution()) is None
    assert memory_for(job, Execution(memory=3000)) == 3000
    assert memory_for(job, Execution(workers=2)) == int(0.7 * (10_000 - 2 * 2000)) // 6
    assert memory_for(job, Execution(workers=2, memory=3000)) == 500
    assert memory_for(job, Execution(ray_address="there:1")) == 3500
    assert memory_for(fake_job("cuda", 500), Execution(workers=2)) == 7000 // 6
    assert memory_for(fake_job("cpu", 5000), Execution(workers=2)) == 0


def started(job: Any, execution: Execution) -> None:
    """Start what a run starts before its scan."""
    with many_workers(job, execution, Silent()), connected(execution, 0):
        raise AssertionError("it was begun")


def test_what_cannot_be_joined_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors come at once, before any model is loaded."""
    job = fake_job("cpu")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(NeurariumError, match=f"no Ray cluster at {address} .*refused"):
            started(job, Execution(ray_address=address))
    for wrong in ("cluster", "ray://head:10001", "head:port", ":6379", "head:0"):
        with pytest.raises(NeurariumError, match="HOST:PORT"):
            started(job, Execution(ray_address=wrong))
    with pytest.raises(NeurariumError, match="use --device cuda"):
        started(fake_job("cuda:1"), Execution(workers=2))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(NeurariumError, match=re.escape("pip install 'neurarium[ray]'")):
        started(job, Execution(workers=2))


def test_one_worker_here_is_no_worker() -> None:
    """Ray is not started for a single worker."""
    for workers in (None, 1):
        with many_workers(fake_job("cpu"), Execution(workers=workers), Silent()) as result:
            assert result is None
