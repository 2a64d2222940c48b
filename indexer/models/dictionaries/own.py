"""Our own layout: a safetensors file of `W_enc`, `b_enc`, `W_dec`, `b_dec`, `threshold`, described
in its metadata. Probes, steering vectors, PCA bases and word lists come in this way too."""

from __future__ import annotations

import json

import torch

from indexer.models.dictionaries import places
from indexer.models.dictionaries.dictionary import COUNTED, NORMS, Dictionary, Function, Norm
from indexer.models.dictionaries.files import Found

_TENSORS = frozenset({"W_enc", "b_enc", "W_dec", "b_dec", "threshold"})
_KEYS = frozenset(
    "activation apply_b_dec_to_input format hook_point hook_point_out k l0 layer model name names "
    "normalize_activations noun prepend_bos".split()
)


def is_own(found: Found) -> bool:
    """Whether a file is of our layout: safetensors without a file of settings."""
    return (
        found.path.suffix == ".safetensors"
        and "W_enc" in found.tensors
        and (not found.kind or "hook_point" in found.metadata or "activation" in found.metadata)
    )


def read_own(found: Found, asked: str | None) -> Dictionary:
    """Read a file of our layout. Raises `NeurariumError`."""
    said = found.metadata
    if extra := sorted(set(found.tensors) - _TENSORS):
        raise found.wrong(f"has tensors that mean nothing here: {', '.join(extra)}")
    if extra := sorted(set(said) - _KEYS):
        raise found.wrong(
            f"has metadata that means nothing here: {', '.join(extra)}; known are "
            f"{', '.join(sorted(_KEYS))}"
        )
    W_enc = found.tensor("W_enc")
    latents = W_enc.shape[-1]
    W_dec, threshold = found.optional("W_dec"), found.optional("threshold")
    function = _function(found, W_dec is not None, threshold is not None)
    layer = _number(found, "layer") if "layer" in said else None
    hook = places.where(found, said.get("hook_point"), asked, layer)
    target = None
    if "hook_point_out" in said:
        target = places.where(found, said["hook_point_out"], None, hook.layer)
    b_dec = found.optional("b_dec")
    subtracted = _flag(found, "apply_b_dec_to_input", target is None)
    b_enc = found.optional("b_enc")
    return Dictionary(
        label=found.label,
        hook=hook,
        function=function,
        W_enc=W_enc,
        b_enc=torch.zeros(latents) if b_enc is None else b_enc,
        W_dec=W_dec,
        b_dec=b_dec if W_dec is not None else None,
        b_in=b_dec if subtracted else None,
        threshold=threshold,
        k=_number(found, "k") if function in COUNTED else None,
        norm=_norm(found),
        target=target,
        model=said.get("model"),
        l0=_decimal(found, "l0"),
        names=_names(found, latents),
        name=said.get("name"),
        noun=said.get("noun") or ("direction" if function == "identity" else None),
        prepend_bos=_flag(found, "prepend_bos", True) if "prepend_bos" in said else None,
    )


def _function(found: Found, decodes: bool, has_threshold: bool) -> Function:
    """The activation function: the one named, or the only one the tensors allow."""
    named = found.metadata.get("activation")
    if named is None:
        if has_threshold:
            return "jumprelu"
        if not decodes:
            return "identity"
        raise found.wrong(
            "has a decoder and does not name its activation function: add `activation` to the "
            "file's metadata (relu, jumprelu, topk, groupmax or identity)"
        )
    if named in ("jumprelu", "batchtopk"):
        if not has_threshold:
            raise found.wrong(f"is {named} and has no `threshold`")
        return "jumprelu"
    if has_threshold:
        raise found.wrong(f"is {named} and has a `threshold`: {named} uses none")
    if named == "relu":
        return "relu"
    if named in COUNTED:
        return named
    if named == "identity":
        return "identity"
    raise places.unknown_function(found, named)


def _norm(found: Found) -> Norm:
    named = found.metadata.get("normalize_activations", "none")
    if named not in NORMS:
        raise found.wrong(
            f"is for inputs normalised by {named!r}, which is not known: {', '.join(NORMS)} are"
        )
    return named


def _flag(found: Found, key: str, default: bool) -> bool:
    said = found.metadata.get(key)
    if said is None:
        return default
    if said not in ("true", "false"):
        raise found.wrong(f"has {key} {said!r} in its metadata: write true or false")
    return said == "true"


def _number(found: Found, key: str) -> int:
    said = found.metadata.get(key)
    if said is None or not said.isdecimal():
        raise found.wrong(f"has {key} {said!r} in its metadata, and a whole number is needed")
    return int(said)


def _decimal(found: Found, key: str) -> float | None:
    said = found.metadata.get(key)
    try:
        return None if said is None else float(said)
    except ValueError as error:
        raise found.wrong(f"has {key} {said!r} in its metadata, and a number is needed") from error


def _names(found: Found, latents: int) -> tuple[str, ...]:
    said = found.metadata.get("names")
    if said is None:
        return ()
    try:
        names = json.loads(said)
    except json.JSONDecodeError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise found.wrong("has `names` that are not a JSON list of texts")
    if len(names) != latents:
        raise found.wrong(f"has {len(names)} names for {latents} columns of W_enc")
    return tuple(names)
