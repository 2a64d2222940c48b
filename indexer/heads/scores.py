"""What a head attends to, in numbers: means over the rows of its patterns.

The scores are those of the field: previous-token, duplicate-token and induction attention (Olsson
et al. 2022), attention to the token itself and to the BOS, the entropy of a row, the distance
looked back. Attention to a context's first position, a BOS or not, is that of attention sinks
(Xiao et al. 2023). A score says where a head looks; the direct effect beside it says whether that
helps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from indexer.measure.threads import even_shares, in_threads

Array = np.ndarray[Any, Any]

_ROWS = 32
"""Rows whose entropy is computed at once."""
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
    with_duplicates: Bool[Tensor, "batch pos"]
    """Rows with an earlier included position of the same token."""
    with_induced: Bool[Tensor, "batch pos"]
    """Rows with an earlier included position right after an included position of the same token."""
    predicting: Bool[Tensor, "batch pos"]
    """Positions whose direct effect counts: they and the next are included."""
    weights: Float[Tensor, "batch query*key 5"]
    """What each pair counts in the sums over pairs: duplicates, induced positions, pairs of
    included positions, their distance, its square."""


def predicting(included: Bool[Array, "batch pos"]) -> Bool[Array, "batch pos"]:
    """Positions whose direct effect counts: they and the next are included."""
    counted: Bool[Array, "batch pos"] = np.zeros_like(included)
    counted[:, :-1] = included[:, :-1] & included[:, 1:]
    return counted


def rows_of(tokens: Int[Tensor, "batch pos"], included: Bool[Tensor, "batch pos"]) -> Rows:
    """The rows of a batch of token ids, padded on the right with positions not included."""
    earlier = torch.ones(tokens.shape[1], tokens.shape[1], device=tokens.device).tril(-1).bool()
    both = included[:, :, None] & included[:, None, :]
    same = (tokens[:, :, None] == tokens[:, None, :]) & both
    after = torch.zeros_like(same)
    after[:, :, 1:] = same[:, :, :-1] & included[:, None, 1:]
    duplicates, induced = same & earlier, after & earlier
    previous = included.clone()
    previous[:, 0] = False
    previous[:, 1:] &= included[:, :-1]
    positions = torch.arange(tokens.shape[1], device=tokens.device)
    back = (positions[:, None] - positions).clamp(min=0).float()
    kept = both.float()
    pairs = (duplicates.float(), induced.float(), kept, kept * back, kept * back.square())
    return Rows(
        included=included,
        previous=previous,
        after_bos=included & ~included[:, :1],
        after_first=included & (positions > 0),
        with_duplicates=duplicates.any(2),
        with_induced=induced.any(2),
        predicting=torch.from_numpy(predicting(included.cpu().numpy())).to(included.device),
        weights=torch.stack([pair.flatten(1) for pair in pairs], dim=-1),
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
            float(rows.with_duplicates.sum()),
            float(rows.with_induced.sum()),
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
        heads, sums = pattern.shape[1], rows.weights.shape[-1]
        by_pair = torch.zeros(heads, sums, dtype=torch.float64, device=pattern.device)
        entropy = torch.empty(pattern.shape[:3], device=pattern.device)
        for context in range(len(pattern)):  # one at a time, while it is in the cache
            own = pattern[context].float()
            by_pair += (own.flatten(1) @ rows.weights[context]).double()

        def entropies(contexts: slice) -> None:
            for context in range(len(pattern))[contexts]:
                entropy[context] = _entropy(pattern[context].float())

        on_cpu = pattern.device.type == "cpu"
        count = len(pattern)
        in_threads(entropies, even_shares(count, count) if on_cpu else [slice(count)])
        duplicates, induced, *distances = by_pair.unbind(1)
        first = pattern[..., 0].float()
        parts = [
            _over(pattern.diagonal(-1, 2, 3).float(), rows.previous[:, 1:]),
            duplicates,
            induced,
            _over(pattern.diagonal(0, 2, 3).float(), rows.included),
            _over(first, rows.after_bos),
            _over(first, rows.after_first),
            _over(entropy, rows.included),
            *distances,
        ]
        self.sums[layer][:-1] += torch.stack([part.double() for part in parts]).cpu().numpy()

    def add_effects(self, layer: int, effects: Float[Tensor, "batch pos head"], rows: Rows) -> None:
        """Add a layer's direct effects on the true next tokens, in logits."""
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


def _entropy(pattern: Float[Tensor, "head query key"]) -> Float[Tensor, "head query"]:
    """The entropy of each row, −Σ a ln a, in nats. Rows are taken in blocks, because no row attends
    to later keys and logarithms are slow."""
    parts = []
    for start in range(0, pattern.shape[1], _ROWS):
        rows = pattern[:, start : start + _ROWS, : start + _ROWS]
        parts.append(-torch.special.xlogy(rows, rows).sum(-1))
    return torch.cat(parts, dim=1)
