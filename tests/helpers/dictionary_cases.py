"""Every layout of dictionary files that can be read: how to write one, and what it computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.helpers.dictionary_files import (
    HOOK,
    LATENTS,
    WIDTH,
    Formula,
    K,
    constant_norm,
    fold_whitening,
    gated,
    groupmax_less,
    jumprelu,
    jumprelu_after_first,
    jumprelu_less,
    layer_norm,
    projection,
    relu,
    relu_after_first,
    relu_less,
    save,
    save_own,
    some,
    topk,
    topk_by_norm,
    topk_less,
    whitened,
    whitened_out,
)


@dataclass(frozen=True)
class Case:
    """A layout with its options, how to write it, and what it computes."""

    name: str
    write: Callable[[Path, dict[str, Tensor]], Path]
    acts: Formula
    out: Callable[[Tensor, Tensor, dict[str, Tensor]], Tensor] | None = None
    """From input, activations and weights to what is decoded; None: acts · W_dec + b_dec."""
    hook: str = HOOK
    target: str | None = None
    asked: str | None = None


def _sae_lens(new: bool, **said: Any) -> Callable[[Path, dict[str, Tensor]], Path]:
    def write(folder: Path, w: dict[str, Tensor]) -> Path:
        architecture = said.get("architecture", "standard")
        names = ["W_enc", "W_dec", "b_dec"]
        names += ["r_mag", "b_gate", "b_mag"] if architecture == "gated" else ["b_enc"]
        by_threshold = "jumprelu" in architecture or "batchtopk" in architecture
        names += ["threshold"] if by_threshold else []
        names += ["W_skip"] if "skip" in architecture else []
        about = {"model_name": "tiny", "prepend_bos": True}
        about["hook_name" if new else "hook_point"] = said.get("hook", HOOK)
        if "out" in said:
            about["hook_name_out"] = said["out"]
        rest = {key: value for key, value in said.items() if key not in ("hook", "out")}
        cfg = {"d_in": WIDTH, "d_sae": LATENTS, **rest}
        cfg |= {"metadata": {**about, "sae_lens_version": "6.1.0"}} if new else about
        save(folder, "sparsity.safetensors", {"sparsity": torch.zeros(LATENTS)})
        return save(folder, "sae_weights.safetensors", some(w, *names), ("cfg.json", cfg))

    return write


def _gemma(folder: str, file: str, *extra: str) -> Callable[[Path, dict[str, Tensor]], Path]:
    def write(root: Path, w: dict[str, Tensor]) -> Path:
        names = ("W_enc", "b_enc", "W_dec", "b_dec", "threshold")
        given = {name.lower() if "2" in folder else name: w[name] for name in names}
        if extra:
            given["affine_skip_connection"] = w["W_skip"]
        return save(root / folder, file, given)

    return write


def _llama(root: Path, w: dict[str, Tensor]) -> Path:
    said = {
        "act_fn": "jumprelu",
        "hook_point_in": HOOK,
        "hook_point_out": HOOK,
        "jump_relu_threshold": 0.4,
        "dataset_average_activation_norm": {"in": 2.0, "out": 2.0},
    }
    given = {
        "encoder.weight": w["W_enc"].T,
        "encoder.bias": w["b_enc"],
        "decoder.weight": w["W_dec"].T,
        "decoder.bias": w["b_dec"],
    }
    path = save(root, "checkpoints/final.safetensors", given, ("hyperparams.json", said))
    return path.parent.parent


def _llama_acts(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    scale = WIDTH**0.5 / 2.0
    before = (scale * x) @ w["W_enc"] + w["b_enc"]
    return torch.where(before > 0.4 * scale, before, 0.0)


def _llama_out(_: Tensor, acts: Tensor, w: dict[str, Tensor]) -> Tensor:
    return (acts @ w["W_dec"] + w["b_dec"]) / (WIDTH**0.5 / 2.0)


def _sparsify(folder: str, **said: Any) -> Callable[[Path, dict[str, Tensor]], Path]:
    def write(root: Path, w: dict[str, Tensor]) -> Path:
        given = {
            "encoder.weight": w["W_enc"].T,
            "encoder.bias": w["b_enc"],
            **some(w, "W_dec", "b_dec"),
        }
        if said.get("skip_connection"):
            given["W_skip"] = w["W_skip"]
        settings = ("cfg.json", {"k": K, "d_in": WIDTH, "num_latents": LATENTS, **said})
        return save(root / folder, "sae.safetensors", given, settings)

    return write


def _trained(kind: str) -> Callable[[Path, dict[str, Tensor]], Path]:
    def write(root: Path, w: dict[str, Tensor]) -> Path:
        torch_named = {"encoder.weight": w["W_enc"].T, "decoder.weight": w["W_dec"].T}
        given = {
            "AutoEncoder": {**torch_named, "encoder.bias": w["b_enc"], "bias": w["b_dec"]},
            "AutoEncoderTopK": {
                **torch_named,
                "encoder.bias": w["b_enc"],
                "b_dec": w["b_dec"],
                "k": torch.tensor(K),
                "threshold": torch.tensor(-1.0),
            },
            "BatchTopKSAE": {
                **torch_named,
                "encoder.bias": w["b_enc"],
                "b_dec": w["b_dec"],
                "threshold": torch.tensor(0.7),
            },
            "MatryoshkaBatchTopKSAE": {
                **some(w, "W_enc", "b_enc", "W_dec", "b_dec"),
                "threshold": torch.tensor(0.7),
            },
            "AutoEncoderNew": {
                **torch_named,
                "encoder.bias": w["b_enc"],
                "decoder.bias": w["b_dec"],
            },
            "JumpReluAutoEncoder": some(w, "W_enc", "b_enc", "W_dec", "b_dec", "threshold"),
            "GatedAutoEncoder": {
                **torch_named,
                "decoder_bias": w["b_dec"],
                "r_mag": w["r_mag"],
                "gate_bias": w["b_gate"],
                "mag_bias": w["b_mag"],
            },
        }[kind]
        trainer = {
            "dict_class": kind,
            "k": K,
            "lm_name": "owner/tiny",
            "layer": 1,
            "submodule_name": "resid_post_layer_1",
        }
        settings = ("config.json", {"trainer": trainer, "buffer": {"ctx_len": 128}})
        return save(root, "ae.pt", given, settings)

    return write


def _batch_topk(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    return jumprelu_less(x, w | {"threshold": torch.tensor(0.7)})


def _qwen(root: Path, w: dict[str, Tensor]) -> Path:
    given = {"W_enc": w["W_enc"].T, "W_dec": w["W_dec"].T, **some(w, "b_enc", "b_dec")}
    return save(root / f"SAE-Res-Tiny-Base-W24K-L0_{K}", "layer1.sae.pt", given)


def _circuit(
    turned: bool, threshold: str | None = None
) -> Callable[[Path, dict[str, Tensor]], Path]:
    def write(root: Path, w: dict[str, Tensor]) -> Path:
        said = {
            "model_kind": "transcoder_set",
            "model_name": "owner/tiny",
            "feature_input_hook": "mlp.hook_in",
            "feature_output_hook": "mlp.hook_out",
        }
        given = {**some(w, "W_dec", "b_enc", "b_dec", "W_skip"), "W_enc": w["W_enc"].T}
        if turned:
            given["W_dec"] = w["W_dec"].T
        if threshold is not None:
            given[threshold] = w["threshold"]
        return save(root, "layer_1.safetensors", given, ("config.yaml", said))

    return write


def _own(*names: str, **said: str) -> Callable[[Path, dict[str, Tensor]], Path]:
    return lambda root, w: save_own(root / "own.safetensors", some(w, *names), **said)


def _with_skip(x: Tensor, acts: Tensor, w: dict[str, Tensor]) -> Tensor:
    return acts @ w["W_dec"] + w["b_dec"] + x @ w["W_skip"]


def _with_turned_skip(x: Tensor, acts: Tensor, w: dict[str, Tensor]) -> Tensor:
    return acts @ w["W_dec"] + w["b_dec"] + x @ w["W_skip"].T


def _norm_restored(x: Tensor, acts: Tensor, w: dict[str, Tensor]) -> Tensor:
    scale = (x - x.mean(-1, keepdim=True)).std(-1, keepdim=True)
    return (acts @ w["W_dec"] + w["b_dec"]) * scale + x.mean(-1, keepdim=True)


def _length_restored(x: Tensor, acts: Tensor, w: dict[str, Tensor]) -> Tensor:
    return (acts @ w["W_dec"] + w["b_dec"]) * x.norm(dim=-1, keepdim=True) / WIDTH**0.5


def _lengths_undone(_: Tensor, acts: Tensor, w: dict[str, Tensor]) -> Tensor:
    return (acts / w["W_dec"].norm(dim=-1)) @ w["W_dec"] + w["b_dec"]


_MLP = {"hook": "blocks.1.mlp.hook_in", "target": "blocks.1.hook_mlp_out"}
_PAIR = {"hook": "blocks.1.mlp.hook_in", "out": "blocks.1.hook_mlp_out"}
_ALL = ("W_enc", "b_enc", "W_dec", "b_dec")

CASES = (
    Case("SAELens old", _sae_lens(False, activation_fn_str="relu"), relu_less),
    Case(
        "SAELens old, b_dec not subtracted",
        _sae_lens(False, apply_b_dec_to_input=False, normalize_activations=False),
        relu,
    ),
    Case(
        "SAELens old top-k",
        _sae_lens(False, activation_fn_str="topk", activation_fn_kwargs={"k": K}),
        topk_less,
    ),
    Case("SAELens jumprelu", _sae_lens(True, architecture="jumprelu"), jumprelu_less),
    Case(
        "SAELens jumprelu, b_dec not subtracted",
        _sae_lens(True, architecture="jumprelu", apply_b_dec_to_input=False),
        jumprelu,
    ),
    Case("SAELens batch-top-k", _sae_lens(True, architecture="batchtopk", k=K), jumprelu_less),
    Case(
        "SAELens matryoshka",
        _sae_lens(True, architecture="matryoshka_batchtopk", k=K),
        jumprelu_less,
    ),
    Case(
        "SAELens transcoder",
        _sae_lens(True, architecture="transcoder", apply_b_dec_to_input=False, **_PAIR),
        relu,
        **_MLP,
    ),
    Case(
        "SAELens jumprelu transcoder",
        _sae_lens(True, architecture="jumprelu_transcoder", **_PAIR),
        jumprelu,
        **_MLP,
    ),
    Case(
        "SAELens jumprelu skip transcoder",
        _sae_lens(True, architecture="jumprelu_skip_transcoder", **_PAIR),
        jumprelu,
        _with_turned_skip,
        **_MLP,
    ),
    Case("SAELens top-k", _sae_lens(True, architecture="topk", k=K), topk_less),
    Case(
        "SAELens top-k by the decoder's norm",
        _sae_lens(True, architecture="topk", k=K, rescale_acts_by_decoder_norm=True),
        topk_by_norm,
        _lengths_undone,
    ),
    Case("SAELens gated", _sae_lens(True, architecture="gated"), gated),
    Case(
        "SAELens layer norm",
        _sae_lens(True, normalize_activations="layer_norm"),
        layer_norm,
        _norm_restored,
    ),
    Case(
        "SAELens constant norm",
        _sae_lens(True, normalize_activations="constant_norm_rescale"),
        constant_norm,
        _length_restored,
    ),
    Case(
        "SAELens skip transcoder",
        _sae_lens(True, architecture="skip_transcoder", apply_b_dec_to_input=False, **_PAIR),
        relu,
        _with_turned_skip,
        **_MLP,
    ),
    Case(
        "Gemma Scope",
        _gemma("gemma-scope-2b-pt-res/layer_1/width_16k/average_l0_71", "params.npz"),
        jumprelu,
    ),
    Case(
        "Gemma Scope 2",
        _gemma("scope2/resid_post/layer_1_width_16k_l0_50", "params.safetensors"),
        jumprelu,
    ),
    Case(
        "Gemma Scope 2 transcoder",
        _gemma("scope2/transcoder/layer_1_width_16k_l0_50", "params.safetensors", "skip"),
        jumprelu,
        _with_skip,
        **_MLP,
    ),
    Case("Llama Scope", _llama, _llama_acts, _llama_out),
    Case("sparsify", _sparsify("layers.1"), topk_less),
    Case("sparsify groupmax", _sparsify("layers.1", activation="groupmax", k=6), groupmax_less),
    Case(
        "sparsify transcoder",
        _sparsify("layers.1.mlp", transcode=True, skip_connection=True),
        topk,
        _with_turned_skip,
        **_MLP,
    ),
    Case("dictionary_learning", _trained("AutoEncoder"), relu_less),
    Case("dictionary_learning, new", _trained("AutoEncoderNew"), relu),
    Case("dictionary_learning top-k", _trained("AutoEncoderTopK"), topk_less),
    Case("dictionary_learning batch-top-k", _trained("BatchTopKSAE"), _batch_topk),
    Case("dictionary_learning matryoshka", _trained("MatryoshkaBatchTopKSAE"), _batch_topk),
    Case("dictionary_learning jumprelu", _trained("JumpReluAutoEncoder"), jumprelu),
    Case("dictionary_learning gated", _trained("GatedAutoEncoder"), gated),
    Case("Qwen-Scope", _qwen, topk),
    Case(
        "circuit-tracer",
        _circuit(turned=False),
        relu_after_first,
        _with_turned_skip,
        "blocks.1.mlp.hook_in",
        "blocks.1.mlp.hook_out",
    ),
    Case(
        "circuit-tracer turned",
        _circuit(turned=True),
        relu_after_first,
        _with_turned_skip,
        "blocks.1.mlp.hook_in",
        "blocks.1.mlp.hook_out",
    ),
    Case(
        "circuit-tracer jumprelu",
        _circuit(turned=False, threshold="activation_function.threshold"),
        jumprelu_after_first,
        _with_turned_skip,
        "blocks.1.mlp.hook_in",
        "blocks.1.mlp.hook_out",
    ),
    Case("folded whitening", fold_whitening, whitened, whitened_out),
    Case("own jumprelu", _own(*_ALL, "threshold", hook_point=HOOK), jumprelu_less),
    Case(
        "own relu, not subtracted",
        _own(*_ALL, hook_point=HOOK, activation="relu", apply_b_dec_to_input="false"),
        relu,
    ),
    Case("own groupmax", _own(*_ALL, hook_point=HOOK, activation="groupmax", k="6"), groupmax_less),
    Case(
        "own layer norm",
        _own(*_ALL, hook_point=HOOK, activation="relu", normalize_activations="layer_norm"),
        layer_norm,
        _norm_restored,
    ),
    Case("own top-k", _own(*_ALL, hook_point=HOOK, activation="topk", k=str(K)), topk_less),
    Case(
        "own transcoder",
        _own(
            *_ALL,
            hook_point="blocks.1.mlp.hook_in",
            hook_point_out="blocks.1.hook_mlp_out",
            activation="relu",
        ),
        relu,
        **_MLP,
    ),
    Case("directions", _own("W_enc"), projection, asked=HOOK),
)
