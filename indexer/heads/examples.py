"""The examples of heads: for every head the best contexts of each ranking, and what is kept of
them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64

from indexer.measure.selection import NO_ID, Selection

RANKINGS = ("moved", "attention", "helps", "hurts")
"""Best pair by attention × ‖v_k W_O‖, by attention alone; position where the head's direct effect
on the true next token's logit is largest, most negative."""


@dataclass(frozen=True)
class HeadExample:
    """What is kept of a head in one context."""

    context_id: int
    value: float
    """What it was ranked by."""
    query: int
    key: int
    """The key of the pair; for effects, the earlier included key that the query attends to most,
    or the query itself if there is none."""
    attention: float
    """Of the query to the key."""
    moved: float
    """Attention × ‖v_k W_O‖."""
    effect: float | None
    """The head's direct effect on the next token's logit at the query; None if there is no next
    token or the effect is not known."""
    pattern: bytes
    """`indexer.store.packing.pattern`."""


class Ranking:
    """The best contexts of every head by one value, larger first; ties: the lower context id."""

    def __init__(self, heads: int, k: int) -> None:
        self._best = Selection(heads, k, 0)
        self.kept: list[HeadExample | None] = [None] * (heads * k)
        """By slot."""

    def entering(
        self, heads: slice, values: Float32[np.ndarray, "batch n"], ids: Int64[np.ndarray, " batch"]
    ) -> Bool[np.ndarray, "batch n"]:
        """Which values may be among the best of their head."""
        return self._best.entering(heads, values, ids)

    def add(
        self,
        heads: Int64[np.ndarray, " m"],
        values: Float32[np.ndarray, " m"],
        examples: list[HeadExample],
    ) -> None:
        """Enter candidates, in any order."""
        ids = np.array([example.context_id for example in examples], np.int64)
        places, slots = self._best.admit(heads, values, ids)
        for place, slot in zip(places.tolist(), slots.tolist(), strict=True):
            self.kept[slot] = examples[place]

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """Which contexts are the best, and in which slots their examples are: to be saved, or
        written to."""
        return {"values": self._best.values, "ids": self._best.ids, "slots": self._best.slots}

    def examples(self, head: int) -> Iterator[HeadExample]:
        """A head's examples, best first."""
        known = self._best.ids[head] != NO_ID
        for slot in self._best.slots[head][known].tolist():
            example = self.kept[slot]
            assert example is not None  # every entry was added with its example
            yield example


class PairTokens:
    """The tokens of every head's largest pairs, one pair a context: which are looked from, and at.

    Only values, contexts and tokens are held, so that many more pairs can be than examples.
    """

    def __init__(self, heads: int, k: int) -> None:
        self._best = Selection(heads, k, 0)
        self._tokens = np.zeros((2, heads * k), np.int64)

    def entering(
        self, heads: slice, values: Float32[np.ndarray, "batch n"], ids: Int64[np.ndarray, " batch"]
    ) -> Bool[np.ndarray, "batch n"]:
        """Which values may be among the best of their head."""
        return self._best.entering(heads, values, ids)

    def add(
        self,
        heads: Int64[np.ndarray, " m"],
        values: Float32[np.ndarray, " m"],
        ids: Int64[np.ndarray, " m"],
        queries: Int64[np.ndarray, " m"],
        keys: Int64[np.ndarray, " m"],
    ) -> None:
        """Enter pairs with the tokens they look from and at."""
        places, slots = self._best.admit(heads, values, ids)
        self._tokens[0, slots] = queries[places]
        self._tokens[1, slots] = keys[places]

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        """All that is kept: to be saved, or written to."""
        best = self._best
        return {
            "values": best.values,
            "ids": best.ids,
            "slots": best.slots,
            "tokens": self._tokens,
        }

    def counts(self, head: int, k: int) -> dict[str, Any]:
        """The k most frequent query and key tokens of a head's pairs, [token, count], most
        frequent first (ties: the lower token id), and the number of pairs."""
        known = self._best.ids[head] != NO_ID
        slots = self._best.slots[head][known]
        named = {"pairs": len(slots)}
        return named | {
            name: _most_frequent(self._tokens[row, slots], k)
            for row, name in enumerate(("queries", "keys"))
        }


def _most_frequent(tokens: Int64[np.ndarray, " n"], k: int) -> list[list[int]]:
    ids, counts = np.unique(tokens, return_counts=True)
    order = np.lexsort((ids, -counts))[:k]
    return [[int(ids[i]), int(counts[i])] for i in order]
