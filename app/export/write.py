"""Exports a run to a path, in each of the formats."""

from __future__ import annotations

import gzip
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Engine

from app.errors import Invalid
from app.export import neuronpedia, whole
from app.export.choice import Choice, Indices, chosen, ranges
from app.export.files import (
    STANDARD_OUTPUT,
    Progress,
    check_new,
    new_file,
    new_folder,
    write_lines,
    write_parquet,
)
from app.export.lines import Notes, by_neuron, neuron_lines, table_lines
from app.export.openai import record_bytes
from app.neurons.queries import neuron as read_neuron
from app.reading.store import Reading
from app.schemas import Note
from app.sets import name_of
from indexer.errors import NeurariumError
from indexer.store import notes as notes_table
from indexer.store.transfer.lines import BESIDE_RECORDS

Format = Literal["jsonl", "parquet", "csv", "openai", "neuronpedia", "safetensors"]
FOLDERS = ("parquet", "openai", "neuronpedia")
"""The formats that are a folder of files."""
WITH_FIELDS = ("jsonl", "csv")


@dataclass(frozen=True, slots=True)
class Request:
    """What a user wants exported."""

    format: Format
    out: Path
    choice: Choice
    fields: str | None = None

    def check(self) -> None:
        """Raises NeurariumError for a request that cannot be met, before anything is read."""
        if self.format in FOLDERS and self.out == STANDARD_OUTPUT:
            raise NeurariumError(f"{self.format} is a folder of files: name one with --out.")
        if self.fields is not None and self.format not in WITH_FIELDS:
            raise NeurariumError(
                f"--fields is for {' and '.join(WITH_FIELDS)}: {self.format} has all that the "
                "format has room for."
            )
        check_new(self.out)


def export(
    reading: Reading,
    request: Request,
    notes: Notes | None,
    stage: Callable[[str, int | None, str], Progress],
) -> int:
    """Write the export and return how many units are in it. `stage` begins a progress bar.

    Raises NeurariumError and AppError, and then writes nothing.
    """
    request.check()
    indices = chosen(reading, request.choice)
    if not len(indices):
        raise Invalid(f"No {reading.units.noun} matches: there is nothing to export.")
    progress = stage("Exporting", len(indices), f"{reading.units.noun}s")
    _WRITERS[request.format](reading, request, indices, notes, progress)
    return len(indices)


def notes_of(engine: Engine, reading: Reading) -> Notes | None:
    """The notes on a run's set of units; None if the store has none of any."""
    rows = notes_table.of_model(engine, str(name_of(reading.run.model, reading.run.set_name)))
    if rows is None:
        return None
    return by_neuron(Note.model_validate(notes_table.fields(row)) for row in rows)


def _jsonl(
    reading: Reading, request: Request, indices: Indices, notes: Notes | None, progress: Progress
) -> None:
    if not request.choice.is_whole or request.fields is not None:
        write_lines(request.out, neuron_lines(reading, indices, request.fields, notes), progress)
        return
    with new_file(request.out) as file:
        file.write(whole.head(reading))
        for number, line in enumerate(whole.neurons(reading, notes), 1):
            file.write(line)
            progress(number)
        file.writelines(whole.contexts(reading))


def _csv(
    reading: Reading, request: Request, indices: Indices, notes: Notes | None, progress: Progress
) -> None:
    with new_file(request.out) as file:
        for number, part in enumerate(table_lines(reading, indices, request.fields, notes)):
            file.write(part)
            progress(min(len(indices), number * 1000))


def _parquet(
    reading: Reading, request: Request, indices: Indices, notes: Notes | None, progress: Progress
) -> None:
    from app.export.heads import head_tables
    from app.export.parquet import Tables, notes_table

    chosen = sorted_unique(indices).tolist()
    places = (reading.places.of(index) for index in chosen)
    written = [note for place in places for note in (notes or {}).get(place, ())]
    more = [*head_tables(reading, chosen), *([("notes", notes_table(written))] if written else ())]
    write_parquet(request.out, Tables(reading), ranges(indices), more, progress)


