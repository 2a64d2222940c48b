"""What a head attends to, in numbers: means over the rows of its patterns.

The scores are those of the field: previous-token, duplicate-token and induction attention (Olsson
et al. 2022), attention to the token itself and to the BOS, the entropy of a row, the distance
looked back. Attention to a context's first position, a BOS or not, is that of attention sinks
(Xiao et al. 2023). A score says where a head looks; the direct effect beside it says whether that
helps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

SCORES = (
    "previous_token",
    "duplicate_token",
    "induction",
    "self_token",
    "bos",
    "sink",
    "entropy",
    "distance",
    "distance_spread",
    "effect",
)


@dataclass(frozen=True)
class Rows:
    """Which rows and keys of a batch's patterns count for which score."""

    included: Bool[Tensor, "batch pos"]
    previous: Bool[Tensor, "batch pos"]
    """Rows whose previous position is included too."""
    after_bos: Bool[Tensor, "batch pos"]
    """Included rows of contexts that begin with a position that is not included (a BOS)."""
    after_first: Bool[Tensor, "batch pos"]
    """Included rows after the context's first position."""
    duplicates: Bool[Tensor, "batch query key"]
    """Earlier included positions with the same token."""
    induced: Bool[Tensor, "batch query key"]
    """Earlier included positions right after an included position with the same token."""
    predicting: Bool[Tensor, "batch pos"]
    """Positions whose direct effect counts: they and the next are included."""


def rows_of(tokens: Int[Tensor, "batch pos"], included: Bool[Tensor, "batch pos"]) -> Rows:
    """The rows of a batch of token ids, padded on the right with positions not included."""
    earlier = torch.ones(tokens.shape[1], tokens.shape[1], device=tokens.device).tril(-1).bool()
    same = (tokens[:, :, None] == tokens[:, None, :]) & included[:, :, None] & included[:, None, :]
    after = torch.zeros_like(same)
    after[:, :, 1:] = same[:, :, :-1] & included[:, None, 1:]
    previous = included.clone()
    previous[:, 0] = False
    previous[:, 1:] &= included[:, :-1]
    predicting = torch.zeros_like(included)
    predicting[:, :-1] = included[:, :-1] & included[:, 1:]
    return Rows(
        included=included,
        previous=previous,
        after_bos=included & ~included[:, :1],
        after_first=included & (torch.arange(tokens.shape[1], device=tokens.device) > 0),
        duplicates=same & earlier,
        induced=after & earlier,
        predicting=predicting,
    )


class ScoreSums:
    """Sums of all scores of all heads, in float64, and the numbers of rows they are over."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        self.widths = widths
        self.sums = [np.zeros((len(_SUMS), width)) for width in widths]
        self.counts = np.zeros(len(_SUMS))
        """The same for all layers."""

    def count(self, rows: Rows) -> None:
        """Count a batch's rows: once a batch, whatever the number of layers."""
        included = float(rows.included.sum())
        self.counts += [
            float(rows.previous.sum()),
            float(rows.duplicates.any(2).sum()),
            float(rows.induced.any(2).sum()),
            included,
            float(rows.after_bos.sum()),
            float(rows.after_first.sum()),
            included,
            0.0,  # the three of the distance have the attention as their weight
            0.0,
            0.0,
            float(rows.predicting.sum()),
        ]

    def add(self, layer: int, pattern: Float[Tensor, "batch head query key"], rows: Rows) -> None:
        """Add a layer's patterns of a batch."""
        pattern = pattern.float()
        kept = pattern * (rows.included[:, None, :, None] & rows.included[:, None, None, :])
        back = _distances(pattern)
        self.sums[layer][:-1] += (
            torch.stack(
                [
                    _over(pattern.diagonal(-1, 2, 3), rows.previous[:, 1:]),
                    torch.einsum("bhqk,bqk->h", pattern, rows.duplicates.float()),
                    torch.einsum("bhqk,bqk->h", pattern, rows.induced.float()),
                    _over(pattern.diagonal(0, 2, 3), rows.included),
                    _over(pattern[..., 0], rows.after_bos),
                    _over(pattern[..., 0], rows.after_first),
                    _over(-torch.special.xlogy(pattern, pattern).sum(-1), rows.included),
                    kept.sum((0, 2, 3)),
                    torch.einsum("bhqk,qk->h", kept, back),
                    torch.einsum("bhqk,qk->h", kept, back.square()),
                ]
            )
            .double()
            .cpu()
            .numpy()
        )

    def add_effects(self, layer: int, effects: Float[Tensor, "batch pos head"], rows: Rows) -> None:
        """Add a layer's direct effects on the true next tokens."""
        counted = effects.masked_fill(~rows.predicting[:, :, None], 0.0)
        self.sums[layer][-1] += counted.double().sum((0, 1)).cpu().numpy()

    def scores(self, layer: int) -> dict[str, Float64[np.ndarray, " head"]]:
        """The scores of a layer's heads by name; NaN where no row counts."""
        sums = self.sums[layer]
        with np.errstate(invalid="ignore", divide="ignore"):
            means = sums / self.counts[:, None]
            weight, first, second = sums[7:10]
            distance = first / weight
            spread = np.sqrt(np.maximum(second / weight - distance**2, 0))
        columns = (*means[:7], distance, spread, means[10])
        return dict(zip(SCORES, columns, strict=True))


_SUMS = (*SCORES[:7], "weight", "distance", "squared_distance", "effect")


def _over(values: Float[Tensor, "batch head pos"], rows: Bool[Tensor, "batch pos"]) -> Tensor:
    return torch.einsum("bhq,bq->h", values, rows.float())


def _distances(pattern: Tensor) -> Float[Tensor, "query key"]:
    positions = torch.arange(pattern.shape[-1], device=pattern.device, dtype=torch.float32)
    return (positions[:, None] - positions).clamp(min=0)
