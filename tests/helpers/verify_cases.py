"""SmallRun real runs to verify, and ways to plant faults in their stores."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection, delete, insert, select, update

from indexer.config import IndexConfig
from indexer.run.index import index
from indexer.store import schema
from indexer.store.database import open_store
from indexer.store.packing.codec import (
    ExampleArrays,
    Packer,
    pack_arrays,
    unpack_arrays,
    unpack_kinds,
)
from indexer.store.packing.postings import PLACE, pack_places, unpack_places
from indexer.verify.report import Findings, report_lines
from indexer.verify.run import verify
from tests.conftest import Silent
from tests.helpers.packed_lists import pack_lists
from tests.helpers.store_copies import copy_store
from tests.helpers.tiny_models import TEXT, save_tiny_model

WIDTH, NEURONS, CONTEXTS = 16, 32, 1000
"""Neurons in a layer and in both layers of a tiny Llama, and more contexts than its corpus has."""
NEURON = (1, 7)
HERE = "layer 1, neuron 7"
"""The neuron with faults, and how findings name it."""
Changed = Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]
KIND = {name: number for number, name in enumerate(schema.KINDS)}


def write_corpus(path: Path) -> Path:
    """Write different documents of three sources and many lengths."""
    numbers = np.random.default_rng(0)
    words = TEXT.split()
    with path.open("w") as file:
        for document in range(45):
            text = " ".join(numbers.choice(words, int(numbers.integers(3, 40))))
            line = {"text": text, "source": ("one", "two", "three")[document % 3]}
            file.write(json.dumps(line) + "\n")
    return path


@dataclass(frozen=True)
class SmallRun:
    """A written run, and the places of its files."""

    folder: Path
    config: IndexConfig
    url: str

    @property
    def cache(self) -> Path:
        """The folder of its prepared corpus."""
        return self.folder / "cache"

    def copy(self, folder: Path) -> SmallRun:
        """The same run in its own store, to be damaged."""
        return replace(
            self, url=copy_store(f"sqlite:///{self.folder / 'store.db'}", folder / "copy.db")
        )


def save_llama(folder: Path) -> Path:
    """Save a tiny gated model."""
    return save_tiny_model(folder, "llama", intermediate_size=WIDTH)


def make(folder: Path, model: Path | str, url: str | None = None, **settings: Any) -> SmallRun:
    """Index a model over the corpus of `write_corpus`."""
    folder.mkdir(exist_ok=True)
    small: dict[str, Any] = {
        "ctx_len": 16,
        "sample": 24,
        "top_k": 5,
        "bottom_k": 3,
        "batch_tokens": 256,
        "connections": False,
    }
    config = IndexConfig(
        model=str(model), corpus=str(write_corpus(folder / "corpus.jsonl")), **(small | settings)
    )
    made = SmallRun(folder, config, url or f"sqlite:///{folder / 'store.db'}")
    index(config, made.url, made.cache, Silent())
    return made


def verified(small: SmallRun, **options: Any) -> Findings:
    """The findings of verifying the whole run. `cache`: another cache folder."""
    settings: dict[str, Any] = {"neurons": NEURONS, "contexts": CONTEXTS, "seed": 0}
    cache = options.pop("cache", small.cache)
    reporter = options.pop("reporter", Silent())
    engine = open_store(small.url, create=False)
    try:
        return verify(engine, 1, cache, reporter, **(settings | options))[1]
    finally:
        engine.dispose()


def lines_of(findings: Findings, noun: str = "neuron") -> list[str]:
    """All findings as printed, with LINK for the URL."""
    lines = list(report_lines(findings, noun, lambda layer, neuron: "LINK"))
    return lines[len(findings.tallies) + 3 :]


def check(small: SmallRun, *expected: str) -> None:
    """Check that the findings begin with `expected`, in this order, and that there are no
    others."""
    lines = lines_of(verified(small))
    assert len(lines) == len(expected), lines
    for line, wanted in zip(lines, expected, strict=True):
        assert line.startswith(wanted), line
        assert line.endswith("  LINK") == line.startswith("layer ")


def change(small: SmallRun, work: Callable[[Connection], Any]) -> None:
    """Change the store with `work`."""
    engine = open_store(small.url, create=False)
    with engine.begin() as connection:
        work(connection)
    engine.dispose()


def flat_of(neuron: tuple[int, int]) -> int:
    """A neuron's flat index."""
    return neuron[0] * WIDTH + neuron[1]


