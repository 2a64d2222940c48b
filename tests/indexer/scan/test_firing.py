"""Sparse sets against brute force: densities, histograms and choices over everything that fires."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.measure.peaks import PEAK_QUANTILES
from indexer.scan.loop import scan_batches
from indexer.scan.shape import ScanShape
from indexer.scan.state import Scan
from indexer.store.bands import BAND_QUANTILES
from indexer.store.sizes import BAND_EXAMPLES, FIRING_PEAKS, RANDOM_EXAMPLES
from indexer.workers.orders import Order, OrderScanner, bounds_of, merge
from tests.helpers.scan_cases import (
    Case,
    FakeCorpus,
    FakeModel,
    records_of,
    results_of,
    results_of_all,
)

RANDOM, BAND = 2, 3

fewer = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def sparse_cases(draw: st.DrawFn) -> Case:
    """Units that fire rarely, always, or never, over more contexts than peaks are kept of."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    contexts = draw(st.sampled_from([3, 40, 300]))
    lengths = rng.integers(3, 7, contexts)
    widths = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=2)))
    table = []
    for width in widths:
        values = np.abs(rng.normal(size=(contexts, 6, width))) * 10.0 ** rng.integers(-3, 3, width)
        rates = rng.choice([0, 0.002, 0.05, 0.5, 1], width)
        values = np.where(rng.random(values.shape) < rates, values, 0)
        if draw(st.booleans()):
            values = np.round(values, 1)
        table.append(torch.tensor(values, dtype=torch.float32))
    corpus = FakeCorpus(lengths, draw(st.booleans()), draw(st.sampled_from([1, 3])))
    order = rng.permutation(contexts)
    ranks = np.empty(contexts, np.int32)
    ranks[order] = np.arange(contexts)
    shape = ScanShape(
        widths=widths,
        sample=order[: draw(st.integers(1, contexts))].astype(np.int64),
        top_k=draw(st.integers(1, 5)),
        bottom_k=0,
        window=4,
        source_slots=3 if corpus.source_count == 3 else 0,
        ranks=ranks,
    )
    return Case(corpus, FakeModel(table), shape, draw(st.sampled_from([7, 100])), 20)


@fewer
@given(sparse_cases())
def test_every_choice_is_that_of_a_full_sort(case: Case) -> None:
    """Top, random and band examples, and bands, are those of the contexts in which a unit fires."""
    ranks = case.shape.ranks
    assert ranks is not None
    for record in records_of(case):
        peaks = np.array(case.peaks(record.layer, record.neuron, np.max))
        firing = [c for c in np.argsort(ranks).tolist() if peaks[c] > 0]
        by_peak = sorted(firing, key=lambda c: (-peaks[c], c))
        assert record.examples[0].context_ids.tolist() == by_peak[: case.shape.top_k]
        assert len(record.examples[1]) == 0
        shown = firing[:RANDOM_EXAMPLES]
        assert record.examples[RANDOM].context_ids.tolist() == shown
        kept = peaks[firing[:FIRING_PEAKS]].astype(np.float64)
        if not len(kept):
            assert np.isnan(record.arrays["band_cuts"]).all()
            assert not record.arrays["band_counts"].any()
            assert record.scalars["density"] == 0
            assert record.scalars["dead"]
            continue
        cuts = np.quantile(kept, BAND_QUANTILES)
        np.testing.assert_allclose(record.arrays["band_cuts"], cuts, rtol=1e-12)
        np.testing.assert_allclose(
            record.arrays["peak_quantiles"], np.quantile(kept, PEAK_QUANTILES), rtol=1e-12
        )
        cuts = record.arrays["band_cuts"]
        bands = [int((peak >= cuts).sum()) for peak in kept]
        assert record.arrays["band_counts"].tolist() == np.bincount(bands, minlength=4).tolist()
        by_band = [
            [c for c in shown if int((np.float64(peaks[c]) >= cuts).sum()) == band][:BAND_EXAMPLES]
            for band in range(4)
        ]
        assert record.examples[BAND].context_ids.tolist() == list(chain(*by_band))
        assert record.arrays["peak_histogram_counts"].sum() == len(kept)


