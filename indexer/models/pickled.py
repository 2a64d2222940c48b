"""What a pickled checkpoint says of its tensors, without reading their numbers."""

from __future__ import annotations

from pathlib import Path

import torch

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.complex64: "C64",
}
"""The names that safetensors has for number formats."""


def pickled_types(path: Path) -> dict[str, str]:
    """The number formats of a checkpoint's tensors, by name. Raises what `torch.load` raises for a
    file that it cannot read, or that holds more than tensors."""
    try:
        stored = torch.load(path, map_location="meta", weights_only=True, mmap=True)
    except RuntimeError:  # a file of an old version, which has to be read
        stored = torch.load(path, map_location="meta", weights_only=True)
    return {
        str(name): _NAMES.get(value.dtype, str(value.dtype).removeprefix("torch."))
        for name, value in stored.items()
        if isinstance(value, torch.Tensor)
    }
