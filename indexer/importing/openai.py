"""Reads a folder of NeuronRecords, `LAYER/NEURON.json`, as a run.

Records that Neurarium exported have the whole run beside them. Others have texts of tokens and
activations only: what else a run has is computed from their examples, or is unknown. Numbers are
computed from the activations as the store rounds them, so that exporting and importing the run once
more gives the same hash.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine

from indexer.config import MAX_CTX_LEN, check_name
from indexer.errors import NeurariumError
from indexer.importing.lines import import_lines
from indexer.store import schema
from indexer.store.packing.codec import NEURON_ARRAYS, ExampleArrays, quantize
from indexer.store.transfer.copying import counted
from indexer.store.transfer.lines import BESIDE_RECORDS, blocks, digest
from indexer.store.transfer.records import StoredNeuron, block_of
from indexer.store.units import Units
from indexer.store.writing.content import SCALARS
from indexer.store.writing.records import ContextRecord, RunRecord
from indexer.store.writing.run import write_run

Array = np.ndarray[Any, Any]

_TOP, _RANDOM, _BAND = (schema.KINDS.index(kind) for kind in ("top", "random", "band"))
_QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
_BINS = 40
_CUTS = 3
"""Cut points of the bands; records with others have their samples by quantile left out."""


def import_records(
    folder: Path, engine: Engine, name: str | None, progress: Callable[[int], None]
) -> int:
    """Write the run to a store, and return its number. Raises NeurariumError, with nothing written,
    if a file cannot be read or neurons are missing."""
    if (folder / BESIDE_RECORDS).exists():
        return import_lines(folder / BESIDE_RECORDS, engine, name, progress, _matching(folder))
    name = name or folder.resolve().name
    check_name(name)
    files = _files(folder)
    texts = _Texts(path for layer in files for path in layer)
    record = RunRecord(
        model=name,
        model_id=name,
        revision=None,
        hook_point="mlp.hook_post",
        is_default_hook_point=True,
        corpus="NeuronRecords",
        dtype="float32",
        ctx_len=max(map(len, texts.contexts)),
        contexts=len(texts.contexts),
        tokens=sum(map(len, texts.contexts)),
        sample_contexts=texts.sample,
        sample_positions=texts.sample_positions,
        sample_identity="",
        widths=tuple(map(len, files)),
        sources=("",),
        vocabulary=[token.encode("utf-8", "surrogatepass") for token in texts.tokens],
        token_counts=texts.token_counts(),
        source_contexts=np.array([len(texts.contexts)], np.int64),
        units=Units(
            no_writes="These records say nothing of what neurons write.",
            no_reads="These records say nothing of what neurons read.",
            no_links="These records say nothing of how weights link neurons.",
        ),
        provenance={"imported": "NeuronRecords", "corpus": {"contexts": len(texts.contexts)}},
        created_at=datetime.now(UTC),
    )

    def neurons() -> Iterator[StoredNeuron]:
        for layer, paths in enumerate(files):
            for neuron, path in enumerate(paths):
                yield _neuron(layer, neuron, _read(path), texts)

    made = counted((block_of(part) for part in blocks(neurons())), progress)
    return write_run(engine, record, made, texts.records())


def _matching(folder: Path) -> Callable[[dict[str, Any]], None]:
    """A function that refuses a line if a record has been changed, removed or added since the
    export. It raises NeurariumError."""
    files = {path.relative_to(folder).as_posix() for path in folder.glob("*/*.json")}

    def look(line: dict[str, Any]) -> None:
        changed = None
        if line.get("type") == "neuron":
            name = f"{line.get('layer')}/{line.get('neuron')}.json"
            known = name in files and digest((folder / name).read_bytes()) == line.get("record")
            files.discard(name)
            changed = None if known else name
        elif line.get("type") == "context" and files:
            changed = min(files)
        if changed is not None:
            raise NeurariumError(
                f"{folder / changed} is not as it was exported: remove "
                f"{folder / BESIDE_RECORDS} to import what the records alone say."
            )

    return look


def _files(folder: Path) -> list[list[Path]]:
    """The file of each neuron of each layer. Raises NeurariumError if any is missing."""
    layers = {int(path.name): path for path in folder.iterdir() if path.name.isdecimal()}
    if sorted(layers) != list(range(len(layers))) or not layers:
        raise NeurariumError(
            f"{folder} has to have a folder for each layer, from 0 up, with a file NEURON.json for "
            "each of its neurons."
        )
    files = []
    for layer in range(len(layers)):
        found = {int(p.stem): p for p in layers[layer].glob("*.json") if p.stem.isdecimal()}
        if sorted(found) != list(range(len(found))) or not found:
            raise NeurariumError(
                f"Layer {layer} of {folder} lacks a neuron: all from 0 up have to be there."
            )
        files.append([found[neuron] for neuron in range(len(found))])
    return files


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_bytes())
    except ValueError as error:
        raise NeurariumError(f"{path} is not JSON: {error}.") from None
    if not isinstance(record, dict) or "most_positive_activation_records" not in record:
        raise NeurariumError(
            f"{path} is no NeuronRecord: it has to have most_positive_activation_records."
        )
    return record


def _kinds(record: dict[str, Any]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """The activation records of a neuron by kind; bands from the lowest up."""
    yield _TOP, record["most_positive_activation_records"]
    yield _RANDOM, record.get("random_sample") or []
    bands = record.get("random_sample_by_quantile") or []
    if len(record.get("quantile_boundaries") or []) == _CUTS:
        yield _BAND, [one for band in bands for one in band]


class _Texts:
    """The contexts of all records, each once, numbered by their tokens' texts."""

    def __init__(self, paths: Iterator[Path]) -> None:
        found: set[tuple[str, ...]] = set()
        sample: set[tuple[str, ...]] = set()
        for path in paths:
            for kind, records in _kinds(_read(path)):
                for one in records:
                    tokens, values = tuple(one["tokens"]), one["activations"]
                    if not tokens or len(tokens) != len(values) or len(tokens) > MAX_CTX_LEN:
                        raise NeurariumError(
                            f"{path} has {len(tokens):,} tokens with {len(values):,} activations: "
                            f"there has to be one for each, and at most {MAX_CTX_LEN:,}."
                        )
                    found.add(tokens)
                    if kind == _RANDOM:
                        sample.add(tokens)
        if not found:
            raise NeurariumError("The records have no text: there is nothing to import.")
        self.contexts = sorted(found)
        self.tokens = sorted({token for context in self.contexts for token in context})
        self.ids = {token: index for index, token in enumerate(self.tokens)}
        self.numbers = {context: index for index, context in enumerate(self.contexts)}
        self.sample = len(sample)
        self.sample_positions = sum(map(len, sample))

    def token_counts(self) -> Array:
        """The number of occurrences of each token [vocabulary]."""
        ids = [self.ids[token] for context in self.contexts for token in context]
        return np.bincount(ids, minlength=len(self.tokens)).astype(np.int64)

    def records(self) -> Iterator[ContextRecord]:
        """All contexts by id."""
        for number, context in enumerate(self.contexts):
            ids = np.array([self.ids[token] for token in context], np.uint32)
            yield ContextRecord(number, number, 0, 0, ids)


