"""The hot loop of the sample's statistics: sums of powers and counts of bins over a batch's
positions.

On a CPU the columns are divided among as many threads as torch has. Each thread processes its
columns a few rows at a time, so that intermediate results stay in its cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Float64, Int32, Int64, Shaped
from torch import Tensor

from indexer.measure.threads import even_shares, in_threads

BINS = 256
"""Bins of a neuron's histogram while it is accumulated: half of them below 0."""
_ROWS = 64
_COLUMNS = 16
"""Columns counted at once: their bins fit into a first-level cache."""
_ONES = torch.ones(1, _ROWS)
_FAR = 2.0**64
"""The largest ratio of the two sides' bin widths for which a single prelu can scale both."""


@dataclass(frozen=True)
class Scales:
    """Shifts and scales that bring each neuron's activations to a range where float32 is exact
    enough."""

    shift: Float32[Tensor, " n"]
    """About the mean: subtracted before powers are taken, so that they do not cancel."""
    scale: Float32[Tensor, " n"]
    """A power of two that brings the differences to about 1."""
    above: Float32[Tensor, " n"]
    """Bins per unit of activation above 0: a power of two."""
    below: Float32[Tensor, " n"]
    """Bins per unit of activation below 0: a power of two."""

    def columns(self, where: slice) -> Scales:
        """The scales of a range of neurons."""
        return Scales(self.shift[where], self.scale[where], self.above[where], self.below[where])


@dataclass(frozen=True)
class Sums:
    """A batch's sums, on its device."""

    powers: Float64[Tensor, "4 n"]
    """Sums of ((activation − shift) · scale)^p for p = 1…4."""
    positive: Int64[Tensor, " n"]
    """Positions with an activation above 0."""
    counts: Shaped[Tensor, "n 256"]
    """Positions in each bin: 128 + ⌊activation · above⌋ from 0 on, ⌊activation · below⌋ below."""


def batch_sums(values: Float[Tensor, "batch pos n"], scales: Scales) -> Sums:
    """Sums over all positions of a batch; every |⌊activation · above or below⌋| is under 129.

    The sums of powers are those of float32 values, added in float32 for 64 positions at most and
    in float64 from there on: their relative error is about 1e-7.
    """
    if values.device.type != "cpu":
        return _on_device(values, scales)
    neurons = values.shape[2]
    powers = torch.zeros((4, neurons), dtype=torch.float64)
    positive = torch.zeros(neurons, dtype=torch.int64)
    counts = torch.zeros((neurons, BINS), dtype=torch.int64)

    def share(columns: slice) -> None:
        out = Sums(powers[:, columns], positive[columns], counts[columns])
        _on_cpu(values[:, :, columns], scales.columns(columns), out)

    in_threads(share, even_shares(neurons, neurons, _COLUMNS))
    return Sums(powers, positive, counts)


def sign_sums(
    gate: Float[Tensor, "batch pos n"], linear: Float[Tensor, "batch pos n"]
) -> Float64[Tensor, "3 n"]:
    """Numbers of positions where both are above 0, where the gate is, and where the linear part
    is."""
    neurons = gate.shape[2]
    if gate.device.type != "cpu":
        opened, through = gate.flatten(0, 1) > 0, linear.flatten(0, 1) > 0
        return torch.stack([part.sum(dim=0) for part in (opened & through, opened, through)])
    sums = torch.zeros((3, neurons), dtype=torch.float64)

    def share(columns: slice) -> None:
        sums[:, columns] = _signs_on_cpu(gate[:, :, columns], linear[:, :, columns])

    in_threads(share, even_shares(neurons, neurons, _COLUMNS))
    return sums


