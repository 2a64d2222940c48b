"""The examples of heads: for every head the best contexts of each ranking, and what is stored of
them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from indexer.measure.selection import NO_ID, Selection
from indexer.store.packing.pattern import compress

Array = np.ndarray[Any, Any]

RANKINGS = ("moved", "attention", "helps", "hurts")
"""Best pair by attention × ‖v_k W_O‖, by attention alone; position where the head's direct effect
on the true next token's logit is largest, most negative."""


@dataclass(frozen=True)
class HeadExample:
    """What is stored of a head in a context."""

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


@dataclass(frozen=True)
class Found:
    """Examples of one batch, as columns."""

    context_id: Int64[np.ndarray, " m"]
    value: Float32[np.ndarray, " m"]
    query: Int64[np.ndarray, " m"]
    key: Int64[np.ndarray, " m"]
    attention: Float32[np.ndarray, " m"]
    moved: Float32[np.ndarray, " m"]
    effect: Float32[np.ndarray, " m"]
    """NaN where it is not known."""
    patterns: list[bytes]
    """`indexer.store.packing.pattern.packed_entries`, not compressed."""

    def columns(self) -> dict[str, Array]:
        """The columns by name, without the patterns."""
        return {name: column for name, column in vars(self).items() if name != "patterns"}

    def at(self, places: Int64[np.ndarray, " n"]) -> Found:
        """The examples with these indices."""
        columns = {name: column[places] for name, column in self.columns().items()}
        return Found(**columns, patterns=[self.patterns[place] for place in places.tolist()])


class Examples:
    """Examples by slot."""

    def __init__(self, slots: int) -> None:
        integers = {name: np.zeros(slots, np.int64) for name in ("context_id", "query", "key")}
        self.columns: dict[str, Array] = integers | {
            name: np.zeros(slots, np.float32) for name in ("value", "attention", "moved", "effect")
        }
        self.patterns: list[bytes] = [b""] * slots
        """Empty where a slot has no example."""

    def put(self, slots: Int64[np.ndarray, " m"], found: Found) -> None:
        """Put examples into slots."""
        for name, column in found.columns().items():
            self.columns[name][slots] = column
        for slot, pattern in zip(slots.tolist(), found.patterns, strict=True):
            self.patterns[slot] = pattern

    def found(self, slots: Int64[np.ndarray, " m"]) -> Found:
        """The examples in slots."""
        columns: dict[str, Any] = {name: column[slots] for name, column in self.columns.items()}
        return Found(**columns, patterns=[self.patterns[slot] for slot in slots.tolist()])

    def example(self, slot: int) -> HeadExample:
        """The example in a slot, its pattern compressed."""
        fields: dict[str, Any] = {
            name: column[slot].item() for name, column in self.columns.items()
        }
        if np.isnan(fields["effect"]):
            fields["effect"] = None
        return HeadExample(**fields, pattern=compress(self.patterns[slot]))


class Ranking:
    """The best contexts of every head by one value, larger first; ties: the lower context id."""

    def __init__(self, heads: int, k: int) -> None:
        self.best = Selection(heads, k, 0)
        self.examples = Examples(heads * k)
        """By slot."""

    def of(self, head: int) -> Iterator[HeadExample]:
        """A head's examples, best first."""
        known = self.best.ids[head] != NO_ID
        for slot in self.best.slots[head][known].tolist():
            yield self.examples.example(slot)

    def arrays(self) -> dict[str, Array]:
        """Values, context ids and slots of the best contexts [head, k] by name, not copied, so that
        they can be saved or filled."""
        return {"values": self.best.values, "ids": self.best.ids, "slots": self.best.slots}


class PairTokens:
    """The query and key tokens of every head's largest pairs, one pair a context.

    Only values, contexts and tokens are stored, which leaves room for many more pairs than
    examples.
    """

    def __init__(self, heads: int, k: int) -> None:
        self.best = Selection(heads, k, 0)
        self.tokens = np.zeros((2, heads * k), np.int64)
        """Query and key tokens, by slot."""

    def arrays(self) -> dict[str, Array]:
        """Values, context ids and slots [head, k], and tokens [2, head · k], by name, not copied,
        so that they can be saved or filled."""
        best = self.best
        return {"values": best.values, "ids": best.ids, "slots": best.slots, "tokens": self.tokens}

    def counts(self, head: int, k: int) -> dict[str, Any]:
        """The k most frequent query and key tokens of a head's pairs, [token, count], most
        frequent first (ties: the lower token id), and the number of pairs."""
        known = self.best.ids[head] != NO_ID
        slots = self.best.slots[head][known]
        named = {"pairs": len(slots)}
        return named | {
            name: _most_frequent(self.tokens[row, slots], k)
            for row, name in enumerate(("queries", "keys"))
        }


def _most_frequent(tokens: Int64[np.ndarray, " n"], k: int) -> list[list[int]]:
    ids, counts = np.unique(tokens, return_counts=True)
    order = np.lexsort((ids, -counts))[:k]
    return [[int(ids[i]), int(counts[i])] for i in order]
