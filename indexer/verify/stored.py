"""What the store has of a run that is to be verified: every list's form is checked as it is read,
and what is kept of the lists tells a context that should be in one and is not."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64
from sqlalchemy import Connection, Engine, select

from indexer.errors import NeurariumError
from indexer.store import schema
from indexer.store.packing.codec import ExampleArrays, unpack_kinds
from indexer.verify.promised import (
    BOTTOM,
    SOURCE,
    SOURCE_EXAMPLES,
    TOP,
    Promised,
    by_extreme_problem,
    ids_exist,
)
from indexer.verify.report import Bounds, Finding, Findings

_BY_EXTREME = (TOP, BOTTOM, SOURCE)
_FORM = "lists by extreme: whole and in order"
_CHUNK = 500  # neurons read at once

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class StoredRun:
    """A run as the store has it, without its neurons."""

    id: int
    model: str
    hook_point: str
    dtype: str
    widths: tuple[int, ...]
    provenance: dict[str, Any]
    content_hash: str

    @property
    def neurons(self) -> int:
        """Neurons in all layers."""
        return sum(self.widths)

    @property
    def offsets(self) -> Int64[np.ndarray, " layers+1"]:
        """The flat index of each layer's first neuron."""
        return np.concatenate([[0], np.cumsum(self.widths)])

    def place(self, flat: int) -> tuple[int, int]:
        """The layer and the neuron of a flat index."""
        layer = int(np.searchsorted(self.offsets, flat, side="right")) - 1
        return layer, flat - int(self.offsets[layer])

    def finding(self, flat: int, what: str, kind: str | None = None, **more: Any) -> Finding:
        """A finding about one neuron."""
        layer, neuron = self.place(flat)
        return Finding(what, layer, neuron, kind, **more)


def read_run(engine: Engine, run_id: int) -> StoredRun:
    """A run that is ready. Raises `NeurariumError` where there is none of that number."""
    table = schema.runs
    with engine.connect() as connection:
        row = connection.execute(select(table).where(table.c.id == run_id, table.c.ready)).first()
    if row is None:
        raise NeurariumError(f"There is no run {run_id}: `neurarium runs` lists them.")
    return StoredRun(
        id=row.id,
        model=row.model,
        hook_point=row.hook_point,
        dtype=row.dtype,
        widths=tuple(row.widths),
        provenance=row.provenance,
        content_hash=row.content_hash,
    )


def read_rows(
    connection: Connection, run: StoredRun, flats: list[int]
) -> dict[int, list[tuple[int, bytes]]]:
    """The packed lists of some neurons, as (kind, bytes) by flat index."""
    table, zero = schema.examples, schema.neuron_key(run.id, 0)
    query = select(table).where(table.c.neuron_id.in_([zero + flat for flat in flats]))
    found: dict[int, list[tuple[int, bytes]]] = {flat: [] for flat in flats}
    for row in connection.execute(query.order_by(table.c.neuron_id, table.c.kind)):
        found[row.neuron_id - zero].append((row.kind, row.packed))
    return found


def unpack(rows: list[tuple[int, bytes]]) -> dict[int, ExampleArrays] | str:
    """A neuron's lists by kind, or what is wrong with their bytes."""
    try:
        return unpack_kinds(rows)
    except (ValueError, struct.error) as error:
        return f"its lists of examples cannot be read: {error}"


