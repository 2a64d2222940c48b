"""Contexts → batches, in one global order that any number of workers shares.

The sample's first half comes first, since the bands' cut points come from it, then its second half,
then all other contexts. Each part is cut into blocks of contexts in corpus order. Contexts in a
block are sorted by length, so that padding costs little.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from jaxtyping import Bool, Int64

BLOCK_CONTEXTS = 4096
"""Contexts in a block: enough to sort well by length, few enough to keep corpus order."""

Part = Literal["first_half", "second_half", "rest"]


class Contexts(Protocol):
    """The part of a prepared corpus that batches need."""

    @property
    def lengths(self) -> np.ndarray[Any, Any]:
        """Tokens in each context, including BOS: int [contexts]."""
        ...

    @property
    def included_from(self) -> np.ndarray[Any, Any]:
        """First position of each context that may be included: int [contexts]."""
        ...

    @property
    def special_token_ids(self) -> tuple[int, ...]:
        """Special tokens inside contexts, which are not included."""
        ...

    def context(self, context_id: int) -> np.ndarray[Any, Any]:
        """Token ids of one context: int [length]."""
        ...


@dataclass(frozen=True)
class BatchPlan:
    """The contexts of one forward pass, and their part of the run."""

    part: Part
    context_ids: Int64[np.ndarray, " batch"]


@dataclass(frozen=True)
class Batch:
    """The input of one forward pass: token ids padded on the right, with masks."""

    part: Part
    context_ids: Int64[np.ndarray, " batch"]
    tokens: Int64[np.ndarray, "batch pos"]
    attention: Bool[np.ndarray, "batch pos"]  # not padding
    included: Bool[np.ndarray, "batch pos"]  # neither padding nor a special token


def plan_batches(
    lengths: np.ndarray[Any, Any],
    sample: Int64[np.ndarray, " s"],
    batch_tokens: int,
    block_contexts: int = BLOCK_CONTEXTS,
) -> Iterator[BatchPlan]:
    """All batches of a run, in order.

    Args:
        lengths: tokens in each context, int [contexts].
        sample: the sample's context ids in hash order, first half first.
        batch_tokens: most positions in a batch, including padding; a longer context is a batch
            of its own.
        block_contexts: contexts in a block.
    """
    half = len(sample) // 2
    yield from _plan_part("first_half", np.sort(sample[:half]), lengths, batch_tokens)
    yield from _plan_part("second_half", np.sort(sample[half:]), lengths, batch_tokens)
    in_sample = np.zeros(len(lengths), dtype=np.bool_)
    in_sample[sample] = True
    for start in range(0, len(lengths), block_contexts):
        block = np.arange(start, min(start + block_contexts, len(lengths)), dtype=np.int64)
        yield from _plan_part("rest", block[~in_sample[block]], lengths, batch_tokens)


def fill_batch(plan: BatchPlan, contexts: Contexts, padding_id: int) -> Batch:
    """A planned batch with its tokens. `padding_id` is any valid token id: it is masked."""
    lengths = contexts.lengths[plan.context_ids].astype(np.int64)
    positions = np.arange(lengths.max())
    attention = positions < lengths[:, None]
    tokens = np.full(attention.shape, padding_id, dtype=np.int64)
    tokens[attention] = np.concatenate([contexts.context(int(c)) for c in plan.context_ids])
    included = attention & (positions >= contexts.included_from[plan.context_ids][:, None])
    if contexts.special_token_ids:
        included &= ~np.isin(tokens, contexts.special_token_ids)
    return Batch(plan.part, plan.context_ids, tokens, attention, included)


def _plan_part(
    part: Part, ids: Int64[np.ndarray, " n"], lengths: np.ndarray[Any, Any], batch_tokens: int
) -> Iterator[BatchPlan]:
    """Batches of one block, longest contexts first, so that running out of memory shows early."""
    order = ids[np.argsort(-lengths[ids].astype(np.int64), kind="stable")]
    start = 0
    while start < len(order):
        width = int(lengths[order[start]])
        count = max(1, batch_tokens // width)
        yield BatchPlan(part, order[start : start + count])
        start += count
