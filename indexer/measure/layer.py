"""One layer's activations of one batch, with the few readings a scan needs of them. Pure but for
torch; apart from the scan, which holds what all batches gave.

What is read stays on the model's device: the scan brings several layers' readings over at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from indexer.captured import Captured
from indexer.corpus.batches import Batch
from indexer.measure.examples import Centre, describe
from indexer.measure.selection import Payload
from indexer.measure.threads import even_shares, in_threads
from indexer.measure.transfers import to_device, to_host

Array = np.ndarray[Any, Any]

_LEAST = 512
"""Pairs that are worth a thread of their own."""
_DESCRIBED = 1024
"""Pairs described at once: what is computed of them stays small, and in the cache."""


@dataclass(frozen=True)
class Pairs:
    """Chosen (context, neuron) pairs of one layer's batch, whose examples are wanted."""

    contexts: Int64[np.ndarray, " m"]
    """Rows of the batch."""
    neurons: Int64[np.ndarray, " m"]
    """Neurons of the layer."""
    centre: Centre = "peak"


@dataclass(frozen=True)
class Wanted:
    """Pairs whose examples are wanted, and where they go."""

    pairs: Pairs
    into: Payload
    slots: Int64[np.ndarray, " m"]
    """Of `into`, one a pair."""


class LayerBatch:
    """What a batch did in one layer: peaks, and examples of chosen contexts and neurons."""

    def __init__(self, batch: Batch, captured: Captured) -> None:
        self.batch = batch
        self.captured = captured
        self.activations = captured.activations
        self.device = captured.activations.device
        self.first = _uniform_start(batch.included)
        """The first included position, where it is the same for all and nothing is padded."""

    def extremes(self) -> Float[Tensor, "2 batch n"]:
        """Peaks and troughs over included positions."""
        if self.on_cpu:
            return self._extremes_on_cpu()
        if self.first is not None:
            counted = self.activations[:, self.first :]
            return torch.stack([counted.amax(dim=1), counted.amin(dim=1)])
        left_out = ~self.mask()[:, :, None]
        return torch.stack(
            [
                self.activations.masked_fill(left_out, -torch.inf).amax(dim=1),
                self.activations.masked_fill(left_out, torch.inf).amin(dim=1),
            ]
        )

    def _extremes_on_cpu(self) -> Float[Tensor, "2 batch n"]:
        """The same a context at a time, which lies in the cache for the second look; numpy takes
        less than half as long as torch."""
        batch, _, neurons = self.activations.shape
        found = np.empty((2, batch, neurons), np.float32)

        def share(some: slice) -> None:
            for number in range(some.start, some.stop):
                (values,) = to_host([self.activations[number]])
                counted = values[_span(self.batch.included[number])]
                counted.max(axis=0, out=found[0, number])
                counted.min(axis=0, out=found[1, number])

        in_threads(share, even_shares(batch, batch))
        return torch.from_numpy(found)

    def included(self, values: Float[Tensor, "batch pos n"]) -> Float[Tensor, "batch included n"]:
        """Values at included positions; where contexts differ in these, as if of one context."""
        return values[:, self.first :] if self.first is not None else values[self.mask()][None]

    def mask(self) -> Bool[Tensor, "batch pos"]:
        """The included positions, on the activations' device."""
        return to_device(self.batch.included, self.device)

    def gather(self, pairs: Pairs) -> list[Tensor]:
        """Activations of whole contexts [m, pos]; of gated models that are on another device also
        gate and linear part at each one's centre [2, m]."""
        rows, neurons = (to_device(ids, self.device) for ids in (pairs.contexts, pairs.neurons))
        gathered = self.activations[rows, :, neurons]
        parts = self._parts
        if not parts or self.on_cpu:  # `describe` reads them
            return [gathered]
        counted = to_device(self.batch.included[pairs.contexts], self.device)
        centres = torch.empty(len(gathered), dtype=torch.int64, device=self.device)
        for start in range(0, len(gathered), _DESCRIBED):
            some = slice(start, start + _DESCRIBED)
            centres[some] = _centres(gathered[some], counted[some], pairs.centre)
        return [gathered, torch.stack([part[rows, centres, neurons] for part in parts])]

    def describe(self, pairs: Pairs, values: Iterator[Array], window: int) -> Payload:
        """Examples of the pairs, from what `gather` gave of them; −0 counts as 0."""
        gathered = next(values)
        lengths = self.batch.attention.sum(axis=1, dtype=np.int64)
        payload = Payload.empty(len(gathered), window)

        def share(some: slice) -> None:
            contexts = pairs.contexts[some]
            described = describe(
                gathered[some] + np.float32(0),
                self.batch.included[contexts],
                lengths[contexts],
                self.batch.context_ids[contexts],
                window,
                pairs.centre,
            )
            for mine, new in zip(payload.arrays(), described.arrays(), strict=True):
                mine[some] = new

        in_threads(share, even_shares(len(gathered), _DESCRIBED, _LEAST))
        if not self._parts:
            return payload
        if self.on_cpu:
            peaked = pairs.centre == "peak"
            centres = payload.peak_positions if peaked else payload.trough_positions
            at = (pairs.contexts, centres.astype(np.int64), pairs.neurons)
            index = tuple(torch.from_numpy(ids) for ids in at)
            read = to_host([part[index] for part in self._parts])
        else:
            read = list(next(values))
        gates, linears = (part + np.float32(0) for part in read)
        return replace(payload, gates=gates, linears=linears)

    @property
    def on_cpu(self) -> bool:
        """Whether numpy can read what was captured where it lies."""
        return self.device.type == "cpu"

    @property
    def _parts(self) -> list[Tensor]:
        """Gate and linear part, or nothing."""
        gate, linear = self.captured.gate, self.captured.linear
        return [] if gate is None or linear is None else [gate, linear]


def _centres(
    activations: Float[Tensor, "m pos"], counted: Bool[Tensor, "m pos"], centre: Centre
) -> Int64[Tensor, " m"]:
    """Positions of peaks or troughs: the earliest of equals, which argmax does not promise."""
    values = activations if centre == "peak" else -activations
    values = values.masked_fill(~counted, -torch.inf)
    highest = values == values.amax(dim=1, keepdim=True)
    positions = torch.arange(values.shape[1], device=values.device)
    return torch.where(highest, positions, values.shape[1]).amin(dim=1)


def _span(included: Bool[np.ndarray, " pos"]) -> slice | Bool[np.ndarray, " pos"]:
    """Included positions as a slice, which copies nothing, where they follow one another."""
    first, last = int(included.argmax()), len(included) - int(included[::-1].argmax())
    return slice(first, last) if included[first:last].all() else included


def _uniform_start(included: Bool[np.ndarray, "batch pos"]) -> int | None:
    """The first included position, where it is the same for all and nothing is padded."""
    first = int(included[0].argmax())
    return first if included[:, first:].all() and not included[:, :first].any() else None
