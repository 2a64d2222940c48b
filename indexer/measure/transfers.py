"""From a model's device to numpy. Pure but for torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray[Any, Any]


def to_host(tensors: Sequence[Tensor]) -> list[Array]:
    """Arrays of the tensors' values: 16-bit floats as float32, which holds them exactly.

    All are copied at once and waited for once, so gather what a step gives before asking. What is
    on the CPU already is not copied: the array is the tensor's own memory.
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


def to_device(array: Array, device: torch.device) -> Tensor:
    """An array on a device; nothing waits for it to be there."""
    tensor = torch.from_numpy(array)
    if device.type == "cpu":
        return tensor
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def _begin(tensor: Tensor) -> Tensor:
    """Where the values will be once the device has been waited for."""
    if tensor.device.type != "cuda":
        return tensor.cpu()
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return pinned.copy_(tensor, non_blocking=True)