@dataclass(frozen=True)
class _Example:
    """An activation record as the store has it."""

    context_id: int
    values: Array
    """[pos], float32, as they are read from the store."""
    quantized: Array
    """[pos], int8."""
    scale: Any

    @property
    def peak_position(self) -> int:
        return int(self.values.argmax())

    @property
    def peak(self) -> float:
        return float(self.values.max())


def _example(one: dict[str, Any], texts: _Texts) -> _Example:
    values = np.array([one["activations"]], np.float32)
    quantized, scales = quantize(values, np.ones(values.shape, np.bool_))
    stored = quantized.astype(np.float32) * scales[:, None]
    low, high = values.min(), values.max()
    exact = np.minimum(np.maximum(stored, low), high)
    exact[0, int(values.argmin())], exact[0, int(values.argmax())] = low, high
    number = texts.numbers[tuple(one["tokens"])]
    return _Example(number, exact[0], quantized[0], scales[0])


def _neuron(layer: int, neuron: int, record: dict[str, Any], texts: _Texts) -> StoredNeuron:
    kinds = {kind: [_example(one, texts) for one in records] for kind, records in _kinds(record)}
    kinds[_TOP].sort(key=lambda example: (-example.peak, example.context_id))
    everything = [example.values for examples in kinds.values() for example in examples]
    flat = np.concatenate(everything) if everything else np.zeros(1, np.float32)
    sample = [example.values for example in kinds[_RANDOM]]
    positions = np.concatenate(sample) if sample else flat
    peaks = np.array([values.max() for values in sample or everything or [flat]], np.float64)
    high, low = float(flat.max()), float(flat.min())
    top = kinds[_TOP][0] if kinds[_TOP] else None
    token = 0
    if top is not None:
        token = texts.ids[texts.contexts[top.context_id][top.peak_position]]
    kurtosis = _moment(record, "kurtosis")
    scalars: dict[str, float] = dict.fromkeys(SCALARS, math.nan) | {
        "max": high,
        "min": low,
        "mean": _moment(record, "mean", float(positions.mean())),
        "std": math.sqrt(max(0.0, _moment(record, "variance", 0.0))),
        "skewness": _moment(record, "skewness"),
        "kurtosis": -math.inf if math.isnan(kurtosis) else kurtosis,
        "density": float((positions > 0).mean()),
        "density_over_tenth": float((positions >= 0.1 * high).mean()) if high > 0 else 0.0,
        "tenth": 0.1 * high,
        "dead": high <= 0,
        "peak_token_id": token,
        "promoted_token_id": math.nan,
        "lookup": -math.inf,
        "effect_kurtosis": -math.inf,
        "top_source": 0,
    }
    cuts = record.get("quantile_boundaries") or []
    arrays = {
        "peak_quantiles": np.quantile(peaks, _QUANTILES),
        **_histogram("histogram", positions),
        **_histogram("peak_histogram", peaks),
    }
    if len(cuts) == _CUTS:
        arrays["band_cuts"] = np.array(cuts, np.float64)
        per_band = [len(band) for band in record.get("random_sample_by_quantile") or []]
        arrays["band_counts"] = np.array(per_band, np.int64)
    return StoredNeuron(
        layer,
        neuron,
        scalars,
        _all_arrays(arrays),
        {kind: _packed(examples) for kind, examples in kinds.items() if examples},
    )


