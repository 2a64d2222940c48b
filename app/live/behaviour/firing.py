"""Pure: a text's activations, a layer at a time → the neurons that fire most for each token, and
those that fire on one of two texts alone. Never more than one layer is held whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

Array = np.ndarray[Any, Any]
Grounds = Callable[[int], "Ground"]
"""What each layer's neurons are compared by."""
Layers = Callable[[Callable[[int, Float32[np.ndarray, "pos n"]], None]], None]
"""One forward pass over a text, as `live.OpenText.each_layer`."""


@dataclass(frozen=True)
class Histograms:
    """The histograms of a layer's activations over the sample's positions."""

    start: Float64[np.ndarray, " n"]
    """The lowest edge."""
    width: Float64[np.ndarray, " n"]
    below: Int64[np.ndarray, "n edges"]
    """Positions in the bins before each edge."""
    bins: Int64[np.ndarray, " n"]


@dataclass(frozen=True)
class Ground:
    """One layer, as far as comparing its neurons goes."""

    max: Float64[np.ndarray, " n"]
    compared: Bool[np.ndarray, " n"]
    """Those that can be: not dead, with a maximum above 0 and a histogram where one is needed."""
    histograms: Histograms | None

    def of_maximum(self, activations: Float32[np.ndarray, "pos n"]) -> Float64[np.ndarray, "pos n"]:
        """Activation ÷ maximum; 0 where a neuron does not fire or is not compared."""
        fires = (activations > 0) & self.compared
        return np.where(fires, activations, 0) / np.where(self.compared, self.max, 1.0)

    def shares(self, activations: Float32[np.ndarray, "pos n"]) -> Float64[np.ndarray, "pos n"]:
        """As `of_maximum`; by percentile: the share of positions in bins wholly below."""
        if self.histograms is None:
            return self.of_maximum(activations)
        some = self.histograms
        shares = np.zeros(activations.shape)
        at, neurons = np.nonzero((activations > 0) & self.compared)
        values = activations[at, neurons].astype(np.float64)
        edges = np.floor((values - some.start[neurons]) / some.width[neurons])
        passed = np.clip(edges, 0, some.bins[neurons]).astype(np.int64)
        below, every = some.below[neurons, passed], some.below[neurons, some.bins[neurons]]
        shares[at, neurons] = below / every
        return shares


OF_ONE = ("activation", "share", "position")
"""What a contrast says of a neuron in either text; the position as in `Firing`."""
_SIDES = tuple(f"{name} {side}" for side in "ab" for name in OF_ONE)


class Top:
    """The `k` highest of each row over all layers; ties by a second number, layer and neuron."""

    def __init__(self, rows: int, k: int, *more: str) -> None:
        """`more`: names of what is kept beside each one."""
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
        """A layer's neurons; only values above 0 count."""
        n = values.shape[1]
        least = self._least
        if n > self.k:  # whatever is below the layer's own k-th cannot be among the k of all
            least = np.maximum(least, np.partition(values, n - self.k, axis=1)[:, n - self.k])
        rows, neurons = np.nonzero((values >= least[:, None]) & (values > 0))
        taken = [one[rows, neurons] for one in (values, ties, *more)]
        fields = [*taken[:2], rows, np.full(len(rows), layer), neurons, *taken[2:]]
        found = {
            name: np.concatenate([self.columns[name], field])
            for name, field in zip(self._names, fields, strict=True)
        }
        order = np.lexsort(
            (found["neuron"], found["layer"], -found["tie"], -found["value"], found["row"])
        )
        in_order = found["row"][order]
        rank = np.arange(len(order)) - np.searchsorted(in_order, in_order)
        self.columns = {name: field[order[rank < self.k]] for name, field in found.items()}
        last = order[rank == self.k - 1]
        self._least[found["row"][last]] = found["value"][last]


@dataclass(frozen=True)
class Peaks:
    """Where each neuron of a layer is highest in a text."""

    activations: Float32[np.ndarray, " n"]
    positions: Int64[np.ndarray, " n"]
    """Of the included ones, the earliest."""

    @staticmethod
    def of(activations: Float32[np.ndarray, "pos n"]) -> Peaks:
        """Of one layer."""
        at = activations.argmax(axis=0)
        return Peaks(activations[at, np.arange(activations.shape[1])], at)


@dataclass(frozen=True)
class Firing:
    """One text, over all layers. Positions are counted from the first included one."""

    top: dict[str, Array]
    """The `k` highest of each position, one after the other: value, tie (of maximum), row (its
    position), layer, neuron, activation."""
    shares: Float64[np.ndarray, "layers pos"]
    """The highest of each layer; 0: none fires."""
    strongest: Int64[np.ndarray, "layers pos"]
    compared: int


def fire(layers: Layers, grounds: Grounds, length: int, k: int) -> Firing:
    """The neurons that fire most at each of `length` included positions."""
    return _Reading(grounds, length, k).read(layers)


def contrast(
    layers: Layers, against: Layers, grounds: Grounds, length: int, k: int
) -> tuple[Firing, dict[str, Array], dict[str, Array]]:
    """The same of the first of two texts, and the neurons whose highest shares in both differ most:
    those higher in the first, those higher in the second. Of each its layer, its neuron, the
    difference as `value`, and of either text, `a` and `b`, the names in `OF_ONE`.

    The second is read before the first, and only the peaks of its neurons are kept: what is known
    of a layer is so asked for once.
    """
    others: list[Peaks] = []
    against(lambda _, activations: others.append(Peaks.of(activations)))
    reading = _Reading(grounds, length, k, others)
    found = reading.read(layers)
    return found, reading.more.columns, reading.less.columns


class _Reading:
    """What is known of a text while its layers come."""

    def __init__(
        self, grounds: Grounds, length: int, k: int, others: list[Peaks] | None = None
    ) -> None:
        self._grounds = grounds
        self._others = others
        self._top = Top(length, k, "activation")
        self.more, self.less = Top(1, k, *_SIDES), Top(1, k, *_SIDES)
        self._shares: list[Array] = []
        self._strongest: list[Array] = []
        self._compared = 0

    def read(self, layers: Layers) -> Firing:
        """One forward pass."""
        layers(self._add)
        return Firing(
            top=self._top.columns,
            shares=np.array(self._shares),
            strongest=np.array(self._strongest),
            compared=self._compared,
        )

    def _add(self, layer: int, activations: Float32[np.ndarray, "pos n"]) -> None:
        ground = self._grounds(layer)
        shares, ties = ground.shares(activations), ground.of_maximum(activations)
        self._compared += int(ground.compared.sum())
        self._top.add(layer, shares, ties, activations)
        highest = shares.max(axis=1)
        # Of those that share the highest, the one nearest its maximum; the earliest, where equal.
        strongest = np.where(shares == highest[:, None], ties, -1.0).argmax(axis=1)
        self._shares.append(highest)
        self._strongest.append(strongest)
        if self._others is not None:
            self._compare(layer, ground, Peaks.of(activations), self._others[layer])

    def _compare(self, layer: int, ground: Ground, one: Peaks, other: Peaks) -> None:
        acts = [peaks.activations[None] for peaks in (one, other)]
        shares, ties = map(ground.shares, acts), map(ground.of_maximum, acts)
        (a, b), (tie_a, tie_b) = shares, ties
        sides = (acts[0], a, one.positions[None], acts[1], b, other.positions[None])
        self.more.add(layer, a - b, tie_a - tie_b, *sides)
        self.less.add(layer, b - a, tie_b - tie_a, *sides)
