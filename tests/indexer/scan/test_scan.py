"""The scan against brute force: known activations, every number worked out again independently."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from indexer.errors import NeurariumError
from indexer.measure.peaks import PEAK_QUANTILES
from indexer.models.units import never_large, never_positive
from indexer.scan.shape import ScanShape
from indexer.store.packing.codec import activations_of, peak_unit
from indexer.store.sizes import RANDOM_EXAMPLES
from tests.helpers.scan_cases import (
    Case,
    FakeCorpus,
    FakeModel,
    cases,
    records_of,
    relaxed,
    results_of,
)


@relaxed
@given(cases())
def test_top_and_bottom_are_those_of_a_full_sort(case: Case) -> None:
    """Top and bottom examples equal a sort of all contexts by (value, context id)."""
    for record in records_of(case):
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
    for record in records_of(case):
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
                window = case.shape.window
                assert kept == min(length, window)
                assert 0 <= start <= length - kept
                centre = examples.trough_positions if kind == 1 else examples.peak_positions
                assert start <= centre[index] < start + kept
                positions = np.arange(start, start + kept)
                counted = positions >= first
                truth = row[positions[counted] - first]
                values, places = activations_of(examples)
                stored = values[places[index] : places[index + 1]][counted]
                bound = np.abs(truth).max(initial=0) / 254 * 1.001 + 1e-37
                assert np.abs(stored - truth).max(initial=0) <= bound


@relaxed
@given(cases())
def test_sample_statistics_are_those_of_the_sample(case: Case) -> None:
    """Extremes are over everything; moments, densities, quantiles, histogram over the sample."""
    sample = case.shape.sample
    for record in records_of(case):
        everything = [
            case.included(record.layer, c, record.neuron) for c in range(len(case.corpus.lengths))
        ]
        scalars, arrays = record.scalars, record.arrays
        assert scalars["max"] == max(row.max() for row in everything)
        assert scalars["min"] == min(row.min() for row in everything)
        assert scalars["dead"] == (scalars["max"] <= 0)
        values = np.concatenate([everything[c] for c in sample]).astype(np.float64)
        # Powers are taken in float32, of what is left when about the mean is taken off.
        spread = np.ptp(values)
        close = {"rel": 1e-9, "abs": 5e-7 * spread}
        assert scalars["mean"] == pytest.approx(values.mean(), **close)
        assert scalars["std"] == pytest.approx(values.std(), **close)
        if values.std() > 0.05 * spread:
            standard = (values - values.mean()) / values.std()
            assert scalars["skewness"] == pytest.approx((standard**3).mean(), rel=1e-5, abs=1e-5)
            assert scalars["kurtosis"] == pytest.approx(
                (standard**4).mean() - 3, rel=1e-5, abs=1e-5
            )
        elif spread == 0:
            assert scalars["std"] == 0
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
    for record in records_of(case):
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
def test_every_context_that_an_example_names_is_there(case: Case) -> None:
    """Once, in order, and no other."""
    scan = case.scan()
    neurons, contexts = results_of(scan, case.corpus)
    used = {int(c) for record in neurons for some in record.examples for c in some.context_ids}
    assert [record.context_id for record in contexts] == sorted(used)
    for context in contexts:
        assert context.source_index == case.corpus.source_index[context.context_id]


@relaxed
@given(cases(), st.sampled_from([2, 9, 500]))
def test_batch_size_changes_no_selection(case: Case, batch_tokens: int) -> None:
    """The same contexts in other batches give the same examples, histograms and bands."""
    other = Case(case.corpus, case.model, case.shape, batch_tokens, 4096)
    for one, two in zip(records_of(case), records_of(other), strict=True):
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
    scan = case.scan()
    assert never_large(scan.maximum, scan.minimum).tolist() == [False, True]
    assert never_positive(scan.maximum, scan.minimum).tolist() == [True, False]


@relaxed
@given(cases())
def test_sources_have_their_own_best(case: Case) -> None:
    """By source: the 3 highest peaks of each slot over all contexts, slots in order."""
    slots = np.minimum(case.corpus.source_index, 8)
    count = case.corpus.source_count
    assert case.shape.source_slots == (0 if count == 1 else min(count, 9))
    for record in records_of(case):
        peaks = case.peaks(record.layer, record.neuron, np.max)
        expected = []
        for slot in range(case.shape.source_slots):
            members = np.flatnonzero(slots == slot).tolist()
            expected += sorted(members, key=lambda c: (-peaks[c], c))[:3]
        by_source = record.examples[4]
        assert by_source.context_ids.tolist() == expected
        assert by_source.peaks.tolist() == [peaks[c] for c in expected]
        sample = case.shape.sample
        means = record.arrays["source_mean_peaks"]
        assert len(means) == case.shape.source_slots
        for slot, mean in enumerate(means):
            ours = [float(peaks[c]) for c in sample if slots[c] == slot]
            assert mean == pytest.approx(np.mean(ours), rel=1e-12) if ours else np.isnan(mean)


@relaxed
@given(cases())
def test_peaks_of_the_first_contexts_are_kept(case: Case) -> None:
    """In the sample's order, as float16 of a power of two that none exceeds."""
    for record in records_of(case):
        peaks = np.array(case.peaks(record.layer, record.neuron, np.max), np.float64)
        low, high = (np.array([float(record.scalars[name] or 0)]) for name in ("min", "max"))
        (unit,) = peak_unit(low, high)
        kept = record.arrays["sample_peaks"]
        assert kept.dtype == np.float16
        assert np.abs(kept).max() <= 1
        largest = max(abs(low[0]), abs(high[0]))
        assert unit == 1 if largest == 0 else unit / 2 <= largest < unit
        expected = peaks[case.shape.sample][:256]
        assert len(kept) == len(expected)
        error = np.abs(kept.astype(np.float64) * unit - expected)
        # Half a last place of float16's 11 bits; below 2^-14 of the unit the places stay.
        assert (error <= np.maximum(np.abs(expected), unit * 2.0**-14) * 2.0**-11).all()


