"""The token-lookup score: how much of a neuron's activation the current token alone explains.

The baseline of Bills et al. 2023 ("Language models can explain neurons in language models"): a
table of the mean activation at each token predicts the activation. The table is made on the
sample's first half, and its R² is measured on the second half.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from indexer.corpus.batches import Batch, Contexts

LOOKUP_TOKENS = 4096
"""Tokens with a mean of their own, at most: 16 KiB for each neuron."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class LookupTokens:
    """The tokens that have a mean: they occur in both halves of the sample."""

    ids: Int64[np.ndarray, " tokens"]
    """Ascending."""
    counts: Int64[np.ndarray, " tokens"]
    """Included positions of each in the first half."""
    positions: tuple[int, int]
    """Included positions of each half."""

    def __len__(self) -> int:
        return len(self.ids)

    def bags(self, batch: Batch) -> Bags:
        """A batch's included positions, grouped by token."""
        places = np.flatnonzero(batch.included)
        tokens = batch.tokens.ravel()[places]
        slots = np.searchsorted(self.ids, tokens)
        known = slots < len(self)
        known[known] = self.ids[slots[known]] == tokens[known]
        slots[~known] = len(self)
        order = np.argsort(slots, kind="stable")
        kinds, starts, counts = np.unique(slots[order], return_index=True, return_counts=True)
        return Bags(kinds, counts, starts, places[order])


NO_TOKENS = LookupTokens(np.empty(0, np.int64), np.empty(0, np.int64), (0, 0))
"""Of a scan that measures no score."""


@dataclass(frozen=True)
class Bags:
    """Positions of a batch, grouped by the slot of their token."""

    slots: Int64[np.ndarray, " bags"]
    """Ascending: indices into `LookupTokens.ids`. Tokens without a mean share the slot after the
    last."""
    counts: Int64[np.ndarray, " bags"]
    starts: Int64[np.ndarray, " bags"]
    """Where each bag begins in `places`."""
    places: Int64[np.ndarray, " included"]
    """Places in the batch's positions, contexts one after the other."""

    def sums(self, activations: Float[Tensor, "batch pos n"]) -> Float32[Tensor, "bags n"]:
        """The sum of the activations of each bag, added in the order of positions: the result does
        not depend on the number of threads."""
        flat = activations.flatten(0, 1).float()
        places, starts = (
            torch.from_numpy(values).to(flat.device) for values in (self.places, self.starts)
        )
        return torch.nn.functional.embedding_bag(places, flat, starts, mode="sum")


def lookup_tokens(
    corpus: Contexts, sample: Int64[np.ndarray, " s"], most: int = LOOKUP_TOKENS
) -> LookupTokens:
    """The tokens of the sample that get a mean: those of both halves, or, if these are more than
    `most`, the most frequent of them (ties: the lower id). `sample` is in hash order."""
    half = len(sample) // 2
    first, second = (_counts(corpus, part) for part in (sample[:half], sample[half:]))
    shared = np.array(sorted(first.keys() & second.keys()), np.int64)
    total = np.array([first[token] + second[token] for token in shared.tolist()], np.int64)
    ids = np.sort(shared[np.argsort(-total, kind="stable")[:most]])
    return LookupTokens(
        ids,
        np.array([first[token] for token in ids.tolist()], np.int64),
        (sum(first.values()), sum(second.values())),
    )


def _counts(corpus: Contexts, context_ids: Int64[np.ndarray, " n"]) -> dict[int, int]:
    """Included positions of each token in some contexts."""
    contexts = [
        corpus.context(context_id)[corpus.included_from[context_id] :]
        for context_id in context_ids.tolist()
    ]
    if not contexts:
        return {}
    tokens, counts = np.unique(np.concatenate(contexts), return_counts=True)
    included = ~np.isin(tokens, corpus.special_token_ids)
    return dict(zip(tokens[included].tolist(), counts[included].tolist(), strict=True))


