"""The loop of a scan: every batch that is not done yet through the model and into the scan."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from indexer import memory
from indexer.captured import Captured, OnLayer
from indexer.corpus.batches import Batch, BatchPlan, Contexts, fill_batch
from indexer.scan.state import Scan

GROUP_BYTES = 2**31
"""Captured activations that wait on a device before it is waited for."""
_GIVE_BACK_SECONDS = 1.0
"""Between two times that freed memory is given back to the system."""


class Model(Protocol):
    """What a scan needs of a model."""

    @property
    def device(self) -> torch.device:
        """Where token ids have to be."""
        ...

    def capture(
        self,
        tokens: Int[Tensor, "batch pos"],
        attention: Bool[Tensor, "batch pos"],
        on_layer: OnLayer,
        layers: range | None = None,
    ) -> None:
        """One forward pass that hands over what each layer gave, of `layers` alone."""
        ...


def scan_batches(
    model: Model,
    corpus: Contexts,
    scan: Scan,
    plans: Sequence[BatchPlan],
    todo: Iterable[int],
    after: Callable[[int], None],
) -> None:
    """Run the model over the batches `todo`, numbers of `plans`, and measure their neurons.

    `after` is told each batch once it is measured, whole; what it raises ends the loop between two
    batches.
    """
    given_back = time.monotonic()
    for number in todo:
        scan_batch(model, fill_batch(plans[number], corpus, padding_id=0), scan)
        if time.monotonic() - given_back > _GIVE_BACK_SECONDS:
            # What a batch needs for a moment is of another size each time, and the holes it leaves
            # add up: a fifth of the state and more. To close them takes some milliseconds.
            memory.give_back()
            given_back = time.monotonic()
        after(number)


def scan_batch(model: Model, batch: Batch, scan: Scan, group_bytes: int | None = None) -> None:
    """One forward pass, measured.

    On a CPU each layer is measured while it lies in the cache; on another device up to
    `group_bytes` of captures are gathered first, since each measurement has to wait for it.
    """
    if group_bytes is None:
        group_bytes = 0 if model.device.type == "cpu" else GROUP_BYTES
    layers = scan.shape.layers
    group: list[tuple[int, Captured]] = []

    def measure(layer: int, captured: Captured) -> None:
        group.append((layer - layers[0], captured))
        if layer == layers[-1] or sum(_bytes(one) for _, one in group) >= group_bytes:
            scan.add(batch, group)
            group.clear()

    tokens = torch.from_numpy(batch.tokens).to(model.device)
    attention = torch.from_numpy(batch.attention).to(model.device)
    model.capture(tokens, attention, measure, layers)


def _bytes(captured: Captured) -> int:
    parts = (captured.activations, captured.gate, captured.linear)
    return sum(part.numel() * part.element_size() for part in parts if part is not None)
