"""A dictionary in memory: what each layout of file is read into, and what it computes.

Whatever a layout can fold into the weights is folded when it is read, so that one formula remains.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from indexer.models.names import HOOK_EMBED

Function = Literal["relu", "jumprelu", "topk", "groupmax", "gated", "identity"]
"""From a latent's preactivation to its activation. `jumprelu`: x if x > threshold, else 0
(Rajamanoharan et al. 2024b), also batch-top-k (Bussmann et al. 2024); `topk`: the k largest (Gao et
al. 2024); `groupmax`: the largest of each group; `gated`: 0 where a gate of its own is not above 0
(Rajamanoharan et al. 2024a); `identity`: directions."""
COUNTED: tuple[Function, ...] = ("topk", "groupmax")
"""Functions that need a `k`."""
Norm = Literal["none", "layer_norm", "constant_norm_rescale"]
NORMS: tuple[Norm, ...] = ("none", "layer_norm", "constant_norm_rescale")
"""What is done to each vector before it is encoded, and undone after it is decoded."""
_LAYER_NORM_EPSILON = 1e-5
_ROWS = 64
"""Positions whose activations are computed at once."""


@dataclass(frozen=True)
class Gate:
    """The gate of a gated dictionary: a latent is on where its gate is above 0."""

    scale: Float32[Tensor, " latents"]
    """Of the encoder's product with the input, for the activation's size (exp of `r_mag`)."""
    bias: Float32[Tensor, " latents"]


@dataclass(frozen=True)
class Hook:
    """A place in a model by TransformerLens's name, such as `blocks.3.hook_resid_post`; the
    embedding counts as the first layer's."""

    layer: int
    point: str

    def __str__(self) -> str:
        return self.point if self.point == HOOK_EMBED else f"blocks.{self.layer}.{self.point}"


