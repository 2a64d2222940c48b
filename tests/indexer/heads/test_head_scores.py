"""Pairs and scores against loops over every query and key."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from indexer.captured import CapturedHeads
from indexer.heads.pairs import _entries_by_topk, best_effects, layer_pairs, pairs_of
from indexer.heads.repeated import repeated_tokens
from indexer.heads.scores import ScoreSums, predicting, rows_of

BATCH, HEADS, POS = 3, 2, 9


def captured(seed: int) -> CapturedHeads:
    """Random causal patterns and norms."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(BATCH, HEADS, POS, POS, generator=generator)
    pattern = scores.masked_fill(~torch.ones(POS, POS).tril().bool(), -torch.inf).softmax(-1)
    norms = torch.rand(BATCH, HEADS, POS, generator=generator)
    return CapturedHeads(pattern, norms, torch.zeros(BATCH, POS, HEADS, 1))


def included() -> torch.Tensor:
    """A context with a BOS, a padded one with a special token inside, and one of a single token."""
    mask = torch.ones(BATCH, POS, dtype=torch.bool)
    mask[:, 0] = False
    mask[1, 6:] = False
    mask[1, 3] = False
    mask[2, 2:] = False
    return mask


def tokens(seed: int) -> torch.Tensor:
    """Few distinct tokens, so that many repeat."""
    return torch.randint(2, 5, (BATCH, POS), generator=torch.Generator().manual_seed(seed))


def pairs_by_loops(mask: torch.Tensor) -> list[list[tuple[int, int]]]:
    """Every context's pairs that count, earliest query first, then earliest key."""
    return [
        [(q, k) for q in range(POS) for k in range(q) if mask[b, q] and mask[b, k]]
        for b in range(BATCH)
    ]


