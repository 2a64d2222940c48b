"""A checkpoint's files as they are stored: which there are, and what their headers say of the
tensors, before any is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from indexer.errors import NeurariumError
from indexer.models.gguf_header import read_header
from indexer.models.hub import cached_path
from indexer.models.pickled import pickled_types
from indexer.models.sizes import Shapes, read_json, safetensors_shapes, safetensors_types
from indexer.models.source import ModelSource

_SAFETENSORS, _PICKLED = "model.safetensors", "pytorch_model.bin"
_PLAIN = ("F64", "F32", "F16", "BF16")
"""Number formats of safetensors whose values mean what they are."""
_NEVER_WEIGHTS = ("BOOL", "I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64", "C64")
"""Number formats that only quantised weights have."""


def located(source: ModelSource, name: str) -> Path | None:
    """A file of a folder, or of a hub model in the local cache; None if it is not there."""
    if source.kind == "hub":
        return cached_path(source.location, source.commit or source.revision, name)
    path = Path(source.location) / name
    return path if path.is_file() else None


def stored_shapes(source: ModelSource) -> Shapes | None:
    """The shapes of a checkpoint's tensors, from the headers of its files; None where they are
    not known without reading it."""
    if source.kind == "gguf":
        return read_header(Path(source.location), source.label).shapes
    shapes: dict[str, tuple[int, ...]] = {}
    for path in _files(source, _SAFETENSORS):
        shapes |= safetensors_shapes(path)
    return shapes or None


def _files(source: ModelSource, name: str) -> list[Path]:
    """The files of a checkpoint, of which a single one would have this name, that are on this
    machine; [] if any is not."""
    single = located(source, name)
    if single is not None:
        return [single]
    index = located(source, f"{name}.index.json")
    if index is None:
        return []
    named = read_json(index, source.label).get("weight_map")
    if not isinstance(named, dict):
        return []
    paths = [located(source, name) for name in sorted({str(name) for name in named.values()})]
    return [path for path in paths if path is not None] if None not in paths else []


def _types(source: ModelSource) -> dict[str, str]:
    """The number formats of a checkpoint's tensors, by name."""
    types: dict[str, str] = {}
    for path in _files(source, _SAFETENSORS):
        types |= safetensors_types(path)
    if not types:
        for path in _files(source, _PICKLED):
            types |= pickled_types(path)
    return types


def check_scales(source: ModelSource, unused: Sequence[str]) -> None:
    """Refuse quantised weights whose scales are not used: a config.json that does not name how they
    were quantised, or names a way the library does not know, leaves them as they are stored. Raises
    `NeurariumError`."""
    types = _types(source) if unused else {}
    packed = [name for name, kind in types.items() if kind not in _PLAIN and name not in unused]
    for name in unused:
        module = name.rpartition(".")[0]
        of = next((one for one in packed if f"{one}.".startswith(f"{module}.")), None)
        if of is not None:
            raise NeurariumError(
                f"The weights of {source.label!r} are quantised ({of} is {types[of]}), and {name} "
                "and others would be left out: its config.json names no way to dequantise them "
                "that transformers knows (quantization_config). Restore it, or dequantise the "
                "model first."
            )


def check_formats(source: ModelSource, parameters: Iterable[str]) -> None:
    """Refuse whole or complex numbers in the place of weights, in a checkpoint whose config.json
    says nothing of quantisation: the library would take them for the values. Raises
    `NeurariumError`."""
    types = _types(source)
    odd = {name: kind for name, kind in types.items() if kind in _NEVER_WEIGHTS}
    for parameter in parameters if odd else ():
        name = next((one for one in odd if f".{parameter}".endswith(f".{one}")), None)
        if name is not None:
            raise NeurariumError(
                f"The weights of {source.label!r} are no plain numbers ({name} is {odd[name]}), "
                "and its config.json does not say how they were quantised (quantization_config). "
                "Restore it, or dequantise the model first."
            )
