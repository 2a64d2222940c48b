"""Finds the neurons that fire most for each token of a text, or on only one of two texts.

Activations come a layer at a time, so that never more than one layer is in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

Array = np.ndarray[Any, Any]
References = Callable[[int], "Reference"]
"""From a layer to what its activations are compared with."""
Layers = Callable[[Callable[[int, Float32[np.ndarray, "pos n"]], None]], None]
"""One forward pass over a text, as `OpenText.each_layer`."""


@dataclass(frozen=True)
class Histograms:
    """The histograms of a layer's activations over the sample's positions."""

    start: Float64[np.ndarray, " n"]
    """The lowest edge."""
    width: Float64[np.ndarray, " n"]
    below: Int64[np.ndarray, "n edges"]
    """The number of positions below each edge."""
    bins: Int64[np.ndarray, " n"]
    """The number of bins."""


@dataclass(frozen=True)
class Reference:
    """What the activations of a layer's neurons are compared with."""

    max: Float64[np.ndarray, " n"]
    """Over the whole corpus; with both signs, the largest magnitude."""
    compared: Bool[np.ndarray, " n"]
    """Whether the neuron is: not dead, with a maximum above 0 and, by percentile, a histogram."""
    histograms: Histograms | None
    """By percentile."""
    both_signs: bool = False
    """Whether values below 0 say as much as values above it."""

    def of_maximum(self, activations: Float32[np.ndarray, "pos n"]) -> Float64[np.ndarray, "pos n"]:
        """Activation ÷ maximum, with both signs its magnitude; 0 if the neuron does not fire or is
        not compared."""
        sizes = np.where(self._fires(activations), np.abs(activations), 0)
        return sizes / np.where(self.compared, self.max, 1.0)

    def _fires(self, activations: Float32[np.ndarray, "pos n"]) -> Bool[np.ndarray, "pos n"]:
        on = activations != 0 if self.both_signs else activations > 0
        fires: Bool[np.ndarray, "pos n"] = on & self.compared
        return fires

    def shares(self, activations: Float32[np.ndarray, "pos n"]) -> Float64[np.ndarray, "pos n"]:
        """As `of_maximum`; by percentile, the share of the sample's positions in lower bins of the
        histogram. With both signs it is |2 · share − 1|: 1 at either end, 0 at the median."""
        if self.histograms is None:
            return self.of_maximum(activations)
        histograms = self.histograms
        shares = np.zeros(activations.shape)
        at, neurons = np.nonzero(self._fires(activations))
        values = activations[at, neurons].astype(np.float64)
        edges = np.floor((values - histograms.start[neurons]) / histograms.width[neurons])
        passed = np.clip(edges, 0, histograms.bins[neurons]).astype(np.int64)
        total = histograms.below[neurons, histograms.bins[neurons]]
        lower = histograms.below[neurons, passed] / total
        shares[at, neurons] = np.abs(2 * lower - 1) if self.both_signs else lower
        return shares


PEAK_COLUMNS = ("activation", "share", "position")
"""What a contrast has of a neuron's peak in each text; positions are as in `Firing`."""
_SIDES = tuple(f"{name} {side}" for side in "ab" for name in PEAK_COLUMNS)


class Top:
    """The `k` highest values of each row, over all layers. Ties are decided by a second number (the
    higher first), then by layer and neuron. `columns` are arrays [entries] by name, row by row."""

    def __init__(self, rows: int, k: int, *more: str) -> None:
        """`more`: names of columns besides value, tie, row, layer and neuron."""
        self.k = k
        self._names = ("value", "tie", "row", "layer", "neuron", *more)
        self.columns: dict[str, Array] = {
            name: np.empty(0, np.int64 if name in ("row", "layer", "neuron") else np.float64)
            for name in self._names
        }
        self._least = np.zeros(rows)

    def add(
        self,
        layer: int,
        values: Float64[np.ndarray, "rows n"],
        ties: Float64[np.ndarray, "rows n"],
        *more: Array,
    ) -> None:
        """Add a layer's neurons; only values above 0 count. `more`: the values [rows, n] of the
        further columns."""
        n = values.shape[1]
        least = self._least
        if n > self.k:  # no value below the layer's own k-th can be among the k highest
            least = np.maximum(least, np.partition(values, n - self.k, axis=1)[:, n - self.k])
        rows, neurons = np.nonzero((values >= least[:, None]) & (values > 0))
        candidates = [column[rows, neurons] for column in (values, ties, *more)]
        fields = [*candidates[:2], rows, np.full(len(rows), layer), neurons, *candidates[2:]]
        merged = {
            name: np.concatenate([self.columns[name], field])
            for name, field in zip(self._names, fields, strict=True)
        }
        order = np.lexsort(
            (merged["neuron"], merged["layer"], -merged["tie"], -merged["value"], merged["row"])
        )
        in_order = merged["row"][order]
        rank = np.arange(len(order)) - np.searchsorted(in_order, in_order)
        self.columns = {name: field[order[rank < self.k]] for name, field in merged.items()}
        last = order[rank == self.k - 1]
        self._least[merged["row"][last]] = merged["value"][last]


