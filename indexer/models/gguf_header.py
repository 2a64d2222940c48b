"""Reads a GGUF file's header, every count checked against the size of the file: the library that
reads the weights believes them, and takes for ever or all the memory where they are wrong.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indexer.errors import NeurariumError

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
_NUMBERS = dict(enumerate("BbHhIif?")) | {10: "Q", 11: "q", 12: "d"}
_MOST_DIMENSIONS = 8
_MOST_NESTED = 4
_MOST_KEPT = 64
"""Longer arrays are passed over: only numbers and short lists are compared."""
_ALIGNMENT = "general.alignment"


@dataclass(frozen=True)
class GgufHeader:
    """The header of a GGUF file."""

    facts: dict[str, Any]
    """By key; long arrays are None."""
    shapes: dict[str, tuple[int, ...]]
    """Of the tensors, by name; GGUF has the innermost dimension first."""


def read_header(path: Path, label: str) -> GgufHeader:
    """The header of a GGUF file. Reads little more than the header, whatever it says.

    Raises `NeurariumError` if it is not one, or if the file is shorter than its header says.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        reader = _Reader(file.read, file.seek, file.tell, size)
        try:
            return _header(reader)
        except _Wrong as error:
            raise NeurariumError(
                f"The GGUF file {label!r} cannot be read: {error}. Is the download complete?"
            ) from None


class _Wrong(Exception):
    """What is wrong with a header."""


@dataclass(frozen=True)
class _Reader:
    read: Callable[[int], bytes]
    seek: Callable[[int], int]
    tell: Callable[[], int]
    size: int

    def bytes_of(self, count: int) -> bytes:
        """The next bytes."""
        self.room(count, 1)
        return self.read(count)

    def number(self, code: str) -> Any:
        """The next number."""
        (value,) = struct.unpack(f"<{code}", self.bytes_of(struct.calcsize(f"<{code}")))
        return value

    def text(self) -> str:
        """The next string."""
        return self.bytes_of(self.number("Q")).decode("utf-8", "replace")

    def room(self, count: int, least: int) -> None:
        """Refuse a count of things, of at least `least` bytes each, that the rest of the file
        has no room for."""
        left = self.size - self.tell()
        if count * least > left:
            raise _Wrong(
                f"it ends after {self.size:,} bytes, and its header speaks of {count:,} more "
                f"{'bytes' if least == 1 else 'entries'}"
            )


def _header(reader: _Reader) -> GgufHeader:
    if reader.bytes_of(4) != MAGIC:
        raise _Wrong("it does not begin with 'GGUF'")
    version = reader.number("I")
    if version not in _VERSIONS:
        raise _Wrong(f"its version is {version}, and only 2 and 3 are known")
    tensors, facts_count = reader.number("Q"), reader.number("Q")
    reader.room(facts_count, 13)  # a key's length, a type, a value
    reader.room(tensors, 24)
    facts: dict[str, Any] = {}
    for _ in range(facts_count):
        key = reader.text()
        facts[key] = _value(reader, reader.number("I"), 0)
    shapes: dict[str, tuple[int, ...]] = {}
    ends = [0]
    for _ in range(tensors):
        name = reader.text()
        dimensions = reader.number("I")
        if dimensions > _MOST_DIMENSIONS:
            raise _Wrong(f"the tensor {name[:60]!r} has {dimensions:,} dimensions")
        shapes[name] = tuple(reader.number("Q") for _ in range(dimensions))
        kind, offset = reader.number("I"), reader.number("Q")
        ends.append(offset + _bytes_of(shapes[name], kind))
    alignment = facts.get(_ALIGNMENT, 32)
    if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
        raise _Wrong(f"its alignment is {alignment!r}")
    data = -(-reader.tell() // alignment) * alignment
    if data + max(ends) > reader.size and tensors:
        raise _Wrong(f"it has {reader.size:,} bytes, and its tensors end at {data + max(ends):,}")
    return GgufHeader(facts, shapes)


def _value(reader: _Reader, kind: int, depth: int) -> Any:
    """The next value of a kind; None for a long array, which is passed over."""
    if kind in _NUMBERS:
        return reader.number(_NUMBERS[kind])
    if kind == _STRING:
        return reader.text()
    if kind != _ARRAY or depth > _MOST_NESTED:
        raise _Wrong(f"it has a value of the unknown type {kind}")
    inner, count = reader.number("I"), reader.number("Q")
    if inner in _NUMBERS:
        width = struct.calcsize(f"<{_NUMBERS[inner]}")
        reader.room(count, width)
        if count > _MOST_KEPT:
            reader.seek(reader.tell() + count * width)
            return None
    else:
        reader.room(count, 8)
    values = [_value(reader, inner, depth + 1) for _ in range(min(count, _MOST_KEPT))]
    for _ in range(count - len(values)):
        _value(reader, inner, depth + 1)
    return values if count <= _MOST_KEPT else None


def _bytes_of(shape: tuple[int, ...], kind: int) -> int:
    """The bytes of a tensor's numbers."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        block, width = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except (ValueError, KeyError):
        raise _Wrong(f"it has tensors of the unknown type {kind}") from None
    return -(-math.prod(shape) // int(block)) * int(width)
