"""Captured activations against plain PyTorch, and every kind of model that is refused."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformer_lens.model_bridge import TransformerBridge

from indexer.captured import Captured
from indexer.errors import NeurariumError
from indexer.models import kinds
from indexer.models.asked import MODELS_OWN, Asked
from indexer.models.hook_places import mlp_points_of
from indexer.models.layout import layout_of_config
from indexer.models.load import check_ctx_len, describe, load_model
from indexer.models.pretrained import load_tokenizer
from indexer.models.source import resolve_model
from tests.helpers.tiny_models import (
    LAYERS,
    TEXT,
    VOCAB,
    captured,
    save_tiny_gguf,
    save_tiny_model,
    shake,
    some_tokens,
    tiny_config,
    tiny_tokenizer,
)

OUT_OF: dict[str, tuple[str, int]] = {
    "gpt2": ("transformer.h.{}.mlp.c_proj", 40),
    "gpt_neox": ("gpt_neox.layers.{}.mlp.dense_4h_to_h", 56),
    "gpt_neo": ("transformer.h.{}.mlp.c_proj", 44),
    "opt": ("model.decoder.layers.{}.fc2", 40),
    "llama": ("model.layers.{}.mlp.down_proj", 48),
    "mistral": ("model.layers.{}.mlp.down_proj", 48),
    "qwen2": ("model.layers.{}.mlp.down_proj", 48),
    "qwen3": ("model.layers.{}.mlp.down_proj", 48),
    "gemma2": ("model.layers.{}.mlp.down_proj", 48),
    "gemma3": ("model.layers.{}.mlp.down_proj", 48),
    "olmo2": ("model.layers.{}.mlp.down_proj", 48),
    "granite": ("model.layers.{}.mlp.down_proj", 48),
    "cohere": ("model.layers.{}.mlp.down_proj", 48),
    "phi": ("model.layers.{}.mlp.fc2", 56),
    "phi3": ("model.layers.{}.mlp.down_proj", 48),
    "bloom": ("transformer.h.{}.mlp.dense_4h_to_h", 128),
    "gptj": ("transformer.h.{}.mlp.fc_out", 40),
}
"""Each architecture's MLP output projection and its width, written down by hand."""

