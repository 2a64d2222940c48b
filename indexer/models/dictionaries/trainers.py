"""Dictionaries as other training libraries write them: sparsify, dictionary_learning, and the
per-layer transcoders of circuit-tracer."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from indexer.errors import quoted
from indexer.models.dictionaries import places
from indexer.models.dictionaries.dictionary import Dictionary, Function, Gate, Hook
from indexer.models.dictionaries.files import WeightsFile

_COUNTED: dict[str, Function] = {"topk": "topk", "groupmax": "groupmax"}
"""sparsify's activation functions."""


def is_sparsify(file: WeightsFile) -> bool:
    """Whether a file is of sparsify's layout."""
    return file.kind == "cfg.json" and file.path.name == "sae.safetensors"


def read_sparsify(file: WeightsFile, asked: str | None) -> Dictionary:
    """Read `sae.safetensors` of a folder named for its module, such as `layers.3.mlp`. Raises
    `NeurariumError`."""
    declared = file.settings
    function = _COUNTED.get(places.text(file, declared.get("activation", "topk"), "activation"))
    if function is None or declared.get("signed"):
        named = "signed topk" if declared.get("signed") else declared["activation"]
        raise places.unknown_function(file, named)
    transcoder = bool(declared.get("transcode"))
    folder = file.path.parent.name
    layer = places.layer_in_name(file)
    point = _module_point(folder)
    hook, target = _sparsify_hooks(file, asked, point, layer, transcoder)
    encoder = "encoder.weight" if "encoder.weight" in file.tensors else "W_enc"
    W_enc = file.tensor(encoder).T
    bias = "encoder.bias" if "encoder.bias" in file.tensors else "b_enc"
    b_dec = file.tensor("b_dec")
    skip = file.optional("W_skip")
    return Dictionary(
        label=file.label,
        hook=hook,
        function=function,
        W_enc=W_enc,
        b_enc=file.tensor(bias),
        W_dec=file.tensor("W_dec"),
        b_dec=b_dec,
        b_in=None if transcoder else b_dec,
        k=places.number(file, declared.get("k"), "k"),
        skip=None if skip is None else skip.T,
        target=target,
    )


def _sparsify_hooks(
    file: WeightsFile, asked: str | None, point: str | None, layer: int | None, transcoder: bool
) -> tuple[Hook, Hook | None]:
    """Where it reads, and what a transcoder approximates."""
    if not transcoder:
        return places.where(file, point, asked, layer), None
    if point not in (None, "hook_mlp_out"):
        raise file.wrong(f"is a transcoder of {point}, and only those of an MLP are known")
    declared = "mlp.hook_in" if point else None
    hook = places.where(file, declared, asked, layer)
    return hook, places.beside(hook, "hook_mlp_out")


def _module_point(folder: str) -> str | None:
    """The hook point of a module's output, by the last part of its name."""
    last = folder.rsplit(".", 1)[-1]
    if last.isdecimal():
        return "hook_resid_post"
    points = {
        "mlp": "hook_mlp_out",
        "attn": "hook_attn_out",
        "self_attn": "hook_attn_out",
        "attention": "hook_attn_out",
    }
    return points.get(last)


def is_dictionary_learning(file: WeightsFile) -> bool:
    """Whether a file is of dictionary_learning's layout."""
    trainer = file.settings.get("trainer")
    return isinstance(trainer, dict) and "dict_class" in trainer


def read_dictionary_learning(file: WeightsFile, asked: str | None) -> Dictionary:
    """Read `ae.pt` of a folder with `config.json`. Raises `NeurariumError`."""
    trainer = file.settings["trainer"]
    kind = str(trainer["dict_class"])
    readers: dict[str, tuple[Function, bool]] = {
        "AutoEncoder": ("relu", True),
        "AutoEncoderNew": ("relu", False),
        "AutoEncoderTopK": ("topk", True),
        "GatedAutoEncoder": ("gated", True),
        "JumpReluAutoEncoder": ("jumprelu", False),
        "BatchTopKSAE": ("jumprelu", True),
        "MatryoshkaBatchTopKSAE": ("jumprelu", True),
    }
    if kind not in readers:
        raise places.unknown_function(file, kind)
    function, subtracts = readers[kind]
    hook = _dictionary_learning_hook(file, asked)
    W_enc, W_dec = _encoder(file), _decoder(file)
    biases = ("bias", "decoder_bias", "decoder.bias")
    b_dec = file.tensor(next((name for name in biases if name in file.tensors), "b_dec"))
    gate = None
    if function == "gated":
        gate = Gate(file.tensor("r_mag").exp(), file.tensor("gate_bias"))
        b_enc = file.tensor("mag_bias")
    else:
        b_enc = file.tensor("b_enc" if "b_enc" in file.tensors else "encoder.bias")
    threshold = None
    if function == "jumprelu":
        # A latent is on above its threshold and above 0.
        threshold = places.one_each(file.tensor("threshold"), W_enc.shape[1]).clamp(min=0)
    k = trainer.get("k")
    norm_factor = trainer.get("activation_norm_factor")
    if norm_factor not in (None, 1, 1.0):
        raise file.wrong(
            f"is for inputs divided by {quoted(norm_factor)}, which may not be folded in: fold it, "
            "and take activation_norm_factor out of config.json"
        )
    return Dictionary(
        label=file.label,
        hook=hook,
        function=function,
        W_enc=W_enc,
        b_enc=b_enc,
        W_dec=W_dec,
        b_dec=b_dec,
        b_in=b_dec if subtracts else None,
        threshold=threshold,
        k=places.number(file, k, "k") if function == "topk" else None,
        gate=gate,
        model=trainer.get("lm_name"),
        l0=places.finite(k),
    )