def test_every_pair_counts_exactly_once() -> None:
    """As many pairs as a loop finds."""
    mask = included()
    expected = [len(pairs) for pairs in pairs_by_loops(mask)]
    assert pairs_of(mask.numpy()).tolist() == expected == [8 * 7 // 2, 4 * 3 // 2, 0]


@pytest.mark.parametrize("seed", range(6))
def test_the_best_pairs_are_those_of_a_loop(seed: int) -> None:
    """Of contexts by both rankings, and of rows by attention; a context without a pair has the
    value −1, a row without one the query itself."""
    heads, mask = captured(seed), included()
    if seed == 4:  # ties: the earliest query, then the earliest key
        heads = CapturedHeads(
            torch.ones_like(heads.pattern) / 2, torch.ones(BATCH, HEADS, POS), heads.outputs
        )
    if seed == 5:  # all attention goes to the BOS
        heads.pattern[:] = 0
        heads.pattern[..., 0] = 1
    layer = layer_pairs(heads, mask.numpy())
    ones = torch.ones(BATCH, HEADS, POS)
    for found, norms in ((layer.moved, heads.value_norms), (layer.attention, ones)):
        for b, pairs in enumerate(pairs_by_loops(mask)):
            for h in range(HEADS):
                value, query, key = -1.0, 1, 1
                for q, k in pairs:
                    if float(heads.pattern[b, h, q, k] * norms[b, h, k]) > value:
                        value, query, key = float(heads.pattern[b, h, q, k] * norms[b, h, k]), q, k
                assert found.values[b, h] == pytest.approx(value)
                assert (found.queries[b, h], found.keys[b, h]) == (query, key)
                assert found.attention[b, h] == heads.pattern[b, h, query, key]
    for b, pairs in enumerate(pairs_by_loops(mask)):
        for h in range(HEADS):
            for q in (q for q in range(POS) if mask[b, q]):
                keys = [key for query, key in pairs if query == q]
                row = [float(heads.pattern[b, h, q, key]) for key in keys]
                key = keys[int(np.argmax(row))] if keys else q
                assert layer.keys[b, h, q] == key
                assert layer.key_attention[b, h, q] == heads.pattern[b, h, q, key]
    np.testing.assert_array_equal(layer.norms, heads.value_norms)
    elsewhere = np.sort(_entries_by_topk(heads.pattern))  # as on a GPU
    np.testing.assert_array_equal(np.sort(layer.entries), elsewhere)


def test_effects_count_where_an_included_token_is_predicted() -> None:
    """The largest over positions that are included and followed by an included one."""
    mask = included()
    effects = torch.randn(BATCH, HEADS, POS, generator=torch.Generator().manual_seed(0))
    values, queries = best_effects(effects.numpy(), predicting(mask.numpy()))
    for b in range(BATCH):
        where = [p for p in range(POS - 1) if mask[b, p] and mask[b, p + 1]]
        for h in range(HEADS):
            of_row = [float(effects[b, h, p]) for p in where]
            assert values[b, h] == max(of_row, default=-math.inf)
            if where:
                assert queries[b, h] == where[int(np.argmax(of_row))]


def by_loops(
    batches: list[tuple[CapturedHeads, torch.Tensor, torch.Tensor, torch.Tensor]],
) -> dict[str, list[float]]:
    """Every score of every head, a row at a time."""
    found: dict[str, list[float]] = {}
    for h in range(HEADS):
        rows: dict[str, list[float]] = {name: [] for name in NAMES}
        weights, distances = [], []
        for heads, ids, mask, effects in batches:
            for b in range(BATCH):
                for q in (q for q in range(POS) if mask[b, q]):
                    row = heads.pattern[b, h, q].double()
                    kept = [k for k in range(q + 1) if mask[b, k]]
                    earlier = [k for k in kept if k < q]
                    same = [k for k in earlier if ids[b, k] == ids[b, q]]
                    after = [
                        k for k in earlier if k and mask[b, k - 1] and ids[b, k - 1] == ids[b, q]
                    ]
                    if q - 1 in kept:
                        rows["previous_token"].append(float(row[q - 1]))
                    if same:
                        rows["duplicate_token"].append(float(row[same].sum()))
                    if after:
                        rows["induction"].append(float(row[after].sum()))
                    rows["self_token"].append(float(row[q]))
                    rows["bos"].append(float(row[0]))
                    if q:
                        rows["sink"].append(float(row[0]))
                    rows["entropy"].append(-sum(float(x) * math.log(x) for x in row if x > 0))
                    weights += [float(row[k]) for k in kept]
                    distances += [q - k for k in kept]
                    if q + 1 < POS and mask[b, q + 1]:
                        rows["effect"].append(float(effects[b, q, h]))
        for name, values in rows.items():
            found.setdefault(name, []).append(float(np.mean(values)))
        mean = float(np.average(distances, weights=weights))
        spread = float(np.sqrt(np.average((np.array(distances) - mean) ** 2, weights=weights)))
        found.setdefault("distance", []).append(mean)
        found.setdefault("distance_spread", []).append(spread)
    return found


NAMES = (
    *("previous_token", "duplicate_token", "induction", "self_token", "bos", "sink"),
    *("entropy", "effect"),
)


def test_scores_are_those_of_loops() -> None:
    """Sums over batches give the means a loop over all rows gives."""
    sums = ScoreSums((HEADS,))
    batches = []
    for seed in range(3):
        effects = torch.randn(BATCH, POS, HEADS, generator=torch.Generator().manual_seed(seed))
        batch = (captured(seed), tokens(seed), included(), effects)
        rows = rows_of(batch[1], batch[2])
        sums.count(rows)
        sums.add(0, batch[0].pattern, rows)
        sums.add_effects(0, effects, rows)
        batches.append(batch)
    expected = by_loops(batches)
    scores = sums.scores(0)
    assert scores.keys() == expected.keys()
    for name, values in scores.items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-5, err_msg=name)


def test_scores_without_a_row_are_not_a_number() -> None:
    """No BOS, no repeated token: nothing to average."""
    sums = ScoreSums((HEADS,))
    ids = torch.arange(POS).repeat(BATCH, 1)
    rows = rows_of(ids, torch.ones(BATCH, POS, dtype=torch.bool))
    sums.count(rows)
    sums.add(0, captured(0).pattern, rows)
    scores = sums.scores(0)
    for name in ("bos", "duplicate_token", "induction"):
        assert np.isnan(scores[name]).all()
    assert not np.isnan(scores["previous_token"]).any()
    pattern = captured(0).pattern[:, :, 1:, 0].double()
    np.testing.assert_allclose(scores["sink"], pattern.mean((0, 2)), rtol=1e-5)


def test_repeated_tokens_are_the_same_for_every_model() -> None:
    """Two equal halves of distinct ordinary tokens, the same for the same vocabulary and seed."""
    special = frozenset({0, 1, 7})
    sequences = repeated_tokens(300, special, 1, 1024, 0)
    again = repeated_tokens(300, special, 1, None, 0)
    np.testing.assert_array_equal(sequences.tokens, again.tokens)
    assert sequences.tokens.shape == (32, 101)
    first, second = sequences.tokens[:, 1:51], sequences.tokens[:, 51:]
    np.testing.assert_array_equal(first, second)
    assert all(len(set(row)) == 50 for row in first.tolist())
    assert not special & set(first.flatten().tolist())
    assert np.flatnonzero(sequences.second).tolist() == list(range(51, 100))
    assert repeated_tokens(300, special, None, 20, 0).tokens.shape == (32, 20)
