"""Loads the models of a live server, and keeps them in memory within a budget."""

from __future__ import annotations

import gc
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import AppError, Gone, Unavailable
from app.schemas import Run
from app.sets import name_of
from indexer.errors import NeurariumError

if TYPE_CHECKING:
    from indexer.models.loaded import LoadedModel
    from indexer.models.reload import Wanted

log = logging.getLogger("neurarium")
FAILED_FOR = 30.0
"""Seconds before a model that could not be loaded is tried again."""
_SHARE_OF_MEMORY = 0.5
_UNKNOWN_MEMORY = 8 << 30
_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


@dataclass(frozen=True)
class Ready:
    """A loaded model with its vocabulary."""

    model: LoadedModel
    vocabulary: list[bytes]
    size: int
    """Its parameters, in bytes."""

    def text(self, token_id: int) -> str:
        """A token's text, as in the store: incomplete UTF-8 appears as \\xNN."""
        return self.vocabulary[token_id].decode("utf-8", "backslashreplace")


class Models:
    """The loaded models. The least recently used are dropped for memory. Not thread-safe."""

    def __init__(
        self,
        memory: int | None,
        model_paths: Mapping[str, Path] | None = None,
        dictionary_paths: Mapping[str, str] | None = None,
    ) -> None:
        """`memory`: bytes for all models together; None: half of a device's memory. `model_paths`:
        where models are that were moved, by their names in URLs; `dictionary_paths`: likewise
        dictionaries, by the names of models and sets, such as `gpt2/sae-resid-pre`."""
        self._memory = memory
        self._model_paths = model_paths or {}
        self._dictionary_paths = dictionary_paths or {}
        self._ready: OrderedDict[Wanted, Ready] = OrderedDict()
        self._failed: dict[int, tuple[float, AppError]] = {}

    def __len__(self) -> int:
        return len(self._ready)

    def get(self, run: Run) -> Ready:
        """The model of a run, loaded if necessary. Raises Unavailable or Gone."""
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
        # Otherwise transformers starts a thread that asks the Hub to convert old weights.
        os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
        from indexer.models.load import describe
        from indexer.models.reload import Changed, bytes_of, expected_bytes, reload, wanted

        try:
            key = wanted(
                run.provenance,
                self._model_paths.get(run.model),
                self._dictionary_paths.get(str(name_of(run.model, run.units.set))),
            )
            if key in self._ready:
                self._ready.move_to_end(key)
                return self._ready[key]
            description = describe(key.source)
            self._make_room(key, expected_bytes(key, description))
            model = reload(key, description)
            ready = Ready(model, model.vocabulary(), bytes_of(model))
        except Changed as error:
            raise logged(Gone(f"The model of run {run.id} has been replaced.", error)) from error
        except NeurariumError as error:
            detail = f"The model of run {run.id} cannot be loaded here: the server's log says why."
            raise logged(Unavailable(detail, error, retry_after=int(FAILED_FOR))) from error
        self._make_room(key, ready.size)
        self._ready[key] = ready
        return ready

    def _make_room(self, key: Wanted, needed: int) -> None:
        """Drop models until `needed` bytes fit on the device. Raises Unavailable if they cannot."""
        budget = self._memory or _default_budget(key)
        if needed > budget:
            raise Unavailable(
                f"This model needs {needed / 1e9:,.1f} GB of memory, and this server has "
                f"{budget / 1e9:,.1f} GB for live models: NEURARIUM_LIVE_MEMORY sets how much.",
                key.source.label,
            )
        others = [other for other in self._ready if other.device == key.device]
        while others and sum(self._ready[other].size for other in others) + needed > budget:
            del self._ready[others.pop(0)]
        gc.collect()


def logged(error: AppError) -> AppError:
    """The error, after a line in the log with its cause."""
    log.warning("%s", error)
    return error


def _default_budget(key: Wanted) -> int:
    from indexer.models.reload import memory_of

    return int(_SHARE_OF_MEMORY * (memory_of(key.device) or machine_memory()))


def machine_memory() -> int:
    """The memory this process may use, in bytes: the machine's, or less in a container."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        memory = _UNKNOWN_MEMORY
    for path in _CGROUP_LIMITS:
        try:
            memory = min(memory, int(path.read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return memory
