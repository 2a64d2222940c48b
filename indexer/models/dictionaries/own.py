"""Our own layout: a safetensors file of `W_enc`, `b_enc`, `W_dec`, `b_dec`, `threshold`, described
in its metadata. Probes, steering vectors, PCA bases and word lists come in this way too."""

from __future__ import annotations

import math
import re

import torch

from indexer.errors import quoted
from indexer.models.dictionaries import places
from indexer.models.dictionaries.dictionary import COUNTED, NORMS, Dictionary, Function, Norm
from indexer.models.dictionaries.files import WeightsFile, few
from indexer.models.json_text import parsed

_TENSORS = frozenset({"W_enc", "b_enc", "W_dec", "b_dec", "threshold"})
_WHOLE = re.compile("[0-9]{1,9}")
_KEYS = frozenset(
    "activation apply_b_dec_to_input format hook_point hook_point_out k l0 layer model name names "
    "normalize_activations noun prepend_bos".split()
)


def is_own(file: WeightsFile) -> bool:
    """Whether a file is of our layout: safetensors without a file of settings."""
    return (
        file.path.suffix == ".safetensors"
        and "W_enc" in file.tensors
        and (not file.kind or "hook_point" in file.metadata or "activation" in file.metadata)
    )


def read_own(file: WeightsFile, asked: str | None) -> Dictionary:
    """Read a file of our layout. Raises `NeurariumError`."""
    declared = file.metadata
    if extra := sorted(set(file.tensors) - _TENSORS):
        raise file.wrong(f"has tensors that mean nothing here: {few(extra)}")
    if extra := sorted(set(declared) - _KEYS):
        raise file.wrong(
            f"has metadata that means nothing here: {few(extra)}; known are "
            f"{', '.join(sorted(_KEYS))}"
        )
    W_enc = file.tensor("W_enc")
    latents = W_enc.shape[-1]
    W_dec, threshold = file.optional("W_dec"), file.optional("threshold")
    function = _function(file, W_dec is not None, threshold is not None)
    layer = _number(file, "layer") if "layer" in declared else None
    hook = places.where(file, declared.get("hook_point"), asked, layer)
    target = None
    if "hook_point_out" in declared:
        target = places.where(file, declared["hook_point_out"], None, hook.layer)
    b_dec = file.optional("b_dec")
    subtracted = _flag(file, "apply_b_dec_to_input", target is None)
    b_enc = file.optional("b_enc")
    return Dictionary(
        label=file.label,
        hook=hook,
        function=function,
        W_enc=W_enc,
        b_enc=torch.zeros(latents) if b_enc is None else b_enc,
        W_dec=W_dec,
        b_dec=b_dec if W_dec is not None else None,
        b_in=b_dec if subtracted else None,
        threshold=threshold,
        k=_number(file, "k") if function in COUNTED else None,
        norm=_norm(file),
        target=target,
        model=declared.get("model"),
        l0=_decimal(file, "l0"),
        names=_names(file, latents),
        name=declared.get("name"),
        noun=declared.get("noun") or ("direction" if function == "identity" else None),
        prepend_bos=_flag(file, "prepend_bos", True) if "prepend_bos" in declared else None,
    )


def _function(file: WeightsFile, decodes: bool, has_threshold: bool) -> Function:
    """The activation function: the one named, or the only one the tensors allow."""
    named = file.metadata.get("activation")
    if named is None:
        if has_threshold:
            return "jumprelu"
        if not decodes:
            return "identity"
        raise file.wrong(
            "has a decoder and does not name its activation function: add `activation` to the "
            "file's metadata (relu, jumprelu, topk, groupmax or identity)"
        )
    if named in ("jumprelu", "batchtopk"):
        if not has_threshold:
            raise file.wrong(f"is {quoted(named)} and has no `threshold`")
        return "jumprelu"
    if has_threshold:
        raise file.wrong(f"is {quoted(named)} and has a `threshold`, which it does not use")
    if named == "relu":
        return "relu"
    if named in COUNTED:
        return named
    if named == "identity":
        return "identity"
    raise places.unknown_function(file, named)


def _norm(file: WeightsFile) -> Norm:
    named = file.metadata.get("normalize_activations", "none")
    if named not in NORMS:
        raise file.wrong(
            f"is for inputs normalised by {quoted(named)}, which is not known: "
            f"{', '.join(NORMS)} are"
        )
    return named


def _flag(file: WeightsFile, key: str, default: bool) -> bool:
    declared = file.metadata.get(key)
    if declared is None:
        return default
    if declared not in ("true", "false"):
        raise file.wrong(f"has {key} {quoted(declared)} in its metadata: write true or false")
    return declared == "true"


def _number(file: WeightsFile, key: str) -> int:
    declared = file.metadata.get(key)
    if declared is None or not _WHOLE.fullmatch(declared):
        least = "positive whole number" if key == "k" else "whole number from 0 on"
        raise file.wrong(f"has {key} {quoted(declared)} in its metadata, and a {least} is needed")
    return int(declared)


def _decimal(file: WeightsFile, key: str) -> float | None:
    declared = file.metadata.get(key)
    try:
        number = None if declared is None else float(declared)
    except ValueError:
        number = math.nan
    if number is not None and not 0 < number < math.inf:
        raise file.wrong(
            f"has {key} {quoted(declared)} in its metadata, and a number above 0 is needed"
        )
    return number


def _names(file: WeightsFile, latents: int) -> tuple[str, ...]:
    declared = file.metadata.get("names")
    if declared is None:
        return ()
    try:
        names = parsed(declared)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise file.wrong("has `names` that are not a JSON list of texts")
    if len(names) != latents:
        raise file.wrong(f"has {len(names)} names for {latents} columns of W_enc")
    return tuple(names)