@dataclass(frozen=True, eq=False)
class Dictionary:
    """A set of directions read at one hook point of one layer, in float32."""

    label: str
    """What the file is called in messages."""
    hook: Hook
    """Where it reads."""
    function: Function
    W_enc: Float32[Tensor, "d_in latents"]
    b_enc: Float32[Tensor, " latents"]
    W_dec: Float32[Tensor, "latents d_out"] | None = None
    """None for directions that are only read."""
    b_dec: Float32[Tensor, " d_out"] | None = None
    b_in: Float32[Tensor, " d_in"] | None = None
    """Subtracted from the input, after `norm`."""
    threshold: Float32[Tensor, " latents"] | None = None
    """A latent is on where its preactivation is above it (`jumprelu`)."""
    k: int | None = None
    """How many of all latents are on at a position, at most: the largest (`topk`), or the largest
    of each of this many groups of consecutive latents (`groupmax`)."""
    gate: Gate | None = None
    norm: Norm = "none"
    skip: Float32[Tensor, "d_in d_out"] | None = None
    """A linear map of the input that is added to what is decoded."""
    target: Hook | None = None
    """What is decoded approximates this place; None: the input itself."""
    first_zero: bool = False
    """Whether all latents are 0 at a context's first position, whatever is there: circuit-tracer
    puts a BOS there, or another special token."""
    model: str | None = None
    """The model it was made for, if the file says so."""
    l0: float | None = None
    """The mean number of latents that are on at a position, if the file says so."""
    names: tuple[str, ...] = ()
    """A name for each latent, or none."""
    name: str | None = None
    """The name of the set, if the file has one."""
    noun: str | None = None
    """The noun for one unit, if the file names one."""
    prepend_bos: bool | None = None
    """Whether it was trained on texts with a BOS in front, if the file says so."""

    @property
    def latents(self) -> int:
        """The number of latents."""
        return self.W_enc.shape[1]

    @property
    def d_in(self) -> int:
        """The width of what it reads."""
        return self.W_enc.shape[0]

    @property
    def d_out(self) -> int | None:
        """The width of what it decodes to, if it decodes."""
        return None if self.W_dec is None else self.W_dec.shape[1]

    @property
    def is_directions(self) -> bool:
        """Whether its values are plain projections, which may have either sign."""
        return self.function == "identity"

    @property
    def reconstructs(self) -> bool:
        """Whether it is meant to reconstruct something: it has a decoder and a nonlinearity."""
        return self.W_dec is not None and not self.is_directions

    def to(self, device: torch.device) -> Dictionary:
        """The same on a device."""
        moved = {name: value.to(device) for name, value in self.tensors()}
        gate = self.gate and Gate(self.gate.scale.to(device), self.gate.bias.to(device))
        return replace(self, **moved, gate=gate)  # type: ignore[arg-type]

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The fields that are tensors, by name: all but the gate's two."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                yield name, value

    def preactivations(
        self, inputs: Float[Tensor, "*batch d_in"]
    ) -> Float32[Tensor, "*batch latents"]:
        """The encoder's product with the input, before `b_enc`."""
        values = _normalise(inputs.float(), self.norm)[0]
        if self.b_in is not None:
            values = values - self.b_in
        return values @ self.W_enc

    def encode(self, inputs: Float[Tensor, "*batch d_in"]) -> Float32[Tensor, "*batch latents"]:
        """The activation of every latent. Waits for no device."""
        product = self.preactivations(inputs)
        # In place, a block of rows in the cache at a time: with 65,536 latents, 4,096 rows are a
        # gigabyte, and each copy of them would be another.
        for rows in torch.split(product.view(-1, self.latents), _ROWS):
            self._activate(rows)
        return product

    def activations(
        self, inputs: Float[Tensor, "batch pos d_in"]
    ) -> Float32[Tensor, "batch pos latents"]:
        """As `encode`, of whole contexts from their first position on."""
        acts = self.encode(inputs)
        if self.first_zero:
            acts[:, 0] = 0
        return acts

    def _activate(self, values: Float32[Tensor, "rows latents"]) -> None:
        """Turn the encoder's products into activations, in place. NaN stays NaN."""
        if self.gate is not None:
            off = values + self.gate.bias <= 0
            values.mul_(self.gate.scale).add_(self.b_enc).relu_().masked_fill_(off, 0)
            return
        values.add_(self.b_enc)
        if self.function == "relu":
            values.relu_()
        elif self.function == "jumprelu":
            assert self.threshold is not None
            values.masked_fill_(values <= self.threshold, 0)
        elif self.function == "topk":
            assert self.k is not None
            best, which = values.topk(min(self.k, self.latents), dim=-1)
            values.zero_().scatter_(-1, which, best.relu_())
        elif self.function == "groupmax":
            groups = self._groups(values)
            best, which = groups.max(dim=-1, keepdim=True)
            groups.zero_().scatter_(-1, which, best.relu_())

    def _groups(self, values: Float32[Tensor, "*batch latents"]) -> Float32[Tensor, "*batch k g"]:
        """A view of values by group."""
        assert self.k is not None
        return values.view(*values.shape[:-1], self.k, -1)

    def between(
        self, inputs: Float[Tensor, "*batch d_in"], share: float
    ) -> tuple[Float32[Tensor, "*batch latents"], Float32[Tensor, "*batch latents"]]:
        """The lowest and highest activations where each preactivation may be off by `share` of the
        largest at its position. Activations never fall as preactivations rise, but for what a
        latent must exceed to be one of the k largest, and just above a threshold below 0."""
        product = self.preactivations(inputs)
        off = share * product.abs().amax(dim=-1, keepdim=True)
        if self.gate is not None:
            scale, lowest, highest = self.gate.scale, product - off, product + off
            return (
                torch.relu(lowest * scale + self.b_enc).mul_(lowest + self.gate.bias > 0),
                torch.relu(highest * scale + self.b_enc).mul_(highest + self.gate.bias > 0),
            )
        values = product.add_(self.b_enc)
        lowest, highest = values - off, values + off
        if self.function == "identity":
            return lowest, highest
        if self.function == "jumprelu":
            assert self.threshold is not None
            surely_on, maybe_on = lowest > self.threshold, highest > self.threshold
            # Below 0, activations fall to the threshold before they are 0.
            edge = self.threshold.clamp(max=0).expand_as(lowest)
            return (
                torch.where(surely_on, lowest, edge * maybe_on),
                torch.where(surely_on, highest, highest.clamp(min=0) * maybe_on),
            )
        if self.function == "topk":
            assert self.k is not None
            last = min(self.k, values.shape[-1])
            ordered = values.topk(min(last + 1, values.shape[-1]), dim=-1).values
            if last < values.shape[-1]:  # surely above the first that is left out
                lowest = lowest.mul_(lowest > ordered[..., last:] + off)
            highest = highest.mul_(highest >= ordered[..., last - 1 : last] - off)
        if self.function == "groupmax":
            ordered = self._groups(values).topk(2, dim=-1).values  # groups have more than one
            surely = self._groups(lowest) > ordered[..., 1:] + off[..., None]
            maybe = self._groups(highest) >= ordered[..., :1] - off[..., None]
            lowest = lowest.mul_(surely.flatten(-2))
            highest = highest.mul_(maybe.flatten(-2))
        return lowest.relu_(), highest.relu_()

    def scale_of(self, inputs: Float[Tensor, "*batch d_in"]) -> Float32[Tensor, "*batch"]:
        """What the decoder's rows are multiplied by at each input, to be in the model's own units:
        1 but for those that normalise their inputs."""
        scale = _normalise(inputs.float(), self.norm)[2]
        if isinstance(scale, Tensor):
            return scale[..., 0]
        return torch.ones(inputs.shape[:-1], device=inputs.device)

    def decoded_change(
        self, inputs: Float[Tensor, "*batch d_in"], latent: int, change: Float[Tensor, "*batch"]
    ) -> Float32[Tensor, "*batch d_out"]:
        """How what is decoded changes if a latent's activation does. Raises ValueError without a
        decoder."""
        if self.W_dec is None:
            raise ValueError("directions without a decoder reconstruct nothing")
        return (change.float() * self.scale_of(inputs))[..., None] * self.W_dec[latent]

    def decode(
        self,
        acts: Float[Tensor, "*batch latents"],
        inputs: Float[Tensor, "*batch d_in"],
    ) -> Float32[Tensor, "*batch d_out"]:
        """Reconstructions of the target from activations. `inputs` are what was encoded: some
        dictionaries need their norms, or add a linear part of them. Raises ValueError without a
        decoder."""
        if self.W_dec is None:
            raise ValueError("directions without a decoder reconstruct nothing")
        normed, mean, scale = _normalise(inputs.float(), self.norm)
        out = acts.float() @ self.W_dec
        if self.b_dec is not None:
            out = out + self.b_dec
        if self.skip is not None:
            out = out + normed @ self.skip
        return out * scale + mean


def _normalise(
    inputs: Float32[Tensor, "*batch d"], norm: Norm
) -> tuple[Float32[Tensor, "*batch d"], Tensor | float, Tensor | float]:
    """Inputs after a norm, and the mean and scale [..., 1] that undo it: (x − mean) ÷ (std + ε), or
    x ÷ √(mean x²)."""
    if norm == "none":
        return inputs, 0.0, 1.0
    if norm == "layer_norm":
        mean = inputs.mean(dim=-1, keepdim=True)
        centred = inputs - mean
        scale = centred.std(dim=-1, keepdim=True)
        return centred / (scale + _LAYER_NORM_EPSILON), mean, scale
    scale = inputs.norm(dim=-1, keepdim=True) / inputs.shape[-1] ** 0.5
    return inputs / scale, 0.0, scale


def fires(acts: Float[Tensor, "*batch latents"]) -> Bool[Tensor, "*batch latents"]:
    """Where latents are on."""
    return acts > 0
