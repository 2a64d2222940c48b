"""Where a model is loaded, and in which precision."""

from __future__ import annotations

import pytest
import torch

from indexer.errors import NeurariumError
from indexer.models.device import choose_device, choose_dtype


@pytest.mark.parametrize("device", ["cuda:99", "nonsense", "meta"])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    """A device that holds no numbers here is refused by name."""
    with pytest.raises(NeurariumError, match=f"device '{device}'"):
        choose_device(device)


@pytest.mark.parametrize("device", ["mps", "xpu:0", "mps:0"])
def test_a_device_without_float64_is_refused(device: str) -> None:
    """Statistics are added up in float64, which these devices lack."""
    with pytest.raises(NeurariumError, match=rf"device '{device}' .*float64.*cpu or cuda"):
        choose_device(device)


def test_the_dtype_follows_the_device() -> None:
    """Float32 on the CPU, the checkpoint's own on CUDA, unless asked."""
    assert choose_dtype(None, torch.device("cpu")) is torch.float32
    assert choose_dtype(None, torch.device("cuda")) is None
    assert choose_dtype("bfloat16", torch.device("cpu")) is torch.bfloat16
    with pytest.raises(NeurariumError, match="'int8' is not one of float32"):
        choose_dtype("int8", torch.device("cpu"))
