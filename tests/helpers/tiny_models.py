"""Tiny models with random weights and a tokenizer, saved to disk the way a user's would be."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from indexer.captured import Captured
from indexer.models.loaded import LoadedModel

TEXT = (
    "The quick brown fox jumps over the lazy dog. In the beginning was the word, and the word was "
    "with the model; def forward(self, x): return x + self.mlp(x)  # Ünïcödé, 数, 🙂\n"
)
VOCAB = 320
LAYERS = 2
WIDTH = 32

_LLAMA_LIKE = {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
}
_NEOX_LIKE = {
    "hidden_size": WIDTH,
    "intermediate_size": 56,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
_GPT2_LIKE = {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": 4, "n_positions": 64}

SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2Config", _GPT2_LIKE | {"n_inner": 40}),
    "gpt_neox": ("GPTNeoXConfig", _NEOX_LIKE),
    "gpt_neo": (
        "GPTNeoConfig",
        {
            "hidden_size": WIDTH,
            "num_layers": LAYERS,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "max_position_embeddings": 64,
            "intermediate_size": 44,
        },
    ),
    "opt": (
        "OPTConfig",
        {
            "hidden_size": WIDTH,
            "ffn_dim": 40,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
            "word_embed_proj_dim": WIDTH,
            "activation_function": "relu",
        },
    ),
    "llama": ("LlamaConfig", _LLAMA_LIKE),
    "mistral": ("MistralConfig", _LLAMA_LIKE),
    "qwen2": ("Qwen2Config", _LLAMA_LIKE),
    "qwen3": ("Qwen3Config", _LLAMA_LIKE),
    "gemma2": ("Gemma2Config", _LLAMA_LIKE | {"sliding_window": 8}),
    "gemma3": ("Gemma3TextConfig", _LLAMA_LIKE | {"sliding_window": 8}),
    "olmo2": ("Olmo2Config", _LLAMA_LIKE),
    "granite": (
        "GraniteConfig",
        _LLAMA_LIKE | {"residual_multiplier": 0.22, "logits_scaling": 6.0},
    ),
    "cohere": ("CohereConfig", _LLAMA_LIKE | {"logit_scale": 0.25}),
    "phi": ("PhiConfig", _NEOX_LIKE | {"partial_rotary_factor": 0.5}),
    "phi3": ("Phi3Config", _LLAMA_LIKE),
    "bloom": ("BloomConfig", {"hidden_size": WIDTH, "n_layer": LAYERS, "n_head": 4}),
    "gptj": ("GPTJConfig", _GPT2_LIKE | {"rotary_dim": 4, "n_inner": 40}),
}

EXPERTS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt_oss": (
        "GptOssConfig",
        _LLAMA_LIKE | {"sliding_window": 8, "num_local_experts": 2, "num_experts_per_tok": 1},
    ),
}
"""Mixtures of experts, which have heads and no neurons of their own."""
LISTS: dict[str, tuple[str, dict[str, Any]]] = {"openai-gpt": ("OpenAIGPTConfig", _GPT2_LIKE)}
"""Models whose attention answers with a list."""


def tiny_tokenizer(*, bos: str | None = "<bos>", vocab: int = VOCAB) -> Any:
    """A byte-level BPE tokenizer trained on a few lines; `bos` None makes it one without a BOS."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    specials = ["<pad>", *([bos] if bos else [])]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab - 4,  # the last rows of the embedding are padding
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([TEXT] * 4, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=bos, pad_token="<pad>"
    )


