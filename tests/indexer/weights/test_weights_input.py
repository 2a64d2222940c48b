"""What neurons read, against the real models run with everything but the MLP's reading silenced."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor, nn

from indexer.models.load import load_model
from indexer.models.loaded import LoadedModel
from indexer.models.source import resolve_model
from indexer.models.units import Reader
from indexer.weights import inputs as weights_input
from indexer.weights.embedding import embedded
from indexer.weights.inputs import input_tokens
from indexer.weights.units import readers
from tests.helpers.tiny_models import SETTINGS, save_tiny_model
from tests.helpers.weight_oracles import KNOWN, ranked
from tests.indexer.models.test_model_native import native_model, plain_state

PROJECTIONS = {"in": ("fc_in", "c_fc", "fc1", "dense_h_to_4h", "up_proj"), "gate": ("gate_proj",)}
"""What the matrices neurons read with are called by transformers, by part."""
FUSED = "gate_up_proj"
WRITERS = ("o_proj", "c_proj", "out_proj", "dense", "fc_out", "down_proj", "fc2", "dense_4h_to_h")
POSITIONS = ("wpe", "embed_positions")


def loaded(folder: Path, architecture: str, **changes: Any) -> LoadedModel:
    """A tiny model, saved and loaded as a user's would be."""
    return load_model(resolve_model(str(save_tiny_model(folder, architecture, **changes))))


def silenced(folder: Path) -> Any:
    """The plain model, whose attention and MLPs add nothing to the stream, without positions."""
    plain = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    for name, module in plain.named_modules():
        last = name.rsplit(".", 1)[-1]
        if last in POSITIONS or (last in WRITERS and "lm_head" not in name):
            for weight in module.parameters():
                weight.data.zero_()
    return plain


def by_running(plain: Any, layer: int, known: int = KNOWN) -> dict[str, Tensor]:
    """What each known token alone brings to each neuron of a layer, biases left out, by part."""
    seen: dict[str, Tensor] = {}

    def see(part: str) -> Any:
        def hook(module: nn.Module, _args: Any, output: Tensor) -> None:
            bias = getattr(module, "bias", None)
            output = (output if bias is None else output - bias).reshape(known, -1)
            if part == FUSED:
                seen["gate"], seen["in"] = output.chunk(2, dim=-1)
            else:
                seen[part] = output

        return hook

    names = {last: part for part, lasts in PROJECTIONS.items() for last in lasts} | {FUSED: FUSED}
    for name, module in plain.named_modules():
        last = name.rsplit(".", 1)[-1]
        if f".{layer}." in name and last in names:
            module.register_forward_hook(see(names[last]))
    with torch.no_grad():
        plain(torch.arange(known)[:, None])
    return seen


def check(model: LoadedModel, layer: int, truth: dict[str, Tensor], k: int = 10) -> None:
    """All tokens' inputs agree, and the lists are their first and last."""
    reader = readers(model)[layer]
    assert reader is not None
    assert list(reader.matrices) == (["in", "gate"] if model.layout.gated else ["in"])
    assert truth.keys() == reader.matrices.keys()
    known = model.known_tokens
    whole, lists = input_tokens(model, reader, known), input_tokens(model, reader, k)
    for part, expected in truth.items():
        columns = expected.T.numpy()
        ours = np.empty_like(columns)
        ids, values = (array[:, :known] for array in (whole[part].token_ids, whole[part].values))
        np.put_along_axis(ours, ids, values, axis=1)
        np.testing.assert_allclose(ours, columns, rtol=1e-3, atol=1e-4 * np.abs(columns).max())
        assert lists[part].values.dtype == np.float32
        assert lists[part].token_ids.dtype == np.int32
        np.testing.assert_array_equal(lists[part].values[:, :k], values[:, :k])
        for neuron, row in enumerate(ours.tolist()):
            found = lists[part].token_ids[neuron].tolist()
            assert found == ranked(row, k) + ranked([-value for value in row], k)
            assert lists[part].values[neuron].tolist() == [row[token] for token in found]


CHANGES: dict[str, dict[str, Any]] = {"granite": {"embedding_multiplier": 12.0}}


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("architecture", SETTINGS)
def test_tokens_excite_as_they_do_in_the_real_model(
    architecture: str, layer: int, tmp_path: Path
) -> None:
    """The embedding with its scale or norm, the layer's own norm, the matrix: in a model whose
    attention and earlier MLPs are silenced, nothing else reaches the neurons."""
    model = loaded(tmp_path, architecture, **CHANGES.get(architecture, {}))
    check(model, layer, by_running(silenced(tmp_path), layer, model.known_tokens))


def test_an_opt_350m_reads_its_projected_embedding_after_the_attentions_norm(
    tmp_path: Path,
) -> None:
    """A post-norm block norms the stream after its attention, and the MLP reads that."""
    changes = {"word_embed_proj_dim": 16, "do_layer_norm_before": False}
    model = loaded(tmp_path, "opt", **changes)
    truth = by_running(silenced(tmp_path), 0)
    reader = readers(model)[0]
    assert reader is not None
    assert reader.norm is not None
    assert reader.centred
    check(model, 0, truth)