@fewer
@given(sparse_cases())
def test_what_fires_is_counted_over_everything(case: Case) -> None:
    """Densities and histograms are exact over all contexts; moments are the sample's."""
    for record in records_of(case):
        of_all = [
            case.included(record.layer, context, record.neuron)
            for context in range(len(case.corpus.lengths))
        ]
        values = np.concatenate(of_all)
        assert record.scalars["density"] == (values > 0).sum() / len(values)
        counts = record.arrays["histogram_counts"]
        assert counts.sum() == (values > 0).sum()
        if counts.sum():
            low, width = record.arrays["histogram_range"]
            edges = low + width * np.arange(len(counts) + 1)
            assert counts.tolist() == np.histogram(values[values > 0], edges)[0].tolist()
        sampled = np.concatenate([of_all[context] for context in case.shape.sample])
        sampled = sampled.astype(np.float64)
        np.testing.assert_allclose(record.scalars["mean"], sampled.mean(), rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(record.scalars["std"], sampled.std(), rtol=1e-5, atol=1e-9)


@fewer
@given(sparse_cases(), st.integers(0, 2**16))
def test_the_order_of_batches_and_who_measures_them_change_nothing(case: Case, seed: int) -> None:
    """Shards merged in any order, and workers' orders, give exactly what one scan gives."""
    plans = case.plans()
    sampled = [number for number, plan in enumerate(plans) if plan.part != "rest"]
    rest = np.random.default_rng(seed).permutation(
        [number for number, plan in enumerate(plans) if plan.part == "rest"]
    )
    first, second = (list(map(int, part)) for part in np.array_split(rest, 2))

    def scanned(todo: list[int], with_sample: bool) -> Scan:
        scan = Scan(case.shape, case.corpus.source_index, with_sample=with_sample)
        scan_batches(case.model, case.corpus, scan, plans, todo, lambda _: None)
        return scan

    sharded = scanned(second, False)
    sharded.merge(scanned([*sampled, *first], True))

    crewed = Scan(case.shape, case.corpus.source_index)
    worker = OrderScanner(case.model, case.corpus, case.corpus.source_index)
    for todo in ([*sampled], first, second):
        assert crewed.firing is not None
        order = Order(
            case.shape,
            tuple(plans[number] for number in todo),
            bounds_of(crewed),
            todo == sampled and bool(sampled),
            crewed.firing.peaks.floor.copy(),
        )
        if todo:
            merge(crewed, worker.scan(order))

    expected = results_of(case.scan(), case.corpus)
    for scan in (sharded, crewed):
        records, contexts = results_of(scan, case.corpus)
        assert [context.context_id for context in contexts] == [
            context.context_id for context in expected[1]
        ]
        for one, other in zip(records, expected[0], strict=True):
            assert one.scalars.keys() == other.scalars.keys()
            np.testing.assert_equal(one.scalars, other.scalars)
            np.testing.assert_equal(one.arrays, other.arrays)
            for mine, its in zip(one.examples, other.examples, strict=True):
                np.testing.assert_equal(vars(mine), vars(its))


@fewer
@given(sparse_cases(), st.data())
def test_a_layer_in_slices_is_the_whole(case: Case, data: st.DataObject) -> None:
    """Some units of a layer a pass; what compares units with each other still sees all of them."""
    shapes = []
    for layer, width in enumerate(case.shape.widths):
        inner = data.draw(st.lists(st.integers(1, width), max_size=2))
        edges = sorted({0, *inner, width})
        shapes += [case.shape.units(layer, *cut) for cut in pairwise(edges)]
    scans = [replace(case, shape=shape).scan() for shape in shapes]

    def peaks_of(layer: int) -> np.ndarray[Any, Any]:
        parts = [scan.sample for scan in scans if scan.shape.first_layer == layer]
        return np.concatenate([part.peaks for part in parts if part is not None])

    records, contexts = results_of_all(scans, case.corpus, peaks_of=peaks_of)
    expected, of_whole = results_of(case.scan(), case.corpus)
    assert [one.context_id for one in contexts] == [one.context_id for one in of_whole]
    for one, other in zip(records, expected, strict=True):
        assert (one.layer, one.neuron) == (other.layer, other.neuron)
        np.testing.assert_equal(one.scalars, other.scalars)
        np.testing.assert_equal(one.arrays, other.arrays)
        for mine, its in zip(one.examples, other.examples, strict=True):
            np.testing.assert_equal(vars(mine), vars(its))
    with pytest.raises(ValueError, match="whole layer's"):
        results_of(scans[0], case.corpus)


def test_a_never_firing_unit_touches_no_examples() -> None:
    """Its places stay as they were made."""
    corpus = FakeCorpus(np.full(30, 4), True, 1)
    shape = ScanShape(
        widths=(3,),
        sample=np.arange(10),
        top_k=2,
        bottom_k=0,
        window=4,
        ranks=np.arange(30, dtype=np.int32),
    )
    values = torch.zeros(30, 4, 3)
    values[:, 2, 1] = 1.5
    scan = Case(corpus, FakeModel([values]), shape, 100, 20).scan()
    assert scan.firing is not None
    assert scan.sample is not None
    for silent in (0, 2):
        assert not scan.firing.peaks.keys[silent].any()
        assert not scan.top.payload.quantized.reshape(3, -1)[silent].any()
        assert not scan.sample.peaks[silent].any()
    assert scan.firing.counts.tolist() == [0, 30, 0]


def test_only_sparse_shapes_are_measured_where_they_fire() -> None:
    """A shape without ranks has no firing scan."""
    from indexer.scan.firing import FiringScan

    shape = ScanShape(widths=(1,), sample=np.arange(1), top_k=1, bottom_k=0, window=2)
    assert Scan(shape, np.zeros(1, np.int32)).firing is None
    with pytest.raises(ValueError, match="sparse"):
        FiringScan(shape)
    assert replace(shape, ranks=np.zeros(1, np.int32)).sparse