@dataclass(frozen=True)
class Peaks:
    """The peak of each neuron of a layer in a text; with both signs, its largest magnitude."""

    activations: Float32[np.ndarray, " n"]
    positions: Int64[np.ndarray, " n"]
    """Counted from the first included position; the earliest of equals."""

    @staticmethod
    def of(activations: Float32[np.ndarray, "pos n"], *, both_signs: bool) -> Peaks:
        """The peaks of a layer's activations."""
        at = (np.abs(activations) if both_signs else activations).argmax(axis=0)
        return Peaks(activations[at, np.arange(activations.shape[1])], at)


@dataclass(frozen=True)
class Firing:
    """The neurons that fire on a text. Positions are counted from the first included one."""

    top: dict[str, Array]
    """The `k` highest at each position, as columns [entries]: value (share), tie (share of the
    maximum), row (position), layer, neuron, activation."""
    shares: Float64[np.ndarray, "layers pos"]
    """The highest share in each layer; 0: no neuron fires."""
    strongest: Int64[np.ndarray, "layers pos"]
    """The neuron with that share."""
    compared: int
    """The number of neurons that were compared."""


def fire(layers: Layers, references: References, length: int, k: int) -> Firing:
    """The `k` neurons that fire most at each of `length` included positions."""
    return _Pass(references, length, k).run(layers)


def contrast(
    layers: Layers,
    against: Layers,
    references: References,
    length: int,
    k: int,
    *,
    both_signs: bool = False,
) -> tuple[Firing, dict[str, Array], dict[str, Array]]:
    """As `fire` for the first of two texts, and the neurons whose highest shares differ most: first
    those higher in the first text, then those higher in the second, at most `k` each. Their columns
    [entries] are layer, neuron, `value` (the difference) and, for each text `a` and `b`,
    `PEAK_COLUMNS`.

    The second text runs first, and only its peaks stay in memory, so that each layer's reference is
    needed only once.
    """
    others: list[Peaks] = []
    against(lambda _, acts: others.append(Peaks.of(acts, both_signs=both_signs)))
    first = _Pass(references, length, k, others)
    firing = first.run(layers)
    return firing, first.more.columns, first.less.columns


class _Pass:
    """Collects the result of one forward pass; `others` are the peaks of a second text."""

    def __init__(
        self, references: References, length: int, k: int, others: list[Peaks] | None = None
    ) -> None:
        self._references = references
        self._others = others
        self._top = Top(length, k, "activation")
        self.more, self.less = Top(1, k, *_SIDES), Top(1, k, *_SIDES)
        self._shares: list[Array] = []
        self._strongest: list[Array] = []
        self._compared = 0

    def run(self, layers: Layers) -> Firing:
        """Run the forward pass."""
        layers(self._add)
        return Firing(
            top=self._top.columns,
            shares=np.array(self._shares),
            strongest=np.array(self._strongest),
            compared=self._compared,
        )

    def _add(self, layer: int, activations: Float32[np.ndarray, "pos n"]) -> None:
        reference = self._references(layer)
        shares, ties = reference.shares(activations), reference.of_maximum(activations)
        self._compared += int(reference.compared.sum())
        self._top.add(layer, shares, ties, activations)
        highest = shares.max(axis=1)
        # Of several with the highest share, the neuron nearest its maximum, then the first.
        strongest = np.where(shares == highest[:, None], ties, -1.0).argmax(axis=1)
        self._shares.append(highest)
        self._strongest.append(strongest)
        if self._others is not None:
            mine = Peaks.of(activations, both_signs=reference.both_signs)
            self._compare(layer, reference, mine, self._others[layer])

    def _compare(self, layer: int, reference: Reference, a: Peaks, b: Peaks) -> None:
        acts_a, acts_b = a.activations[None], b.activations[None]
        share_a, share_b = reference.shares(acts_a), reference.shares(acts_b)
        ties = reference.of_maximum(acts_a) - reference.of_maximum(acts_b)
        sides = (acts_a, share_a, a.positions[None], acts_b, share_b, b.positions[None])
        self.more.add(layer, share_a - share_b, ties, *sides)
        self.less.add(layer, share_b - share_a, -ties, *sides)
