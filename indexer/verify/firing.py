"""Compares recomputed contexts with what a sparse set stores of where its units fire: the random
and band examples, and how often each unit fires."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from indexer.corpus.batches import Batch
from indexer.store import schema
from indexer.store.packing.codec import ExampleArrays
from indexer.store.sizes import BAND_EXAMPLES, FIRING_PEAKS, RANDOM_EXAMPLES
from indexer.verify.expected import RANDOM, TOP, Expected, ids_exist
from indexer.verify.report import Finding, Findings
from indexer.verify.stored import StoredRun

_MEMBERS = "contexts in which units fire"
_DENSITIES = "densities: positions at which units fire"

Array = np.ndarray[Any, Any]


def firing_problem(
    lists: dict[int, ExampleArrays], kind: int, expected: Expected, arrays: dict[str, Array]
) -> str | None:
    """The problem with the form of a sparse unit's random or band list, or None.

    The random list has the first contexts, in hash order, in which the unit fires. A band has the
    first of these whose peak lies in it.
    """
    none = np.empty(0, np.int64)
    ids = lists[kind].context_ids if kind in lists else none
    random = lists.get(RANDOM)
    chosen = none if random is None else random.context_ids
    peaks = np.empty(0) if random is None else random.peaks.astype(np.float64)
    if kind == RANDOM:
        return _chosen_problem(lists, chosen, peaks, expected, int(arrays["band_counts"].sum()))
    bands = (peaks[:, None] >= arrays["band_cuts"]).sum(axis=1)
    wanted = [chosen[bands == band][:BAND_EXAMPLES] for band in range(len(arrays["band_counts"]))]
    same = np.array_equal(ids, np.concatenate(wanted))
    return None if same else "these are not the first of its random examples in each band"


def _chosen_problem(
    lists: dict[int, ExampleArrays], chosen: Array, peaks: Array, expected: Expected, kept: int
) -> str | None:
    """The problem with a random list's contexts `chosen` [n] and their peaks [n], or None. `kept`
    is the number of contexts by whose peaks the unit's bands are cut."""
    assert expected.ranks is not None
    if not ((chosen >= 0) & (chosen < expected.contexts)).all():
        return "it has a context that is not in the corpus"
    if len(chosen) != min(kept, RANDOM_EXAMPLES):
        return f"the list has {len(chosen)} examples, not {min(kept, RANDOM_EXAMPLES)}"
    if (np.diff(expected.ranks[chosen].astype(np.int64)) <= 0).any():
        return "it is not in hash order"
    if (peaks <= 0).any():
        return "it has a context in which the unit does not fire"
    top = len(lists[TOP]) if TOP in lists else 0
    if top < expected.top_k and kept != min(top, FIRING_PEAKS):
        return f"bands are cut by {kept} contexts, and the top list has all {top}"
    return None


class FiringLists:
    """The random lists of all units, reduced to what comparing chosen contexts needs, and how often
    each unit fires in these."""

    def __init__(self, expected: Expected, units: int, chosen: Int64[np.ndarray, " c"]) -> None:
        """`chosen`: ids of the contexts that will be compared, ascending. Raises ValueError for a
        set that is not sparse."""
        if expected.ranks is None:
            raise ValueError("only sparse sets choose contexts by where units fire")
        self.ranks = expected.ranks
        self.units, self.chosen = units, chosen
        self.last: Int64[np.ndarray, " units"] = np.full(units, expected.contexts, np.int64)
        """Contexts of a rank below it belong in the list, if the unit fires in them; −1 for a
        damaged list."""
        self.density = np.full(units, np.nan)
        self.fired: Int64[np.ndarray, "2 units"] = np.zeros((2, units), np.int64)
        """Positions so far at which units surely, and possibly, fire."""
        self.positions = 0
        self._keys: list[Array] = []
        self.keys = np.empty(0, np.int64)

    def add(self, unit: int, examples: ExampleArrays | None, expected: Expected) -> None:
        """Add a unit's random list."""
        if examples is None:
            return
        if not ids_exist(examples, expected):
            self.last[unit] = -1
            return
        ids = examples.context_ids
        if len(ids) >= RANDOM_EXAMPLES:
            self.last[unit] = int(self.ranks[ids[-1]])
        places = np.searchsorted(self.chosen, ids)
        here = places < len(self.chosen)
        here[here] = self.chosen[places[here]] == ids[here]
        self._keys.append(places[here] * self.units + unit)

    def sort(self) -> None:
        """Sort the entries, after all lists are added."""
        self.keys = np.sort(np.concatenate([np.empty(0, np.int64), *self._keys]))
        self._keys = []

    def members(self, place: int, first: int, end: int) -> Int64[np.ndarray, " m"]:
        """Of units `first` to `end`, those whose list has the chosen context of this place."""
        base = place * self.units
        low, high = np.searchsorted(self.keys, [base + first, base + end])
        return self.keys[low:high] - base - first


def compare_firing(
    run: StoredRun,
    lists: FiringLists,
    findings: Findings,
    batch: Batch,
    layer: int,
    lowest: Float32[np.ndarray, "batch pos n"],
    highest: Float32[np.ndarray, "batch pos n"],
) -> None:
    """Compare one layer of a batch with the random lists of all its units, and count where they
    fire. Where rounding decides whether a unit fires, either is right."""
    first = int(run.offsets[layer])
    end = first + lowest.shape[-1]
    if layer == next(index for index, width in enumerate(run.widths) if width):
        lists.positions += int(batch.included.sum())
    for row, context in enumerate(batch.context_ids.tolist()):
        included = batch.included[row]
        sure, possible = lowest[row, included] > 0, highest[row, included] > 0
        lists.fired[0, first:end] += sure.sum(axis=0)
        lists.fired[1, first:end] += possible.sum(axis=0)
        member = np.zeros(end - first, np.bool_)
        member[lists.members(int(np.searchsorted(lists.chosen, context)), first, end)] = True
        last = lists.last[first:end]
        missing = ~member & sure.any(axis=0) & (int(lists.ranks[context]) < last)
        silent = member & ~possible.any(axis=0) & (last >= 0)
        findings.equal(_MEMBERS, len(member), int((missing | silent).sum()))
        for wrong, problem in (
            (missing, "should be in the list and is not"),
            (silent, "is in the list, and the unit does not fire in it"),
        ):
            for unit in np.flatnonzero(wrong).tolist():
                findings.add(
                    run.finding(first + unit, problem, schema.KINDS[RANDOM], context_id=context)
                )


def compare_densities(
    run: StoredRun, lists: FiringLists, positions: int, findings: Findings
) -> None:
    """Compare how often units fire in the compared contexts with their densities over all
    `positions`: equal if every context was compared, else no contradiction."""
    rest = positions - lists.positions
    counts = lists.density * positions
    off = positions * np.finfo(np.float64).eps + 1e-6
    sure, possible = lists.fired
    wrong = np.flatnonzero(~((counts >= sure - off) & (counts <= possible + rest + off)))
    findings.equal(_DENSITIES, lists.units, len(wrong))

    def finding(index: int) -> Finding:
        unit = int(wrong[index])
        stored = "no number" if math.isnan(counts[unit]) else f"{counts[unit]:.8g}"
        most = int(possible[unit]) + rest
        return run.finding(
            unit, f"it fires at {sure[unit]} to {most} positions, and its density says {stored}"
        )

    findings.add_many(len(wrong), finding)
