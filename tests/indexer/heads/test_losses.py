"""The in-context-learning score against sums by hand."""

from __future__ import annotations

from statistics import fmean

import numpy as np
import pytest
import torch

from indexer.heads.losses import in_context, token_losses
from indexer.models.loaded import LoadedModel
from tests.helpers.tiny_heads import shared_heads

LENGTH = 30


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A tiny GPT-2."""
    return shared_heads("gpt2", tmp_path_factory.getbasetemp())[1]


def test_predictions_of_special_tokens_are_in_no_mean(model: LoadedModel) -> None:
    """At each position, the mean over the contexts with a token of text next; then over
    positions."""
    rows = np.random.default_rng(0).integers(2, 12, (5, LENGTH))
    rows[:, 4] = 3  # a position that predicts special tokens alone
    losses = token_losses(model, torch.from_numpy(rows))
    for special in ((), (3, 5)):
        found = in_context(model, [*rows, rows[0, :9]], LENGTH, special)
        assert found is not None
        assert (found.contexts, found.early_positions) == (5, (4, 6))
        for value, span in ((found.early, range(3, 6)), (found.late, range(26, 29))):
            by_position = [
                [losses[row, at] for row in range(5) if rows[row, at + 1] not in special]
                for at in span
            ]
            assert value == pytest.approx(fmean(map(fmean, filter(None, by_position))), rel=1e-12)
        if not special:  # as numpy's own means, to the last bit: hashes depend on it
            assert found.early == float(losses.mean(axis=0)[3:6].mean())
    assert in_context(model, list(rows), LENGTH, range(12)) is None
