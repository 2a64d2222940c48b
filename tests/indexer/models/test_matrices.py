"""What a linear module multiplies by, for every kind of module a model may hold."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from transformers.pytorch_utils import Conv1D

from indexer.errors import NeurariumError
from indexer.models.matrices import outputs_of, rows_by_input

INPUTS, OUTPUTS = 6, 4


class Adapted(nn.Linear):
    """LoRA as it is injected: the base layer's weight, and a low-rank product beside it."""

    def __init__(self) -> None:
        super().__init__(INPUTS, OUTPUTS)
        self.down, self.up = nn.Linear(INPUTS, 2, bias=False), nn.Linear(2, OUTPUTS, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        out: Tensor = super().forward(input) + 0.5 * self.up(self.down(input))
        return out


class Scaled(nn.Linear):
    """Weights stored in 8 bits with a scale per block, as FP8 checkpoints are."""

    def __init__(self) -> None:
        super().__init__(INPUTS, OUTPUTS, bias=False)
        stored = self.weight.detach().to(torch.float8_e4m3fn)
        self.weight = nn.Parameter(stored, requires_grad=False)
        self.weight_scale_inv = nn.Parameter(torch.full((OUTPUTS, 1), 3.0), requires_grad=False)

    def forward(self, input: Tensor) -> Tensor:
        return input @ (self.weight.float() * self.weight_scale_inv).T


class Packed(nn.Module):
    """Integers in buffers, and inputs rounded to 8 bits (bitsandbytes, GPTQ, AWQ)."""

    def __init__(self) -> None:
        super().__init__()
        numbers = torch.Generator().manual_seed(1)
        packed = torch.randint(-127, 127, (INPUTS, OUTPUTS), generator=numbers, dtype=torch.int8)
        self.register_buffer("qweight", packed)
        self.register_buffer("scales", torch.rand(OUTPUTS, generator=numbers))

    def forward(self, input: Tensor) -> Tensor:
        step = input.abs().amax(-1, keepdim=True).clamp(min=1e-9) / 127
        out: Tensor = (input / step).round() * step @ (self.qweight.float() * self.scales)
        return out


class Bent(nn.Linear):
    """A module that is called linear and is not."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).relu()


class Failing(nn.Linear):
    """A module that cannot run here."""

    def forward(self, input: Tensor) -> Tensor:
        raise RuntimeError("needs a GPU\nof another kind")


def hooked() -> nn.Module:
    module = nn.Linear(INPUTS, OUTPUTS)
    module.register_forward_hook(lambda _module, _args, output: 2 * output)
    return module


def replaced() -> nn.Module:
    module = nn.Linear(INPUTS, OUTPUTS)
    plain = module.forward
    module.forward = lambda input: -plain(input)  # type: ignore[method-assign]
    return module


MODULES = {
    "linear": lambda: nn.Linear(INPUTS, OUTPUTS),
    "half": lambda: nn.Linear(INPUTS, OUTPUTS, dtype=torch.bfloat16),
    "conv1d": lambda: Conv1D(OUTPUTS, INPUTS),
    "weight norm": lambda: parametrizations.weight_norm(nn.Linear(INPUTS, OUTPUTS)),
    "old weight norm": lambda: nn.utils.spectral_norm(nn.Linear(INPUTS, OUTPUTS).eval()),
    "adapter": Adapted,
    "fp8": Scaled,
    "integers": Packed,
    "hook": hooked,
    "replaced": replaced,
}


@pytest.mark.parametrize("kind", MODULES)
@torch.no_grad()
def test_a_matrix_is_what_the_module_does(kind: str) -> None:
    """Column by column, what the module makes of each unit vector, without its bias."""
    torch.manual_seed(0)
    module = MODULES[kind]().eval()
    for _ in range(3):  # spectral norm changes its weight while it settles
        module(torch.zeros(1, INPUTS, dtype=torch.bfloat16 if kind == "half" else None))
    matrix = rows_by_input(module, INPUTS)
    units = torch.eye(INPUTS, dtype=matrix.dtype)
    zero = module(torch.zeros(1, INPUTS, dtype=matrix.dtype))
    expected = torch.stack([module(unit[None])[0] - zero[0] for unit in units])
    torch.testing.assert_close(matrix, expected, atol=2e-2 if kind == "half" else 1e-5, rtol=0)
    assert matrix.shape == (INPUTS, OUTPUTS)


def test_a_stored_weight_is_not_copied() -> None:
    """A plain layer's matrix is a view, exact to the bit."""
    for module in (nn.Linear(INPUTS, OUTPUTS), Conv1D(OUTPUTS, INPUTS)):
        assert rows_by_input(module, INPUTS).data_ptr() == module.weight.data_ptr()
        assert outputs_of(module) == OUTPUTS
    assert outputs_of(nn.Identity()) is None


def test_a_tied_weight_is_that_of_its_owner() -> None:
    """An unembedding that shares the embedding's weight."""
    embedding, head = nn.Embedding(OUTPUTS, INPUTS), nn.Linear(INPUTS, OUTPUTS, bias=False)
    head.weight = embedding.weight
    assert torch.equal(rows_by_input(head, INPUTS), embedding.weight.T)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Bent(INPUTS, OUTPUTS), "does not multiply its input by one matrix"),
        (Failing(INPUTS, OUTPUTS), r"Failing cannot be measured \(RuntimeError: needs a GPU\)"),
        (nn.Linear(INPUTS + 1, OUTPUTS), "takes 7 inputs, not 6"),
    ],
)
def test_what_has_no_matrix_is_refused(module: nn.Module, message: str) -> None:
    """By the kind of module and the reason, in one line."""
    with pytest.raises(NeurariumError, match=message) as caught:
        rows_by_input(module, INPUTS)
    assert "\n" not in str(caught.value)
