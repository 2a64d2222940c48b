"""How linear layers read the residual stream: the norm in front of them is found by watching the
model run, since architectures place and name it differently.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from indexer.errors import NeurariumError
from indexer.models.matrices import rows_by_input
from indexer.models.modules import first_tensor, norm_gain, unwrap
from indexer.models.units import Place, Reader, Unknown

_ROUNDING = 2.0**-6
"""The largest relative difference that rounding explains, in bfloat16 with some room."""


@dataclass(frozen=True)
class Inputs:
    """The linear layers that read in one block, and the modules around them."""

    block: nn.Module | None
    linear: dict[str, Place]
    """By part; empty if any part is unknown."""
    last: nn.Module
    """The last module before the block adds to the residual stream."""


@torch.inference_mode()
def find_readers(
    layers: Sequence[Inputs], d_model: int, run: Callable[[], None]
) -> tuple[Reader | Unknown, ...]:
    """How each layer reads, from one forward pass, which is what `run` does.

    The norm is the module whose output is, in memory, what the linear layers take. That holds for
    blocks with one norm for attention and MLP (GPT-J, Phi) and for blocks that normalise after the
    attention (OPT 350m, GPT-1). Where no module made it, the linear layers read the residual stream
    itself (OLMo 2), if the block's output is their input plus what the block's last module wrote.
    """
    traces = [_Trace(inputs, d_model) for inputs in layers]
    with contextlib.ExitStack() as hooks:
        for trace in traces:
            hooks.enter_context(trace)
        run()
    return tuple(trace.reader() for trace in traces)


class _Trace:
    """Records one layer while the model runs; its hooks are there as long as it is entered."""

    def __init__(self, inputs: Inputs, d_model: int) -> None:
        self._inputs = inputs
        self._d_model = d_model
        self._handles: list[Any] = []
        self._norms: list[tuple[nn.Module, Tensor, Tensor]] = []
        self._taken: list[Tensor] = []
        self._written: Tensor | None = None
        self._output: Tensor | None = None

    def __enter__(self) -> _Trace:
        block, linear = self._inputs.block, self._inputs.linear
        if block is None or not linear:
            return self
        for module in block.modules():
            if all(weight.ndim <= 1 for weight in module.parameters()):
                self._after(module, self._normed)
        for place in linear.values():
            self._handles.append(
                place.module.register_forward_pre_hook(self._take, with_kwargs=True)
            )
        self._after(self._inputs.last, self._write)
        self._after(block, self._leave)
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def reader(self) -> Reader | Unknown:
        """What the pass has shown."""
        if not self._inputs.linear:
            return Unknown("The matrices these units read with cannot be found.")
        if not self._taken or any(not _same(taken, self._taken[0]) for taken in self._taken):
            return Unknown("The matrices these units read with do not share one input.")
        made = next((made for made in self._norms if _same(made[2], self._taken[0])), None)
        if made is None and not self._reads_the_stream():
            return Unknown("The norm between the residual stream and these units is not known.")
        if made is not None and any(_same(out, made[1]) for _, _, out in self._norms):
            return Unknown("Several norms lie between the residual stream and these units.")
        width, device = self._d_model, self._taken[0].device
        norm, gain, centred = None, torch.ones(width, device=device), False
        if made is not None:
            norm = copy.deepcopy(unwrap(made[0])).to(device=device, dtype=torch.float32)
            gain, centred = norm_gain(norm, width, device)
        try:
            matrices = {
                part: place.own(rows_by_input(unwrap(place.module), width))
                for part, place in self._inputs.linear.items()
            }
        except NeurariumError as error:
            return Unknown(str(error))
        return Reader(norm, gain, centred, matrices)

    def _reads_the_stream(self) -> bool:
        """Whether the block's output is the linear layers' input plus what was written last."""
        if self._output is None or self._written is None:
            return False
        taken = self._taken[0].reshape(-1).float()
        output, written = self._output.reshape(-1).float(), self._written.reshape(-1).float()
        if not output.shape == written.shape == taken.shape:
            return False
        return bool((output - taken - written).abs().max() <= _ROUNDING * output.abs().max())

    def _after(self, module: nn.Module, hook: Callable[..., None]) -> None:
        self._handles.append(module.register_forward_hook(hook, with_kwargs=True))

    def _normed(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        given = first_tensor(args, kwargs)
        if given is None or not isinstance(output, Tensor) or given.shape != output.shape:
            return
        # Dropout and TransformerLens's hook points pass their input on: they are not norms.
        if not _same(given, output):
            self._norms.append((module, given, output))

    def _take(self, _module: nn.Module, args: Any, kwargs: Any) -> None:
        taken = first_tensor(args, kwargs)
        if taken is not None:
            self._taken.append(taken)

    def _write(self, _module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> None:
        self._written = output

    def _leave(self, _module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> None:
        self._output = output if isinstance(output, Tensor) else output[0]


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same numbers in memory, whatever their shapes."""
    return one.data_ptr() == other.data_ptr() and one.numel() == other.numel()
