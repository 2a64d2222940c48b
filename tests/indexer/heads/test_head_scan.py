"""A scan of a small corpus, stopped and resumed, against loops over all pairs of each context."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from indexer.corpus.batches import plan_batches
from indexer.heads.decompose import decompose
from indexer.heads.effects import heads_of, logit_path
from indexer.heads.examples import RANKINGS, HeadExample
from indexer.heads.saved import arrays_of, restore
from indexer.heads.scan import HeadScan, HeadShape, scan_heads
from indexer.models.loaded import LoadedModel
from indexer.run.checkpoint import RunFolder
from indexer.store.packing.pattern import KEYS_A_ROW, LEAST, pack_pattern, unpack_pattern
from tests.helpers.tiny_heads import (
    ARCHITECTURES,
    attention_only,
    captured_heads,
    tiny_heads,
)

K = 3
CONTEXTS = 14


@dataclass
class SmallCorpus:
    """Contexts of a BOS and random tokens, a few of them repeated; one has a single token."""

    rows: list[np.ndarray[Any, Any]]
    special_token_ids: tuple[int, ...] = ()
    lengths: np.ndarray[Any, Any] = field(init=False)
    included_from: np.ndarray[Any, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.lengths = np.array([len(row) for row in self.rows])
        self.included_from = np.ones(len(self.rows), np.int64)

    def context(self, context_id: int) -> np.ndarray[Any, Any]:
        return self.rows[context_id]


def small_corpus() -> SmallCorpus:
    draws = np.random.default_rng(0)
    lengths = [2, *draws.integers(4, 24, CONTEXTS - 1).tolist()]
    rows = [np.concatenate([[1], draws.integers(2, 12, length - 1)]) for length in lengths]
    return SmallCorpus(rows)


@dataclass(frozen=True)
class Truth:
    """One context by itself: patterns, norms and effects of all heads, and the scan's own words."""

    patterns: list[np.ndarray[Any, Any]]  # a layer: [head, query, key]
    norms: list[np.ndarray[Any, Any]]  # [head, key]
    effects: np.ndarray[Any, Any]  # [pos − 1, layer, head]


def truth(model: LoadedModel, row: np.ndarray[Any, Any]) -> Truth:
    tokens = torch.from_numpy(row.astype(np.int64))
    found = captured_heads(model, tokens[None])
    parts = decompose(model, tokens[:-1], tokens[1:])
    assert parts is not None
    return Truth(
        [heads.pattern[0].numpy() for heads in found],
        [heads.value_norms[0].numpy() for heads in found],
        parts.heads.numpy(),
    )


@cache
def scanned(name: str, folder: Path) -> tuple[LoadedModel, SmallCorpus, HeadScan, list[Truth]]:
    model = attention_only()[1] if name == "native" else tiny_heads(folder / name, name)
    corpus, heads = small_corpus(), heads_of(model)
    sample = np.array([5, 3, 9, 7, 11, 2], np.int64)
    scan, resumed = (HeadScan(HeadShape(heads.widths, sample, sample[3:], K)) for _ in range(2))
    plans = list(plan_batches(corpus.lengths, sample, 60))
    assert len(plans) > 3
    scan_heads(heads, logit_path(model), corpus, scan, plans[:3])
    # Stopped, saved, and resumed by another process.
    saved = RunFolder(folder / f"saved-{name}")
    saved.path.mkdir()
    saved.save_arrays("pairs", arrays_of(scan))
    arrays = saved.load_arrays("pairs")
    assert arrays is not None
    restore(resumed, arrays)
    scan = resumed
    scan_heads(heads, logit_path(model), corpus, scan, plans[3:])
    return model, corpus, scan, [truth(model, row) for row in corpus.rows]


@pytest.fixture(params=["native", *ARCHITECTURES])
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[LoadedModel, SmallCorpus, HeadScan, list[Truth]]:
    """A model of each architecture, scanned once."""
    return scanned(request.param, tmp_path_factory.getbasetemp())


def best_of(name: str, truth: Truth, layer: int, head: int, length: int) -> tuple[float, int, int]:
    """The best value of a context with its query and key, by loops."""
    pattern, norms = truth.patterns[layer][head], truth.norms[layer][head]
    if name in ("moved", "attention"):
        weights = norms if name == "moved" else np.ones(length)
        pairs = [(q, k) for q in range(2, length) for k in range(1, q)]
        values = [float(pattern[q, k] * weights[k]) for q, k in pairs]
        if not values:
            return -np.inf, 0, 0
        return (max(values), *pairs[int(np.argmax(values))])
    sign = 1 if name == "helps" else -1
    signed = sign * truth.effects[1:, layer, head]
    if not len(signed):
        return -np.inf, 0, 0
    query = int(signed.argmax()) + 1
    key = int(pattern[query, 1:query].argmax()) + 1 if query > 1 else query
    return float(signed[query - 1]), query, key


Case = tuple[LoadedModel, SmallCorpus, HeadScan, list[Truth]]


