"""Correlations of peaks against numpy's, their ties and what has none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.measure.together import together
from tests.helpers.scan_cases import Case, cases, records_of, relaxed


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(2, 30), st.integers(1, 200))
@relaxed
def test_the_highest_correlations_are_numpys(
    seed: int, neurons: int, contexts: int, block: int
) -> None:
    """Sorted by (correlation, index), as float32, whatever the block: as np.corrcoef says."""
    rng = np.random.default_rng(seed)
    peaks = rng.normal(size=(neurons, contexts)).astype(np.float32)
    peaks[rng.random(neurons) < 0.3] = peaks[0]  # ties, exactly
    near = rng.random(neurons) < 0.3  # too near for float32 to tell apart
    peaks[near] = peaks[0] * (1 + 1e-6 * rng.normal(size=(near.sum(), contexts)))
    peaks[rng.random(neurons) < 0.2] *= -1
    peaks[rng.random(neurons) < 0.2] = 0.1
    found = together(peaks, 5, block=block)
    varies = peaks.min(axis=1) != peaks.max(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        truth = np.atleast_2d(np.corrcoef(peaks.astype(np.float64))).astype(np.float32)
    for neuron in range(neurons):
        others = [n for n in range(neurons) if varies[n] and n != neuron] if varies[neuron] else []
        best = sorted((-float(truth[neuron, n]), n) for n in others)[:5]
        count = int(found.counts[neuron])
        assert count == len(best)
        values, indices = found.values[neuron, :count], found.neurons[neuron, :count]
        np.testing.assert_allclose(values, [-value for value, _ in best], rtol=1e-6, atol=1e-7)
        for value, index in zip(values, indices, strict=True):
            assert truth[neuron, index] == pytest.approx(float(value), rel=1e-6, abs=1e-7)
        pairs = list(zip((-values).tolist(), indices.tolist(), strict=True))
        assert pairs == sorted(pairs)


def test_ties_go_to_the_lower_index() -> None:
    """Neurons with the same peaks are equally close to all others: the first ones are named."""
    one = np.array([0.1, 0.7, 0.2, 0.4], np.float32)
    peaks = np.stack([one] * 9 + [-one, one[::-1], one * 0])
    for block in (1, 30, 1 << 20):
        found = together(peaks, 3, block=block)
        assert found.counts.tolist() == [3] * 11 + [0]
        assert found.neurons[0].tolist() == [1, 2, 3]
        assert found.neurons[2].tolist() == [0, 1, 3]
        assert found.neurons[8].tolist() == [0, 1, 2]
        assert found.values[8].tolist() == [1.0, 1.0, 1.0]
        assert found.neurons[9].tolist() == [10, 0, 1]  # −1 with all but the reversed one


def test_few_neurons_have_few_others() -> None:
    """A neuron alone in its layer, or alone in varying, has none; no sample either."""
    varied = np.array([[1.0, 2.0, 3.0]], np.float32)
    assert together(varied).counts.tolist() == [0]
    still = np.concatenate([varied, np.ones((2, 3), np.float32)])
    assert together(still).counts.tolist() == [0, 0, 0]
    assert together(np.ones((3, 1), np.float32)).counts.tolist() == [0, 0, 0]
    three = np.concatenate([varied, -varied, still[:1] ** 2])
    found = together(three)
    assert found.counts.tolist() == [2, 2, 2]
    assert found.neurons[:, :2].tolist() == [[2, 1], [2, 0], [0, 1]]


@relaxed
@given(cases())
def test_a_records_others_are_of_its_layer(case: Case) -> None:
    """Indices are flat over all layers and stay within the neuron's own; never itself."""
    begins = np.concatenate([[0], np.cumsum(case.shape.widths)])
    for record in records_of(case):
        others = record.arrays["together_neurons"]
        assert len(others) == len(record.arrays["together_values"]) <= 5
        assert (others >= begins[record.layer]).all()
        assert (others < begins[record.layer + 1]).all()
        assert begins[record.layer] + record.neuron not in others
        peaks = [
            [case.peaks(record.layer, n, np.max)[c] for c in case.shape.sample]
            for n in range(case.shape.widths[record.layer])
        ]
        moving = [n for n, row in enumerate(peaks) if min(row) != max(row)]
        expected = len(moving) - 1 if record.neuron in moving else 0
        assert len(others) == min(5, expected)