BEFORE_ACTIVATION = {
    "gpt2": "transformer.h.{}.mlp.c_fc",
    "gpt_neox": "gpt_neox.layers.{}.mlp.dense_h_to_4h",
    "opt": "model.decoder.layers.{}.fc1",
    "phi": "model.layers.{}.mlp.fc1",
    "llama": "model.layers.{}.mlp.gate_proj",
    "gemma2": "model.layers.{}.mlp.gate_proj",
    "phi3": "model.layers.{}.mlp.gate_up_proj",
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder with a tiny model for every architecture."""
    return {
        name: save_tiny_model(tmp_path_factory.mktemp("models") / name, name) for name in OUT_OF
    }


def plainly_hooked(folder: Path, paths: list[str], tokens: Tensor, *, after: bool) -> list[Tensor]:
    """The same by a PyTorch hook on the whole transformers model, run with eager attention."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    seen: dict[str, Tensor] = {}
    for path in paths:
        module: nn.Module = model.get_submodule(path)
        if after:
            module.register_forward_hook(lambda _m, _i, out, p=path: seen.update({p: out}))
        else:
            module.register_forward_pre_hook(lambda _m, args, p=path: seen.update({p: args[0]}))
    with torch.no_grad():
        model.eval()(tokens)
    return [seen[path].reshape(*tokens.shape, -1) for path in paths]


@pytest.mark.parametrize("architecture", OUT_OF)
def test_captured_is_what_enters_the_output_projection(
    tiny: dict[str, Path], architecture: str
) -> None:
    """Loaded as a user would, a model gives what a plain hook on the plain model sees."""
    path, width = OUT_OF[architecture]
    model = load_model(resolve_model(str(tiny[architecture])))
    tokens = some_tokens(3, 17)
    expected = plainly_hooked(
        tiny[architecture], [path.format(i) for i in range(LAYERS)], tokens, after=False
    )
    assert model.units.widths == (width,) * LAYERS
    for acts, truth in zip(captured(model, tokens), expected, strict=True):
        assert acts.shape == (3, 17, width)
        torch.testing.assert_close(acts, truth, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", OUT_OF)
def test_padding_changes_nothing(tiny: dict[str, Path], architecture: str) -> None:
    """A context has the same activations alone and padded in a batch."""
    model = load_model(resolve_model(str(tiny[architecture])))
    tokens, lengths = some_tokens(3, 12), (5, 12, 9)
    mask = torch.tensor([[int(i < length) for i in range(12)] for length in lengths])
    together = captured(model, tokens * mask, mask)
    for row, length in enumerate(lengths):
        alone = captured(model, tokens[row : row + 1, :length])
        for padded, plain in zip(together, alone, strict=True):
            torch.testing.assert_close(padded[row, :length], plain[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", BEFORE_ACTIVATION)
def test_hook_pre_is_before_the_activation_function(
    tiny: dict[str, Path], architecture: str
) -> None:
    """`mlp.hook_pre` is the projection in of a plain MLP, and the gate of a gated one."""
    model = load_model(resolve_model(str(tiny[architecture])), asked=Asked("mlp.hook_pre"))
    tokens = some_tokens(2, 7)
    paths = [BEFORE_ACTIVATION[architecture].format(i) for i in range(LAYERS)]
    width = OUT_OF[architecture][1]
    for acts, truth in zip(
        captured(model, tokens),
        plainly_hooked(tiny[architecture], paths, tokens, after=True),
        strict=True,
    ):
        torch.testing.assert_close(acts, truth[..., :width], rtol=1e-4, atol=1e-5)


def test_hook_pre_is_transformer_lens_own(tiny: dict[str, Path]) -> None:
    """Both hook points are what TransformerBridge caches under their names."""
    folder, tokens = tiny["llama"], some_tokens(1, 6)
    bridge = TransformerBridge.boot_transformers(
        str(folder),
        device="cpu",
        hf_model=transformers.AutoModelForCausalLM.from_pretrained(folder),
        tokenizer=transformers.AutoTokenizer.from_pretrained(folder),
    )
    _, cache = bridge.run_with_cache(tokens)
    for hook_point in ("mlp.hook_pre", "mlp.hook_post"):
        model = load_model(resolve_model(str(folder)), asked=Asked(hook_point))
        for layer, acts in enumerate(captured(model, tokens)):
            truth = cache[f"blocks.{layer}.{hook_point}"]
            torch.testing.assert_close(acts, truth, rtol=1e-4, atol=1e-5)


def test_a_model_tells_what_it_is(tiny: dict[str, Path]) -> None:
    """The facts a run keeps as its provenance."""
    model = load_model(resolve_model(str(tiny["gemma2"])), dtype="bfloat16")
    assert (model.layout.architecture, model.layout.n_layers, model.layout.d_model) == (
        "Gemma2ForCausalLM",
        2,
        32,
    )
    assert (model.d_vocab, model.known_tokens, model.layout.max_context) == (VOCAB, VOCAB - 4, 64)
    assert (model.dtype, model.device.type, model.source.commit) == (torch.bfloat16, "cpu", None)
    assert (model.units.hook_point, model.units.is_default) == ("mlp.hook_post", True)
    assert (model.layout.activation_function, model.layout.gated) == ("gelu_pytorch_tanh", True)
    assert (model.tokens.bos_token_id, model.tokens.pad_token_id) == (1, 0)
    assert len(model.vocabulary()) == VOCAB
    assert mlp_points_of(model.layout) == (
        "mlp.hook_pre",
        "mlp.hook_pre_linear",
        "mlp.hook_post",
    )


def test_the_weights_hash_is_of_the_files(tiny: dict[str, Path], tmp_path: Path) -> None:
    """The hash is the same whatever the dtype, and another for other weights."""
    folder = tiny["gpt2"]
    first = load_model(resolve_model(str(folder))).weights_hash
    assert load_model(resolve_model(str(folder)), dtype="float16").weights_hash == first
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    shake(model, seed=3)
    model.save_pretrained(tmp_path, max_shard_size="20KB")  # several files and an index
    tiny_tokenizer().save_pretrained(tmp_path)
    sharded = load_model(resolve_model(str(tmp_path)))
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert sharded.weights_hash != first
    shard = max(tmp_path.glob("*.safetensors"))
    header = shard.read_bytes()
    shard.write_bytes(header[:-1] + bytes([header[-1] ^ 1]))
    assert load_model(resolve_model(str(tmp_path))).weights_hash != sharded.weights_hash


def test_captures_take_turns(tiny: dict[str, Path]) -> None:
    """Two threads that capture at once each get their own text's activations."""
    model = load_model(resolve_model(str(tiny["gpt2"])))
    texts = [some_tokens(1, 9), some_tokens(1, 9).flip(1)]
    alone = [captured(model, text) for text in texts]
    out: dict[int, list[list[Tensor]]] = {0: [], 1: []}

    def work(which: int) -> None:
        for _ in range(10):
            out[which].append(captured(model, texts[which]))

    threads = [threading.Thread(target=work, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for which in (0, 1):
        assert len(out[which]) == 10
        for acts in out[which]:
            torch.testing.assert_close(acts, alone[which])


def test_memory_that_runs_out_is_told(tiny: dict[str, Path]) -> None:
    """A batch too large for the memory names the setting that makes it smaller."""
    model = load_model(resolve_model(str(tiny["gpt2"])))

    def too_large(_layer: int, _captured: Captured) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    tokens = some_tokens(2, 4)
    with pytest.raises(NeurariumError, match=r"2 × 4 tokens .* --batch-tokens"):
        model.capture(tokens, torch.ones_like(tokens), too_large)
    assert len(captured(model, tokens)) == LAYERS  # no hook is left behind


def test_a_context_longer_than_the_model_is_refused(tiny: dict[str, Path]) -> None:
    """The configuration alone tells how long a context can be; Bloom has no limit."""
    description = describe(resolve_model(str(tiny["gpt2"])))
    check_ctx_len(description, 64)
    with pytest.raises(NeurariumError, match=r"ctx_len is 65.*64 positions.*--ctx-len 64"):
        check_ctx_len(description, 65)
    assert describe(resolve_model(str(tiny["bloom"]))).layout.max_context is None


def test_a_hook_point_that_is_not_there_is_refused(tiny: dict[str, Path]) -> None:
    """The message says which hook points the model has."""
    with pytest.raises(
        NeurariumError, match=r"mlp\.ln\.hook_in.*it has mlp\.hook_pre, mlp\.hook_p"
    ):
        load_model(resolve_model(str(tiny["gpt2"])), asked=Asked("mlp.ln.hook_in"))


_LLAMA = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("MixtralConfig", _LLAMA, "num_local_experts 8.* is a mixture-of-experts model"),
        ("Qwen3MoeConfig", _LLAMA, "mixture-of-experts"),
        ("GptOssConfig", _LLAMA, "mixture-of-experts"),
        ("DeepseekV3Config", _LLAMA, "mixture-of-experts"),
        ("JambaConfig", _LLAMA, "mixture-of-experts"),
        ("BertConfig", {}, r"is an encoder \(BertForMaskedLM\)"),
        ("T5Config", {}, r"is an encoder–decoder model \(T5"),
        ("BartConfig", {}, "is an encoder–decoder model"),
        ("MambaConfig", {}, "has no MLP neurons"),
        ("Mamba2Config", {}, "has no MLP neurons"),
        ("LlavaConfig", {}, "is a multimodal model"),
        ("Gemma3Config", {}, "is a multimodal model"),
        ("Wav2Vec2Config", {}, "is not one that TransformerLens|has no MLP|is "),
        ("CTRLConfig", {}, "architecture of 'it', CTRLLMHeadModel, is not one"),
    ],
)
def test_models_of_another_kind_are_refused(
    name: str, settings: dict[str, Any], message: str
) -> None:
    """What cannot be indexed is named for what it is, from its configuration alone."""
    config = getattr(transformers, name)(**settings)
    architectures = {"BertConfig": "BertForMaskedLM", "CTRLConfig": "CTRLLMHeadModel"}
    config.architectures = [
        architectures.get(name, name.replace("Config", "ForConditionalGeneration"))
    ]
    if name not in architectures and settings:
        config.architectures = [name.replace("Config", "ForCausalLM")]
    with pytest.raises(NeurariumError, match=message):
        kinds.choose(layout_of_config(config, "it"), MODELS_OWN)


def test_a_layer_that_runs_twice_is_refused(
    tiny: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which of two passes a neuron's activation is, nobody can say."""
    from transformers.models.gpt2.modeling_gpt2 import GPT2MLP

    forward = GPT2MLP.forward

    def twice(self: Any, x: Tensor) -> Tensor:
        out: Tensor = forward(self, forward(self, x))
        return out

    monkeypatch.setattr(GPT2MLP, "forward", twice)
    with pytest.raises(NeurariumError, match=r"Layer 0 .* runs 2 times in one forward pass"):
        load_model(resolve_model(str(tiny["gpt2"])))
    monkeypatch.setattr(GPT2MLP, "forward", lambda _self, x: x)
    with pytest.raises(NeurariumError, match="runs 0 times"):
        load_model(resolve_model(str(tiny["gpt2"])))


def test_a_gguf_file_is_a_model(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A GGUF file gives the activations of the model transformers reads from it, silently."""
    path = save_tiny_gguf(tmp_path / "tiny.gguf")
    source = resolve_model(str(path))
    tokens = load_tokenizer(source)
    model = load_model(source, tokens=tokens)
    assert capfd.readouterr() == ("", "")
    assert (source.url_name, model.layout.architecture, model.units.widths) == (
        "tiny",
        "LlamaForCausalLM",
        (48, 48),
    )
    assert (model.tokens.bos_token_id, model.layout.max_context, model.d_vocab) == (
        1,
        64,
        VOCAB - 4,
    )
    ids = tokens.tokenizer(TEXT, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    spelled = model.vocabulary()
    assert b"".join(spelled[i] for i in ids) == TEXT.encode()
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name)
    truth: list[Tensor] = []
    for layer in range(LAYERS):
        module = plain.get_submodule(f"model.layers.{layer}.mlp.down_proj")
        module.register_forward_pre_hook(lambda _module, args: truth.append(args[0]))
    text = torch.tensor([ids[:40]])
    with torch.no_grad():
        plain(text)
    for acts, expected in zip(captured(model, text), truth, strict=True):
        torch.testing.assert_close(acts, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", sorted(OUT_OF))
def test_every_token_id_has_a_row_in_the_vocabulary(
    tiny: dict[str, Path], architecture: str
) -> None:
    """The description's limit on ids, told before the weights, is the embedding's own height, and
    the vocabulary has a row for each, those of padding too."""
    source = resolve_model(str(tiny[architecture]))
    description = describe(source)
    model = load_model(source, description=description)
    assert description.vocab_size == model.d_vocab == len(model.vocabulary()) == VOCAB
    assert model.known_tokens < VOCAB
    assert model.vocabulary()[model.known_tokens :] == [b""] * (VOCAB - model.known_tokens)


def test_an_embedding_lower_than_its_configuration_is_refused(
    tiny: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Token ids the embedding has no row for would be let through: the model is refused."""
    load = transformers.AutoModelForCausalLM.from_pretrained

    def shrunk(*args: Any, **rest: Any) -> Any:
        model, report = load(*args, **rest)
        model.resize_token_embeddings(VOCAB - 8)
        return model, report

    source = resolve_model(str(tiny["gpt2"]))
    description = describe(source)
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", shrunk)
    with pytest.raises(NeurariumError, match=r"320 token ids, .* embedding has 312 rows"):
        load_model(source, description=description)


def test_a_configuration_need_not_name_its_class() -> None:
    """A configuration without `architectures`, as a GGUF file's, is known by its type."""
    config = tiny_config("olmo2")
    assert config.architectures is None
    layout = layout_of_config(config, "it")
    assert (layout.architecture, layout.n_layers, layout.gated) == ("Olmo2ForCausalLM", 2, True)
    assert config.architectures is None  # the caller's own is left as it was
