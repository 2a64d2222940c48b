"""A finished scan → records: what is added to the scan's own numbers, and what a scan holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from indexer.measure import sources as source_slots
from indexer.measure.peaks import means_by_slot
from indexer.measure.selection import Payload, Selection
from indexer.models.units import never_positive
from indexer.run import results
from indexer.run.results import Results
from indexer.scan.shape import ScanShape
from indexer.scan.state import Scan
from indexer.store import schema
from indexer.store.packing import codec
from indexer.store.writing.content import ContentHash
from indexer.store.writing.records import NeuronBlock, RunRecord
from indexer.store.writing.run import pack
from tests.helpers import fixture_store, scan_cases
from tests.helpers.neuron_records import block_of, records_of
from tests.helpers.scan_cases import Case, FakeCorpus, FakeModel, cases, fake_facts, relaxed


def two_layers(**shape: Any) -> Case:
    """Two layers of three neurons, eight contexts of five tokens."""
    rng = np.random.default_rng(0)
    table = [torch.tensor(rng.normal(size=(8, 5, 3)), dtype=torch.float32) for _ in range(2)]
    sizes = {"top_k": 2, "bottom_k": 2, "window": 5, "source_slots": 2} | shape
    scan_shape = ScanShape((3, 3), np.arange(6), **sizes)
    return Case(FakeCorpus(np.full(8, 5), True), FakeModel(table), scan_shape, 100, 100)


def test_facts_of_the_weights_stand_beside_those_of_the_data() -> None:
    """Scalars and arrays by name; what is not known is None, or a kurtosis of −inf."""
    case = two_layers()
    asked: list[int] = []

    def facts_of(layer: int) -> Any:
        asked.append(layer)
        return fake_facts(layer)

    records = scan_cases.results_of(case.scan(), case.corpus, facts_of)[0]
    assert asked == [0, 1]  # each layer once, in its turn
    for record in records:
        layer, neuron = record.layer, record.neuron
        scalars = record.scalars
        assert scalars["effect_kurtosis"] == (-np.inf if neuron == 1 else neuron)
        assert scalars["in_out_cosine"] == (None if neuron == 2 else neuron / 10)
        assert scalars["gate_out_cosine"] is None
        assert scalars["promoted_token_id"] == 10 * layer + 2 * neuron
        ids = record.arrays["logit_token_ids"]
        assert ids.tolist() == [10 * layer + 2 * neuron, 10 * layer + 2 * neuron + 1]
        assert record.arrays["logit_values"].tolist() == [1, 1]


@relaxed
@given(cases())
def test_records_are_what_the_store_takes(case: Case) -> None:
    """All names are the codec's and survive it; scalars are the columns; kinds are all there."""
    columns = {column.name for column in schema.neurons.columns}
    for record in scan_cases.records_of(case):
        assert set(record.scalars) | {"id", "run_id", "layer", "neuron", "checksum"} == columns
        assert len(record.examples) == len(schema.KINDS)
        unpacked = codec.unpack_arrays(codec.pack_arrays(record.arrays))
        for name, values in record.arrays.items():
            np.testing.assert_array_equal(unpacked[name], values, err_msg=name)


def written(blocks: list[NeuronBlock], found: Results) -> tuple[list[bytes], ...]:
    """All that is stored and hashed of some scans' results, neuron by neuron."""
    packed = [pack(block) for block in blocks]
    contexts = ContentHash(RUN, "", ())
    for record in found.contexts():
        contexts.add_context(record)
    return (
        [row for one in packed for row in one.hashed],
        [row for one in packed for row in one.arrays],
        [row for one in packed for row in one.lists],
        [contexts.hexdigest().encode()],
    )


RUN: RunRecord = fixture_store.RUNS[0].record()


@relaxed
@given(cases(), st.integers(1, 3), st.data())
def test_blocks_and_slices_change_nothing(case: Case, size: int, data: st.DataObject) -> None:
    """Neurons one a block or in larger ones, of one scan or of two: the same rows are written."""
    whole = Results(case.corpus, never_positive, fake_facts)
    one_by_one = [
        block_of([record]) for block in whole.neurons(case.scan()) for record in records_of(block)
    ]
    layers = len(case.shape.widths)
    cut = data.draw(st.integers(0, layers))
    sliced = Results(case.corpus, never_positive, fake_facts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "_BLOCK_BYTES", size * results._example_bytes(case.shape))
        blocks: list[NeuronBlock] = []
        for first, end in ((0, cut), (cut, layers)):
            if first < end:
                part = replace(case, shape=case.shape.slice(first, end))
                blocks += sliced.neurons(part.scan())
    assert max(map(len, blocks)) <= size
    assert written(blocks, sliced) == written(one_by_one, whole)


@pytest.mark.parametrize("contexts", [3, 11, 500])
def test_a_mean_peak_does_not_depend_on_the_neurons_beside_it(contexts: int) -> None:
    """Rounded the same in one block or another: added up in one order."""
    rng = np.random.default_rng(contexts)
    peaks = (rng.normal(size=(40, contexts)) * 10.0 ** rng.integers(-9, 9, contexts)).astype("f4")
    slots = rng.integers(0, 2, contexts)
    whole = means_by_slot(peaks, slots, 2)
    for size in (1, 2, 7):
        parts = [means_by_slot(peaks[at : at + size], slots, 2) for at in range(0, 40, size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_scan_without_the_sample_has_no_results() -> None:
    """Another process has measured it: the two are to be merged first."""
    case = two_layers()
    scan = Scan(case.shape, case.corpus.source_index, with_sample=False)
    with pytest.raises(ValueError, match="merge it first"):
        next(Results(case.corpus, never_positive, fake_facts).neurons(scan))


def test_sources_beyond_the_eighth_share_a_slot() -> None:
    """Eight sources have a slot each, the rest share the ninth; one source alone has none."""
    assert [source_slots.count_slots(n) for n in (0, 1, 2, 8, 9, 1000)] == [0, 0, 2, 8, 9, 9]
    assert source_slots.slots_of(np.array([0, 7, 8, 999])).tolist() == [0, 7, 8, 8]


def _held(thing: Any) -> int:
    """Bytes of all arrays a part of a scan holds."""
    if isinstance(thing, np.ndarray):
        return thing.nbytes
    if isinstance(thing, Payload):
        return sum(array.nbytes for array in thing.arrays())
    return sum(_held(value) for value in vars(thing).values()) if hasattr(thing, "__dict__") else 0


@pytest.mark.parametrize("slots", [0, 2, 9])
def test_the_memory_told_is_the_memory_held(slots: int) -> None:
    """What a run is told to need is what the scan's arrays take, within a tenth."""
    shape = ScanShape((3000, 3000), np.arange(400), 20, 10, 128, slots)
    scan = Scan(shape, np.zeros(1000, np.int32))
    parts = [value for name, value in vars(scan).items() if name != "shape"]
    held = sum(_held(part) for part in parts)
    assert shape.bytes_held() == pytest.approx(held, rel=0.1)
    one = Selection(6000, 20, 128)
    assert _held(one) == Selection.bytes_for(6000, 20, 128)
