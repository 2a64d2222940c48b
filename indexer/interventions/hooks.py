"""Hooks on a model's modules that are there for the length of a `with` block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn


@contextlib.contextmanager
def removed(handle: Any) -> Iterator[None]:
    """Remove a hook at the end."""
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def last_position_only(head: nn.Module) -> Iterator[None]:
    """Unembed the last position alone: the logits of all positions would take most memory."""

    def cut(_: Any, args: tuple[Any, ...]) -> Any:
        return (args[0][:, -1:], *args[1:])

    with removed(head.register_forward_pre_hook(cut)):
        yield