@relaxed
@given(cases())
def test_gates_and_linear_parts_are_those_at_the_centre(case: Case) -> None:
    """Each example has the parts at its peak, bottom ones at their trough; else NaN."""
    first = int(case.corpus.bos)
    for record in records_of(case):
        for kind, examples in enumerate(record.examples):
            centres = examples.trough_positions if kind == 1 else examples.peak_positions
            for name in ("gates", "linears"):
                stored, table = getattr(examples, name), getattr(case.model, name)
                assert stored.dtype == np.float32
                if table is None:
                    assert np.isnan(stored).all()
                    continue
                expected = [
                    case.included(record.layer, int(context), record.neuron, table)[at - first]
                    for context, at in zip(examples.context_ids, centres, strict=True)
                ]
                assert stored.tolist() == expected


@relaxed
@given(cases())
def test_signs_are_counted_over_the_sample(case: Case) -> None:
    """The four pairs of signs of gate and linear part, over the sample's included positions."""
    for record in records_of(case):
        gates, linears = case.model.gates, case.model.linears
        if gates is None:
            assert "sign_counts" not in record.arrays
            continue
        pairs = [
            np.concatenate(
                [case.included(record.layer, int(c), record.neuron, of) for c in case.shape.sample]
            )
            > 0
            for of in (gates, linears)
        ]
        gate, linear = pairs
        expected = [gate & linear, gate & ~linear, ~gate & linear, ~gate & ~linear]
        assert record.arrays["sign_counts"].tolist() == [int(some.sum()) for some in expected]


@relaxed
@given(cases())
def test_peaks_are_counted_in_forty_bins(case: Case) -> None:
    """The histogram of the sample's peaks is numpy's own; equal peaks are one bin of width 0."""
    for record in records_of(case):
        peaks = case.peaks(record.layer, record.neuron, np.max)
        sample = np.array([peaks[c] for c in case.shape.sample], np.float64)
        start, width = record.arrays["peak_histogram_range"]
        counts = record.arrays["peak_histogram_counts"]
        assert start == sample.min()
        if sample.min() == sample.max():
            assert (width, counts.tolist()) == (0, [len(sample)])
        else:
            expected, edges = np.histogram(sample, bins=40)
            assert counts.tolist() == expected.tolist()
            far = max(abs(edges[0]), abs(edges[-1]))  # the end may be a sum that all but cancels
            assert start + 40 * width == pytest.approx(edges[-1], rel=1e-12, abs=1e-12 * far)
