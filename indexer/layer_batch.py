"""One layer's activations of one batch, with the few readings a scan needs of them. Pure but for
torch; apart from the scan, which holds what all batches gave."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from indexer.batches import Batch
from indexer.captured import Captured
from indexer.examples import Centre, describe
from indexer.selection import Payload


class LayerBatch:
    """What a batch did in one layer: peaks, and examples of chosen contexts and neurons."""

    def __init__(self, batch: Batch, captured: Captured) -> None:
        self.batch = batch
        self.captured = captured
        self.activations = captured.activations
        self.device = captured.activations.device
        self.first = _uniform_start(batch.included)
        """The first included position, where it is the same for all and nothing is padded."""

    def extremes(self) -> tuple[Float32[np.ndarray, "batch n"], Float32[np.ndarray, "batch n"]]:
        """Peaks and troughs over included positions, in float32; −0 counts as 0."""
        if self.first is not None:
            counted = self.activations[:, self.first :]
            peaks, troughs = counted.amax(dim=1), counted.amin(dim=1)
        else:
            left_out = ~self.mask()[:, :, None]
            peaks = self.activations.masked_fill(left_out, -torch.inf).amax(dim=1)
            troughs = self.activations.masked_fill(left_out, torch.inf).amin(dim=1)
        return _numpy(peaks) + np.float32(0), _numpy(troughs) + np.float32(0)

    def included_activations(self) -> Float[Tensor, "positions n"]:
        """Activations at all included positions of the batch."""
        if self.first is not None:
            return self.activations[:, self.first :].flatten(0, 1)
        return self.activations[self.mask()]

    def mask(self) -> Bool[Tensor, "batch pos"]:
        """The included positions, on the activations' device."""
        return torch.from_numpy(self.batch.included).to(self.device)

    def describe(
        self,
        contexts: Int64[np.ndarray, " m"],
        columns: Int64[np.ndarray, " m"],
        window: int,
        centre: Centre,
    ) -> Payload:
        """Examples of m (context of the batch, neuron of the layer) pairs."""
        rows = torch.from_numpy(contexts).to(self.device)
        neurons = torch.from_numpy(columns).to(self.device)
        gathered = _numpy(self.activations[rows, :, neurons]) + np.float32(0)
        lengths = self.batch.attention.sum(axis=1, dtype=np.int64)
        payload = describe(
            gathered,
            self.batch.included[contexts],
            lengths[contexts],
            self.batch.context_ids[contexts],
            window,
            centre,
        )
        gate, linear = self.captured.gate, self.captured.linear
        if gate is None or linear is None:
            return payload
        at = payload.peak_positions if centre == "peak" else payload.trough_positions
        centres = torch.from_numpy(at.astype(np.int64)).to(self.device)
        parts = torch.stack([part[rows, centres, neurons] for part in (gate, linear)])
        gates, linears = _numpy(parts) + np.float32(0)
        return replace(payload, gates=gates, linears=linears)


def _uniform_start(included: Bool[np.ndarray, "batch pos"]) -> int | None:
    """The first included position, where it is the same for all and nothing is padded."""
    first = int(included[0].argmax())
    return first if included[:, first:].all() and not included[:, :first].any() else None


def _numpy(values: Float[Tensor, "..."]) -> Float32[np.ndarray, "..."]:
    array: Float32[np.ndarray, "..."] = values.float().cpu().numpy()
    return array
