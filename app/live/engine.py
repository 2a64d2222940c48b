"""Runs models on visitors' texts, in one thread of its own for which the event loop waits.

Torch is only imported when the first text arrives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from app.errors import Unavailable
from app.live.models import Models, Ready, logged
from app.live.neuron.answer import answer
from app.live.neuron.schemas import LiveAnswer
from app.live.places import Places
from app.live.steering.answer import Place, Steerable
from app.live.steering.answer import answer as steered
from app.live.steering.schemas import SteeringAnswer, SteeringText
from app.live.text import OpenText, opened
from app.neurons.schemas import NeuronPage
from app.schemas import Run
from indexer.errors import NeurariumError

_FAILED = "The model cannot read this text here: try a shorter one. The server's log says why."
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
        dictionary_paths: Mapping[str, str] | None = None,
    ) -> None:
        """`memory`: gigabytes for all models (None: half of the device's memory); `tokens`: the
        most tokens of a text, including BOS; `waiting`: the most requests running or waiting;
        `model_paths`, `dictionary_paths`: where what was moved is, as `Models` has them."""
        self.tokens = tokens
        self.places = Places(waiting)
        self._models = Models(
            None if memory is None else int(memory * 1e9), model_paths, dictionary_paths
        )
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="live")

    async def close(self) -> None:
        """Accept no more texts, and drop waiting texts."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def read(self, run: Run, page: NeuronPage, text: str) -> LiveAnswer:
        """The activations and effects of the neuron of `page` on `text`, by the model of `run`.

        Raises Unavailable if the model cannot be loaded, Gone if the run's model has been replaced,
        Invalid or TooLarge for an unusable text.
        """
        return await self.with_model(run, lambda ready: answer(ready, run, page, text, self.tokens))

    async def steer(
        self, run: Run, page: NeuronPage, known: Mapping[Place, Steerable], sent: SteeringText
    ) -> SteeringAnswer:
        """What the model of `run` writes after a text, with and without the units of `sent`, of
        which the store knows what is `known`. Raises as `read`."""
        return await self.with_model(
            run, lambda ready: steered(ready, run, page, known, sent, self.tokens)
        )

    async def read_all(
        self, run: Run, texts: Mapping[str, str], work: Callable[[list[OpenText]], Result]
    ) -> Result:
        """The result of `work` on texts opened by the model of `run`, in the model's thread.

        `texts` are keyed by their names in errors. Raises as `read`, and what `work` raises.
        """

        def read(ready: Ready) -> Result:
            return work(
                [opened(ready, run, text, self.tokens, name) for name, text in texts.items()]
            )

        return await self.with_model(run, read)

    async def with_model(self, run: Run, work: Callable[[Ready], Result]) -> Result:
        """The result of `work` with the model of `run`, in the model's thread.

        Raises as `read`, and what `work` raises.
        """
        return await self._do(lambda: self._with_model(run, work))

    async def _do(self, work: Callable[[], Result]) -> Result:
        try:
            future: Future[Result] = self._thread.submit(work)
        except RuntimeError:  # the executor is shut down
            raise Unavailable("The server is shutting down.") from None
        return await asyncio.wrap_future(future)

    def _with_model(self, run: Run, work: Callable[[Ready], Result]) -> Result:
        ready = self._models.get(run)
        try:
            return work(ready)
        except NeurariumError as error:
            raise logged(Unavailable(_FAILED, error)) from error
