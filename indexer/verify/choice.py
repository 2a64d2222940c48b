"""Chooses the batches that a verification runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int64

from indexer.corpus.batches import BatchPlan


def unpadded(
    context_ids: Int64[np.ndarray, " c"], lengths: np.ndarray[Any, Any], batch_tokens: int
) -> list[BatchPlan]:
    """Batches of contexts of equal length, so that nothing is padded or masked.

    Args:
        context_ids: the contexts.
        lengths: tokens in each context of the corpus, int [contexts].
        batch_tokens: most positions in a batch.
    """
    plans = []
    for length in np.unique(lengths[context_ids]):
        same = context_ids[lengths[context_ids] == length]
        count = max(1, batch_tokens // int(length))
        plans += [
            BatchPlan("rest", same[start : start + count]) for start in range(0, len(same), count)
        ]
    return plans


def whole_batches(
    plans: list[BatchPlan], examples: Mapping[int, int], contexts: int, rng: np.random.Generator
) -> list[BatchPlan]:
    """A selection of a run's own batches: random batches, and the batches with the most examples.

    Running all batches with examples may mean running nearly all batches. Therefore batches are
    taken, those with the most examples first, until they have as many contexts as the examples.

    Args:
        plans: all batches of the run.
        examples: number of examples to compare, by context id.
        contexts: number of contexts in the random batches.
        rng: draws batches and breaks ties.
    """
    batch_of = {int(c): index for index, plan in enumerate(plans) for c in plan.context_ids}
    sizes = np.array([len(plan.context_ids) for plan in plans])
    counts = np.zeros(len(plans), np.int64)
    for context_id, count in examples.items():
        counts[batch_of[context_id]] += count
    shuffled = rng.permutation(len(plans))
    richest = shuffled[np.argsort(-counts[shuffled], kind="stable")]
    richest = richest[counts[richest] > 0]
    chosen = np.union1d(
        _until(shuffled, sizes, contexts), _until(richest, sizes, len(examples))
    ).astype(np.int64)
    return [plans[index] for index in chosen]


def _until(
    order: Int64[np.ndarray, " m"], sizes: Int64[np.ndarray, " plans"], enough: int
) -> Int64[np.ndarray, " n"]:
    """The shortest beginning of `order` whose batches have `enough` contexts, or all of it."""
    before = np.cumsum(sizes[order]) - sizes[order]
    first: Int64[np.ndarray, " n"] = order[before < enough]
    return first
