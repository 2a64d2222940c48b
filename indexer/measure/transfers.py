"""Tensors from a model's device to numpy and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray[Any, Any]


def to_host(tensors: Sequence[Tensor]) -> list[Array]:
    """Arrays of the tensors' values: 16-bit floats as float32, which holds them exactly.

    All are copied at once and the device is waited for once, so gather all tensors of a step first.
    A tensor on the CPU is not copied: the array is the tensor's own memory.
    """
    widened = [
        tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
        for tensor in tensors
    ]
    devices = {tensor.device for tensor in widened if tensor.device.type != "cpu"}
    landed = [_begin(tensor) for tensor in widened]
    for device in devices:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return [tensor.numpy() for tensor in landed]


def to_host_by_name(readings: Sequence[Mapping[str, Tensor]]) -> list[dict[str, Array]]:
    """The same for tensors by name: the device is waited for once."""
    arrays = iter(to_host([tensor for reading in readings for tensor in reading.values()]))
    return [{name: next(arrays) for name in reading} for reading in readings]


def to_device(array: Array, device: torch.device) -> Tensor:
    """An array on a device; does not wait for the copy."""
    tensor = torch.from_numpy(array)
    if device.type == "cpu":
        return tensor
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def _begin(tensor: Tensor) -> Tensor:
    """Where the values will be once the device is synchronised."""
    if tensor.device.type != "cuda":
        return tensor.cpu()
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return pinned.copy_(tensor, non_blocking=True)
