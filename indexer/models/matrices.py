"""What a linear module multiplies by, whatever kind of module it is: the only place that reads a
projection's weight.

A plain linear layer's weight is a view of its parameter. Every other module (an adapter, a
quantised or a wrapped layer) is measured: its matrix is what it makes of the unit vectors.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from indexer.errors import NeurariumError

_BLOCK = 1 << 24
"""Numbers of a measured matrix computed at once."""
_PROBES = 4
_QUANTISED = 0.1
"""The relative error that rounding of inputs to 8 bits explains, with some room."""


def rows_by_input(module: nn.Module, width: int) -> Float[Tensor, "inputs outputs"]:
    """The matrix a linear module multiplies its input by, one row per input; biases are left out.

    A view of the weight where the module is PyTorch's linear layer or transformers' `Conv1D`, also
    with a parametrisation. Otherwise measured in the module's own number format: quantised weights
    come out as they act, adapters merged. `width` is the number of inputs. Raises `NeurariumError`
    if the module takes other inputs, or is not linear.
    """
    weight = _plain_weight(module)
    if weight is None:
        return _measured(module, width)
    matrix = weight if isinstance(module, Conv1D) else weight.T
    if matrix.shape[0] != width:
        raise NeurariumError(
            f"The module {type(module).__name__} takes {matrix.shape[0]} inputs, not {width}."
        )
    return matrix


def outputs_of(module: nn.Module) -> int | None:
    """How many outputs a linear module says it has; None if it does not say."""
    count = module.nf if isinstance(module, Conv1D) else getattr(module, "out_features", None)
    return int(count) if isinstance(count, int) else None


def number_format(module: nn.Module) -> torch.dtype:
    """The dtype a module computes in: that of its first tensor that is not quantised, else
    float32."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point() and tensor.element_size() > 1:
            return tensor.dtype
    return torch.float32


def _plain_weight(module: nn.Module) -> Tensor | None:
    """The weight of a module whose forward pass is PyTorch's or `Conv1D`'s own; None for others."""
    own = type(module).forward in (nn.Linear.forward, Conv1D.forward)
    changed = "forward" in vars(module) or module._forward_pre_hooks or module._forward_hooks
    if not own or changed:
        return None
    weight: Any = module.weight  # accessing it may compute a parametrisation
    plain = type(weight) in (Tensor, nn.Parameter) and weight.element_size() > 1
    detached: Tensor | None = weight.detach() if plain else None
    return detached


@torch.inference_mode()
def _measured(module: nn.Module, width: int) -> Float[Tensor, "inputs outputs"]:
    dtype = number_format(module)
    place = next((t.device for t in (*module.parameters(), *module.buffers())), torch.device("cpu"))
    numbers = torch.Generator().manual_seed(0)
    probes = torch.randn((_PROBES, width), generator=numbers).to(place, dtype)
    zero = torch.zeros((1, width), device=place, dtype=dtype)
    kind = type(module).__name__
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            bias = module(zero)
            step = max(1, _BLOCK // max(width, bias.shape[-1]))
            rows = []
            for first in range(0, width, step):
                units = zero.repeat(min(step, width - first), 1)
                units.diagonal(first).fill_(1)
                rows.append(module(units) - bias)
            outputs = module(probes) - bias
    except Exception as error:  # whatever library made the module
        raise NeurariumError(
            f"The matrix of the module {kind} cannot be measured "
            f"({type(error).__name__}: {str(error).partition(chr(10))[0][:200]})."
        ) from error
    matrix = torch.cat(rows)
    expected = probes.float() @ matrix.float()
    difference = (outputs.float() - expected).norm()
    if not bool(difference <= _QUANTISED * expected.norm()):  # also if it is not a number
        raise NeurariumError(f"The module {kind} does not multiply its input by one matrix.")
    return matrix