class Lookup:
    """The sums from which each neuron's score is computed.

    The second half's squares are taken about the shift of `Moments`, in float64. The sums of tokens
    are float32, and exact to about 1e-6 of their size.
    """

    def __init__(self, neurons: int, tokens: LookupTokens) -> None:
        self.tokens = tokens
        self.sums = np.zeros(neurons * len(tokens), np.float32)
        """Activations of the first half by token: [token, neuron] of each layer, one layer after
        the other."""
        self.first = np.zeros(neurons)
        """Sum over the first half, about the shift."""
        self.second: Float64[np.ndarray, "2 neurons"] = np.zeros((2, neurons))
        """Sum and sum of squares over the second half, about the shift."""
        self.explained = np.zeros(neurons)
        """How much smaller the sum of squares is about the tokens' means."""
        self.low = np.full(neurons, np.inf, np.float32)
        self.high = np.full(neurons, -np.inf, np.float32)
        """The range of the second half's activations."""

    def arrays(self) -> dict[str, Array]:
        """All arrays by name, not copied, without the chosen tokens."""
        return {name: value for name, value in vars(self).items() if name != "tokens"}

    def add_first(
        self, where: slice, bags: Bags, sums: Float32[np.ndarray, "bags n"], total: Array
    ) -> None:
        """Add a batch of the first half: its sums by token, and `total` [n], its sum about the
        shift."""
        self.first[where] += total
        known = bags.slots < len(self.tokens)
        self._table(where)[bags.slots[known]] += sums[known]

    def add_second(
        self,
        where: slice,
        bags: Bags,
        sums: Float32[np.ndarray, "bags n"],
        powers: Float64[np.ndarray, "2 n"],
        shift: Float32[np.ndarray, " n"],
        exponent: Int64[np.ndarray, " n"],
        low: Float32[np.ndarray, " n"],
        high: Float32[np.ndarray, " n"],
    ) -> None:
        """Add a batch of the second half, after all of the first: its sums by token, its sum and
        sum of squares about `shift`, and its range.

        2^`exponent` is about the largest distance from the shift, so that float32 holds squares.
        """
        self.second[:, where] += powers
        self.low[where] = np.minimum(self.low[where], low)
        self.high[where] = np.maximum(self.high[where], high)
        if not len(self.tokens):
            return
        known = bags.slots < len(self.tokens)
        slots = bags.slots[known]
        means = np.empty_like(sums)
        means[: len(slots)] = self._table(where)[slots]
        means[: len(slots)] /= self.tokens.counts[slots, None].astype(np.float32)
        means[: len(slots)] -= shift
        # Any other token is predicted by the mean of all.
        means[len(slots) :] = self.first[where] / self.tokens.positions[0]
        counts = bags.counts[:, None].astype(np.float32)
        scale = np.ldexp(np.float32(1), -exponent).astype(np.float32)
        means *= scale
        # Of each bag, with activations and means about the shift: Σ a² − Σ (a − m)².
        about = sums - counts * shift
        about *= 2 * scale
        about -= counts * means
        about *= means
        self.explained[where] += np.ldexp(about.sum(axis=0, dtype=np.float64), 2 * exponent)

    def score(self) -> Float64[np.ndarray, " neurons"]:
        """R² on the second half, 1 − Σ (x − prediction)² ÷ Σ (x − mean)². A position's prediction
        is the mean activation of its token in the first half. At most 1; below 0 where the mean of
        the second half predicts better; NaN where the second half does not vary."""
        total, squares = self.second
        positions = max(1, self.tokens.positions[1])
        around = squares - total**2 / positions
        residual = np.maximum(squares - self.explained, 0)
        score = np.full(len(around), np.nan)
        # A spread below the rounding of its own squares is not known.
        varies = (self.high > self.low) & (around > 1e-6 * squares) & bool(len(self.tokens))
        np.divide(residual, around, out=score, where=varies)
        return 1 - score

    def _table(self, where: slice) -> Float32[np.ndarray, "tokens n"]:
        """The sums by token of a layer's neurons."""
        tokens = len(self.tokens)
        return self.sums[where.start * tokens : where.stop * tokens].reshape(tokens, -1)
