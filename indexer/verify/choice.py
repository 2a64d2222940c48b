"""Which batches a verification runs: few, and such that what comes out can be compared. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int64

from indexer.corpus.batches import BatchPlan


def unpadded(
    context_ids: Int64[np.ndarray, " c"], lengths: np.ndarray[Any, Any], batch_tokens: int
) -> list[BatchPlan]:
    """Batches of some contexts, those of one length together, so that nothing is padded or masked.

    Args:
        context_ids: the contexts.
        lengths: tokens of every context of the corpus, int [contexts].
        batch_tokens: positions that a batch may have.
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
    """Some of a run's own batches: random ones with about `contexts` contexts in them, and those
    with most examples.

    A whole batch has to be run for one context in it, so that all examples' batches may be nearly
    the whole run. Here no more contexts are run for the examples' sake than they have contexts,
    whichever batches hold most of them first: the others are left out.

    Args:
        plans: all batches of the run.
        examples: how many examples there are to compare in a context.
        contexts: how many random contexts to run.
        rng: draws the batches, and among those with as many examples.
    """
    batch_of = {int(c): index for index, plan in enumerate(plans) for c in plan.context_ids}
    sizes = np.array([len(plan.context_ids) for plan in plans])
    held = np.zeros(len(plans), np.int64)
    for context_id, count in examples.items():
        held[batch_of[context_id]] += count
    shuffled = rng.permutation(len(plans))
    richest = shuffled[np.argsort(-held[shuffled], kind="stable")]
    richest = richest[held[richest] > 0]
    chosen = np.union1d(
        _until(shuffled, sizes, contexts), _until(richest, sizes, len(examples))
    ).astype(np.int64)
    return [plans[index] for index in chosen]


def _until(
    order: Int64[np.ndarray, " m"], sizes: Int64[np.ndarray, " plans"], enough: int
) -> Int64[np.ndarray, " n"]:
    """The first of `order` that together have `enough` contexts, or all."""
    before = np.cumsum(sizes[order]) - sizes[order]
    first: Int64[np.ndarray, " n"] = order[before < enough]
    return first
