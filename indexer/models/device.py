"""The device and dtype a model runs in."""

from __future__ import annotations

import torch

from indexer.errors import NeurariumError
from indexer.models.names import DTYPES


def choose_device(device: str | None) -> torch.device:
    """The device asked for; by default CUDA if there is a GPU, else the CPU.

    Raises `NeurariumError` for a device that is not available or cannot be used.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        if chosen.type in ("cpu", "cuda"):
            torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise NeurariumError(
            f"There is no device {device!r} on this machine: use cpu, or leave out --device."
        ) from error
    if chosen.type not in ("cpu", "cuda"):
        raise NeurariumError(
            f"The device {device!r} cannot be used: statistics need float64, which only the CPU "
            "and CUDA are sure to have. Choose --device cpu or cuda."
        )
    return chosen


def choose_dtype(dtype: str | None, device: torch.device) -> torch.dtype | None:
    """The dtype asked for; by default float32 on the CPU, elsewhere None, the checkpoint's own.

    Raises `NeurariumError` for an unknown dtype.
    """
    if dtype is None:
        return torch.float32 if device.type == "cpu" else None
    if dtype not in DTYPES:
        raise NeurariumError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}.")
    chosen: torch.dtype = getattr(torch, dtype)
    return chosen