def test_an_olmo_2_reads_the_stream_itself(tmp_path: Path) -> None:
    """Where norms come after attention and MLP, none stands before the matrix."""
    model = loaded(tmp_path, "olmo2")
    for reader in readers(model):
        assert reader is not None
        assert reader.norm is None
        assert not reader.centred
        assert reader.gain.tolist() == [1] * 32


@pytest.mark.parametrize(
    "changes",
    [{}, {"act_fn": "silu", "gated_mlp": True, "normalization_type": "RMS"}],
)
def test_a_native_model_is_read_as_its_own_weights_say(changes: dict[str, Any]) -> None:
    """TransformerLens's own models: embedding, norm and matrix from the formulas."""
    bridge, model = native_model(**changes)
    state = plain_state(bridge)
    stream = state["tok_embed.weight"][:KNOWN]
    if not changes:
        stream = stream - stream.mean(-1, keepdim=True)
    stream = stream / (stream.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    stream = stream * state["layers.1.ln2.weight"]
    if not changes:
        stream = stream + state["layers.1.ln2.bias"]
    names = {"in": "in", "gate": "gate"} if changes else {"in": "fc_in"}
    truth = {
        part: (stream @ state[f"layers.1.mlp.{name}.weight"].T).detach()
        for part, name in names.items()
    }
    check(model, 1, truth)


def test_a_direction_is_the_gradient_of_what_is_read(tmp_path: Path) -> None:
    """`directions` and `folded` say the same of any vector, for a LayerNorm and an RMSNorm."""
    for name in ("gpt2", "gemma2"):
        reader = readers(loaded(tmp_path / name, name))[1]
        assert reader is not None
        vectors = torch.randn(6, 32, generator=torch.Generator().manual_seed(0))
        for part, matrix in reader.matrices.items():
            torch.testing.assert_close(
                vectors @ reader.directions(part).T,
                reader.folded(vectors) @ matrix.float(),
                rtol=1e-4,
                atol=1e-4,
            )


class _TwoSteps(nn.Module):
    """An MLP that takes what no single module made of the stream."""

    def __init__(self, mlp: nn.Module) -> None:
        super().__init__()
        self.mlp = mlp
        self.scale = nn.Parameter(torch.linspace(0.5, 2, 32))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.mlp(x * self.scale)
        return out


def test_what_cannot_be_found_is_unknown(tmp_path: Path) -> None:
    """A layer that changes the normed stream on the way to its matrix has no reader; the other
    layer has its own."""
    model = loaded(tmp_path, "gpt2")
    root: Any = model.root
    mlp = root.transformer.h[0].mlp
    c_fc = mlp.c_fc
    root.transformer.h[0].mlp = _TwoSteps(mlp)
    root.transformer.h[0].mlp.c_fc = c_fc
    root.transformer.h[0].mlp.c_proj = mlp.c_proj
    first, second = readers(model)
    assert first is None
    assert second is not None


def test_a_norm_in_two_steps_is_unknown(tmp_path: Path) -> None:
    """A norm followed by another elementwise module is not taken for that module alone."""
    model = loaded(tmp_path, "gpt2")
    root: Any = model.root
    root.transformer.h[0].ln_2 = nn.Sequential(root.transformer.h[0].ln_2, nn.Tanh())
    assert readers(model)[0] is None


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    """No hook stays on the model, and its embedding is its own again."""
    model = loaded(tmp_path, "gpt2")
    readers(model)
    alone = embedded(model, torch.arange(4))
    assert alone is not None
    root: Any = model.root
    torch.testing.assert_close(alone, root.transformer.wte.weight[:4].detach())
    hooks = [m for m in root.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert hooks == []


def test_pieces_of_the_vocabulary_give_what_all_of_it_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few tokens fit the memory at once, the lists are the same; padding is left out."""
    model = loaded(tmp_path, "llama")
    reader = readers(model)[0]
    assert reader is not None
    whole = input_tokens(model, reader)
    monkeypatch.setattr(weights_input, "_BLOCK", 4 * 32 * 37)
    pieces = input_tokens(model, reader)
    for part, tokens in whole.items():
        assert (pieces[part].token_ids == tokens.token_ids).all()
        np.testing.assert_allclose(pieces[part].values, tokens.values, rtol=1e-5, atol=1e-6)
        assert tokens.token_ids.max() < KNOWN
    few = input_tokens(model, reader, k=15, vocab_size=10)["in"].token_ids
    assert few.shape == (48, 20)
    assert few.max() == 9


def test_ties_go_to_the_lower_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal inputs are ordered by token id, also where they meet between two pieces."""
    stream = torch.tensor([[1.0], [2.0], [2.0], [0.0], [2.0], [0.0], [1.0]])
    monkeypatch.setattr(weights_input, "embedded", lambda _model, ids: stream[ids])
    monkeypatch.setattr(weights_input, "_BLOCK", 6)
    model: Any = SimpleNamespace(known_tokens=7, layout=SimpleNamespace(d_model=1))
    reader = Reader(None, torch.ones(1), False, {"in": torch.tensor([[1.0, -1.0, 0.0]])})
    tokens = input_tokens(model, reader, k=2)["in"]
    assert tokens.token_ids.tolist() == [[1, 2, 3, 5], [3, 5, 1, 2], [0, 1, 0, 1]]
    assert tokens.values.tolist() == [[2, 2, 0, 0], [0, 0, -2, -2], [0, 0, 0, 0]]
