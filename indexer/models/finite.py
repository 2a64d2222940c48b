"""Errors for numbers that are not finite, in weights and in activations, with advice that fits the
number format."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from indexer.errors import NeurariumError

_CHUNK = 1 << 24


def check_weights(model: nn.Module, label: str, tokens: int, vocabulary: int) -> None:
    """Refuse a model with a weight that is not a finite number. Raises `NeurariumError`.

    Of matrices with `vocabulary` rows only the first `tokens` count, since the others stand for no
    token. Quantised weights are not checked: their activations are.
    """
    for name, parameter in model.named_parameters():
        plain = type(parameter) is nn.Parameter and parameter.is_floating_point()
        if not plain or parameter.element_size() == 1 or parameter.is_meta:
            continue
        values = parameter.detach()
        if values.ndim == 2 and values.shape[0] == vocabulary:
            values = values[:tokens]
        if bad := _not_finite(values):
            dtype = _name(values.dtype)
            raise NeurariumError(
                f"{bad:,} of the {values.numel():,} numbers in {name} of {label!r} are not finite "
                f"in {dtype}: {_weights_advice(dtype)}."
            )


def check_activations(values: Tensor, layer: int) -> None:
    """Check a layer's activations, of any shape. Raises `NeurariumError` if a value is not finite.
    Waits for the device."""
    if not bool(torch.isfinite(values).all()):
        raise not_finite(layer, values.dtype)


def not_finite(layer: int, dtype: torch.dtype) -> NeurariumError:
    """The error for activations of a layer that are not finite."""
    advice = {
        "float16": "float16 ends at 65,504: choose --dtype bfloat16 or float32",
        "bfloat16": "choose --dtype float32 or, if that does not help, check the model's weights",
    }
    return NeurariumError(
        f"The model gave a value that is not finite in layer {layer} ({_name(dtype)}): "
        + advice.get(_name(dtype), "the weights of the model are damaged, or not those it expects")
        + "."
    )


def _not_finite(values: Tensor) -> int:
    """How many of the numbers are not finite."""
    return sum(
        part.numel() - int(torch.isfinite(part).sum())
        for part in torch.split(values.reshape(-1), _CHUNK)
        if not bool(torch.isfinite(part).all())
    )


def _weights_advice(dtype: str) -> str:
    if dtype == "float16":
        return "float16 ends at 65,504, choose --dtype bfloat16 or float32"
    return "the checkpoint is damaged, download or save it again"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