def _on_cpu(values: Float[Tensor, "batch pos n"], scales: Scales, out: Sums) -> None:
    """One thread's share. Large results are written to buffers allocated once: allocating memory
    costs as much as the arithmetic."""
    batch, pos, neurons = values.shape
    groups = -(-neurons // _COLUMNS)
    keys = torch.empty((groups, batch * pos, _COLUMNS), dtype=torch.int32)
    # The bins of column c of a group begin at c · 256.
    offset = (torch.arange(_COLUMNS) * BINS + BINS // 2).float().repeat(groups)[:neurons]
    ratio = scales.below / scales.above  # a power of two, so there is no rounding
    plain = bool(((ratio > _FAR) | (ratio < 1 / _FAR)).any())
    shift = -scales.shift * scales.scale
    room = torch.empty((3, min(pos, _ROWS), neurons))
    sums = torch.empty((5, neurons))
    total = torch.zeros((5, neurons), dtype=torch.float64)
    done = 0
    with torch.inference_mode():
        for chunk in _chunks(values):
            rows = len(chunk)
            ones = _ONES[:, :rows]
            scaled, square, places = room[:, :rows]
            torch.addcmul(shift, chunk, scales.scale, out=scaled)
            torch.mul(scaled, scaled, out=square)
            torch.mm(ones, scaled, out=sums[0:1])
            torch.mm(ones, square, out=sums[1:2])
            torch.mm(ones, scaled.mul_(square), out=sums[2:3])
            torch.mm(ones, square.square_(), out=sums[3:4])
            torch.mm(ones, torch.gt(chunk, 0, out=places), out=sums[4:5])
            total += sums
            torch.mul(chunk, scales.above, out=places)
            if plain:
                places = torch.where(chunk > 0, places, chunk * scales.below)
            else:
                places = torch.nn.functional.prelu(places, ratio)
            places.floor_().add_(offset)
            _spread(places, keys[:, done : done + rows])
            done += rows
        for group in range(groups):
            start = group * _COLUMNS
            end = min(start + _COLUMNS, neurons)
            in_group = keys[group, :, : end - start].reshape(-1)
            counted = torch.bincount(in_group, minlength=(end - start) * BINS)
            out.counts[start:end] = counted.view(-1, BINS)
    out.powers.copy_(total[:4])
    out.positive.copy_(total[4])


def _signs_on_cpu(
    gate: Float[Tensor, "batch pos n"], linear: Float[Tensor, "batch pos n"]
) -> Float64[Tensor, "3 n"]:
    _, pos, neurons = gate.shape
    room = torch.empty((2, min(pos, _ROWS), neurons))
    sums = torch.empty((3, neurons))
    total = torch.zeros((3, neurons), dtype=torch.float64)
    with torch.inference_mode():
        for gates, linears in zip(_chunks(gate), _chunks(linear), strict=True):
            ones = _ONES[:, : len(gates)]
            opened, through = room[:, : len(gates)]
            torch.mm(ones, torch.gt(gates, 0, out=opened), out=sums[1:2])
            torch.mm(ones, torch.gt(linears, 0, out=through), out=sums[2:3])
            torch.mm(ones, opened.mul_(through), out=sums[0:1])
            total += sums
    return total


def _spread(places: Float32[Tensor, "rows n"], keys: Int32[Tensor, "groups rows columns"]) -> None:
    """Copy whole numbers into `keys` as integers, one group of columns after another."""
    rows, neurons = places.shape
    full = neurons - neurons % _COLUMNS
    if full:
        grouped = places[:, :full].reshape(rows, -1, _COLUMNS)
        keys[: full // _COLUMNS] = grouped.transpose(0, 1)
    if full < neurons:
        keys[-1, :, : neurons - full] = places[:, full:]


def _chunks(values: Float[Tensor, "batch pos n"]) -> Iterator[Float32[Tensor, "rows n"]]:
    for context in values:
        for start in range(0, len(context), _ROWS):
            yield context[start : start + _ROWS].float()


def _on_device(values: Float[Tensor, "batch pos n"], scales: Scales) -> Sums:
    """The same in a few large steps, none of which waits for the device."""
    flat = values.flatten(0, 1).float()
    scaled = (flat - scales.shift) * scales.scale
    square = scaled * scaled
    powers = [part.sum(dim=0, dtype=torch.float64) for part in (scaled, square)]
    powers += [(scaled * square).sum(dim=0, dtype=torch.float64)]
    powers += [(square * square).sum(dim=0, dtype=torch.float64)]
    sided = torch.where(flat > 0, flat * scales.above, flat * scales.below)
    neurons = flat.shape[1]
    row = torch.arange(neurons, device=flat.device) * BINS + BINS // 2
    keys = (sided.floor_().long() + row).flatten()
    counts = torch.zeros(neurons * BINS, dtype=torch.int32, device=flat.device)
    counts.scatter_add_(0, keys, torch.ones_like(keys, dtype=torch.int32))
    return Sums(torch.stack(powers), (flat > 0).sum(dim=0), counts.view(neurons, BINS))
