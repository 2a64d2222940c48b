"""The scan against brute force: known activations, every number worked out again independently."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.errors import NeurariumError
from indexer.results import context_records, neuron_records
from indexer.sample import PEAK_QUANTILES
from indexer.scan import RANDOM_EXAMPLES, Scan, ScanShape, scan_corpus
from indexer.store.codec import activations_of
from indexer.store.writer import ContextRecord, NeuronRecord


class Silent:
    """A reporter that says nothing."""

    def say(self, line: str) -> None: ...

    def stage(self, name: str, total: int | None, unit: str) -> Callable[[int], None]:
        return lambda done: None


@dataclass
class FakeCorpus:
    """Contexts whose first token is their own number, so that the fake model can tell them."""

    lengths: np.ndarray[Any, Any]
    bos: bool
    sources: tuple[str, ...] = ("a", "b")

    @property
    def included_from(self) -> np.ndarray[Any, Any]:
        return np.full(len(self.lengths), int(self.bos))

    @property
    def document_index(self) -> np.ndarray[Any, Any]:
        return np.arange(len(self.lengths)) // 2

    @property
    def source_index(self) -> np.ndarray[Any, Any]:
        return np.arange(len(self.lengths)) % 2

    def context(self, context_id: int) -> np.ndarray[Any, Any]:
        length = int(self.lengths[context_id])
        return context_id * 1000 + np.arange(length, dtype=np.uint32)


@dataclass
class FakeModel:
    """Activations from a table: [layer][context, position, neuron]."""

    table: list[torch.Tensor]
    device = torch.device("cpu")

    def capture(
        self,
        tokens: torch.Tensor,
        attention: torch.Tensor,
        on_layer: Callable[[int, torch.Tensor], None],
    ) -> None:
        contexts = tokens[:, 0] // 1000
        for layer, values in enumerate(self.table):
            seen = values[contexts, : tokens.shape[1]].clone()
            seen[~attention] = 1e9  # padding must never count
            on_layer(layer, seen)


@dataclass
class Case:
    corpus: FakeCorpus
    model: FakeModel
    shape: ScanShape
    batch_tokens: int
    block_contexts: int

    def scan(self) -> Scan:
        return scan_corpus(
            self.model,
            self.corpus,
            self.shape,
            self.batch_tokens,
            Silent(),
            self.block_contexts,
        )

    def included(self, layer: int, context: int, neuron: int) -> np.ndarray[Any, Any]:
        """Included activations of one neuron in one context, float32."""
        first = int(self.corpus.bos)
        row = self.model.table[layer][context, first : self.corpus.lengths[context], neuron]
        return row.float().numpy()

    def peaks(self, layer: int, neuron: int, of: Callable[[Any], Any]) -> list[Any]:
        count = len(self.corpus.lengths)
        return [of(self.included(layer, context, neuron)) for context in range(count)]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Small scans of every awkward kind: ties, negatives, dead neurons, few contexts, padding."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    contexts = draw(st.integers(1, 60))
    ctx_len = draw(st.integers(2, 12))
    bos = draw(st.booleans())
    shortest = 2 + int(bos) if ctx_len > 2 else 2
    if draw(st.booleans()):
        lengths = np.full(contexts, ctx_len)
    else:
        lengths = rng.integers(min(shortest, ctx_len), ctx_len + 1, contexts)
    widths = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    kind = draw(st.sampled_from(["normal", "few values", "negative", "dead", "bfloat16", "wild"]))
    table = [_activations(rng, kind, (contexts, ctx_len, width)) for width in widths]
    sample = rng.permutation(contexts)[: draw(st.integers(1, contexts))]
    shape = ScanShape(
        widths=widths,
        sample=sample.astype(np.int64),
        top_k=draw(st.integers(1, 9)),
        bottom_k=draw(st.integers(0, 5)),
        window=draw(st.integers(1, ctx_len)),
    )
    corpus = FakeCorpus(lengths, bos)
    batch_tokens = draw(st.sampled_from([2, 7, 30, 1000]))
    return Case(corpus, FakeModel(table), shape, batch_tokens, draw(st.sampled_from([3, 20, 100])))


def _activations(rng: np.random.Generator, kind: str, size: tuple[int, int, int]) -> torch.Tensor:
    values = rng.normal(size=size)
    if kind == "few values":
        values = rng.integers(-2, 3, size) / 2
    elif kind == "negative":
        values = -np.abs(values) - 0.125
    elif kind == "dead":
        values = np.zeros(size)
    elif kind == "wild":
        values = values * 10.0 ** rng.integers(-20, 20, size)
    tensor = torch.tensor(values, dtype=torch.float32)
    return tensor.bfloat16() if kind == "bfloat16" else tensor


@dataclass
class FakeEffects:
    """Logit effects of no interest."""

    top_values: np.ndarray[Any, Any]
    top_ids: np.ndarray[Any, Any]
    bottom_values: np.ndarray[Any, Any]
    bottom_ids: np.ndarray[Any, Any]


def _effects(layer: int) -> FakeEffects:
    zeros = np.zeros((10, 1), np.float32)
    return FakeEffects(zeros, zeros.astype(np.int32), zeros, zeros.astype(np.int32))


def _records(case: Case) -> list[NeuronRecord]:
    return list(neuron_records(case.scan(), case.corpus, False, _effects))


relaxed = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@relaxed
@given(cases())
def test_top_and_bottom_are_those_of_a_full_sort(case: Case) -> None:
    """Top and bottom examples equal a sort of all contexts by (value, context id)."""
    for record in _records(case):
        for kind, of, sign in ((0, np.max, -1), (1, np.min, 1)):
            values = case.peaks(record.layer, record.neuron, of)
            k = (case.shape.top_k, case.shape.bottom_k)[kind]
            expected = sorted(range(len(values)), key=lambda c: (sign * values[c], c))[:k]
            got = record.examples[kind]
            assert got.context_ids.tolist() == expected
            exact = got.peaks if kind == 0 else got.troughs
            assert exact.tolist() == [values[c] for c in expected]


@relaxed
@given(cases())
def test_each_example_says_what_its_context_does(case: Case) -> None:
    """Positions are the earliest of ties, the window is in place, activations within the bound."""
    for record in _records(case):
        for kind, examples in enumerate(record.examples):
            for index in range(len(examples)):
                context = int(examples.context_ids[index])
                length = int(case.corpus.lengths[context])
                row = case.included(record.layer, context, record.neuron)
                first = int(case.corpus.bos)
                assert examples.peaks[index] == row.max()
                assert examples.troughs[index] == row.min()
                assert examples.peak_positions[index] == row.argmax() + first
                assert examples.trough_positions[index] == row.argmin() + first
                start, kept = int(examples.starts[index]), int(examples.lengths[index])
                assert kept == min(length, case.shape.window)
                assert 0 <= start <= length - kept
                centre = examples.trough_positions if kind == 1 else examples.peak_positions
                assert start <= centre[index] < start + kept
                positions = np.arange(start, start + kept)
                counted = positions >= first
                truth = row[positions[counted] - first]
                stored = activations_of(examples, index)[counted]
                bound = np.abs(truth).max(initial=0) / 254 * 1.001 + 1e-37
                assert np.abs(stored - truth).max(initial=0) <= bound


@relaxed
@given(cases())
def test_sample_statistics_are_those_of_the_sample(case: Case) -> None:
    """Extremes are over everything; moments, densities, quantiles, histogram over the sample."""
    sample = case.shape.sample
    for record in _records(case):
        everything = [
            case.included(record.layer, c, record.neuron) for c in range(len(case.corpus.lengths))
        ]
        scalars, arrays = record.scalars, record.arrays
        assert scalars["max"] == max(row.max() for row in everything)
        assert scalars["min"] == min(row.min() for row in everything)
        assert scalars["dead"] == (scalars["max"] <= 0)
        values = np.concatenate([everything[c] for c in sample]).astype(np.float64)
        close = {"rel": 1e-9, "abs": 1e-12 * np.abs(values).max(initial=0)}
        assert scalars["mean"] == pytest.approx(values.mean(), **close)
        assert scalars["std"] == pytest.approx(values.std(), **close)
        if values.std() > 1e-6 * np.abs(values).max():
            standard = (values - values.mean()) / values.std()
            assert scalars["skewness"] == pytest.approx((standard**3).mean(), rel=1e-6, abs=1e-6)
            assert scalars["kurtosis"] == pytest.approx(
                (standard**4).mean() - 3, rel=1e-6, abs=1e-6
            )
        elif values.std() == 0:
            assert scalars["skewness"] is None
            assert scalars["kurtosis"] == -np.inf
        assert scalars["density"] == (values > 0).mean()
        if scalars["max"] > 0:
            tenth = scalars["tenth"]
            assert scalars["max"] / 10 <= tenth * (1 + 1e-12)
            assert tenth <= scalars["max"] / 10 + max(0, values.max()) / 64
            assert scalars["density_over_tenth"] == (values >= tenth).mean()
        else:
            assert scalars["density_over_tenth"] == 0
        counts = arrays["histogram_counts"]
        start, width = arrays["histogram_range"]
        edges = start + width * np.arange(len(counts) + 1)
        assert len(counts) <= 64
        assert counts[0] > 0
        assert counts[-1] > 0
        inside = [
            ((values >= low) & (values < high)).sum() for low, high in itertools.pairwise(edges)
        ]
        assert counts.tolist() == inside
        assert counts.sum() == len(values)
        peaks = np.array([everything[c].max() for c in sample], np.float64)
        expected = [np.quantile(peaks, level) for level in PEAK_QUANTILES]
        assert arrays["peak_quantiles"].tolist() == expected


@relaxed
@given(cases())
def test_random_and_bands_come_from_the_second_half(case: Case) -> None:
    """Random: the second half's first contexts. Bands: cut by the first half, filled in order."""
    sample = case.shape.sample
    half = len(sample) // 2
    for record in _records(case):
        random, bands = record.examples[2], record.examples[3]
        assert random.context_ids.tolist() == sample[half : half + RANDOM_EXAMPLES].tolist()
        if half == 0:
            assert len(bands) == 0
            continue
        peak = {
            int(c): float(case.included(record.layer, int(c), record.neuron).max()) for c in sample
        }
        first = [peak[int(c)] for c in sample[:half]]
        cuts = [float(np.quantile(first, level)) for level in (0.5, 0.9, 0.99)]
        assert record.arrays["band_cuts"].tolist() == cuts
        members: list[list[int]] = [[], [], [], []]
        for context in sample[half:].tolist():
            members[sum(peak[context] >= cut for cut in cuts)].append(context)
        assert record.arrays["band_counts"].tolist() == [len(band) for band in members]
        assert bands.context_ids.tolist() == [c for band in members for c in band[:3]]


