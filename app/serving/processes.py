"""Serves from several processes, which share a listening socket. Live models are in a further
process, which the others ask.

Each process is a new Python, which reads what to serve from a pipe. When the pipe ends, so does the
process: none outlives the command, however that ended.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.settings import Settings
from indexer.errors import NeurariumError

_HOME = Path(__file__).resolve().parent.parent.parent
"""The folder of the packages, which a project's own `app` must not stand before."""
_CODE = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from app.serving.processes import work; work(sys.stdin.buffer)"
)
_LOOK = 0.1
"""Seconds between two looks at the processes."""
_EARLY = 10.0
"""A process that ends within this many seconds of its start could not begin."""
_STARTS = 3
"""How often a process is started that could not begin."""
_STOPPING = 10.0
"""Seconds that all processes have to end: more than open requests have."""


@dataclass(frozen=True)
class Task:
    """What one process serves."""

    settings: Settings
    descriptor: int
    """Of the socket it listens on."""
    live_at: Path | None
    """The socket of the process with live models, unless this is it."""


@dataclass
class Child:
    """A process with its task."""

    task: Task
    process: subprocess.Popen[bytes]
    started: float
    early_ends: int = 0
    """How often it ended early, one time after the other."""


@dataclass
class _Stop:
    """The first signal that asked for the end."""

    number: int | None = None
    before: dict[int, Any] = field(default_factory=dict)


def serve(settings: Settings, opened: socket.socket, say: Callable[[str], None]) -> None:
    """Serve from `settings.workers` processes until a signal comes, which is then raised again.
    `say` tells the operator that a process was started again.

    Raises NeurariumError if a process cannot begin, or on Windows.
    """
    if sys.platform == "win32":
        raise NeurariumError("Several workers need Linux or macOS: leave --workers out.")
    with ExitStack() as stack:
        stop = stack.enter_context(_signals())
        tasks = [Task(settings, opened.fileno(), None)] * settings.workers
        if settings.live:
            live, path = stack.enter_context(_live_socket())
            tasks = [Task(settings, opened.fileno(), path)] * settings.workers
            tasks.append(Task(settings, live.fileno(), None))
        children = [_start(task) for task in tasks]
        try:
            while stop.number is None:
                time.sleep(_LOOK)
                for at, child in enumerate(children):
                    if child.process.poll() is not None and stop.number is None:
                        children[at] = _again(child, say)
        finally:
            _end(children)
    if stop.number is not None:
        signal.raise_signal(stop.number)


def _start(task: Task) -> Child:
    process = subprocess.Popen(
        [sys.executable, "-c", _CODE, str(_HOME)],
        stdin=subprocess.PIPE,
        pass_fds=[task.descriptor],
        process_group=0,  # Ctrl-C is for this process, which then ends the others
    )
    assert process.stdin is not None  # a pipe
    with suppress(BrokenPipeError):  # noticed by its end
        pickle.dump(task, process.stdin)
        process.stdin.flush()
    return Child(task, process, time.monotonic())


def _again(ended: Child, say: Callable[[str], None]) -> Child:
    """A new process for one that has ended. Raises NeurariumError if it could not begin."""
    code = ended.process.returncode
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    early_ends = 0
    # Not by a signal: that may be for lack of memory, which begins with a visitor's text.
    if code >= 0 and time.monotonic() - ended.started < _EARLY:
        early_ends = ended.early_ends + 1
        if early_ends >= _STARTS:
            raise NeurariumError(
                f"A server process ended {how} as soon as it was started, {_STARTS} times: what it "
                "wrote above says why."
            )
    say(f"A server process ended {how}: another one is started.")
    if ended.process.stdin is not None:
        with suppress(OSError):
            ended.process.stdin.close()
    new = _start(ended.task)
    new.early_ends = early_ends
    return new


def _end(children: list[Child]) -> None:
    for child in children:
        child.process.terminate()
    deadline = time.monotonic() + _STOPPING
    for child in children:
        with suppress(subprocess.TimeoutExpired):
            child.process.wait(max(0.0, deadline - time.monotonic()))
        if child.process.poll() is None:
            child.process.kill()
            child.process.wait()
        if child.process.stdin is not None:
            with suppress(OSError):
                child.process.stdin.close()


@contextmanager
def _signals() -> Iterator[_Stop]:
    """Notes the first signal that asks for the end, instead of ending."""
    stop = _Stop()

    def note(number: int, _: object) -> None:
        stop.number = stop.number or number

    numbers = (signal.SIGINT, signal.SIGTERM)
    stop.before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield stop
    finally:
        for number, before in stop.before.items():
            signal.signal(number, before)


@contextmanager
def _live_socket() -> Iterator[tuple[socket.socket, Path]]:
    """A socket for live models, in a folder that only this user can enter. It outlives the process
    that listens on it: texts wait there until a new one is started."""
    with (
        tempfile.TemporaryDirectory(prefix="neurarium-") as folder,
        socket.socket(socket.AF_UNIX) as opened,
    ):
        path = Path(folder) / "live"
        opened.bind(str(path))
        opened.listen()
        yield opened, path


def work(pipe: Any) -> None:
    """Serve what a `Task` in the pipe says, until a signal comes or the pipe ends. Raises
    NeurariumError."""
    from app.main import create_app
    from app.serving.server import collect_less, compile_templates, server_of

    task: Task = pickle.load(pipe)
    threading.Thread(target=_end_with, args=(pipe,), daemon=True).start()
    with socket.socket(fileno=task.descriptor) as opened:
        app = create_app(task.settings, live_at=task.live_at)
        # One connection at a time: the process that accepts is the one that has least to do.
        server = server_of(app, task.settings, at_once=1)
        collect_less()
        compile_templates(app)
        server.run(sockets=[opened])


def _end_with(pipe: Any) -> None:
    pipe.read()
    os.kill(os.getpid(), signal.SIGTERM)
