"""Dictionaries that SAELens wrote: `cfg.json` and `sae_weights.safetensors`, before its version 6
with flat keys and other names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from indexer.errors import quoted
from indexer.models.dictionaries import places
from indexer.models.dictionaries.dictionary import Dictionary, Function, Gate, Norm
from indexer.models.dictionaries.files import WeightsFile
from indexer.models.json_text import parsed

_ARCHITECTURES: dict[str, Function] = {
    "standard": "relu",
    "jumprelu": "jumprelu",
    "topk": "topk",
    "batchtopk": "jumprelu",
    "matryoshka_batchtopk": "jumprelu",
    "gated": "gated",
    "transcoder": "relu",
    "skip_transcoder": "relu",
    "jumprelu_transcoder": "jumprelu",
    "jumprelu_skip_transcoder": "jumprelu",
}


def is_sae_lens(file: WeightsFile) -> bool:
    """Whether a file is of SAELens's layout."""
    marks = {"d_sae", "hook_name", "hook_point", "activation_fn_str", "sae_lens_version"}
    return file.kind == "cfg.json" and bool(marks & set(file.settings))


def read_sae_lens(file: WeightsFile, asked: str | None) -> Dictionary:
    """Read a file of SAELens's. Raises `NeurariumError`."""
    declared = _flat(file.settings)
    architecture = places.text(file, declared.get("architecture") or "standard", "architecture")
    if architecture not in _ARCHITECTURES:
        raise places.unknown_function(file, architecture)
    function = _function(file, declared, _ARCHITECTURES[architecture])
    if declared.get("finetuning_scaling_factor"):
        raise file.wrong("has a fine-tuned scaling factor, which is not known here")
    transcoder = "transcoder" in architecture
    out = declared.get("hook_name_out")
    hook = places.where(file, declared.get("hook_name"), asked)
    target = places.where(file, out, None) if transcoder and out else None
    if transcoder and target is None:
        raise file.wrong("is a transcoder and does not say what it approximates (hook_name_out)")
    if declared.get("hook_head_index") is not None:
        raise file.wrong(
            f"reads head {quoted(declared['hook_head_index'])} alone, which is not known here"
        )
    subtracted = bool(declared.get("apply_b_dec_to_input", not transcoder))
    if transcoder and subtracted:
        raise file.wrong("is a transcoder that subtracts b_dec from its input, which none does")
    W_enc, W_dec, b_dec = file.tensor("W_enc"), file.tensor("W_dec"), file.tensor("b_dec")
    gate, b_enc = None, None
    if function == "gated":
        gate = Gate(file.tensor("r_mag").exp(), file.tensor("b_gate"))
        b_enc = file.tensor("b_mag")
    else:
        b_enc = file.tensor("b_enc")
    b_in: Tensor | None = b_dec if subtracted else None
    norm, factor = _norm(file, declared)
    if factor is not None:
        # The scalar multiplies the input, and divides what is decoded.
        W_enc, W_dec = W_enc * factor, W_dec / factor
        b_in, b_dec = (None if b_in is None else b_in / factor), b_dec / factor
    if declared.get("rescale_acts_by_decoder_norm"):
        length = W_dec.norm(dim=-1) * (1 if factor is None else factor)
        W_enc, b_enc, W_dec = W_enc * length, b_enc * length, W_dec / length[:, None]
    skip = file.tensor("W_skip").T if "skip" in architecture else None
    return Dictionary(
        label=file.label,
        hook=hook,
        function=function,
        W_enc=W_enc,
        b_enc=b_enc,
        W_dec=W_dec,
        b_dec=b_dec,
        b_in=b_in,
        threshold=file.tensor("threshold") if function == "jumprelu" else None,
        k=places.number(file, _k(declared), "k") if function == "topk" else None,
        gate=gate,
        norm=norm,
        skip=skip,
        target=target,
        model=declared.get("model_name"),
        prepend_bos=declared.get("prepend_bos"),
    )


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by the names of version 6, those about the model among them."""
    old = {
        "hook_point": "hook_name",
        "hook_point_head_index": "hook_head_index",
        "activation_fn_str": "activation_fn",
    }
    metadata = settings.get("metadata")
    flat = {**settings, **(metadata if isinstance(metadata, Mapping) else {})}
    return {old.get(name, name): value for name, value in flat.items()}


def _function(file: WeightsFile, declared: Mapping[str, Any], function: Function) -> Function:
    """Before version 6, an architecture `standard` may have another activation function."""
    named = declared.get("activation_fn", "relu")
    if function != "relu" or named in ("relu", None):
        return function
    if named in ("topk", "topk-relu"):
        return "topk"
    if named == "identity":
        return "identity"
    raise places.unknown_function(file, named)


def _k(declared: Mapping[str, Any]) -> Any:
    kwargs = declared.get("activation_fn_kwargs")
    beside = kwargs.get("k") if isinstance(kwargs, Mapping) else None
    return declared.get("k", beside)


def _norm(file: WeightsFile, declared: Mapping[str, Any]) -> tuple[Norm, float | None]:
    """What is done to the input, and the scalar that multiplies it where it is beside the file."""
    named = declared.get("normalize_activations")
    if isinstance(named, bool):
        named = "expected_average_only_in" if named else "none"
    if named in (None, "none"):
        return "none", None
    if named == "layer_norm":
        return "layer_norm", None
    if named == "constant_norm_rescale":
        return "constant_norm_rescale", None
    if named == "expected_average_only_in":
        return "none", _scaling_factor(file)
    raise file.wrong(f"is for inputs normalised by {quoted(named)}, which is not known here")


def _scaling_factor(file: WeightsFile) -> float:
    """The scalar that SAELens writes into a file of its own; older versions do not."""
    path = file.path.parent / "activation_scaler.json"
    try:
        factor = places.finite(parsed(path.read_bytes())["scaling_factor"])
    except (OSError, ValueError, KeyError, TypeError):
        factor = None
    if factor is not None and factor > 0:
        return float(torch.tensor(factor))
    raise file.wrong(
        "is for inputs multiplied by one scalar that is not in the file "
        "(normalize_activations: expected_average_only_in): fold it into the weights, with "
        "SAELens's fold_activation_norm_scaling_factor, and save it again"
    )
