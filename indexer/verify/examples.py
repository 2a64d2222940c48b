"""Compares the examples of chosen neurons with recomputed contexts: peak, trough and their
positions, all stored activations, gate and linear part."""

from __future__ import annotations

import struct
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64
from sqlalchemy import Connection, Engine, select

from indexer.corpus.batches import Batch
from indexer.corpus.prepared import PreparedCorpus
from indexer.store import schema
from indexer.store.packing.codec import ExampleArrays, activations_of, unpack_arrays
from indexer.verify.expected import BAND, BOTTOM, RANDOM, TOP, Expected, ids_exist, sample_problem
from indexer.verify.firing import firing_problem
from indexer.verify.forward import LayerActivations
from indexer.verify.lists import Comparison
from indexer.verify.report import SMALL, Findings
from indexer.verify.stored import StoredRun, read_rows, unpack

_SAMPLE_LISTS = "random and band lists: complete, in order"
_CHUNK = 100  # neurons read at once, with all their examples

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Example:
    """One stored example."""

    flat: int
    """Flat index of its neuron."""
    layer: int
    neuron: int
    kind: int
    context_id: int
    peak: float
    peak_position: int
    trough: float
    trough_position: int
    start: int
    activations: Float32[np.ndarray, " length"]
    gate: float
    linear: float

    @property
    def centre(self) -> int:
        """The centre of the window and the position of the gate and linear part."""
        return self.trough_position if self.kind == BOTTOM else self.peak_position


