"""Write vectors and the measure of a norm against the real modules."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from indexer.models.modules import norm_gain
from indexer.weights.units import write_vectors
from tests.helpers.weight_oracles import LARGE, odd, size
from tests.indexer.models.test_model_native import native_model


@pytest.mark.parametrize("hook_point", ["mlp.ln.hook_in", "mlp.hook_pre", "mlp.hook_post"])
def test_a_solu_neuron_writes_through_its_layer_norm(hook_point: str) -> None:
    """Before its LayerNorm a SoLU neuron writes centred and scaled; after it, a row of W_out."""
    bridge, model = native_model(hook_point)
    mlp = bridge.original_model.layers[1].original_component.mlp.original_component
    norm, projection = mlp.ln.original_component, mlp.fc_out.original_component
    vectors = write_vectors(model, 1)
    assert vectors.shape == (24, 16)
    for neuron in (0, 23):
        one = torch.zeros(24)
        one[neuron] = 1
        if hook_point == "mlp.hook_post":
            truth = odd(projection, one)
        else:
            through = odd(norm, LARGE * one) * size(one, centred=True)
            truth = odd(projection, through)
        torch.testing.assert_close(vectors[neuron], truth, rtol=1e-3, atol=1e-5)


class _OnePlus(nn.Module):
    """RMSNorm as Gemma writes it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-0.5, 0.5, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return x * (1 + self.weight)


@pytest.mark.parametrize("width", [2, 7, 32])
def test_a_norm_is_measured(width: int) -> None:
    """Weight and centring come out of what a norm does, for even and odd widths."""
    cpu = torch.device("cpu")
    layer_norm = nn.LayerNorm(width)
    nn.init.uniform_(layer_norm.weight, -2, 2)
    nn.init.normal_(layer_norm.bias)
    for norm, expected, centred in (
        (layer_norm, layer_norm.weight, True),
        (nn.RMSNorm(width), torch.ones(width), False),
        (_OnePlus(width), 1 + torch.linspace(-0.5, 0.5, width), False),
        (nn.Identity(), torch.ones(width), False),
        (layer_norm.to(torch.bfloat16), layer_norm.weight, True),
    ):
        with torch.no_grad():
            gain, centres = norm_gain(norm, width, cpu)
        torch.testing.assert_close(gain, expected.detach().float(), rtol=1e-3, atol=1e-3)
        assert centres is centred
