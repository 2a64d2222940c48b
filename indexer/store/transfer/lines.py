"""A run as lines of JSON that hold all of it: what a neuron's line needs beside the API's object,
and the lines of the run and of its contexts."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

import numpy as np

from indexer.errors import NeurariumError
from indexer.store import schema
from indexer.store.packing.codec import ExampleArrays, pack_arrays, unpack_arrays
from indexer.store.packing.layout import FIELDS
from indexer.store.transfer.records import StoredNeuron
from indexer.store.units import Units
from indexer.store.writing.content import SCALARS
from indexer.store.writing.records import ContextRecord, RunRecord

FORMAT = 1
"""Of the lines; a reader refuses others."""
BESIDE_RECORDS = "neurarium.jsonl.gz"
"""A file beside NeuronRecords with the lines of their run: OpenAI's reader takes no other fields in
a record than its own, and these lack most of a run. A line of a neuron names its record's digest.
"""

Array = np.ndarray[Any, Any]


def run_line(record: RunRecord, content_hash: str) -> dict[str, Any]:
    """The first line of a run: its metadata and vocabulary."""
    known = asdict(record)
    for name in ("token_counts", "source_contexts"):
        known[name] = known[name].tolist()
    return {
        "type": "run",
        "format": FORMAT,
        **known,
        "created_at": record.created_at.isoformat(),
        "vocabulary": [base64.b64encode(token).decode() for token in record.vocabulary],
        "content_hash": content_hash,
    }


def record_of(line: Mapping[str, Any]) -> RunRecord:
    """The inverse of `run_line`. Raises NeurariumError for another format, KeyError, ValueError."""
    if line.get("type") != "run" or line.get("format") != FORMAT:
        raise NeurariumError(
            "The file does not begin with a run of a format that this version reads: write it with "
            "`neurarium export RUN --format jsonl`, without a choice of neurons or fields."
        )
    given = {field.name: line[field.name] for field in fields(RunRecord)}
    given |= {
        "created_at": datetime.fromisoformat(line["created_at"]),
        "vocabulary": [base64.b64decode(token) for token in line["vocabulary"]],
        "widths": tuple(map(int, line["widths"])),
        "sources": tuple(line["sources"]),
        "units": Units.of(line["units"]),
        "token_counts": np.array(line["token_counts"], np.int64),
        "source_contexts": np.array(line["source_contexts"], np.int64),
    }
    return RunRecord(**given)


def stored_part(neuron: StoredNeuron) -> dict[str, Any]:
    """What the store has of a neuron, exactly, as JSON."""
    scalars = np.array([neuron.scalars[name] for name in SCALARS], "<f8")
    return {
        "scalars": _text(scalars),
        "arrays": base64.b64encode(pack_arrays(neuron.arrays)).decode(),
        "examples": {
            schema.KINDS[kind]: {name: _text(getattr(examples, name)) for name in _EXAMPLE}
            for kind, examples in neuron.kinds.items()
        },
    }


def neuron_of(line: Mapping[str, Any]) -> StoredNeuron:
    """The inverse of `stored_part`, of a neuron's line. Raises KeyError, ValueError."""
    stored = line["stored"]
    scalars = np.frombuffer(base64.b64decode(stored["scalars"]), "<f8").tolist()
    if len(scalars) != len(SCALARS):
        raise ValueError("it was written by another version")
    kinds = {
        schema.KINDS.index(kind): ExampleArrays(
            **{
                name: np.frombuffer(base64.b64decode(given[name]), dtype)
                for name, dtype in _EXAMPLE.items()
            }
        )
        for kind, given in stored["examples"].items()
    }
    return StoredNeuron(
        layer=line["layer"],
        neuron=line["neuron"],
        scalars=dict(zip(SCALARS, scalars, strict=True)),
        arrays=unpack_arrays(base64.b64decode(stored["arrays"])),
        kinds=kinds,
    )


def context_line(record: ContextRecord) -> dict[str, Any]:
    """The line of a context, the inverse of `context_of`."""
    return {"type": "context", **asdict(record), "token_ids": record.token_ids.tolist()}


def context_of(line: Mapping[str, Any]) -> ContextRecord:
    """The inverse of `context_line`. Raises KeyError."""
    given = {field.name: line[field.name] for field in fields(ContextRecord)}
    return ContextRecord(**given | {"token_ids": np.array(line["token_ids"], np.uint32)})


def digest(record: bytes) -> str:
    """Whether a file equals the exported one."""
    return hashlib.blake2b(record, digest_size=16).hexdigest()


def dumped(line: Mapping[str, Any]) -> bytes:
    """A line of JSON."""
    return json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def loaded(line: bytes, number: int, where: object) -> dict[str, Any]:
    """A line as an object. Raises NeurariumError."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        cut = "" if line.endswith(b"\n") else " The file is cut off in it."
        raise NeurariumError(
            f"Line {number:,} of {where} is not JSON: {error}.{cut} Nothing was imported."
        ) from None
    if not isinstance(value, dict):
        raise NeurariumError(f"Line {number:,} of {where} is not an object.")
    return value


_EXAMPLE = {**FIELDS, "quantized": "<i1"}


def _text(values: Array) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def blocks(neurons: Iterator[StoredNeuron], size: int = 256) -> Iterator[list[StoredNeuron]]:
    """Neurons in lists of at most `size`, each of one layer."""
    batch: list[StoredNeuron] = []
    for neuron in neurons:
        if batch and (len(batch) == size or batch[0].layer != neuron.layer):
            yield batch
            batch = []
        batch.append(neuron)
    if batch:
        yield batch