def lists_of(small: SmallRun, neuron: tuple[int, int]) -> dict[int, ExampleArrays]:
    """A neuron's stored lists by kind."""
    table, key = schema.examples, schema.neuron_key(1, flat_of(neuron))
    engine = open_store(small.url, create=False)
    with engine.connect() as connection:
        query = select(table.c.kind, table.c.packed).where(table.c.neuron_id == key)
        rows = [(row.kind, row.packed) for row in connection.execute(query)]
    engine.dispose()
    return unpack_kinds(rows)


def examples_of(small: SmallRun, neuron: tuple[int, int], kind: str) -> ExampleArrays:
    """A neuron's stored list of one kind."""
    return lists_of(small, neuron)[KIND[kind]]


def put(
    small: SmallRun, neuron: tuple[int, int], kind: str, examples: ExampleArrays | bytes | None
) -> None:
    """Replace a list by another, or by bytes, or remove it."""
    table, key = schema.examples, schema.neuron_key(1, flat_of(neuron))
    packed: dict[int, bytes] = {
        number: pack_lists([stored]) for number, stored in lists_of(small, neuron).items()
    }
    packed.pop(KIND[kind], None)
    if examples is not None:
        is_list = isinstance(examples, ExampleArrays)
        packed[KIND[kind]] = pack_lists([examples]) if is_list else examples
    rows = [
        {"neuron_id": key, "kind": number, "packed": content} for number, content in packed.items()
    ]

    def work(connection: Connection) -> None:
        connection.execute(delete(table).where(table.c.neuron_id == key))
        connection.execute(insert(table), rows)

    change(small, work)


def set_neuron(small: SmallRun, neuron: tuple[int, int], **columns: Any) -> None:
    """Change columns of a neuron."""
    table, key = schema.neurons, schema.neuron_key(1, flat_of(neuron))
    change(small, lambda c: c.execute(update(table).where(table.c.id == key).values(**columns)))


def change_histogram(small: SmallRun, neuron: tuple[int, int], changed: Changed) -> None:
    """Replace the counts of a neuron's histogram by what `changed` makes of them."""
    table, key = schema.neuron_arrays, schema.neuron_key(1, flat_of(neuron))

    def work(connection: Connection) -> None:
        query = select(table.c.packed).where(table.c.neuron_id == key)
        arrays = unpack_arrays(bytes(connection.scalars(query).one()))
        counts = changed(arrays["histogram_counts"])
        packed = pack_arrays(arrays | {"histogram_counts": counts})
        connection.execute(update(table).where(table.c.neuron_id == key).values(packed=packed))

    change(small, work)


def set_context(small: SmallRun, context_id: int, **columns: Any) -> None:
    """Change columns of a context."""
    table = schema.contexts
    place = (table.c.run_id == 1) & (table.c.context_id == context_id)
    change(small, lambda c: c.execute(update(table).where(place).values(**columns)))


def name_neuron(small: SmallRun, neuron: tuple[int, int], context_id: int, *, named: bool) -> None:
    """Add a neuron to, or remove it from, the top examples that a context lists."""
    table = schema.contexts
    engine = open_store(small.url, create=False)
    with engine.connect() as connection:
        place = (table.c.run_id == 1) & (table.c.context_id == context_id)
        packed = connection.execute(select(table.c.neurons).where(place)).scalar_one()
    engine.dispose()
    places = unpack_places(packed)
    changed = places[(places["neuron"] != flat_of(neuron)) | (places["kind"] != 0)]
    if named:
        added = np.array([(flat_of(neuron), 0, 0, 0.0)], PLACE)
        changed = np.sort(np.append(changed, added), order=["neuron", "kind"])
    (neurons,) = pack_places(changed, [len(changed)], Packer())
    set_context(small, context_id, neurons=neurons)


def with_value(examples: ExampleArrays, field: str, index: int, value: Any) -> ExampleArrays:
    """The list with one number changed."""
    array = getattr(examples, field).copy()
    array[index] = value
    return replace(examples, **{field: array})


def only(examples: ExampleArrays, order: list[int]) -> ExampleArrays:
    """The examples at `order`, in that order."""
    ends = np.cumsum(examples.lengths.astype(np.int64))
    pieces = [examples.quantized[ends[i] - int(examples.lengths[i]) : ends[i]] for i in order]
    names = [name for name in ExampleArrays.__dataclass_fields__ if name != "quantized"]
    arrays = {name: getattr(examples, name)[order] for name in names}
    return ExampleArrays(**arrays, quantized=np.concatenate(pieces))
