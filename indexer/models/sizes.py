"""The sizes a configuration claims, compared with the weights before anything is built: a model of
ten million layers would be built for ever, one a thousand times as wide in all the memory.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from indexer.errors import NeurariumError
from indexer.models.gguf_header import GgufHeader
from indexer.models.json_text import parsed

Shapes = Mapping[str, tuple[int, ...]]
"""Of a checkpoint's tensors, by name."""

LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "num_decoder_layers")
WIDTHS = (
    *("hidden_size", "n_embd", "d_model", "dim", "word_embed_proj_dim"),
    *("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", "d_ff", "d_inner"),
    *("num_attention_heads", "n_head", "n_heads", "num_heads", "num_key_value_heads"),
    *("head_dim", "vocab_size"),
)
POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")
_SHOWN = 30
"""Most characters of a number in a message."""
_MOST_LAYERS = 10_000
_MOST = 1 << 24
_MOST_JSON = 64 << 20
"""Bytes of a config.json."""
_MOST_HEADER = 100 << 20
"""Bytes of a safetensors file's header: the format's own limit."""
_UNREADABLE = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError),
    *(struct.error, RecursionError),
)
_GGUF_LAYERS = ".block_count"
_GGUF_WIDTHS = (".embedding_length", ".feed_forward_length", ".attention.head_count")


def read_json(path: Path, label: str) -> dict[str, Any]:
    """A JSON file that holds an object. Raises `NeurariumError` if it does not."""
    problem = None
    try:
        if path.stat().st_size > _MOST_JSON:
            problem = f"it has {path.stat().st_size:,} bytes"
        else:
            facts = parsed(path.read_bytes())
            if isinstance(facts, dict):
                return facts
            problem = "it is not an object"
    except OSError as error:
        problem = error.strerror or str(error)
    except ValueError as error:
        problem = str(error)
    raise NeurariumError(f"The {path.name} of {label!r} cannot be loaded: {problem}.")


def check_config(facts: Mapping[str, Any], shapes: Shapes | None, label: str) -> None:
    """Refuse a configuration with sizes that its weights cannot have; without `shapes`, with sizes
    that no model has. Raises `NeurariumError`, naming the entry."""
    most_layers = _MOST_LAYERS if not shapes else len(shapes)
    widest = _widest(shapes) if shapes else _MOST
    for name, value in _numbers(facts):
        if name in LAYERS and value > most_layers:
            raise _too_large(label, name, value, f"{most_layers:,} tensors" if shapes else None)
        if name in WIDTHS and value > widest:
            raise _too_large(label, name, value, f"no side over {widest:,}" if shapes else None)
        if name in POSITIONS and value > _MOST:
            raise _too_large(label, name, value, None)
        if name in (*LAYERS, *WIDTHS, *POSITIONS) and value < 0:
            raise NeurariumError(
                f"The config.json of {label!r} says {name} is {value}: restore the one that "
                "belongs to the weights."
            )


def check_gguf(header: GgufHeader, label: str) -> None:
    """The same for the header of a GGUF file. Raises `NeurariumError`."""
    widest = _widest(header.shapes)
    for name, value in header.facts.items():
        numbers = value if isinstance(value, list) else [value]
        for number in numbers:
            if not isinstance(number, int):
                continue
            layers = name.endswith(_GGUF_LAYERS) and number > max(1, len(header.shapes))
            wide = name.endswith(_GGUF_WIDTHS) and header.shapes and number > widest
            if layers or wide:
                raise NeurariumError(
                    f"The GGUF file {label!r} cannot be read: it says {name} is {number:,}, and "
                    f"has {len(header.shapes):,} tensors of up to {widest:,} a side."
                )


def check_token_ids(facts: Mapping[str, Any], label: str, name: str) -> None:
    """Refuse a tokenizer.json, or a vocab.json, with a token id that no model has: the library
    makes room for all ids below it. Raises `NeurariumError`."""
    model, added = facts.get("model", {}), facts.get("added_tokens", [])
    words = model.get("vocab", facts) if isinstance(model, Mapping) else {}
    ids: list[Any] = list(words.values()) if isinstance(words, Mapping) else []
    if isinstance(added, list):
        ids += [token.get("id") for token in added if isinstance(token, Mapping)]
    largest = max((i for i in ids if isinstance(i, int)), default=0)
    if largest > _MOST:
        raise NeurariumError(
            f"The {name} of {label!r} has the token id {largest:,}, and no model has so many: "
            "restore the file that belongs to it."
        )


def check_total(described: int, shapes: Shapes, packed: bool, label: str) -> None:
    """Refuse a configuration that describes far more numbers than the weights hold. Raises
    `NeurariumError`.

    `described` counts parameters; `packed` weights may hold up to 16 numbers in one.
    """
    stored = sum(math.prod(shape) for shape in shapes.values())
    if described > (16 if packed else 2) * stored + _MOST:
        raise NeurariumError(
            f"The config.json of {label!r} describes a model of {described:,} numbers, and its "
            f"weights have {stored:,}: restore the one that belongs to them."
        )


def safetensors_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes in the header of a safetensors file; {} if that cannot be read, which the library
    explains."""
    try:
        return {
            name: tuple(int(n) for n in entry["shape"]) for name, entry in _header(path).items()
        }
    except _UNREADABLE:
        return {}


def safetensors_types(path: Path) -> dict[str, str]:
    """The number formats in the header of a safetensors file, such as `BF16`; {} as above."""
    try:
        return {name: str(entry["dtype"]) for name, entry in _header(path).items()}
    except _UNREADABLE:
        return {}


def _header(path: Path) -> dict[str, Any]:
    """The entries of a safetensors file's header, by tensor; {} if it is not plausible."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(_MOST_HEADER, path.stat().st_size):
            return {}
        header = json.loads(file.read(length))
    return {str(name): entry for name, entry in header.items() if name != "__metadata__"}


def _widest(shapes: Shapes) -> int:
    return max((side for shape in shapes.values() for side in shape), default=1)


def _numbers(facts: Mapping[str, Any], depth: int = 0) -> Iterator[tuple[str, int]]:
    """Whole numbers of a configuration and of those inside it, by name."""
    for name, value in facts.items():
        if isinstance(value, Mapping) and depth < 4:
            yield from _numbers(value, depth + 1)
        elif isinstance(value, bool):
            continue
        elif isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
            yield name, int(value)


def _too_large(label: str, name: str, value: int, weights: str | None) -> NeurariumError:
    than = f"its weights have {weights}" if weights else "no model has so many"
    number = f"{value:,}"
    number = number if len(number) <= _SHOWN else f"{number[:_SHOWN]}…"
    return NeurariumError(
        f"The config.json of {label!r} says {name} is {number}, and {than}: restore the one that "
        "belongs to the weights."
    )
