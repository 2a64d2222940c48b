"""Refuses models by their configuration alone, without a model library: a model that cannot be
indexed, or has too few positions, is refused in under a second.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from indexer.errors import NeurariumError
from indexer.models.sizes import read_json
from indexer.models.source import ModelSource

_POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")
_ENCODERS = ("bert", "roberta", "distilbert", "albert", "electra", "modernbert", "xlm-roberta")


def check_folder(source: ModelSource, ctx_len: int) -> None:
    """Refuse a model in a folder by what its config.json says. Raises `NeurariumError`.

    What the file does not say is checked later, with the model libraries.
    """
    if source.kind != "folder":
        return
    facts = read_json(Path(source.location) / "config.json", source.label)
    config = SimpleNamespace(**{str(name): value for name, value in facts.items()})
    named = facts.get("architectures")
    first = str(named[0]) if isinstance(named, list) and named else str(facts.get("model_type"))
    check_kind(config, first, source.label)
    text = facts.get("text_config")
    inner = SimpleNamespace(**text) if isinstance(text, dict) else config
    check_positions(ctx_len, positions_of(inner), source.label)


def check_positions(ctx_len: int, positions: int | None, label: str) -> None:
    """Refuse contexts longer than the model's positions. Raises `NeurariumError`."""
    if positions is not None and ctx_len > positions:
        raise NeurariumError(
            f"ctx_len is {ctx_len}, but {label!r} has {positions} positions: choose --ctx-len "
            f"{positions} or less."
        )


def positions_of(text: Any) -> int | None:
    """How many positions a configuration of a text model names, or None."""
    for name in _POSITIONS:
        value = getattr(text, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return None


def check_kind(config: Any, named: str, label: str) -> None:
    """Refuse the kinds of model that the configuration alone reveals. Raises `NeurariumError`."""
    if getattr(config, "is_encoder_decoder", False):
        raise not_causal(label, named, "an encoder–decoder model")
    encoder = named.endswith(("ForMaskedLM", "ForPreTraining", "ForTokenClassification"))
    if encoder or str(getattr(config, "model_type", "")) in _ENCODERS:
        raise not_causal(label, named, "an encoder")
    if any(
        getattr(config, part, None) is not None
        for part in ("vision_config", "audio_config", "image_size", "num_mel_bins")
    ):
        raise not_causal(label, named, "a multimodal model")


def not_causal(label: str, named: str, what: str) -> NeurariumError:
    """The error for a model that is no decoder-only text model."""
    return NeurariumError(
        f"{label!r} is {what} ({named}): choose a decoder-only text model with dense MLPs."
    )
