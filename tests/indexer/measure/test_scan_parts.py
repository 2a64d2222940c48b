"""A scan in parts is the scan in one piece: merged, in groups of layers, in slices, carried on."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from indexer.corpus.batches import fill_batch
from indexer.errors import NeurariumError
from indexer.measure.kernels import Scales, batch_sums, sign_sums
from indexer.measure.layer import LayerBatch
from indexer.run.checkpoint import RunFolder
from indexer.scan.loop import scan_batch, scan_batches
from indexer.scan.state import Scan
from tests.helpers.neuron_records import NeuronRecord
from tests.helpers.scan_cases import Case, cases, records_of, relaxed, results_of


def content(records: list[NeuronRecord]) -> list[tuple[object, ...]]:
    """All that records say, comparable."""
    return [
        (
            record.layer,
            record.neuron,
            repr(record.scalars),
            {name: values.tobytes() for name, values in record.arrays.items()},
            [
                {name: values.tobytes() for name, values in vars(examples).items()}
                for examples in record.examples
            ],
        )
        for record in records
    ]


def whole(case: Case) -> list[tuple[object, ...]]:
    """A scan in one piece."""
    return content(records_of(case))


def of_scan(case: Case, scan: Scan) -> list[tuple[object, ...]]:
    """What a scan says that was made some other way."""
    return content(results_of(scan, case.corpus)[0])


@relaxed
@given(cases(), st.integers(1, 4))
def test_scans_of_other_batches_merge_to_the_whole(case: Case, parts: int) -> None:
    """Whoever scans which batches, and in whatever order the scans are merged."""
    plans = case.plans()
    rest = [number for number, plan in enumerate(plans) if plan.part == "rest"]
    sampled = [number for number in range(len(plans)) if number not in rest]
    rng = np.random.default_rng(len(plans) + parts)
    owner = rng.integers(0, parts, len(rest))
    scans = []
    for part in range(parts):
        scan = Scan(case.shape, case.corpus.source_index, with_sample=part == 0)
        mine = [number for number, whose in zip(rest, owner, strict=True) if whose == part]
        todo = (sampled if part == 0 else []) + mine
        scan_batches(case.model, case.corpus, scan, plans, todo, lambda _: None)
        scans.append(scan)
    order = rng.permutation(parts)
    merged = scans[order[0]]
    for part in order[1:]:
        merged.merge(scans[part])
    assert of_scan(case, merged) == whole(case)


@relaxed
@given(cases(), st.sampled_from([1, 1000, 2**31]), st.booleans())
def test_layers_measured_together_are_the_same(case: Case, group_bytes: int, on_cpu: bool) -> None:
    """As on a device that is waited for once for several layers; read as there, and as here."""
    scan = Scan(case.shape, case.corpus.source_index)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LayerBatch, "on_cpu", on_cpu)
        for plan in case.plans():
            scan_batch(case.model, fill_batch(plan, case.corpus, 0), scan, group_bytes)
    assert of_scan(case, scan) == whole(case)


@relaxed
@given(cases(), st.data())
def test_slices_of_layers_are_the_whole(case: Case, data: st.DataObject) -> None:
    """A pass for the first layers and one for the others; neurons keep their numbers."""
    layers = len(case.shape.widths)
    cut = data.draw(st.integers(0, layers))
    together = []
    for first, end in ((0, cut), (cut, layers)):
        if first < end:
            sliced = Case(
                case.corpus,
                case.model,
                case.shape.slice(first, end),
                case.batch_tokens,
                case.block_contexts,
            )
            scan = sliced.scan()
            together += of_scan(case, scan)
    assert together == whole(case)


@relaxed
@given(cases(), st.data())
def test_a_scan_that_is_carried_on_is_the_whole(case: Case, data: st.DataObject) -> None:
    """Kept after any batch, loaded into a new scan, and gone on with."""
    plans = case.plans()
    stop = data.draw(st.integers(0, len(plans)))
    first = Scan(case.shape, case.corpus.source_index)
    done = np.zeros(len(plans), np.bool_)
    scan_batches(case.model, case.corpus, first, plans, range(stop), lambda _: None)
    done[:stop] = True
    with tempfile.TemporaryDirectory() as name:
        folder = RunFolder(Path(name))
        folder.save("one", first, done)
        second, found = Scan(case.shape, case.corpus.source_index), np.zeros_like(done)
        assert folder.load("one", second, found)
        assert not folder.load("two", second, found)
    assert found.tolist() == done.tolist()
    scan_batches(case.model, case.corpus, second, plans, range(stop, len(plans)), lambda _: None)
    assert of_scan(case, second) == whole(case)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    """Cut short, changed by a byte, or of another shape: one line, not wrong numbers."""
    rng = np.random.default_rng(1)
    shape = _case(rng, 3).shape
    scan = Scan(shape, np.zeros(9, np.int32))
    scan.maximum[:] = rng.normal(size=3)
    done = np.zeros(4, np.bool_)
    folder = RunFolder(tmp_path)
    folder.save("one", scan, done)
    path = tmp_path / "one.npz"
    good = path.read_bytes()
    for bad in (good[:-200], good[: len(good) // 2], b"", _flipped(good, scan.maximum.tobytes())):
        path.write_bytes(bad)
        with pytest.raises(NeurariumError, match=r"one\.npz cannot be used"):
            folder.load("one", Scan(shape, np.zeros(9, np.int32)), done)
    path.write_bytes(good)
    assert folder.load("one", Scan(shape, np.zeros(9, np.int32)), done)
    with pytest.raises(NeurariumError, match="cannot be used"):
        folder.load("one", Scan(_case(rng, 4).shape, np.zeros(9, np.int32)), done)


def _flipped(content: bytes, around: bytes) -> bytes:
    place = content.index(around) + 1
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def _case(rng: np.random.Generator, width: int) -> Case:
    from indexer.scan.shape import ScanShape
    from tests.helpers.scan_cases import FakeCorpus, FakeModel

    table = [torch.tensor(rng.normal(size=(9, 5, width)), dtype=torch.float32)]
    shape = ScanShape((width,), np.arange(4), 2, 2, 5)
    return Case(FakeCorpus(np.full(9, 5), True), FakeModel(table), shape, 100, 100)


@pytest.mark.parametrize("neurons", [1, 15, 16, 40])
@pytest.mark.parametrize("threads", [1, 2])
def test_sums_are_those_of_plain_numpy(neurons: int, threads: int) -> None:
    """Powers to float32's rounding; counts of bins, of signs and of what is above 0 exactly."""
    generator = torch.Generator().manual_seed(neurons)
    values = torch.randn(3, 150, neurons, generator=generator)
    values[values.abs() < 0.2] = 0
    linear = torch.randn(3, 150, neurons, generator=generator)
    linear[0, 0] = -0.0
    scales = Scales(
        shift=torch.randn(neurons, generator=generator) / 10,
        scale=torch.full((neurons,), 0.25),
        above=torch.full((neurons,), 8.0),
        below=torch.full((neurons,), 2.0) ** torch.arange(-9, neurons - 9).clamp(max=4),
    )
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():  # as in a forward pass; each thread has a mode of its own
            sums = batch_sums(values.clone(), scales)
            signs = sign_sums(values.clone(), linear.clone())
    finally:
        torch.set_num_threads(before)
    flat = values.flatten(0, 1).double().numpy()
    centred = (flat - scales.shift.numpy()) / 4
    for power in range(4):
        expected = (centred ** (power + 1)).sum(axis=0)
        tolerance = 1e-6 * (np.abs(centred) ** (power + 1)).sum(axis=0).max()
        np.testing.assert_allclose(sums.powers[power].numpy(), expected, rtol=0, atol=tolerance)
    assert sums.positive.tolist() == (flat > 0).sum(axis=0).tolist()
    for neuron in range(neurons):
        column = flat[:, neuron]
        step = np.where(column >= 0, 8.0, float(scales.below[neuron]))
        bins = np.floor(column * step).astype(int) + 128
        assert sums.counts[neuron].tolist() == np.bincount(bins, minlength=256).tolist()
    gate, through = flat > 0, linear.flatten(0, 1).numpy() > 0
    expected_signs = [(gate & through).sum(axis=0), gate.sum(axis=0), through.sum(axis=0)]
    assert signs.numpy().astype(int).tolist() == np.stack(expected_signs).tolist()
