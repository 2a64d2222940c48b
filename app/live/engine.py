"""Runs models on visitors' texts, in one thread of its own for which the event loop waits.

Torch is only imported when the first text arrives.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from app.errors import Unavailable
from app.live.models import Models, Ready
from app.live.neuron.answer import answer
from app.live.neuron.schemas import LiveAnswer
from app.live.steering.answer import Place
from app.live.steering.answer import answer as steered
from app.live.steering.schemas import SteeringAnswer, SteeringText
from app.live.text import OpenText, opened
from app.neurons.schemas import NeuronPage
from app.schemas import Run
from indexer.errors import NeurariumError

RETRY = 2
"""Seconds after which a visitor may try again if too many are waiting."""

Result = TypeVar("Result")


class Live:
    """Runs the models of runs. They are loaded when they are first needed, one at a time."""

    def __init__(
        self,
        *,
        memory: float | None,
        tokens: int,
        waiting: int,
        model_paths: Mapping[str, Path] | None = None,
    ) -> None:
        """`memory`: gigabytes for all models (None: half of the device's memory); `tokens`: the
        most tokens of a text, including BOS; `waiting`: the most requests running or waiting;
        `model_paths`: where models are that were moved, by their names."""
        self.tokens = tokens
        self._waiting = waiting
        self._models = Models(None if memory is None else int(memory * 1e9), model_paths)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="live")
        self._pending = 0
        self._lock = threading.Lock()

    def close(self) -> None:
        """Accept no more texts, and drop those that wait."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def read(self, run: Run, page: NeuronPage, text: str) -> LiveAnswer:
        """The activations and effects of the neuron of `page` on `text`, by the model of `run`.

        Raises Unavailable if too many wait or the model cannot be loaded, Gone if the run's model
        has been replaced, Invalid or TooLarge for an unusable text.
        """
        return await self._do(lambda: self._read(run, page, text))

    async def steer(
        self, run: Run, page: NeuronPage, largest: Mapping[Place, float], sent: SteeringText
    ) -> SteeringAnswer:
        """What the model of `run` writes after a text, with and without the units of `sent`, whose
        largest magnitudes are `largest`. Raises as `read`."""
        return await self._do(lambda: self._steer(run, page, largest, sent))

    async def read_all(
        self, run: Run, texts: Mapping[str, str], work: Callable[[list[OpenText]], Result]
    ) -> Result:
        """The result of `work` on texts opened by the model of `run`, in the model's thread.

        `texts` are keyed by their names in errors. Raises as `read`, and what `work` raises.
        """
        return await self._do(lambda: self._read_all(run, texts, work))

    async def with_model(self, run: Run, work: Callable[[Ready], Result]) -> Result:
        """The result of `work` with the model of `run`, in the model's thread. Raises as `read`,
        and what `work` raises."""
        return await self._do(lambda: self._with_model(run, work))

    async def _do(self, work: Callable[[], Result]) -> Result:
        with self._lock:
            if self._pending >= self._waiting:
                raise Unavailable(
                    f"{self._pending} texts are running or waiting, the most that this server "
                    "accepts: try again in a moment.",
                    retry_after=RETRY,
                )
            self._pending += 1
        try:
            future: Future[Result] = self._thread.submit(work)
        except RuntimeError:  # the executor is shut down
            self._finished(None)
            raise Unavailable("The server is shutting down.") from None
        future.add_done_callback(self._finished)
        return await asyncio.wrap_future(future)

    def _finished(self, _: Any) -> None:
        with self._lock:
            self._pending -= 1

    def _read(self, run: Run, page: NeuronPage, text: str) -> LiveAnswer:
        ready = self._models.get(run)
        try:
            return answer(ready, run, page, text, self.tokens)
        except NeurariumError as error:
            raise Unavailable(str(error)) from error

    def _steer(
        self, run: Run, page: NeuronPage, largest: Mapping[Place, float], sent: SteeringText
    ) -> SteeringAnswer:
        ready = self._models.get(run)
        try:
            return steered(ready, run, page, largest, sent, self.tokens)
        except NeurariumError as error:
            raise Unavailable(str(error)) from error

    def _read_all(
        self, run: Run, texts: Mapping[str, str], work: Callable[[list[OpenText]], Result]
    ) -> Result:
        ready = self._models.get(run)
        try:
            return work(
                [opened(ready, run, text, self.tokens, name) for name, text in texts.items()]
            )
        except NeurariumError as error:
            raise Unavailable(str(error)) from error

    def _with_model(self, run: Run, work: Callable[[Ready], Result]) -> Result:
        ready = self._models.get(run)
        try:
            return work(ready)
        except NeurariumError as error:
            raise Unavailable(str(error)) from error
