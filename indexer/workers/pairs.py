"""Pairs of positions divided among workers: what is ordered, what a worker returns, how it is
merged. The result is the same as with one process."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from indexer.corpus.batches import BatchPlan, Contexts
from indexer.heads.effects import heads_of, logit_path
from indexer.heads.examples import Found
from indexer.heads.scan import HeadScan, HeadShape, scan_heads
from indexer.measure.selection import Selection
from indexer.models.loaded import LoadedModel
from indexer.workers.orders import Bound, fill

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class PairsEntries:
    """What entered a ranking: entry i belongs to head `rows[i]`."""

    rows: Int64[np.ndarray, " m"]
    values: Float32[np.ndarray, " m"]
    ids: Int64[np.ndarray, " m"]
    found: Found | None
    """The examples; None for pairs of which only tokens are kept."""
    tokens: Int64[np.ndarray, "2 m"] | None
    """Their query and key tokens."""


@dataclass(frozen=True)
class PairsResult:
    """Everything that can change a scan with the order's bounds."""

    pairs: int
    entries: dict[str, PairsEntries]
    sample: tuple[list[Array], Array, Found] | None
    """Sums of scores [scores, heads] by layer, their counts [scores], and the random examples; None
    if the sample was not measured."""
    seconds: float
    """Duration, without loading the model."""


@dataclass(frozen=True)
class PairsOrder:
    """The batches a worker is to scan, and the bounds at the time."""

    shape: HeadShape
    plans: tuple[BatchPlan, ...]
    bounds: dict[str, Bound]
    sampled: bool
    """Whether the batches are the whole sample, in order."""

    def scan(self, model: LoadedModel, corpus: Contexts) -> PairsResult:
        """Scan the batches. Raises NeurariumError."""
        began = time.perf_counter()
        scan = HeadScan(self.shape)
        for name, best in selections(scan).items():
            fill(best, self.bounds[name])
        scan_heads(heads_of(model), logit_path(model), corpus, scan, self.plans)
        entries = {name: self._entered(scan, name) for name in self.bounds}
        sample = None
        if self.sampled:
            random = scan.random.found(np.arange(len(scan.random.patterns)))
            sample = (scan.scores.sums, scan.scores.counts, random)
        return PairsResult(scan.pairs, entries, sample, time.perf_counter() - began)

    def _entered(self, scan: HeadScan, name: str) -> PairsEntries:
        """The entries that beat the bounds: none has the bound's id."""
        best = selections(scan)[name]
        rows, places = np.nonzero(best.ids != self.bounds[name].ids[:, None])
        slots = best.slots[rows, places]
        ranking = scan.rankings.get(name)
        return PairsEntries(
            rows=rows,
            values=best.values[rows, places],
            ids=best.ids[rows, places],
            found=None if ranking is None else ranking.examples.found(slots),
            tokens=scan.tokens.tokens[:, slots] if ranking is None else None,
        )


@dataclass(frozen=True)
class PairsWork:
    """A pass over pairs, to be divided."""

    scan: HeadScan

    def order(self, plans: tuple[BatchPlan, ...], *, sampled: bool) -> PairsOrder:
        """An order for these batches."""
        bounds = {
            name: Bound(best.values[:, -1].copy(), best.ids[:, -1].copy())
            for name, best in selections(self.scan).items()
            if best.k
        }
        return PairsOrder(self.scan.shape, plans, bounds, sampled)

    def merge(self, result: PairsResult) -> None:
        """Merge the result of batches that are not in the scan yet."""
        scan = self.scan
        scan.pairs += result.pairs
        for name, entries in result.entries.items():
            best = selections(scan)[name]
            places, slots = best.admit(entries.rows, entries.values, entries.ids)
            if entries.found is not None:
                scan.rankings[name].examples.put(slots, entries.found.at(places))
            if entries.tokens is not None:
                scan.tokens.tokens[:, slots] = entries.tokens[:, places]
        if result.sample is not None:
            sums, counts, random = result.sample
            for mine, theirs in zip(scan.scores.sums, sums, strict=True):
                mine[...] = theirs
            scan.scores.counts[...] = counts
            scan.random.put(np.arange(len(scan.random.patterns)), random)


def selections(scan: HeadScan) -> dict[str, Selection]:
    """The selections over all contexts, by name."""
    named = {name: ranking.best for name, ranking in scan.rankings.items()}
    return named | {"tokens": scan.tokens.best}
