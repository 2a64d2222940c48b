"""Published families of dictionaries: Gemma Scope, Gemma Scope 2, Llama Scope, Qwen-Scope."""

from __future__ import annotations

import re

import torch

from indexer.models.dictionaries import places
from indexer.models.dictionaries.dictionary import Dictionary, Hook
from indexer.models.dictionaries.files import WeightsFile

_GEMMA = frozenset({"w_enc", "b_enc", "w_dec", "b_dec", "threshold"})
_GEMMA_REPOSITORY = re.compile(r"gemma-scope-(\d+b)-(pt|it)-(res|mlp|att|transcoders)")
_GEMMA_POINTS = {
    "res": "hook_resid_post",
    "resid_post": "hook_resid_post",
    "mlp": "hook_mlp_out",
    "mlp_out": "hook_mlp_out",
    "att": "attn.hook_z",
    "attn_out": "attn.hook_z",
    "transcoders": "mlp.hook_in",
    "transcoder": "mlp.hook_in",
}
_L0 = re.compile(r"(?:average_)?l0_(\d+)", re.IGNORECASE)


def is_gemma_scope(file: WeightsFile) -> bool:
    """Whether a file is of Gemma Scope's layout, first or second."""
    names = {name.lower() for name in file.tensors}
    return names >= _GEMMA and file.path.stem == "params"


def read_gemma_scope(file: WeightsFile, asked: str | None) -> Dictionary:
    """Read `params.npz` or `params.safetensors`. The layer and the place are in the path only.
    Raises `NeurariumError`."""
    named = {name.lower(): name for name in file.tensors}
    W_enc = file.tensor(named["w_enc"])
    if W_enc.ndim != 2:
        raise places.cross_layer(file)
    point, layer = _gemma_point(file), places.layer_in_name(file)
    if "embedding" in file.names.split("/"):
        point = None  # --hook-point hook_embed: neither layer nor place is in the path
    declared = None if point is None else (point if layer is None else f"blocks.{layer}.{point}")
    hook = places.where(file, declared, asked, layer)
    affine = named.get("affine_skip_connection")
    transcoder = point == "mlp.hook_in"
    if affine is not None and not transcoder and declared is not None:
        raise file.wrong("has a skip connection and is no transcoder according to its path")
    l0 = _L0.search(file.names)
    model = file.settings.get("model_name")
    return Dictionary(
        label=file.label,
        hook=hook,
        function="jumprelu",
        W_enc=W_enc,
        b_enc=file.tensor(named["b_enc"]),
        W_dec=file.tensor(named["w_dec"]),
        b_dec=file.tensor(named["b_dec"]),
        threshold=file.tensor(named["threshold"]),
        skip=None if affine is None else file.tensor(affine),
        target=places.beside(hook, "hook_mlp_out") if transcoder else None,
        model=model if model else _gemma_model(file),
        l0=None if l0 is None else float(l0[1]),
    )


def _gemma_point(file: WeightsFile) -> str | None:
    """The hook point in the first family's repository's name, or in the second's folder's."""
    if repository := _GEMMA_REPOSITORY.search(file.names):
        return _GEMMA_POINTS[repository[3]]
    folders = [name.removesuffix("_all") for name in file.names.split("/")[-3:-1]]
    known = [
        name for name in folders if name in ("resid_post", "mlp_out", "attn_out", "transcoder")
    ]
    return _GEMMA_POINTS[known[0]] if known else None


def _gemma_model(file: WeightsFile) -> str | None:
    """The model that a repository such as gemma-scope-2b-pt-res is for."""
    repository = _GEMMA_REPOSITORY.search(file.names)
    if repository is None:
        return None
    return f"gemma-2-{repository[1]}" + ("-it" if repository[2] == "it" else "")


def is_llama_scope(file: WeightsFile) -> bool:
    """Whether a file is of Llama Scope's layout."""
    return file.kind == "hyperparams.json"


def read_llama_scope(file: WeightsFile, asked: str | None) -> Dictionary:
    """Read `checkpoints/final.safetensors` of a folder with `hyperparams.json`. Its inputs are
    scaled by √d ÷ the data set's mean norm, and its threshold by the same. Raises
    `NeurariumError`."""
    declared = file.settings
    function = declared.get("act_fn", "jumprelu")
    if function != "jumprelu":
        raise places.unknown_function(file, function)
    hook = places.where(file, declared.get("hook_point_in"), asked)
    out = str(declared.get("hook_point_out") or hook)
    target = None if out == str(hook) else places.where(file, out, None)
    W_enc = file.tensor("encoder.weight").T
    W_dec = file.tensor("decoder.weight").T
    scales = [
        width**0.5 / _norm_of(file, side)
        for side, width in (("in", W_enc.shape[0]), ("out", W_dec.shape[1]))
    ]
    threshold = places.decimal(file, declared.get("jump_relu_threshold"), "jump_relu_threshold")
    if declared.get("apply_decoder_bias_to_pre_encoder"):
        raise file.wrong("subtracts its decoder's bias from its input, which this family does not")
    return Dictionary(
        label=file.label,
        hook=hook,
        function="jumprelu",
        W_enc=W_enc * scales[0],
        b_enc=file.tensor("encoder.bias"),
        W_dec=W_dec / scales[1],
        b_dec=file.tensor("decoder.bias") / scales[1],
        threshold=torch.full((W_enc.shape[1],), threshold * scales[0]),
        target=target,
        model="Llama-3.1-8B" if "Llama3_1-8B-Base" in file.names else None,
    )


def _norm_of(file: WeightsFile, side: str) -> float:
    norms = file.settings.get("dataset_average_activation_norm")
    norm = places.finite(norms.get(side)) if isinstance(norms, dict) else None
    if norm is not None and norm > 0:
        return norm
    raise file.wrong(
        f"does not give the data set's mean norm ({side}), which its inputs are divided by"
    )


def is_qwen_scope(file: WeightsFile) -> bool:
    """Whether a file is of Qwen-Scope's layout."""
    return file.path.name.endswith(".sae.pt")


def read_qwen_scope(file: WeightsFile, asked: str | None) -> Dictionary:
    """Read `layerN.sae.pt`: a top-k autoencoder of the residual stream, with k in the repository's
    name. Raises `NeurariumError`."""
    k = _L0.search(file.names)
    if k is None:
        raise file.wrong(
            "is a top-k autoencoder whose k is in its repository's name only: keep the folder's "
            "name, such as SAE-Res-Qwen3-8B-Base-W64K-L0_50"
        )
    layer = places.layer_in_name(file)
    declared = None if layer is None else f"blocks.{layer}.hook_resid_post"
    hook: Hook = places.where(file, declared, asked, layer)
    model = re.search(r"SAE-Res-(.+?)-W\d+K", file.names)
    return Dictionary(
        label=file.label,
        hook=hook,
        function="topk",
        W_enc=file.tensor("W_enc").T,
        b_enc=file.tensor("b_enc"),
        W_dec=file.tensor("W_dec").T,
        b_dec=file.tensor("b_dec"),
        k=int(k[1]),
        model=model[1] if model else None,
        l0=float(k[1]),
    )