class Kept:
    """The lists of one kind of all neurons, as far as contexts have to be compared with them.

    A row is a neuron, or a neuron's source. Values are such that larger is better: troughs are
    negated. Beside the k-th best of every row only those entries are held whose context is among
    the chosen ones.
    """

    def __init__(self, neurons: int, each: int, chosen: Int64[np.ndarray, " c"]) -> None:
        """`each` is how many rows a neuron has; `chosen` are the ids of the contexts that will be
        compared, ascending."""
        rows = neurons * each
        self.rows, self.each = rows, each
        self.chosen = chosen
        self.worst = np.full(rows, np.inf, np.float32)
        """The k-th best of each row: −inf where every context is to be in it, inf where the list
        is damaged and nothing can be told by it."""
        self.worst_ids = np.zeros(rows, np.int64)
        self.best = np.full(rows, np.nan, np.float32)
        self._keys: list[Array] = []
        self._values: list[Array] = []

    def keep(self, rows: Array, values: Array, ids: Array, most: int, available: Array) -> None:
        """Take in the whole lists of some rows, one after the other and each best first.

        A row has at most `most` examples, and as many contexts compete in it as `available` says of
        the rows of a neuron, or of all.
        """
        if not len(rows):
            return
        ends = np.flatnonzero(np.diff(rows, append=-1))
        begins = np.concatenate([[0], ends[:-1] + 1])
        given, counts = rows[ends], ends - begins + 1
        there_are = available[given % len(available)]
        every = (there_are <= most) & (counts == there_are)
        self.best[given] = values[begins]
        self.worst[given] = np.where(every, -np.inf, values[ends])
        self.worst_ids[given] = ids[ends]
        ranks = np.searchsorted(self.chosen, ids)
        there = ranks < len(self.chosen)
        there[there] = self.chosen[ranks[there]] == ids[there]
        self._keys.append(ranks[there] * self.rows + rows[there])
        self._values.append(values[there])

    def sort(self) -> None:
        """When all rows are in: put the entries in order."""
        keys = np.concatenate([np.empty(0, np.int64), *self._keys])
        values = np.concatenate([np.empty(0, np.float32), *self._values])
        order = np.argsort(keys)
        self.keys: Int64[np.ndarray, " m"] = keys[order]
        """Of each entry: the rank of its context × rows + its row; ascending."""
        self.values: Float32[np.ndarray, " m"] = values[order]
        self._keys, self._values = [], []

    def entries(
        self, rank: int, first: int, end: int
    ) -> tuple[Int64[np.ndarray, " m"], Float32[np.ndarray, " m"]]:
        """Of the neurons first…end, the rows whose list has the chosen context of that rank, and
        the values they give it."""
        base = rank * self.rows
        low, high = np.searchsorted(self.keys, [base + first * self.each, base + end * self.each])
        return self.keys[low:high] - base, self.values[low:high]

    def listed(self) -> Int64[np.ndarray, " m"]:
        """The ids of the chosen contexts that are in any list."""
        ids: Int64[np.ndarray, " m"] = self.chosen[np.unique(self.keys // max(self.rows, 1))]
        return ids


@dataclass(frozen=True)
class AllLists:
    """Every neuron's lists by extreme, and its own extremes."""

    top: Kept
    bottom: Kept
    source: Kept
    maximum: Float32[np.ndarray, " neurons"]
    minimum: Float32[np.ndarray, " neurons"]


@dataclass(frozen=True)
class Compared:
    """What every batch is compared with."""

    run: StoredRun
    promised: Promised
    lists: AllLists
    bounds: Bounds
    findings: Findings


def read_lists(
    engine: Engine,
    run: StoredRun,
    promised: Promised,
    chosen: Int64[np.ndarray, " c"],
    findings: Findings,
    progress: Callable[[int], None],
) -> AllLists:
    """Read the top, bottom and by-source lists of all neurons once, and check their form.

    `chosen` are the ids of the contexts that will be compared with them, ascending; `progress`
    takes the neurons read so far.
    """
    lists = AllLists(
        Kept(run.neurons, 1, chosen),
        Kept(run.neurons, 1, chosen),
        Kept(run.neurons, promised.source_slots, chosen),
        np.full(run.neurons, np.nan, np.float32),
        np.full(run.neurons, np.nan, np.float32),
    )
    with engine.connect() as connection:
        for first in range(0, run.neurons, _CHUNK):
            end = min(first + _CHUNK, run.neurons)
            for flat, maximum, minimum in _extremes(connection, run, first, end):
                lists.maximum[flat], lists.minimum[flat] = maximum, minimum
            _read_some(connection, run, promised, lists, (first, end), findings)
            progress(end)
    for kept in (lists.top, lists.bottom, lists.source):
        kept.sort()
    _compare_extremes(run, promised, lists, findings)
    return lists


def _extremes(
    connection: Connection, run: StoredRun, first: int, end: int
) -> Iterator[tuple[int, float, float]]:
    table = schema.neurons
    keys = (schema.neuron_key(run.id, first), schema.neuron_key(run.id, end - 1))
    query = select(table.c.id, table.c.max, table.c.min).where(table.c.id.between(*keys))
    for row in connection.execute(query):
        yield row.id - schema.neuron_key(run.id, 0), row.max, row.min


def _read_some(
    connection: Connection,
    run: StoredRun,
    promised: Promised,
    lists: AllLists,
    flats: tuple[int, int],
    findings: Findings,
) -> None:
    whole: dict[int, list[tuple[int, ExampleArrays]]] = {kind: [] for kind in _BY_EXTREME}
    for flat, rows in read_rows(connection, run, list(range(*flats))).items():
        found = unpack(rows)
        if isinstance(found, str):
            findings.equal(_FORM, len(_BY_EXTREME), len(_BY_EXTREME))
            findings.tell(run.finding(flat, found))
            continue
        for kind in _BY_EXTREME:
            examples = found.get(kind)
            problem = by_extreme_problem(examples, kind, promised)
            findings.equal(_FORM, 1, int(problem is not None))
            if problem is not None:
                findings.tell(run.finding(flat, problem, schema.KINDS[kind]))
            if examples is not None and ids_exist(examples, promised):
                whole[kind].append((flat, examples))
    for kind, some in whole.items():
        if some:
            _keep(lists, kind, some, promised)


def _keep(
    lists: AllLists, kind: int, some: list[tuple[int, ExampleArrays]], promised: Promised
) -> None:
    rows = np.repeat([flat for flat, _ in some], [len(examples) for _, examples in some])
    ids = np.concatenate([examples.context_ids for _, examples in some])
    every = np.array([promised.contexts])
    if kind == BOTTOM:
        values = -np.concatenate([examples.troughs for _, examples in some])
        lists.bottom.keep(rows, values, ids, promised.bottom_k, every)
        return
    values = np.concatenate([examples.peaks for _, examples in some])
    if kind == TOP:
        lists.top.keep(rows, values, ids, promised.top_k, every)
    elif promised.source_slots:
        rows = rows * promised.source_slots + promised.slots[ids]
        lists.source.keep(rows, values, ids, SOURCE_EXAMPLES, promised.slot_sizes)


def _compare_extremes(
    run: StoredRun, promised: Promised, lists: AllLists, findings: Findings
) -> None:
    """The columns people sort by say what the lists begin with."""
    _compare_column(run, findings, ("maximum", "peak", "top"), lists.maximum, lists.top.best)
    if promised.bottom_k:
        names = ("minimum", "trough", "bottom")
        _compare_column(run, findings, names, lists.minimum, -lists.bottom.best)


def _compare_column(
    run: StoredRun, findings: Findings, names: tuple[str, str, str], column: Array, best: Array
) -> None:
    name, extreme, kind = names
    wrong = np.flatnonzero(~(column == best))
    findings.equal("maximum and minimum: as their lists begin", run.neurons, len(wrong))

    def finding(index: int) -> Finding:
        flat = int(wrong[index])
        told = (
            f"the {name} is {column[flat]:.7g}, the {extreme} of its first example {best[flat]:.7g}"
        )
        return run.finding(flat, told, kind)

    findings.tell_many(len(wrong), finding)
