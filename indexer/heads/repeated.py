"""Random tokens that repeat: text that no corpus explains, so that attention to an earlier copy can
only be induction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

SEQUENCES = 32
LONGEST = 50
"""Random tokens in a sequence, before they are repeated once."""


@dataclass(frozen=True)
class Repeated:
    """Sequences of a BOS (if the model has one), random tokens, and the same tokens again."""

    tokens: Int64[np.ndarray, "sequence pos"]
    included: Bool[np.ndarray, "sequence pos"]
    length: int
    """Random tokens in a sequence, before they are repeated."""

    @property
    def second(self) -> Bool[np.ndarray, " pos"]:
        """Whether each position is in the second copy with its next token: there induction can
        predict."""
        pos = self.tokens.shape[1]
        positions = np.arange(pos)
        second: Bool[np.ndarray, " pos"]
        second = (positions >= pos - self.length) & (positions < pos - 1)
        return second


def repeated_tokens(
    vocabulary: int, special: frozenset[int], bos: int | None, max_context: int | None, seed: int
) -> Repeated:
    """The same sequences for all models that share a vocabulary, a BOS and a seed, and the context
    length where it is too short for the longest sequences.

    Tokens are drawn without replacement from the ids below `vocabulary` that are not special.
    """
    start = 0 if bos is None else 1
    ids = np.setdiff1d(np.arange(vocabulary), np.fromiter(special, np.int64, len(special)))
    room = LONGEST if max_context is None else (max_context - start) // 2
    length = min(LONGEST, room, len(ids))
    draws = np.random.default_rng(seed)
    halves = np.stack([draws.choice(ids, length, replace=False) for _ in range(SEQUENCES)])
    tokens = np.concatenate([halves, halves], axis=1)
    included = np.ones((SEQUENCES, start + 2 * length), np.bool_)
    if bos is not None:
        tokens = np.concatenate([np.full((SEQUENCES, 1), bos), tokens], axis=1)
        included[:, 0] = False
    return Repeated(tokens.astype(np.int64), included, length)
