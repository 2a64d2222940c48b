"""Small scans whose every number can be worked out again: known activations, few contexts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from indexer.captured import Captured, OnLayer
from indexer.corpus.batches import BatchPlan, plan_batches
from indexer.measure.lookup import lookup_tokens
from indexer.measure.sources import count_slots
from indexer.models.units import never_positive
from indexer.run.results import PeaksOf, Results
from indexer.scan.loop import scan_batches
from indexer.scan.shape import ScanShape
from indexer.scan.state import Scan
from indexer.store.writing.records import ContextRecord
from tests.helpers import neuron_records as by_neuron

relaxed = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass
class FakeCorpus:
    """Contexts whose first token is their own number, so that the fake model can tell them."""

    lengths: np.ndarray[Any, Any]
    bos: bool
    source_count: int = 2
    special_token_ids: tuple[int, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(f"source {index}" for index in range(self.source_count))

    @property
    def included_from(self) -> np.ndarray[Any, Any]:
        return np.full(len(self.lengths), int(self.bos))

    @property
    def document_index(self) -> np.ndarray[Any, Any]:
        return np.arange(len(self.lengths)) // 2

    @property
    def source_index(self) -> np.ndarray[Any, Any]:
        """Uneven: the later the source, the rarer."""
        hashed = np.arange(len(self.lengths)) * 7919 % 101 / 101
        return (hashed**2 * self.source_count).astype(np.int32)

    def context(self, context_id: int) -> np.ndarray[Any, Any]:
        length = int(self.lengths[context_id])
        tokens = (context_id * 31 + 17 * np.arange(length, dtype=np.uint32) ** 2) % 7
        tokens[0] = context_id * 1000
        return tokens


@dataclass
class FakeModel:
    """Activations from a table: [layer][context, position, neuron]."""

    table: list[torch.Tensor]
    gates: list[torch.Tensor] | None = None
    linears: list[torch.Tensor] | None = None
    device = torch.device("cpu")

    def capture(
        self,
        tokens: torch.Tensor,
        attention: torch.Tensor,
        on_layer: OnLayer,
        layers: range | None = None,
    ) -> None:
        contexts = tokens[:, 0] // 1000

        def seen(values: torch.Tensor) -> torch.Tensor:
            given = values[contexts, : tokens.shape[1]].clone()
            given[~attention] = 1e9  # padding must never count
            return given

        for layer in layers if layers is not None else range(len(self.table)):
            values = self.table[layer]
            gate = seen(self.gates[layer]) if self.gates else None
            linear = seen(self.linears[layer]) if self.linears else None
            on_layer(layer, Captured(seen(values), gate, linear))


@dataclass
class Case:
    corpus: FakeCorpus
    model: FakeModel
    shape: ScanShape
    batch_tokens: int
    block_contexts: int

    def scan(self) -> Scan:
        scan = Scan(self.shape, self.corpus.source_index)
        plans = self.plans()
        scan_batches(self.model, self.corpus, scan, plans, range(len(plans)), lambda _: None)
        return scan

    def plans(self) -> list[BatchPlan]:
        """All batches, in order."""
        lengths = self.corpus.lengths
        sample = self.shape.sample
        return list(plan_batches(lengths, sample, self.batch_tokens, self.block_contexts))

    def included(
        self, layer: int, context: int, neuron: int, of: list[torch.Tensor] | None = None
    ) -> np.ndarray[Any, Any]:
        """Included activations (or gates, linear parts) of one neuron in one context, float32."""
        first = int(self.corpus.bos)
        table = self.model.table if of is None else of
        row = table[layer][context, first : self.corpus.lengths[context], neuron]
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
    sizes = [(contexts, ctx_len, width) for width in widths]
    table = [_activations(rng, kind, size) for size in sizes]
    model = FakeModel(table)
    if draw(st.booleans()):
        model.gates = [_activations(rng, kind, size) for size in sizes]
        model.linears = [_activations(rng, kind, size) for size in sizes]
    corpus = FakeCorpus(lengths, bos, draw(st.sampled_from([1, 2, 5, 9, 12])))
    sample = rng.permutation(contexts)[: draw(st.integers(1, contexts))]
    shape = ScanShape(
        widths=widths,
        sample=sample.astype(np.int64),
        top_k=draw(st.integers(1, 9)),
        bottom_k=draw(st.integers(0, 5)),
        window=draw(st.integers(1, ctx_len)),
        source_slots=count_slots(corpus.source_count),
        lookup=lookup_tokens(corpus, sample.astype(np.int64), draw(st.integers(1, 8))),
    )
    batch_tokens = draw(st.sampled_from([2, 7, 30, 1000]))
    return Case(corpus, model, shape, batch_tokens, draw(st.sampled_from([3, 20, 100])))


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
class FakeFacts:
    """What a layer's weights say: numbers that are known, of no interest but for that."""

    scalars: dict[str, np.ndarray[Any, Any]]
    arrays: dict[str, np.ndarray[Any, Any]]


def fake_facts(layer: int) -> FakeFacts:
    """Facts of up to ten neurons of a layer."""
    nan, numbers = np.nan, np.arange(10.0)
    return FakeFacts(
        scalars={
            "effect_kurtosis": np.where(numbers == 1, nan, numbers),
            "in_out_cosine": np.where(numbers == 2, nan, numbers / 10),
        },
        arrays={
            "logit_values": np.ones((10, 2), np.float32),
            "logit_token_ids": (10 * layer + np.arange(20)).reshape(10, 2).astype(np.int32),
        },
    )


def results_of(
    scan: Scan, corpus: FakeCorpus, facts_of: Callable[[int], FakeFacts] = fake_facts
) -> tuple[list[by_neuron.NeuronRecord], list[ContextRecord]]:
    """All neurons of a scan, one by one, and the contexts of their examples."""
    return results_of_all([scan], corpus, facts_of)


def results_of_all(
    scans: list[Scan],
    corpus: FakeCorpus,
    facts_of: Callable[[int], FakeFacts] = fake_facts,
    peaks_of: PeaksOf | None = None,
) -> tuple[list[by_neuron.NeuronRecord], list[ContextRecord]]:
    """The same of the scans of all slices, in order."""
    results = Results(corpus, never_positive, facts_of, peaks_of=peaks_of)
    neurons = [
        record
        for scan in scans
        for block in results.neurons(scan)
        for record in by_neuron.records_of(block)
    ]
    return neurons, list(results.contexts())


def records_of(case: Case) -> list[by_neuron.NeuronRecord]:
    """All neurons of a case, scanned."""
    return results_of(case.scan(), case.corpus)[0]
