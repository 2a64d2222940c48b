"""The models that a live server holds in memory."""

from __future__ import annotations

import gc
import os
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import AppError, Gone, Unavailable
from app.schemas import Run
from indexer.errors import NeurariumError

if TYPE_CHECKING:
    from indexer.models.loaded import LoadedModel
    from indexer.models.reload import Wanted

FAILED_FOR = 30.0
"""Seconds for which a model that could not be loaded is not tried again."""
_SHARE = 0.5
_UNKNOWN_MEMORY = 8 << 30
_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


@dataclass(frozen=True)
class Ready:
    """A loaded model and what goes with it."""

    model: LoadedModel
    vocabulary: list[bytes]
    size: int
    """Bytes its parameters take."""

    def text(self, token_id: int) -> str:
        """A token's text, as the store has it; bytes that are no whole character as \\xNN."""
        return self.vocabulary[token_id].decode("utf-8", "backslashreplace")


class Models:
    """Loaded models, those used longest ago leaving when the memory is needed. For one thread."""

    def __init__(self, memory: int | None) -> None:
        """`memory`: bytes for all of them together; None: half of what a device has."""
        self._memory = memory
        self._ready: OrderedDict[Wanted, Ready] = OrderedDict()
        self._failed: dict[int, tuple[float, AppError]] = {}

    def __len__(self) -> int:
        return len(self._ready)

    def get(self, run: Run) -> Ready:
        """The model of a run, loaded if it is not here. Raises Unavailable or Gone."""
        until, error = self._failed.get(run.id, (0.0, None))
        if error is not None and time.monotonic() < until:
            raise error.with_traceback(None)
        self._failed.pop(run.id, None)
        try:
            return self._get(run)
        except AppError as failure:
            self._failed[run.id] = (time.monotonic() + FAILED_FOR, failure)
            raise

    def _get(self, run: Run) -> Ready:
        # transformers would ask a service of the hub, in a thread, to convert weights that are old.
        os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
        from indexer.models.load import describe
        from indexer.models.reload import Changed, bytes_of, expected_bytes, reload, wanted

        try:
            what = wanted(run.provenance)
            if what in self._ready:
                self._ready.move_to_end(what)
                return self._ready[what]
            description = describe(what.source)
            self._make_room(what, expected_bytes(what, description))
            model = reload(what, description)
            ready = Ready(model, model.vocabulary(), bytes_of(model))
        except Changed as error:
            raise Gone(f"The model of run {run.id} is gone. {error}") from error
        except NeurariumError as error:
            raise Unavailable(
                f"The model of run {run.id} cannot be loaded here. {error}",
                retry_after=int(FAILED_FOR),
            ) from error
        self._make_room(what, ready.size)
        self._ready[what] = ready
        return ready

    def _make_room(self, what: Wanted, needed: int) -> None:
        """Let models go until one of `needed` bytes fits beside the others on its device."""
        budget = self._memory or _half_of_the_memory(what)
        if needed > budget:
            raise Unavailable(
                f"The model {what.source.label!r} takes {needed / 1e9:,.1f} GB of memory, and this "
                f"server gives live models {budget / 1e9:,.1f} GB: NEURARIUM_LIVE_MEMORY says how "
                "much."
            )
        beside = [other for other in self._ready if other.device == what.device]
        while beside and sum(self._ready[one].size for one in beside) + needed > budget:
            del self._ready[beside.pop(0)]
        gc.collect()


def _half_of_the_memory(what: Wanted) -> int:
    from indexer.models.reload import memory_of

    return int(_SHARE * (memory_of(what.device) or machine_memory()))


def machine_memory() -> int:
    """The memory this process may use, in bytes: the machine's, or less in a container."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        memory = _UNKNOWN_MEMORY
    for path in _CGROUP_LIMITS:
        try:
            memory = min(memory, int(path.read_text()))
        except (OSError, ValueError):  # not there, or "max"
            continue
    return memory