def _all_arrays(known: dict[str, Array]) -> dict[str, Array]:
    """All arrays of a neuron in their types; unknown arrays are empty."""
    return {name: np.asarray(known.get(name, ()), dtype) for name, dtype in NEURON_ARRAYS.items()}


def _histogram(name: str, values: Array) -> dict[str, Array]:
    low, high = float(values.min()), float(values.max())
    width = (high - low) / _BINS or 1.0
    counts, _ = np.histogram(values, low + width * np.arange(_BINS + 1))
    return {f"{name}_range": np.array([low, width]), f"{name}_counts": counts}


def _moment(record: dict[str, Any], name: str, missing: float = math.nan) -> float:
    value = record.get(name)
    return missing if value is None or math.isnan(value) else float(value)


def _packed(examples: list[_Example]) -> ExampleArrays:
    unknown = np.full(len(examples), np.nan, np.float32)
    return ExampleArrays(
        peaks=np.array([example.peak for example in examples], np.float32),
        peak_positions=np.array([example.peak_position for example in examples], np.uint16),
        troughs=np.array([example.values.min() for example in examples], np.float32),
        trough_positions=np.array([example.values.argmin() for example in examples], np.uint16),
        context_ids=np.array([example.context_id for example in examples], np.int64),
        starts=np.zeros(len(examples), np.uint16),
        lengths=np.array([len(example.values) for example in examples], np.uint16),
        scales=np.array([example.scale for example in examples], np.float32),
        gates=unknown,
        linears=unknown,
        quantized=np.concatenate([example.quantized for example in examples]),
    )