def test_every_ranking_is_that_of_loops(case: Case) -> None:
    """The best contexts of all heads, with pair, value and order."""
    model, corpus, scan, truths = case
    flat = 0
    for layer, width in enumerate(heads_of(model).widths):
        for head in range(width):
            for name in RANKINGS:
                best = [
                    best_of(name, truths[c], layer, head, len(corpus.rows[c]))
                    for c in range(CONTEXTS)
                ]
                order = sorted(range(CONTEXTS), key=lambda c: (-best[c][0], c))[:K]
                found = list(scan.rankings[name].of(flat))
                # Contexts of equal value may change places: rounding depends on the batch.
                chosen = [best[example.context_id][0] for example in found]
                assert chosen == pytest.approx([best[c][0] for c in order], rel=1e-5)
                assert len({example.context_id for example in found}) == K
                for example in found:
                    value, query, key = best[example.context_id]
                    assert (example.query, example.key) == (query, key)
                    sign = -1 if name == "hurts" else 1
                    assert example.value == pytest.approx(sign * value, rel=1e-4, abs=1e-6)
                    check(example, truths[example.context_id], layer, head)
            flat += 1


def check(example: HeadExample, truth: Truth, layer: int, head: int) -> None:
    """What is kept of an example is that of the context by itself."""
    pattern, norms = truth.patterns[layer][head], truth.norms[layer][head]
    attention = pattern[example.query, example.key]
    assert example.attention == pytest.approx(attention, rel=1e-4, abs=1e-6)
    assert example.moved == pytest.approx(attention * norms[example.key], rel=1e-4, abs=1e-6)
    if example.query < len(truth.effects):
        effect = truth.effects[example.query, layer, head]
        assert example.effect == pytest.approx(effect, rel=1e-3, abs=1e-5)
    else:
        assert example.effect is None
    sparse = unpack_pattern(example.pattern)
    assert len(sparse.counts) == len(pattern)
    for query, row in enumerate(sparse.rows()):
        for key, value in row:
            assert value == pytest.approx(pattern[query, key], abs=2e-5)
        left = 1 - sum(value for _, value in row)  # also what goes to a sink
        assert sparse.left_out[query] == pytest.approx(left, abs=2e-4)


def test_all_pairs_are_counted_exactly_once(case: Case) -> None:
    """Over all contexts, pairs of included positions with key < query."""
    _, corpus, scan, _ = case
    assert scan.pairs == sum((n - 1) * (n - 2) // 2 for n in corpus.lengths.tolist())


def test_random_examples_are_the_same_contexts_for_every_head(case: Case) -> None:
    """They show the best pair of a context nobody chose."""
    model, corpus, scan, truths = case
    flat = 0
    for layer, width in enumerate(heads_of(model).widths):
        for head in range(width):
            examples = scan.random_examples(flat)
            assert [example.context_id for example in examples] == [7, 11, 2]
            for example in examples:
                length = len(corpus.rows[example.context_id])
                best = best_of("moved", truths[example.context_id], layer, head, length)
                assert (example.query, example.key) == best[1:]
                check(example, truths[example.context_id], layer, head)
            flat += 1


def test_scores_are_of_the_sample_alone(case: Case) -> None:
    """Self attention and effect, by loops over the sample's contexts."""
    model, _, scan, truths = case
    for layer, width in enumerate(heads_of(model).widths):
        scores = scan.scores.scores(layer)
        for head in range(width):
            own, effects = [], []
            for context_id in scan.shape.sample.tolist():
                found = truths[context_id]
                own += found.patterns[layer][head].diagonal()[1:].tolist()
                effects += found.effects[1:, layer, head].tolist()
            assert scores["self_token"][head] == pytest.approx(np.mean(own), rel=1e-4)
            assert scores["effect"][head] == pytest.approx(np.mean(effects), rel=1e-3, abs=1e-6)


def test_tokens_of_the_largest_pairs_are_counted(case: Case) -> None:
    """One pair a context, here of every context that has one."""
    model, corpus, scan, truths = case
    counts = scan.tokens.counts(0, 100)
    expected: dict[str, dict[int, int]] = {"queries": {}, "keys": {}}
    for row, found in zip(corpus.rows, truths, strict=True):
        value, query, key = best_of("moved", found, 0, 0, len(row))
        if value > -np.inf:
            for name, position in (("queries", query), ("keys", key)):
                token = int(row[position])
                expected[name][token] = expected[name].get(token, 0) + 1
    assert counts["pairs"] == CONTEXTS - 1
    for name, tokens in expected.items():
        order = sorted(tokens.items(), key=lambda item: (-item[1], item[0]))
        assert counts[name] == [list(item) for item in order]
    assert model.units.noun == "head"


def test_a_pattern_keeps_its_largest_entries() -> None:
    """At most eight a row, none under 0.005, ties by the lower key."""
    pattern = np.zeros((12, 12), np.float32)
    pattern[0, 0] = 1
    pattern[10, :11] = 1 / 11
    pattern[11] = [0.004, 0.006, 0.9, *[0.01] * 9]
    rows = unpack_pattern(pack_pattern(pattern)).rows()
    assert [key for key, _ in rows[10]] == list(range(KEYS_A_ROW))
    assert [key for key, _ in rows[11]] == [2, 3, 4, 5, 6, 7, 8, 9]
    assert rows[0] == [(0, 1.0)]
    assert rows[1] == []
    pattern[11] = [0.0049, 0.0051, *[0.0] * 10]
    assert [key for key, _ in unpack_pattern(pack_pattern(pattern)).rows()[11]] == [1]
    assert LEAST == 0.005


def test_a_state_of_another_shape_is_refused(case: Case) -> None:
    """A checkpoint is not read into a scan of other heads or fewer examples."""
    _, _, scan, _ = case
    other = HeadScan(replace(scan.shape, examples=K - 1))
    with pytest.raises(ValueError, match="another shape"):
        restore(other, arrays_of(scan))
