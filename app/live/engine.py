"""A model in memory: what the text a visitor types does to a neuron, or to all of them.

All that touches a model happens in one thread of its own: the event loop only waits for it. Nothing
of torch is imported before the first text comes.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from app.errors import Unavailable
from app.live.models import Models
from app.live.neuron.answer import answer
from app.live.neuron.schemas import (
    LiveAnswer,
)
from app.live.text import OpenText, opened
from app.neurons.schemas import NeuronPage
from app.schemas import Run
from indexer.errors import NeurariumError

RETRY = 2
"""Seconds after which a visitor may come again where too many were waiting."""

Result = TypeVar("Result")


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
            return answer(ready, run, page, text, self.tokens)
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