@relaxed
@given(cases())
def test_contexts_name_the_neurons_they_are_top_examples_of(case: Case) -> None:
    """Every context an example names is there, once, in order, with its top neurons."""
    scan = case.scan()
    neurons = list(neuron_records(scan, case.corpus, False, _effects))
    contexts: list[ContextRecord] = list(context_records(scan, case.corpus))
    used = {int(c) for record in neurons for some in record.examples for c in some.context_ids}
    assert [record.context_id for record in contexts] == sorted(used)
    for context in contexts:
        expected = [
            int(scan.offsets[record.layer]) + record.neuron
            for record in neurons
            if context.context_id in record.examples[0].context_ids
        ]
        assert context.top_neurons.tolist() == expected
        assert context.source_index == context.context_id % 2


@relaxed
@given(cases(), st.sampled_from([2, 9, 500]))
def test_batch_size_changes_no_selection(case: Case, batch_tokens: int) -> None:
    """The same contexts in other batches give the same examples, histograms and bands."""
    other = Case(case.corpus, case.model, case.shape, batch_tokens, 4096)
    for one, two in zip(_records(case), _records(other), strict=True):
        for a, b in zip(one.examples, two.examples, strict=True):
            assert a.context_ids.tolist() == b.context_ids.tolist()
            assert a.quantized.tolist() == b.quantized.tolist()
        assert one.arrays["histogram_counts"].tolist() == two.arrays["histogram_counts"].tolist()
        assert one.arrays["band_counts"].tolist() == two.arrays["band_counts"].tolist()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_stops_the_scan(bad: float) -> None:
    """NaN and infinity are an error that names the layer, never an example."""
    values = torch.zeros(2, 3, 1)
    values[1, 2, 0] = bad
    shape = ScanShape((1,), np.array([0]), 1, 1, 3)
    case = Case(FakeCorpus(np.array([3, 3]), True), FakeModel([values]), shape, 100, 100)
    with pytest.raises(NeurariumError, match="not finite in layer 0"):
        case.scan()


def test_gated_neurons_die_by_magnitude() -> None:
    """A gated neuron that is only ever negative lives; one within ±1e-6 is dead."""
    values = torch.tensor([[[-1.0, 5e-7]], [[-2.0, -5e-7]]])
    shape = ScanShape((2,), np.array([0, 1]), 1, 1, 1)
    case = Case(FakeCorpus(np.array([1, 1]), False), FakeModel([values]), shape, 100, 100)
    assert case.scan().dead(gated=True).tolist() == [False, True]
    assert case.scan().dead(gated=False).tolist() == [True, False]