@dataclass
class Examples:
    """The examples of the chosen neurons."""

    by_place: dict[tuple[int, int], list[Example]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """By (context id, layer)."""

    @property
    def count(self) -> int:
        """The number of examples."""
        return sum(map(len, self.by_place.values()))

    @property
    def context_ids(self) -> Int64[np.ndarray, " m"]:
        """Ids of their contexts, ascending."""
        return np.unique(np.array([context_id for context_id, _ in self.by_place], np.int64))

    def per_context(self) -> Counter[int]:
        """The number of examples by context id."""
        counts: Counter[int] = Counter()
        for (context_id, _), examples in self.by_place.items():
            counts[context_id] += len(examples)
        return counts

    def only(self, context_ids: Array) -> Examples:
        """The examples of these contexts."""
        wanted = set(context_ids.tolist())
        return Examples(
            {place: examples for place, examples in self.by_place.items() if place[0] in wanted}
        )


def read_examples(
    engine: Engine,
    run: StoredRun,
    expected: Expected,
    corpus: PreparedCorpus,
    flats: Int64[np.ndarray, " n"],
    findings: Findings,
) -> Examples:
    """All examples of neurons, given by flat index. Also checks the form of their random and band
    lists, and their token at the peak."""
    all_examples = Examples()
    with engine.connect() as connection:
        for start in range(0, len(flats), _CHUNK):
            chunk = flats[start : start + _CHUNK].tolist()
            packed = read_rows(connection, run, chunk)
            for row in _neurons(connection, run, chunk):
                flat = row.id - schema.neuron_key(run.id, 0)
                lists = unpack(packed[flat])
                if isinstance(lists, str):
                    continue  # reported when the lists of all neurons are read
                _check_sample_lists(run, expected, flat, lists, row.packed, findings)
                for kind, examples in lists.items():
                    if ids_exist(examples, expected):
                        for example in _examples(run, flat, kind, examples):
                            place = (example.context_id, example.layer)
                            all_examples.by_place[place].append(example)
                _check_token(run, expected, corpus, flat, lists.get(TOP), row, findings)
    return all_examples


def _neurons(connection: Connection, run: StoredRun, flats: list[int]) -> list[Any]:
    table, arrays = schema.neurons, schema.neuron_arrays
    keys = [schema.neuron_key(run.id, flat) for flat in flats]
    query = select(table.c.id, table.c.peak_token_id, arrays.c.packed)
    query = query.join(arrays, arrays.c.neuron_id == table.c.id).where(table.c.id.in_(keys))
    return list(connection.execute(query.order_by(table.c.id)))


def _examples(run: StoredRun, flat: int, kind: int, examples: ExampleArrays) -> Iterator[Example]:
    layer, neuron = run.place(flat)
    values, begins = activations_of(examples)
    for index in range(len(examples)):
        yield Example(
            flat=flat,
            layer=layer,
            neuron=neuron,
            kind=kind,
            context_id=int(examples.context_ids[index]),
            peak=float(examples.peaks[index]),
            peak_position=int(examples.peak_positions[index]),
            trough=float(examples.troughs[index]),
            trough_position=int(examples.trough_positions[index]),
            start=int(examples.starts[index]),
            activations=values[begins[index] : begins[index + 1]],
            gate=float(examples.gates[index]),
            linear=float(examples.linears[index]),
        )


def _check_sample_lists(
    run: StoredRun,
    expected: Expected,
    flat: int,
    lists: dict[int, ExampleArrays],
    packed: bytes,
    findings: Findings,
) -> None:
    try:
        arrays = unpack_arrays(packed)
    except (ValueError, struct.error, IndexError) as error:
        findings.equal(_SAMPLE_LISTS, 1, 1)
        findings.add(run.finding(flat, f"its small arrays cannot be read: {error}"))
        return
    for kind in (RANDOM, BAND):
        if expected.sparse:
            problem = firing_problem(lists, kind, expected, arrays)
        else:
            problem = sample_problem(
                lists.get(kind), kind, expected, arrays["band_cuts"], arrays["band_counts"]
            )
        findings.equal(_SAMPLE_LISTS, 1, int(problem is not None))
        if problem is not None:
            findings.add(run.finding(flat, problem, schema.KINDS[kind]))


def _check_token(
    run: StoredRun,
    expected: Expected,
    corpus: PreparedCorpus,
    flat: int,
    top: ExampleArrays | None,
    row: Any,
    findings: Findings,
) -> None:
    """Check that a neuron's token is the token at its highest peak."""
    if top is None or not len(top) or not ids_exist(top, expected):
        return
    token_ids, place = corpus.context(int(top.context_ids[0])), int(top.peak_positions[0])
    wanted = int(token_ids[place]) if place < len(token_ids) else None
    wrong = wanted is not None and row.peak_token_id != wanted
    findings.equal("tokens at the highest peaks", 1, int(wrong))
    if wrong:
        what = f"its token is {row.peak_token_id}, the token at its highest peak {wanted}"
        findings.add(run.finding(flat, what))


def compare_examples(
    comparison: Comparison,
    examples: Examples,
    batch: Batch,
    layer: int,
    layer_acts: LayerActivations,
) -> None:
    """Compare the examples of one layer in a batch."""
    for row, context_id in enumerate(batch.context_ids.tolist()):
        length = int(batch.attention[row].sum())
        included = batch.included[row, :length]
        for example in examples.by_place.get((context_id, layer), ()):
            truth = layer_acts.activations[row, :length, example.neuron]
            between = [
                limits[row, :length, example.neuron]
                for limits in (layer_acts.lowest, layer_acts.highest)
            ]
            checked = _Checked(comparison, example, truth, included, *between)
            checked.values()
            for name, stored, part in (
                ("gate", example.gate, layer_acts.gate),
                ("linear part", example.linear, layer_acts.linear),
            ):
                values = None
                if part is not None:
                    values = part[row, :length, example.neuron].float().cpu().numpy()
                checked.part(name, stored, values)


@dataclass(frozen=True)
class _Checked:
    """An example with its recomputed activations."""

    comparison: Comparison
    example: Example
    truth: Float32[np.ndarray, " pos"]
    """The neuron's recomputed activations over the context."""
    included: Bool[np.ndarray, " pos"]
    """The included positions."""
    lowest: Float32[np.ndarray, " pos"]
    """What rounding allows: activations are between `lowest` and `highest`."""
    highest: Float32[np.ndarray, " pos"]

    def values(self) -> None:
        """Check the window, peak and trough with their positions, and the activations."""
        example = self.example
        end = example.start + len(example.activations)
        window = min(self.comparison.expected.window, len(self.truth))
        fits = len(example.activations) == window and end <= len(self.truth)
        wrong = not (fits and example.start <= example.centre < end)
        self.comparison.findings.equal("windows: around the peak, right length", 1, int(wrong))
        if wrong:
            self._add_finding(f"the window covers positions {example.start} to {end - 1}")
        # A wrong window may reach beyond the context: compare only what is inside.
        positions = np.arange(example.start, max(example.start, min(end, len(self.truth))))
        positions = positions[self.included[positions]]
        truth = self.truth[positions]
        stored = example.activations[positions - example.start]
        largest = float(np.abs(truth).max(initial=SMALL))
        self._extreme("peak", example.peak, example.peak_position, largest, 1)
        self._extreme("trough", example.trough, example.trough_position, largest, -1)
        # 8-bit rounding is relative to the window's own largest magnitude, however small.
        bounds, own = self.comparison.bounds, float(np.abs(truth).max(initial=0.0))
        allowed = own / 254 + (bounds.activation - 1 / 254) * largest
        below, above = self.lowest[positions] - stored, stored - self.highest[positions]
        apart = np.maximum(np.maximum(below, above).astype(np.float64), 0)
        differences = apart * (bounds.activation / allowed)
        bad = self.comparison.findings.within("activations", bounds.activation, differences)
        if bad.any():
            worst = int(np.where(bad, np.nan_to_num(differences, nan=np.inf), -1).argmax())
            self._add_finding(
                f"the activation at position {positions[worst]}",
                float(stored[worst]),
                float(truth[worst]),
            )

    def _extreme(
        self,
        name: str,
        stored: float,
        place: int,
        largest: float,
        sign: int,
    ) -> None:
        """Check a peak (sign 1) or trough (sign −1) and its position."""
        bounds = self.comparison.bounds
        counted = np.where(self.included, sign * self.truth, -np.inf)
        best = float(counted.max())
        limits = (self.lowest, self.highest)[::sign]
        least, most = (
            float(np.where(self.included, sign * limit, -np.inf).max()) for limit in limits
        )
        scale = max(largest, abs(best))
        difference = max(least - sign * stored, sign * stored - most, 0.0) / scale
        if not self.comparison.findings.is_within("peaks and troughs", bounds.value, difference):
            self._add_finding(f"the {name}", stored, sign * best)
        inside = 0 <= place < len(self.truth) and bool(self.included[place])
        at_place = sign * float(limits[1][place]) if inside else np.nan
        moved = max(least - at_place, 0.0) / scale if inside else np.nan
        wrong = not self.comparison.findings.is_within("their positions", bounds.place, moved)
        earliest = int(counted.argmax())
        if bounds.value == 0 and not wrong and place != earliest:
            self.comparison.findings.equal("their positions", 0, 1)
            wrong = True
        if wrong:
            self._add_finding(f"the {name} is at position {earliest}, not {place}")

    def part(self, name: str, stored: float, values: Float32[np.ndarray, " pos"] | None) -> None:
        """Check the gate or linear part at the example's centre. Without `values`, the model has
        none."""
        if values is None:
            if not np.isnan(stored):
                self.comparison.findings.equal("gates and linear parts", 0, 1)
                self._add_finding(f"the {name} is {stored:.7g}, but the model has none")
            return
        centre = self.example.centre
        truth = float(values[centre]) if centre < len(values) else np.nan
        scale = float(np.abs(values[self.included]).max(initial=SMALL))
        difference = abs(stored - truth) / scale
        bound = self.comparison.bounds.value
        if not self.comparison.findings.is_within("gates and linear parts", bound, difference):
            self._add_finding(f"the {name} at its centre", stored, truth)

    def _add_finding(
        self, what: str, stored: float | None = None, truth: float | None = None
    ) -> None:
        example = self.example
        self.comparison.findings.add(
            self.comparison.run.finding(
                example.flat,
                what,
                schema.KINDS[example.kind],
                context_id=example.context_id,
                stored=stored,
                recomputed=truth,
            )
        )