def _safetensors(
    reading: Reading, request: Request, indices: Indices, _: Notes | None, progress: Progress
) -> None:
    from app.export.tensors import write_tensors

    with new_file(request.out) as file:
        write_tensors(file, reading, ranges(sorted_unique(indices)), progress)


def _openai(
    reading: Reading, request: Request, indices: Indices, _: Notes | None, progress: Progress
) -> None:
    def written(folder: Path) -> Iterator[bytes]:
        """The content of each record, once it is a file."""
        for number, index in enumerate(indices.tolist(), 1):
            layer, neuron = reading.places.of(index)
            (folder / str(layer)).mkdir(exist_ok=True)
            content = record_bytes(read_neuron(reading, layer, neuron))
            (folder / str(layer) / f"{neuron}.json").write_bytes(content)
            yield content
            progress(number)

    with new_folder(request.out) as folder:
        records = written(folder)
        if request.choice.is_whole:
            with gzip.open(folder / BESIDE_RECORDS, "wb", 5) as file:
                file.write(whole.head(reading))
                file.writelines(whole.beside(reading, records))
                file.writelines(whole.contexts(reading))
        deque(records, 0)  # the rest, or all


def _neuronpedia(
    reading: Reading, request: Request, indices: Indices, notes: Notes | None, progress: Progress
) -> None:
    run, done = reading.run, 0
    by_layer: dict[int, list[int]] = {}
    for index in sorted_unique(indices).tolist():
        layer, neuron = reading.places.of(index)
        by_layer.setdefault(layer, []).append(neuron)
    with new_folder(request.out) as folder:
        home = folder / "v1" / run.model
        for layer, neurons in by_layer.items():
            place = home / neuronpedia.source_id(layer, run.set_name)
            for name in ("features", "activations"):
                (place / name).mkdir(parents=True)
            units = f"{reading.units.noun.capitalize()}s"
            described = f"{units} at {run.hook_point}, indexed by Neurarium"
            created = run.created_at.isoformat()
            _write(place / "model.jsonl", [neuronpedia.model(run.model, run.widths, created)])
            _write(
                place / "sourceset.jsonl",
                [neuronpedia.source_set(run.model, run.set_name, created, described)],
            )
            known = (run.corpus, run.contexts, run.ctx_len)
            _write(
                place / "source.jsonl", [neuronpedia.source(run.model, run.set_name, layer, *known)]
            )
            for batch in range(0, len(neurons), neuronpedia.BATCH):
                name = f"batch-{batch // neuronpedia.BATCH}.jsonl.gz"
                pages = [
                    read_neuron(reading, layer, neuron)
                    for neuron in neurons[batch : batch + neuronpedia.BATCH]
                ]
                _write(place / "features" / name, map(neuronpedia.feature, pages))
                rows = [row for page in pages for row in neuronpedia.activations(page)]
                _write(place / "activations" / name, rows)
                explained = [
                    row
                    for page in pages
                    for row in neuronpedia.explanations(
                        page, (notes or {}).get((page.layer, page.neuron), ())
                    )
                ]
                if explained:
                    (place / "explanations").mkdir(exist_ok=True)
                    _write(place / "explanations" / name, explained)
                done += len(pages)
                progress(done)


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    lines: Sequence[bytes] = [json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows]
    content = b"".join(lines)
    if path.suffix == ".gz":
        content = gzip.compress(content, 5, mtime=0)
    path.write_bytes(content)


def sorted_unique(indices: Indices) -> Indices:
    """The indices in order, each once."""
    unique: Indices = indices.copy()
    unique.sort()
    keep = [True, *(unique[1:] != unique[:-1]).tolist()]
    return unique[keep] if len(unique) else unique


_WRITERS: dict[str, Callable[[Reading, Request, Indices, Notes | None, Progress], None]] = {
    "jsonl": _jsonl,
    "parquet": _parquet,
    "csv": _csv,
    "openai": _openai,
    "neuronpedia": _neuronpedia,
    "safetensors": _safetensors,
}
