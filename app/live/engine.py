"""A model in memory: what the text a visitor types does to a neuron, or to all of them.

All that touches a model happens in one thread of its own: the event loop only waits for it. Nothing
of torch is imported before the first text comes.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from jaxtyping import Float32

from app.errors import AppError, Gone, Invalid, TooLarge, Unavailable
from app.live.neuron.schemas import (
    DirectAttribution,
    LiveAnswer,
    LiveEffects,
    Prediction,
    Predictions,
)
from app.schemas import Histogram, NeuronPage, Run
from indexer.errors import NeurariumError

if TYPE_CHECKING:
    from indexer.interventions.ablate import Predicted
    from indexer.models.load import LoadedModel
    from indexer.models.reload import Wanted

RETRY = 2
"""Seconds after which a visitor may come again where too many were waiting."""
FAILED_FOR = 30.0
"""Seconds for which a model that could not be loaded is not tried again."""
_SHARE = 0.5
_UNKNOWN_MEMORY = 8 << 30
_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)

Result = TypeVar("Result")
OnLayer = Callable[[int, Float32[np.ndarray, "pos n"]], None]
"""Called once a layer, in order, with all its neurons' activations at the included positions."""


class Live:
    """The models of the runs, loaded when first asked for, one at a time, and what they say."""

    def __init__(self, *, memory: float | None, tokens: int, waiting: int) -> None:
        """`memory`: gigabytes the models may take together (None: half of what there is);
        `tokens`: the longest text, BOS counted; `waiting`: requests at work or waiting."""
        self.tokens = tokens
        self._waiting = waiting
        self._models = Models(None if memory is None else int(memory * 1e9))
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="live")
        self._here = 0
        self._lock = threading.Lock()

    def close(self) -> None:
        """Take no more work; what waits is dropped."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def read(self, run: Run, page: NeuronPage, text: str) -> LiveAnswer:
        """What the neuron of `page` does on `text`, by the model of `run`.

        Raises Unavailable if too many wait or the model cannot be loaded, Gone if it is another
        than the run's, Invalid or TooLarge for a text that cannot be read.
        """
        return await self._do(lambda: self._read(run, page, text))

    async def read_all(
        self, run: Run, texts: Mapping[str, str], work: Callable[[list[OpenText]], Result]
    ) -> Result:
        """What `work` makes of texts, in the model's thread, by the model of `run`: all its neurons
        are there, a layer at a time. `texts`: by what an error calls them. Raises as `read` does,
        and what `work` raises."""
        return await self._do(lambda: self._read_all(run, texts, work))

    async def _do(self, work: Callable[[], Result]) -> Result:
        with self._lock:
            if self._here >= self._waiting:
                raise Unavailable(
                    f"{self._here} texts are being read or wait for it, as many as this server "
                    "lets wait: try again in a moment.",
                    retry_after=RETRY,
                )
            self._here += 1
        try:
            future: Future[Result] = self._thread.submit(work)
        except RuntimeError:  # the server is being stopped
            self._left(None)
            raise Unavailable("The server is being stopped.") from None
        future.add_done_callback(self._left)
        return await asyncio.wrap_future(future)

    def _left(self, _: Any) -> None:
        with self._lock:
            self._here -= 1

    def _read(self, run: Run, page: NeuronPage, text: str) -> LiveAnswer:
        ready = self._models.get(run)
        try:
            return _answer(ready, run, page, text, self.tokens)
        except NeurariumError as error:
            raise Unavailable(str(error)) from error

    def _read_all(
        self, run: Run, texts: Mapping[str, str], work: Callable[[list[OpenText]], Result]
    ) -> Result:
        ready = self._models.get(run)
        try:
            return work(
                [_opened(ready, run, text, self.tokens, name) for name, text in texts.items()]
            )
        except NeurariumError as error:
            raise Unavailable(str(error)) from error


@dataclass(frozen=True)
class OpenText:
    """A text of a visitor's, as a loaded model takes it in."""

    tokens: list[str]
    token_ids: list[int]
    first: int
    """The first included position."""
    each_layer: Callable[[OnLayer], None]
    """One forward pass. Raises Invalid where activations are no numbers."""


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


