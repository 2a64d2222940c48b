"""The global order of batches: every context once, the sample first, little padding."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from indexer.corpus.batches import fill_batch, plan_batches


class Contexts:
    """Contexts whose tokens are 100 × id + position + 1."""

    def __init__(
        self, lengths: np.ndarray[Any, Any], bos: int, special: tuple[int, ...] = ()
    ) -> None:
        self.lengths = lengths
        self.special_token_ids = special
        self.included_from = np.full(len(lengths), bos)

    def context(self, context_id: int) -> np.ndarray[Any, Any]:
        return 100 * context_id + np.arange(self.lengths[context_id]) + 1


@given(
    st.lists(st.integers(2, 12), min_size=1, max_size=60),
    st.integers(0, 60),
    st.integers(2, 50),
    st.integers(1, 20),
    st.integers(0, 1000),
)
def test_every_context_comes_once_and_the_sample_first(
    lengths: list[int], sampled: int, batch_tokens: int, block: int, seed: int
) -> None:
    """First half, second half, rest; batches respect the size unless a single context is larger."""
    sizes = np.array(lengths)
    sample = np.random.default_rng(seed).permutation(len(sizes))[:sampled]
    plans = list(plan_batches(sizes, sample, batch_tokens, block))
    ids = [int(c) for plan in plans for c in plan.context_ids]
    assert sorted(ids) == list(range(len(sizes)))
    half = len(sample) // 2
    parts = {"first_half": sample[:half], "second_half": sample[half:]}
    for part, members in parts.items():
        planned = [int(c) for plan in plans if plan.part == part for c in plan.context_ids]
        assert sorted(planned) == sorted(members.tolist())
    order = [plan.part for plan in plans]
    assert order == sorted(order, key=["first_half", "second_half", "rest"].index)
    for plan in plans:
        positions = len(plan.context_ids) * sizes[plan.context_ids].max()
        assert positions <= batch_tokens or len(plan.context_ids) == 1
        if plan.part == "rest":
            assert len({int(c) // block for c in plan.context_ids}) == 1


def test_a_batch_is_padded_on_the_right_and_masked() -> None:
    """Tokens are in place; padding and BOS are not included."""
    contexts = Contexts(np.array([3, 2]), bos=1)
    (plan,) = plan_batches(contexts.lengths, np.array([], np.int64), 100)
    batch = fill_batch(plan, contexts, padding_id=9)
    assert batch.context_ids.tolist() == [0, 1]
    assert batch.tokens.tolist() == [[1, 2, 3], [101, 102, 9]]
    assert batch.attention.tolist() == [[True, True, True], [True, True, False]]
    assert batch.included.tolist() == [[False, True, True], [False, True, False]]


def test_special_tokens_inside_contexts_are_not_included() -> None:
    """They are seen by the model and counted nowhere."""
    contexts = Contexts(np.array([3, 2]), bos=1, special=(3, 101))
    (plan,) = plan_batches(contexts.lengths, np.array([], np.int64), 100)
    batch = fill_batch(plan, contexts, padding_id=9)
    assert batch.attention.tolist() == [[True, True, True], [True, True, False]]
    assert batch.included.tolist() == [[False, True, False], [False, True, False]]