def _encoder(file: WeightsFile) -> Tensor:
    return file.tensor("W_enc") if "W_enc" in file.tensors else file.tensor("encoder.weight").T


def _decoder(file: WeightsFile) -> Tensor:
    return file.tensor("W_dec") if "W_dec" in file.tensors else file.tensor("decoder.weight").T


def _dictionary_learning_hook(file: WeightsFile, asked: str | None) -> Hook:
    """Where it reads, from the submodule's name: `resid_post_layer_8`, `mlp_out_layer_3`."""
    trainer = file.settings["trainer"]
    declared = str(trainer.get("submodule_name") or "")
    layer = trainer.get("layer")
    layer = layer if type(layer) is int and 0 <= layer < 10**6 else None
    kinds = {
        "resid_post": "hook_resid_post",
        "resid_pre": "hook_resid_pre",
        "mlp_out": "hook_mlp_out",
        "attention_out": "hook_attn_out",
        "attn_out": "hook_attn_out",
    }
    match = re.fullmatch(r"(\w+?)_layer_?(\d+)", declared)
    if match and match[1] in kinds:
        return places.where(file, kinds[match[1]], asked, int(match[2]))
    return places.where(file, None, asked, layer)


def is_circuit_tracer(file: WeightsFile) -> bool:
    """Whether a file is of circuit-tracer's layout."""
    marks = {"model_kind", "feature_input_hook", "feature_output_hook"}
    return file.kind == "config.yaml" and bool(marks & set(file.settings))


def read_circuit_tracer(file: WeightsFile, asked: str | None) -> Dictionary:
    """Read `layer_N.safetensors` of a folder with `config.yaml`. Raises `NeurariumError`."""
    declared = file.settings
    kind = places.text(file, declared.get("model_kind", "transcoder_set"), "model_kind")
    names = set(file.tensors)
    if kind == "cross_layer_transcoder" or any(
        re.fullmatch(r"W_(?:enc|dec)_\d+", name) for name in names
    ):
        raise places.cross_layer(file)
    if kind != "transcoder_set":
        raise file.wrong(f"is a {quoted(kind)}, which is not known: per-layer transcoders are")
    layer = places.layer_in_name(file)
    reads = declared.get("feature_input_hook")
    writes = declared.get("feature_output_hook")
    if writes is None:
        raise file.wrong("does not say what it approximates (feature_output_hook)")
    hook = places.where(file, reads, asked, layer)
    b_enc, b_dec = file.tensor("b_enc"), file.tensor("b_dec")
    W_enc, W_dec = file.tensor("W_enc"), file.tensor("W_dec")
    latents, width = len(b_enc), len(b_dec)
    # Both orders of the axes are in use; the biases tell which one it is.
    if W_enc.shape[0] == latents and W_enc.shape[1] != latents:
        W_enc = W_enc.T
    if W_dec.shape[1] == latents and W_dec.shape[0] == width != latents:
        W_dec = W_dec.T
    skip = file.optional("W_skip")
    threshold = file.optional("threshold")
    if threshold is None:
        threshold = file.optional("activation_function.threshold")
    return Dictionary(
        label=file.label,
        hook=hook,
        function="relu" if threshold is None else "jumprelu",
        W_enc=W_enc,
        b_enc=b_enc,
        W_dec=W_dec,
        b_dec=b_dec,
        threshold=None if threshold is None else places.one_each(threshold, latents),
        skip=None if skip is None or not torch.any(skip) else skip.T,
        first_zero=True,
        target=places.where(file, writes, None, hook.layer),
        model=declared.get("model_name"),
    )