def shake(model: torch.nn.Module, seed: int = 0) -> None:
    """Move every parameter away from its initial value, norms' weights and biases included."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn(parameter.shape, generator=generator))


def tiny_config(architecture: str, **changes: Any) -> Any:
    """The configuration of a tiny model."""
    name, settings = (SETTINGS | EXPERTS | LISTS)[architecture]
    special = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
    return getattr(transformers, name)(**(settings | {"vocab_size": VOCAB} | special | changes))


def save_tiny_model(folder: Path, architecture: str, **changes: Any) -> Path:
    """Save a tiny random model and its tokenizer to `folder`, and return it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(tiny_config(architecture, **changes))
    shake(model)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def save_tiny_gguf(path: Path) -> Path:
    """Write a tiny Llama with random weights and its tokenizer as a GGUF file, and return it."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(48)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    facts = json.loads(tiny_tokenizer().backend_tokenizer.to_str())["model"]
    tokens = sorted(facts["vocab"], key=facts["vocab"].get)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types(
        [gguf.TokenType.CONTROL] * 2 + [gguf.TokenType.NORMAL] * (len(tokens) - 2)
    )
    writer.add_token_merges([" ".join(pair) for pair in facts["merges"]])
    writer.add_pad_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(1)
    shapes = {"token_embd": (len(tokens), WIDTH), "output": (len(tokens), WIDTH)}
    norms = ["output_norm"]
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        norms += [f"{block}.attn_norm", f"{block}.ffn_norm"]
        shapes |= {f"{block}.attn_{name}": (WIDTH, WIDTH) for name in ("q", "output")}
        shapes |= {f"{block}.attn_{name}": (16, WIDTH) for name in ("k", "v")}
        shapes |= {f"{block}.ffn_{name}": (48, WIDTH) for name in ("gate", "up")}
        shapes |= {f"{block}.ffn_down": (WIDTH, 48)}
    numbers = np.random.default_rng(0)
    for name, shape in (shapes | dict.fromkeys(norms, (WIDTH,))).items():
        values = numbers.standard_normal(shape) * 0.2 + (len(shape) == 1)
        writer.add_tensor(f"{name}.weight", values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_to_hub_cache(cache: Path, repository: str, commit: str, folder: Path) -> Path:
    """Put a folder's files into a cache of the hub as huggingface_hub lays it out, as one commit of
    a repository that also has a README nobody fetched; return the snapshot's folder."""
    home = cache / f"models--{repository.replace('/', '--')}"
    snapshot = home / "snapshots" / commit
    listed: dict[str, Any] = {"README.md": {"size": 7, "blob_id": "0" * 40}}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name, content = path.relative_to(folder), path.read_bytes()
        blob = home / "blobs" / hashlib.sha256(content).hexdigest()
        link = snapshot / name
        blob.parent.mkdir(parents=True, exist_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link.symlink_to(blob)
        listed[name.as_posix()] = {"size": len(content), "blob_id": "0" * 40}
    if "config.json" not in listed:
        missing = home / ".no_exist" / commit / "config.json"  # as transformers' question left it
        missing.parent.mkdir(parents=True, exist_ok=True)
        missing.touch()
    trees = home / "trees" / f"{commit}.json"
    trees.parent.mkdir(exist_ok=True)
    trees.write_text(json.dumps({"format_version": 1, "files": listed}))
    return snapshot


def point_hub_cache(cache: Path, repository: str, revision: str, commit: str) -> None:
    """Let a branch or tag of a repository in a cache stand for a commit."""
    ref = cache / f"models--{repository.replace('/', '--')}" / "refs" / revision
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text(commit)


def captured(model: LoadedModel, tokens: Tensor, mask: Tensor | None = None) -> list[Tensor]:
    """Every layer's activations, in the order in which they were handed over."""
    layers: list[int] = []
    acts: list[Tensor] = []

    def keep(layer: int, captured: Captured) -> None:
        layers.append(layer)
        acts.append(captured.activations.clone())

    model.capture(tokens, torch.ones_like(tokens) if mask is None else mask, keep)
    assert layers == list(range(model.layout.n_layers))
    return acts


def some_tokens(*shape: int) -> Tensor:
    """Random ids of real tokens."""
    return torch.randint(2, VOCAB - 8, shape, generator=torch.Generator().manual_seed(1))
