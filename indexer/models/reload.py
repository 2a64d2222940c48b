"""The model of a run that was made earlier, loaded again: the same weights, tokenizer, hook point
and number format, or a refusal. Apart from `load`, which loads whatever it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import transformers

from indexer.errors import NeurariumError
from indexer.models.device import choose_device, choose_dtype
from indexer.models.load import Description, load_model
from indexer.models.loaded import LoadedModel
from indexer.models.source import ModelSource, resolve_model


class Changed(NeurariumError):
    """What is found where the run's model was is not that model any more."""


@dataclass(frozen=True)
class Wanted:
    """A run's model, as far as its provenance tells how to get it again."""

    source: ModelSource
    hook_point: str
    dtype: str
    device: torch.device
    weights_hash: str
    tokenizer: str
    """The tokenizer's identity: equal for tokenizers that give equal ids."""


def wanted(provenance: Mapping[str, Any]) -> Wanted:
    """What a run's provenance says of its model. Raises `NeurariumError` where it cannot be told,
    or names a folder or file that is gone."""
    try:
        model, capture = provenance["model"], provenance["capture"]
        source = resolve_model(model["asked_for"], model["asked_revision"])
        if source.kind in ("hub", "legacy"):
            source = replace(source, commit=model["revision"])
        return Wanted(
            source=source,
            hook_point=capture["hook_point"],
            dtype=capture["dtype"],
            device=_device(capture["device"]),
            weights_hash=model["weights_hash"],
            tokenizer=provenance["tokenizer"]["identity"],
        )
    except (KeyError, TypeError, AttributeError):
        raise NeurariumError(
            "The run's provenance does not say which model to load: index the model again."
        ) from None


def bos_of(model: LoadedModel, provenance: Mapping[str, Any]) -> int | None:
    """What stands in front of the run's contexts: the model's BOS, or nothing. A corpus that came
    as tokens may have left it out; where its contexts differ, most of them decide."""
    corpus = provenance["corpus"]
    leading = corpus.get("contexts_with_bos", corpus["contexts"])
    return model.tokens.bos_token_id if 2 * leading >= corpus["contexts"] else None


def expected_bytes(what: Wanted, description: Description) -> int:
    """The memory its parameters will take, told from the configuration alone; 0 where that does
    not tell it (TransformerLens's old format: small models)."""
    if description.config is None:
        return 0
    dtype = choose_dtype(what.dtype, what.device)
    assert dtype is not None  # a dtype was named
    with torch.device("meta"):  # a model without memory behind it
        model = transformers.AutoModelForCausalLM.from_config(description.config)
    count: int = sum(parameter.numel() for parameter in model.parameters())
    return count * dtype.itemsize


def bytes_of(model: LoadedModel) -> int:
    """The memory a model's parameters and buffers take."""
    held = {
        tensor.data_ptr(): tensor.numel() * tensor.element_size()
        for tensor in (*model.root.parameters(), *model.root.buffers())
    }  # tied weights once
    return sum(held.values())


def memory_of(device: torch.device) -> int | None:
    """All the memory of a CUDA device; None for the CPU, whose memory is the machine's."""
    if device.type != "cuda":
        return None
    return int(torch.cuda.get_device_properties(device).total_memory)


def reload(what: Wanted, description: Description) -> LoadedModel:
    """Load it, as `describe(what.source)` told. Code from a model's repository is never run: the
    store names the model, whoever wrote that.

    Raises `Changed` if the weights or the tokenizer are others than the run's, `NeurariumError`
    if the model cannot be loaded.
    """
    model = load_model(
        description.source,
        hook_point=what.hook_point,
        dtype=what.dtype,
        device=str(what.device),
        description=description,
    )
    for found, meant, name in (
        (model.weights_hash, what.weights_hash, "weights"),
        (model.tokens.identity, what.tokenizer, "tokenizer"),
    ):
        if found != meant:
            raise Changed(
                f"What is now at {what.source.label!r} has another {name} hash than the model the "
                f"run was made with ({found[-12:]}, not {meant[-12:]}): its activations would not "
                "be those of this page. Put the old model back, or index the new one."
            )
    return model


def _device(name: str) -> torch.device:
    """The CPU for what ran there; what ran on CUDA runs there again, if there is one."""
    return choose_device("cpu" if name == "cpu" else None)
