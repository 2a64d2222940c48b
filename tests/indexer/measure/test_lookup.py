"""The token-lookup score, against a table made with a dictionary."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given

from indexer.corpus.batches import fill_batch
from indexer.measure.lookup import lookup_tokens
from indexer.scan.shape import ScanShape
from tests.helpers.scan_cases import Case, FakeCorpus, FakeModel, cases, records_of, relaxed

Tokens = list[tuple[int, float]]


def half(case: Case, layer: int, neuron: int, which: int) -> Tokens:
    """Every included position of a half of the sample: its token and activation."""
    middle = len(case.shape.sample) // 2
    contexts = case.shape.sample[:middle] if which == 0 else case.shape.sample[middle:]
    first = int(case.corpus.bos)
    return [
        (token, float(value))
        for context in contexts.tolist()
        for token, value in zip(
            case.corpus.context(context)[first:].tolist(),
            case.included(layer, context, neuron),
            strict=True,
        )
    ]


def expected(case: Case, layer: int, neuron: int) -> float | None:
    """R² of the mean activation a token of the first half, on the second."""
    first, second = (half(case, layer, neuron, which) for which in (0, 1))
    by_token: dict[int, list[float]] = defaultdict(list)
    for token, value in first:
        by_token[token].append(value)
    values = np.array([value for _, value in second])
    if not len(case.shape.lookup) or values.min() == values.max():
        return None
    overall = np.mean([value for _, value in first])
    kept = set(case.shape.lookup.ids.tolist())
    table = {token: np.mean(seen) for token, seen in by_token.items() if token in kept}
    residual = sum((value - table.get(token, overall)) ** 2 for token, value in second)
    return float(1 - residual / ((values - values.mean()) ** 2).sum())


@relaxed
@given(cases())
def test_score_is_that_of_a_table_of_means(case: Case) -> None:
    """Ties, negatives, padding, halves of any size, fewer tokens in the table than there are."""
    for record in records_of(case):
        score = expected(case, record.layer, record.neuron)
        got = record.scalars["lookup"]
        if score is None:
            assert got == -np.inf
        else:
            assert got == pytest.approx(score, rel=1e-4, abs=1e-4)


def made(activation_of_token: bool) -> float:
    """The score of a neuron that reads the token, or only the position."""
    rng = np.random.default_rng(0)
    corpus = FakeCorpus(np.full(60, 12), bos=True)
    values = rng.normal(size=(60, 12, 1)) * 0.01
    for context in range(60):
        for position, token in enumerate(corpus.context(context).tolist()):
            values[context, position] += float(token) if activation_of_token else position % 2
    sample = rng.permutation(60)
    shape = ScanShape((1,), sample, 2, 2, 12, lookup=lookup_tokens(corpus, sample))
    model = FakeModel([torch.tensor(values, dtype=torch.float32)])
    (record,) = records_of(Case(corpus, model, shape, 100, 100))
    score = record.scalars["lookup"]
    assert isinstance(score, float)
    return score


def test_a_token_detector_is_told_from_a_contextual_neuron() -> None:
    """All of the one's activation is its token's, nearly nothing of the other's."""
    assert made(activation_of_token=True) > 0.999
    assert made(activation_of_token=False) < 0.5


def test_sums_do_not_depend_on_threads() -> None:
    """A worker may have any number of threads: the sums are the same to the last bit."""
    rng = np.random.default_rng(1)
    corpus = FakeCorpus(np.full(40, 12), bos=True)
    case = Case(corpus, FakeModel([]), ScanShape((1,), np.arange(40), 1, 1, 1), 400, 100)
    batch = fill_batch(case.plans()[0], corpus, padding_id=0)
    bags = lookup_tokens(corpus, np.arange(40)).bags(batch)
    activations = torch.tensor(rng.normal(size=(*batch.tokens.shape, 37)), dtype=torch.float32)
    before = torch.get_num_threads()
    sums = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            sums.append(bags.sums(activations).numpy())
    finally:
        torch.set_num_threads(before)
    assert (sums[0] == sums[1]).all()


def test_most_frequent_tokens_of_both_halves_get_a_mean() -> None:
    """Tokens of one half only have none; ties go to the lower id; special tokens never count."""

    class Corpus(FakeCorpus):
        texts = ([9, 4, 4, 5, 6], [9, 5, 4, 6, 8], [9, 6, 5, 7, 4], [9, 4, 8, 5, 6])

        def context(self, context_id: int) -> np.ndarray:
            return np.array(self.texts[context_id])

    corpus = Corpus(np.full(4, 5), bos=True, special_token_ids=(6,))
    sample = np.array([0, 1, 2, 3])
    everything = lookup_tokens(corpus, sample)
    assert everything.ids.tolist() == [4, 5, 8]
    assert everything.counts.tolist() == [3, 2, 1]
    assert everything.positions == (6, 6)
    assert lookup_tokens(corpus, sample, most=2).ids.tolist() == [4, 5]
