"""Rotary positions of attention (RoPE): by which angles a layer turns its queries and keys from one
position to the next, checked against the layer's own pattern.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from indexer.models.units import Unknown

_LARGEST_ERROR = 0.1
"""The part of the scores' differences that may stay unexplained: rounding and soft caps."""
_SMALLEST = 1e-6
"""Attention below this is rounding, or masked."""


@dataclass(frozen=True, eq=False)
class Rotation:
    """The rotation of a head's dimensions from one position to the next (RoPE, Su et al. 2021).
    Without angles nothing is rotated."""

    angles: Float[Tensor, " n"]
    """Radians per position of each pair among the first 2n dimensions; the others stay."""
    interleaved: bool
    """Whether pairs are neighbours (GPT-J, Cohere), or n dimensions apart (Llama, GPT-NeoX)."""

    def turned(
        self, vectors: Float[Tensor, "*batch d_head"], positions: float | Tensor
    ) -> Float[Tensor, "*batch d_head"]:
        """Queries or keys after the rotation: pairs (x, y) become (x cos a − y sin a, y cos a + x
        sin a), with a = position · angle. `positions` broadcast to `batch`."""
        count = len(self.angles)
        if not count:
            return vectors
        turns = torch.as_tensor(positions, dtype=torch.float32, device=vectors.device)
        angles = turns[..., None] * self.angles.to(vectors.device)
        first: slice | Tensor
        if self.interleaved:
            first, second = slice(0, 2 * count, 2), slice(1, 2 * count, 2)
        else:
            first, second = slice(0, count), slice(count, 2 * count)
        x, y = vectors[..., first], vectors[..., second]
        made = vectors.clone()
        made[..., first] = x * angles.cos() - y * angles.sin()
        made[..., second] = y * angles.cos() + x * angles.sin()
        return made


STILL = Rotation(torch.zeros(0), interleaved=False)
"""Queries and keys are compared as they are."""


def candidates(root: nn.Module) -> list[Rotation]:
    """The rotations that a model's tables allow: each set of angles with either order of pairs."""
    tables: list[Tensor] = []
    for angles in _tables(root):
        if not any(angles.shape == t.shape and torch.allclose(angles, t) for t in tables):
            tables.append(angles)
    return [Rotation(angles, order) for angles in tables for order in (False, True)]


def _tables(root: nn.Module) -> Iterator[Tensor]:
    """Radians per position, from the buffers of transformers' and TransformerLens's models."""
    for module in root.modules():
        named = dict(module.named_buffers(recurse=False))
        for name, buffer in named.items():
            if name.endswith("inv_freq") and buffer.ndim == 1:
                yield buffer.detach().float().cpu()
            elif name == "embed_positions" and buffer.ndim == 2 and len(buffer) > 1:  # GPT-J
                sin, cos = buffer[1].detach().float().cpu().chunk(2)
                yield torch.atan2(sin, cos)
        if "cos_cached" in named and "sin_cached" in named:  # TransformerLens's native models
            cos, sin = (
                named[f"{part}_cached"][1].detach().float().cpu() for part in ("cos", "sin")
            )
            yield torch.atan2(sin, cos)[::2]


def find_rotation(
    pattern: Float[Tensor, "batch head pos pos"],
    queries: Float[Tensor, "batch pos head d_head"],
    keys: Float[Tensor, "batch pos head d_head"],
    rotations: list[Rotation],
) -> Rotation | Unknown:
    """The rotation whose scores explain a pattern best: in each row, log attention must differ as
    the scores do, up to one factor for the whole layer. `queries` and `keys` are from before the
    rotation, grouped keys repeated. `Unknown` if no rotation explains the pattern."""
    pattern, queries, keys = pattern.float().cpu(), queries.float().cpu(), keys.float().cpu()
    places = torch.arange(pattern.shape[-1])
    own = pattern.diagonal(dim1=-2, dim2=-1)[..., None]
    known = (pattern > _SMALLEST) & (own > _SMALLEST) & (places[None] < places[:, None])
    logs = (pattern.clamp_min(_SMALLEST) / own.clamp_min(_SMALLEST)).log()[known]
    errors = []
    chosen = [STILL, *(r for r in rotations if 2 * len(r.angles) <= queries.shape[-1])]
    for rotation in chosen:
        turned = [rotation.turned(x, places[:, None].float()) for x in (queries, keys)]
        scores = torch.einsum("bqhd,bkhd->bhqk", *turned)
        differences = (scores - scores.diagonal(dim1=-2, dim2=-1)[..., None])[known]
        squares = float(differences.square().sum())
        factor = float((differences * logs).sum()) / squares if squares else 0.0
        errors.append(float((logs - factor * differences).norm()) if factor > 0 else torch.inf)
    best = min(range(len(chosen)), key=errors.__getitem__)
    if errors[best] > _LARGEST_ERROR * float(logs.norm()):
        return Unknown("How positions enter queries and keys is not known.")
    return chosen[best]
