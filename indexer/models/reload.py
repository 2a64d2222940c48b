"""Load the model of an earlier run again: the same weights, tokenizer, hook point and number
format, or an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers

from indexer.errors import NeurariumError
from indexer.models.asked import Asked
from indexer.models.device import choose_device, choose_dtype
from indexer.models.dictionaries.names import lasting, moved
from indexer.models.load import STATE, Description, load_model, state_hash
from indexer.models.loaded import LoadedModel
from indexer.models.source import ModelSource, is_bundled, resolve_model
from indexer.paths import absolute


class Changed(NeurariumError):
    """The model at the run's location has changed since the run."""


@dataclass(frozen=True)
class Wanted:
    """A run's model: where to get it, and how to recognise it."""

    source: ModelSource
    asked: Asked
    """Its set of units."""
    dtype: str
    device: torch.device
    weights_hash: str
    config_hash: str | None
    """None for a run that has stored none."""
    tokenizer: str
    """The tokenizer's identity: equal for tokenizers that give equal ids."""
    units_hash: str | None = None
    """Of everything beside the model that activations depend on: its dictionaries. None for other
    sets of units."""


def wanted(
    provenance: Mapping[str, Any],
    model_path: Path | None = None,
    dictionary_path: str | None = None,
) -> Wanted:
    """The model named by a run's provenance, or the one that is now at `model_path`; its
    dictionaries likewise, at `dictionary_path` (several are separated by commas).

    Raises `NeurariumError` if the provenance is incomplete or names a folder or file that no longer
    exists.
    """
    try:
        model, capture = provenance["model"], provenance["capture"]
        source = _source(model, model_path)
        if source.kind in ("hub", "legacy"):
            source = replace(source, commit=model["revision"])
        return Wanted(
            source=source,
            asked=_asked(Asked.of(capture), dictionary_path),
            dtype=capture["dtype"],
            device=_device(capture["device"]),
            weights_hash=model["weights_hash"],
            config_hash=model.get("config_hash"),
            tokenizer=provenance["tokenizer"]["identity"],
            units_hash=provenance.get("dictionary", {}).get("hash"),
        )
    except (KeyError, TypeError, AttributeError):
        raise NeurariumError(
            "The run's provenance does not say which model to load: index the model again."
        ) from None


def _source(model: Mapping[str, Any], model_path: Path | None) -> ModelSource:
    """Where a run's model is. What was on this machine is never looked for on the hub."""
    asked: str = model["asked_for"]
    if model_path is not None:
        return resolve_model(str(absolute(model_path)))
    if model.get("in_memory"):
        raise NeurariumError(
            f"The model {asked!r} was in memory when it was indexed: save it and its tokenizer "
            "with save_pretrained and, to verify the run, name the folder with --model-path."
        )
    was_here = model["revision"] is None and not is_bundled(asked)  # hub models have a commit
    if was_here and not Path(asked).expanduser().exists():
        what = "file" if asked.lower().endswith(".gguf") else "folder"
        raise NeurariumError(
            f"The {what} {asked!r} with the model is not here (moved?): put it back, or name its "
            "new place with --model-path."
        )
    return resolve_model(asked, model["asked_revision"])


def _asked(asked: Asked, dictionary_path: str | None) -> Asked:
    """A run's set of units, with its dictionaries where they are now."""
    if asked.dictionary is None:
        return asked
    if dictionary_path is not None:
        return replace(asked, dictionary=lasting(dictionary_path))
    if (gone := moved(asked.dictionary)) is not None:
        raise NeurariumError(
            f"The dictionary {gone!r} is not here (moved?): put it back, or name its new place "
            "with --dictionary-path."
        )
    return asked


def bos_of(model: LoadedModel, provenance: Mapping[str, Any]) -> int | None:
    """The BOS in front of the run's contexts, or None. A pre-tokenised corpus may lack it; where
    its contexts differ, the majority decides."""
    corpus = provenance["corpus"]
    leading = corpus.get("contexts_with_bos", corpus["contexts"])
    return model.tokens.bos_token_id if 2 * leading >= corpus["contexts"] else None


def expected_bytes(what: Wanted, description: Description) -> int:
    """The memory of the model's parameters in bytes, from the configuration alone; 0 for models in
    TransformerLens's old format, which are small."""
    if description.config is None:
        return 0
    dtype = choose_dtype(what.dtype, what.device)
    assert dtype is not None  # a run names its dtype
    with torch.device("meta"):  # allocates no memory
        model = transformers.AutoModelForCausalLM.from_config(description.config)
    count: int = sum(parameter.numel() for parameter in model.parameters())
    return count * dtype.itemsize


def bytes_of(model: LoadedModel) -> int:
    """The memory of a model's parameters and buffers in bytes."""
    sizes = {
        tensor.data_ptr(): tensor.numel() * tensor.element_size()
        for tensor in (*model.root.parameters(), *model.root.buffers())
    }  # tied weights count once
    return sum(sizes.values())


def memory_of(device: torch.device) -> int | None:
    """The memory of a CUDA device in bytes; None for the CPU, which uses the machine's."""
    if device.type != "cuda":
        return None
    return int(torch.cuda.get_device_properties(device).total_memory)


def reload(what: Wanted, description: Description) -> LoadedModel:
    """Load a run's model; `description` is that of `what.source`.

    Code from a model's repository is never run, since a store's author chose the model's name.
    Raises `Changed` if the weights or the tokenizer differ from the run's, and `NeurariumError` if
    the model cannot be loaded.
    """
    model = load_model(
        description.source,
        asked=what.asked,
        dtype=what.dtype,
        device=str(what.device),
        description=description,
    )
    found = model.weights_hash
    if what.weights_hash.startswith(STATE):
        found = state_hash(model.root)
    for actual, expected, which, name in (
        (found, what.weights_hash, "model", "weights"),
        (model.config_hash, what.config_hash, "model", "configuration"),
        (model.tokens.identity, what.tokenizer, "model", "tokenizer"),
        (model.units.identity, what.units_hash, "dictionary", "tensor"),
    ):
        if expected is not None and actual != expected:
            at = repr(what.asked.dictionary) if which == "dictionary" else repr(what.source.label)
            raise Changed(
                f"The {which} at {at} has another {name} hash than the run's {which} "
                f"({str(actual)[-12:]}, not {expected[-12:]}): its activations would not match "
                f"this page. Restore the old {which}, or index the new one."
            )
    return model


def _device(name: str) -> torch.device:
    """The CPU for a run on the CPU; for a run on CUDA, CUDA if there is a GPU."""
    return choose_device("cpu" if name == "cpu" else None)
