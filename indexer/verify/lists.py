"""Reads the lists of all neurons. Checks the form of each list, and holds what is needed to
recognise contexts missing from a list."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64
from sqlalchemy import Connection, Engine, select

from indexer.store import schema
from indexer.store.packing.codec import ExampleArrays
from indexer.store.sizes import SOURCE_EXAMPLES
from indexer.verify.expected import (
    BOTTOM,
    RANDOM,
    SOURCE,
    TOP,
    Expected,
    by_extreme_problem,
    ids_exist,
)
from indexer.verify.firing import FiringLists
from indexer.verify.firing_histograms import FiringHistograms
from indexer.verify.report import Bounds, Finding, Findings
from indexer.verify.stored import StoredRun, read_rows, unpack

_BY_EXTREME = (TOP, BOTTOM, SOURCE)
_FORM = "top, bottom and source lists: complete, in order"
_CHUNK = 500  # neurons read at once

Array = np.ndarray[Any, Any]


class ExtremeLists:
    """The lists of one kind for all neurons, reduced to what comparing the chosen contexts needs.

    A row is a neuron, or a source of a neuron. Larger values are better: troughs are negated. Holds
    the k-th best entry of each row, and the entries of chosen contexts.
    """

    def __init__(
        self, neurons: int, each: int, chosen: Int64[np.ndarray, " c"], *, sparse: bool = False
    ) -> None:
        """`each`: rows per neuron. `chosen`: ids of the contexts that will be compared, ascending.
        `sparse`: only values above 0 belong in a list, which may be short or empty."""
        rows = neurons * each
        self.rows, self.each = rows, each
        self.chosen = chosen
        self.sparse = sparse
        self.worst = np.full(rows, 0 if sparse else np.inf, np.float32)
        """The k-th best value of each row: −inf if all contexts belong in the list, 0 if those
        above 0 do, inf if the list is damaged and cannot be compared."""
        self.worst_ids = np.full(rows, -1 if sparse else 0, np.int64)
        self.best = np.full(rows, 0 if sparse else np.nan, np.float32)
        self._keys: list[Array] = []
        self._values: list[Array] = []

    def add(self, rows: Array, values: Array, ids: Array, most: int, available: Array) -> None:
        """Add complete lists, concatenated, each best first: `rows` and context `ids` and `values`
        [entries].

        A list has at most `most` examples. `available` is the number of contexts that compete in
        each row of a neuron [each], or one number for all [1].
        """
        if not len(rows):
            return
        ends = np.flatnonzero(np.diff(rows, append=-1))
        begins = np.concatenate([[0], ends[:-1] + 1])
        added, counts = rows[ends], ends - begins + 1
        competing = available[added % len(available)]
        every = counts < most if self.sparse else (competing <= most) & (counts == competing)
        self.best[added] = values[begins]
        self.worst[added] = np.where(every, 0 if self.sparse else -np.inf, values[ends])
        self.worst_ids[added] = np.where(every, -1, ids[ends])
        ranks = np.searchsorted(self.chosen, ids)
        is_chosen = ranks < len(self.chosen)
        is_chosen[is_chosen] = self.chosen[ranks[is_chosen]] == ids[is_chosen]
        self._keys.append(ranks[is_chosen] * self.rows + rows[is_chosen])
        self._values.append(values[is_chosen])

    def damage(self, neuron: int) -> None:
        """Compare nothing with a neuron's rows."""
        rows = slice(neuron * self.each, (neuron + 1) * self.each)
        self.worst[rows], self.best[rows] = np.inf, np.nan

    def sort(self) -> None:
        """Sort the entries, after all rows are added."""
        keys = np.concatenate([np.empty(0, np.int64), *self._keys])
        values = np.concatenate([np.empty(0, np.float32), *self._values])
        order = np.argsort(keys)
        self.keys: Int64[np.ndarray, " m"] = keys[order]
        """For each entry: rank of its context × `rows` + its row, ascending."""
        self.values: Float32[np.ndarray, " m"] = values[order]
        self._keys, self._values = [], []

    def entries(
        self, rank: int, first: int, end: int
    ) -> tuple[Int64[np.ndarray, " m"], Float32[np.ndarray, " m"]]:
        """For neurons `first` to `end`: the rows whose list has the chosen context of this rank,
        and its values there."""
        base = rank * self.rows
        low, high = np.searchsorted(self.keys, [base + first * self.each, base + end * self.each])
        return self.keys[low:high] - base, self.values[low:high]

    def listed(self) -> Int64[np.ndarray, " m"]:
        """Ids of the chosen contexts that are in any list."""
        ids: Int64[np.ndarray, " m"] = self.chosen[np.unique(self.keys // max(self.rows, 1))]
        return ids


@dataclass(frozen=True)
class AllLists:
    """All neurons' top, bottom and by-source lists, maxima and minima; of a sparse set also the
    lists of where units fire."""

    top: ExtremeLists
    bottom: ExtremeLists
    source: ExtremeLists
    maximum: Float32[np.ndarray, " neurons"]
    minimum: Float32[np.ndarray, " neurons"]
    firing: FiringLists | None
    histograms: FiringHistograms | None


@dataclass(frozen=True)
class Comparison:
    """What recomputed batches are compared with, and the findings."""

    run: StoredRun
    expected: Expected
    lists: AllLists
    bounds: Bounds
    findings: Findings


def read_lists(
    engine: Engine,
    run: StoredRun,
    expected: Expected,
    chosen: Int64[np.ndarray, " c"],
    flats: Int64[np.ndarray, " n"],
    findings: Findings,
    progress: Callable[[int], None],
) -> AllLists:
    """The top, bottom and by-source lists of all neurons; their form is checked.

    `chosen`: ids of the contexts that will be compared, ascending; `flats`: the neurons whose
    histograms of where they fire are compared too. `progress` is called with the neurons read so
    far.
    """
    lists = AllLists(
        ExtremeLists(run.neurons, 1, chosen, sparse=run.sparse),
        ExtremeLists(run.neurons, 1, chosen),
        ExtremeLists(run.neurons, expected.source_slots, chosen, sparse=run.sparse),
        np.full(run.neurons, np.nan, np.float32),
        np.full(run.neurons, np.nan, np.float32),
        FiringLists(expected, run.neurons, chosen) if run.sparse else None,
        FiringHistograms(flats) if run.sparse else None,
    )
    if lists.histograms is not None:
        lists.histograms.read(engine, run)
    with engine.connect() as connection:
        for first in range(0, run.neurons, _CHUNK):
            end = min(first + _CHUNK, run.neurons)
            for flat, row in _numbers(connection, run, first, end):
                lists.maximum[flat], lists.minimum[flat] = row.max, row.min
                if lists.firing is not None:
                    lists.firing.density[flat] = row.density
            _read_range(connection, run, expected, lists, (first, end), findings)
            progress(end)
    for kind in (lists.top, lists.bottom, lists.source):
        kind.sort()
    if lists.firing is not None:
        lists.firing.sort()
    _compare_extremes(run, expected, lists, findings)
    return lists


def _numbers(
    connection: Connection, run: StoredRun, first: int, end: int
) -> Iterator[tuple[int, Any]]:
    table = schema.neurons
    keys = (schema.neuron_key(run.id, first), schema.neuron_key(run.id, end - 1))
    query = select(table.c.id, table.c.max, table.c.min, table.c.density)
    for row in connection.execute(query.where(table.c.id.between(*keys))):
        yield row.id - schema.neuron_key(run.id, 0), row


def _read_range(
    connection: Connection,
    run: StoredRun,
    expected: Expected,
    lists: AllLists,
    flats: tuple[int, int],
    findings: Findings,
) -> None:
    by_kind: dict[int, list[tuple[int, ExampleArrays]]] = {kind: [] for kind in _BY_EXTREME}
    for flat, rows in read_rows(connection, run, list(range(*flats))).items():
        unpacked = unpack(rows)
        if isinstance(unpacked, str):
            findings.equal(_FORM, len(_BY_EXTREME), len(_BY_EXTREME))
            findings.add(run.finding(flat, unpacked))
            _damage(lists, flat, _BY_EXTREME)
            continue
        if lists.firing is not None:
            lists.firing.add(flat, unpacked.get(RANDOM), expected)
        for kind in _BY_EXTREME:
            examples = unpacked.get(kind)
            problem = by_extreme_problem(examples, kind, expected)
            findings.equal(_FORM, 1, int(problem is not None))
            if problem is not None:
                findings.add(run.finding(flat, problem, schema.KINDS[kind]))
            if examples is None or not ids_exist(examples, expected):
                _damage(lists, flat, () if examples is None and problem is None else (kind,))
            else:
                by_kind[kind].append((flat, examples))
    for kind, chunk in by_kind.items():
        if chunk:
            _add(lists, kind, chunk, expected)


def _damage(lists: AllLists, flat: int, kinds: tuple[int, ...]) -> None:
    """Compare nothing with a neuron's lists of these kinds."""
    by_kind = {TOP: lists.top, BOTTOM: lists.bottom, SOURCE: lists.source}
    for kind in kinds:
        by_kind[kind].damage(flat)
    if lists.firing is not None and len(kinds) == len(_BY_EXTREME):
        lists.firing.last[flat] = -1


def _add(
    lists: AllLists, kind: int, chunk: list[tuple[int, ExampleArrays]], expected: Expected
) -> None:
    rows = np.repeat([flat for flat, _ in chunk], [len(examples) for _, examples in chunk])
    ids = np.concatenate([examples.context_ids for _, examples in chunk])
    every = np.array([expected.contexts])
    if kind == BOTTOM:
        values = -np.concatenate([examples.troughs for _, examples in chunk])
        lists.bottom.add(rows, values, ids, expected.bottom_k, every)
        return
    values = np.concatenate([examples.peaks for _, examples in chunk])
    if kind == TOP:
        lists.top.add(rows, values, ids, expected.top_k, every)
    elif expected.source_slots:
        rows = rows * expected.source_slots + expected.slots[ids]
        lists.source.add(rows, values, ids, SOURCE_EXAMPLES, expected.slot_sizes)


def _compare_extremes(
    run: StoredRun, expected: Expected, lists: AllLists, findings: Findings
) -> None:
    """Check that each maximum and minimum equals the first example."""
    _compare_column(run, findings, ("maximum", "peak", "top"), lists.maximum, lists.top.best)
    if expected.bottom_k:
        names = ("minimum", "trough", "bottom")
        _compare_column(run, findings, names, lists.minimum, -lists.bottom.best)


def _compare_column(
    run: StoredRun, findings: Findings, names: tuple[str, str, str], column: Array, best: Array
) -> None:
    name, extreme, kind = names
    wrong = np.flatnonzero(~(column == best))
    findings.equal("maximum and minimum: equal to first example", run.neurons, len(wrong))

    def finding(index: int) -> Finding:
        flat = int(wrong[index])
        problem = (
            f"the {name} is {column[flat]:.7g}, the {extreme} of its first example {best[flat]:.7g}"
        )
        return run.finding(flat, problem, kind)

    findings.add_many(len(wrong), finding)