def higher_than(peaks: Histogram, peak: float) -> float | None:
    """The share of contexts that surely peak below `peak`: those in bins wholly below it.

    None where nothing was counted.
    """
    total = sum(peaks.counts)
    if not total:
        return None
    *others, last = peaks.counts
    below = sum(n for end, n in zip(peaks.edges[1:], others, strict=False) if end <= peak)
    # The last bin holds its upper edge, which is given to float64's rounding only.
    if peak > peaks.edges[-1] + 1e-9 * (peaks.edges[-1] - peaks.edges[0]):
        below += last
    return below / total


def _tokenised(
    ready: Ready, run: Run, text: str, most: int, name: str = "The text"
) -> tuple[list[int], int]:
    """A text's token ids, and the first included position. Raises Invalid, TooLarge."""
    from indexer.interventions.ablate import read_text
    from indexer.models.reload import bos_of

    bos = bos_of(ready.model, run.provenance)
    token_ids = read_text(ready.model, text, bos)
    first = 0 if bos is None else 1
    _check_length(len(token_ids), first, min(most, ready.model.max_context or most), name)
    return token_ids, first


def _check_finite(values: Float32[np.ndarray, "..."], run: Run) -> None:
    if not np.isfinite(values).all():
        raise Invalid(f"In {run.dtype} this text gives activations that are no numbers.")


def _opened(ready: Ready, run: Run, text: str, most: int, name: str) -> OpenText:
    from indexer.interventions.ablate import read_layers

    token_ids, first = _tokenised(ready, run, text, most, name)

    def each_layer(on_layer: OnLayer) -> None:
        def give(layer: int, activations: Float32[np.ndarray, "pos n"]) -> None:
            _check_finite(activations, run)
            on_layer(layer, activations)

        read_layers(ready.model, token_ids, first, give)

    return OpenText(list(map(ready.text, token_ids)), token_ids, first, each_layer)


def _answer(ready: Ready, run: Run, page: NeuronPage, text: str, most: int) -> LiveAnswer:
    from indexer.interventions.ablate import effects, read_neuron

    model = ready.model
    token_ids, first = _tokenised(ready, run, text, most)
    reading = read_neuron(model, page.layer, page.neuron, token_ids)
    values = reading.activations[first:]
    _check_finite(values, run)
    mean = page.stats.mean
    found = effects(model, page.layer, page.neuron, token_ids, first=first, mean=mean)
    at = int(values.argmax())
    attribution = found.attribution
    return LiveAnswer(
        model=page.model,
        layer=page.layer,
        neuron=page.neuron,
        hook_point=page.hook_point,
        run=run.id,
        dtype=run.dtype,
        tokens=[ready.text(token_id) for token_id in token_ids],
        token_ids=token_ids,
        activations=[*[None] * first, *values.tolist()],
        peak=float(values[at]),
        peak_position=first + at,
        gate=None if reading.gate is None else float(reading.gate[first + at]),
        linear=None if reading.linear is None else float(reading.linear[first + at]),
        higher_than=higher_than(page.peak_histogram, float(values[at])),
        note=note_of(run.dtype),
        effects=LiveEffects(
            mean=mean,
            as_is=_predictions(ready, found.as_is),
            zero_ablated=_predictions(ready, found.zero_ablated),
            mean_ablated=_predictions(ready, found.mean_ablated),
            attribution=DirectAttribution(
                token=ready.text(attribution.token_id),
                token_id=attribution.token_id,
                activation=attribution.activation,
                logit_effect=attribution.logit_effect,
                scale=attribution.scale,
                value=attribution.value,
            ),
        ),
    )


def _check_length(length: int, first: int, most: int, name: str) -> None:
    if length <= first:
        raise Invalid(f"{name} gives no tokens: type something.")
    if length > most:
        bos = ", the BOS counted" if first else ""
        raise TooLarge(f"{name} has {length:,} tokens{bos}: {most:,} are the most.")


def _predictions(ready: Ready, predicted: Predicted) -> Predictions:
    rows = zip(predicted.token_ids, predicted.probabilities, predicted.as_is, strict=True)
    return Predictions(
        tokens=[
            Prediction(
                token=ready.text(token_id), token_id=token_id, probability=probability, as_is=as_is
            )
            for token_id, probability, as_is in rows
        ],
        divergence=predicted.divergence,
    )


def note_of(dtype: str) -> str | None:
    """How far values may be from the indexed ones, where they may be far."""
    if dtype == "float32":
        return None
    return (
        f"The model runs in {dtype}, where a value depends on what it is computed together with: "
        "these may differ from the indexed ones by some percent."
    )
