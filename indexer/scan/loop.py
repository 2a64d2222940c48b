"""The loop of a scan: each batch goes through the model and into the scan."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from indexer import memory
from indexer.captured import Captured, OnLayer
from indexer.corpus.batches import Batch, BatchPlan, Contexts, fill_batch
from indexer.scan.state import Scan

GROUP_BYTES = 2**31
"""Bytes of captured activations gathered on a device before the host waits for it."""
_GIVE_BACK_SECONDS = 1.0
"""Between two returns of freed memory to the system."""


class Model(Protocol):
    """What a scan needs of a model."""

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        ...

    def capture(
        self,
        tokens: Int[Tensor, "batch pos"],
        attention: Bool[Tensor, "batch pos"],
        on_layer: OnLayer,
        layers: range | None = None,
    ) -> None:
        """One forward pass that hands over each layer, or each of `layers`."""
        ...


def scan_batches(
    model: Model,
    corpus: Contexts,
    scan: Scan,
    plans: Sequence[BatchPlan],
    todo: Iterable[int],
    after: Callable[[int], None],
) -> None:
    """Run the model over batches and measure them.

    `todo` are indices into `plans`. `after(index)` is called when a batch is measured in all
    layers; an exception from it ends the loop between two batches.
    """
    given_back = time.monotonic()
    for number in todo:
        scan_batch(model, fill_batch(plans[number], corpus, padding_id=0), scan)
        if time.monotonic() - given_back > _GIVE_BACK_SECONDS:
            # Each batch needs temporary memory of another size, and the holes this leaves add up to
            # a fifth of the state and more. Closing them takes some milliseconds.
            memory.give_back()
            given_back = time.monotonic()
        after(number)


def scan_batch(model: Model, batch: Batch, scan: Scan, group_bytes: int | None = None) -> None:
    """Run one forward pass and measure its layers, as `measuring` does."""
    tokens = torch.from_numpy(batch.tokens).to(model.device)
    attention = torch.from_numpy(batch.attention).to(model.device)
    with measuring(model.device, batch, scan, group_bytes) as measure:
        model.capture(tokens, attention, measure, scan.shape.layers)


@contextmanager
def measuring(
    device: torch.device, batch: Batch, scan: Scan, group_bytes: int | None = None
) -> Iterator[OnLayer]:
    """What is to be called with each layer of a forward pass over a batch, to measure it.

    On a CPU each layer is measured while it is in the cache. On another device up to `group_bytes`
    of activations are gathered first, since each measurement has to wait for the device.
    """
    if group_bytes is None:
        group_bytes = 0 if device.type == "cpu" else GROUP_BYTES
    layers = scan.shape.layers
    group: list[tuple[int, Captured]] = []

    def measure(layer: int, captured: Captured) -> None:
        group.append((layer - layers[0], scan.shape.own(captured)))
        if layer == layers[-1] or sum(_bytes(item) for _, item in group) >= group_bytes:
            scan.add(batch, group)
            group.clear()

    yield measure
    if group:  # the last layers have no units
        scan.add(batch, group)


def _bytes(captured: Captured) -> int:
    tensors = (captured.activations, *captured.parts)
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
