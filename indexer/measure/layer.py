"""One layer's activations of one batch: its extremes, and examples of chosen contexts and neurons.

Tensors stay on the model's device here: the scan brings those of several layers over at once.
"""

from __future__ import annotations

from collections.abc import Mapping
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
"""The smallest number of pairs worth a thread."""
_DESCRIBED = 1024
"""Pairs described at once: few enough that intermediate arrays stay in the cache."""


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
    """Places in `into`, one per pair."""


class LayerBatch:
    """One layer's activations of one batch."""

    def __init__(self, batch: Batch, captured: Captured) -> None:
        self.batch = batch
        self.captured = captured
        self.activations = captured.activations
        self.device = captured.activations.device
        self.first = _uniform_start(batch.included)
        """The first included position, if it is the same in all contexts and nothing is padded."""

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
        """The same, one context at a time, which is still in the cache for the second reduction;
        numpy takes less than half as long as torch."""
        batch, _, neurons = self.activations.shape
        extremes = np.empty((2, batch, neurons), np.float32)

        def share(rows: slice) -> None:
            for row in range(rows.start, rows.stop):
                (values,) = to_host([self.activations[row]])
                counted = values[_span(self.batch.included[row])]
                counted.max(axis=0, out=extremes[0, row])
                counted.min(axis=0, out=extremes[1, row])

        in_threads(share, even_shares(batch, batch))
        return torch.from_numpy(extremes)

    def included(self, values: Float[Tensor, "batch pos n"]) -> Float[Tensor, "batch included n"]:
        """Values at included positions; where contexts differ in these, as if of one context."""
        return values[:, self.first :] if self.first is not None else values[self.mask()][None]

    def mask(self) -> Bool[Tensor, "batch pos"]:
        """The included positions, on the activations' device."""
        return to_device(self.batch.included, self.device)

    def gather(self, pairs: Pairs) -> dict[str, Tensor]:
        """`activations` of the pairs' whole contexts [m, pos]. Where neurons have parts and are not
        on the CPU also `parts`, gate and linear part at each pair's centre [2, m]."""
        rows, neurons = (to_device(ids, self.device) for ids in (pairs.contexts, pairs.neurons))
        activations = self.activations[rows, :, neurons]
        parts = self.captured.parts
        if not parts or self.on_cpu:  # on the CPU, `describe` reads them where they are
            return {"activations": activations}
        counted = to_device(self.batch.included[pairs.contexts], self.device)
        centres = torch.empty(len(activations), dtype=torch.int64, device=self.device)
        for start in range(0, len(activations), _DESCRIBED):
            chunk = slice(start, start + _DESCRIBED)
            centres[chunk] = _centres(activations[chunk], counted[chunk], pairs.centre)
        at_centres = torch.stack([part[rows, centres, neurons] for part in parts])
        return {"activations": activations, "parts": at_centres}

    def describe(self, pairs: Pairs, gathered: Mapping[str, Array], window: int) -> Payload:
        """Examples of the pairs, `window` positions around each peak. `gathered` are the arrays of
        `gather`, on the host; −0 counts as 0."""
        activations = gathered["activations"]
        lengths = self.batch.attention.sum(axis=1, dtype=np.int64)
        payload = Payload.empty(len(activations), window)

        def share(chunk: slice) -> None:
            contexts = pairs.contexts[chunk]
            described = describe(
                activations[chunk] + np.float32(0),
                self.batch.included[contexts],
                lengths[contexts],
                self.batch.context_ids[contexts],
                window,
                pairs.centre,
            )
            for mine, new in zip(payload.arrays(), described.arrays(), strict=True):
                mine[chunk] = new

        in_threads(share, even_shares(len(activations), _DESCRIBED, _LEAST))
        if not self.captured.parts:
            return payload
        if self.on_cpu:
            peaked = pairs.centre == "peak"
            centres = payload.peak_positions if peaked else payload.trough_positions
            at = (pairs.contexts, centres.astype(np.int64), pairs.neurons)
            index = tuple(torch.from_numpy(ids) for ids in at)
            parts = to_host([part[index] for part in self.captured.parts])
        else:
            parts = list(gathered["parts"])
        gates, linears = (part + np.float32(0) for part in parts)
        return replace(payload, gates=gates, linears=linears)

    @property
    def on_cpu(self) -> bool:
        """Whether numpy can read the activations where they are."""
        return self.device.type == "cpu"


def _centres(
    activations: Float[Tensor, "m pos"], counted: Bool[Tensor, "m pos"], centre: Centre
) -> Int64[Tensor, " m"]:
    """Positions of peaks or troughs; ties: the earliest, which argmax does not promise."""
    values = activations if centre == "peak" else -activations
    values = values.masked_fill(~counted, -torch.inf)
    highest = values == values.amax(dim=1, keepdim=True)
    positions = torch.arange(values.shape[1], device=values.device)
    return torch.where(highest, positions, values.shape[1]).amin(dim=1)


def _span(included: Bool[np.ndarray, " pos"]) -> slice | Bool[np.ndarray, " pos"]:
    """The included positions, as a slice (which copies nothing) if they are contiguous."""
    first, last = int(included.argmax()), len(included) - int(included[::-1].argmax())
    return slice(first, last) if included[first:last].all() else included


def _uniform_start(included: Bool[np.ndarray, "batch pos"]) -> int | None:
    """The first included position, if it is the same in all contexts and nothing is padded."""
    first = int(included[0].argmax())
    return first if included[:, first:].all() and not included[:, :first].any() else None
