"""What a run's searches cost while it is written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from indexer.store.text import index as text_index
from indexer.store.writing import postings
from indexer.store.writing import run as writer

_WORK: tuple[tuple[Any, str], ...] = (
    *((postings.Postings, name) for name in ("add_neurons", "contexts")),
    (postings, "_token_rows"),
    *((writer, name) for name in ("write_columns", "write_tokens")),
    *((text_index, name) for name in ("create", "rows_of", "put", "finish")),
)


@contextmanager
def spent_on_searches() -> Iterator[list[float]]:
    """Seconds of the processor that the writer's threads work for searches meanwhile, piece by
    piece."""
    spent: list[float] = []

    def timed(work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **named: Any) -> Any:
            began = time.thread_time()
            try:
                return work(*args, **named)
            finally:
                spent.append(time.thread_time() - began)

        return run

    with ExitStack() as stack:
        for owner, name in _WORK:
            stack.enter_context(patch.object(owner, name, timed(getattr(owner, name))))
        yield spent
