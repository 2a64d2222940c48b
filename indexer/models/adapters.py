"""Adapters (LoRA and the like) found where a model is looked for: they are refused by name, since
activations would be those of the adapted model and facts from the weights those of the other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from indexer.errors import NeurariumError

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_FILES = (ADAPTER_CONFIG, "adapter_model.safetensors", "adapter_model.bin")
_WEIGHT = re.compile(
    r"(^|\.)(lora_|ia3_l\b|hada_|lokr_|oft_|boft_|vera_|base_layer\.|modules_to_save\.)"
)
"""What peft calls the parts of an adapter that stand among a model's weights."""
_MERGE = "Merge it into the model first (peft: merge_and_unload, then save_pretrained)"


def adapter_in(folder: Path) -> str | None:
    """The name of a file in a folder that belongs to an adapter, or None."""
    return next((name for name in ADAPTER_FILES if (folder / name).exists()), None)


def check_no_adapter(unused: Sequence[str], label: str) -> None:
    """Refuse a checkpoint with an adapter's weights among those that the model does not use: they
    would be left out. Raises `NeurariumError`."""
    _refuse([name for name in unused if _WEIGHT.search(name)], label)


def check_none_inside(unused: Sequence[str], model: Any, label: str) -> None:
    """Refuse a checkpoint that has more of a layer of the model (a torch module) than its weight
    and its bias, under any name: without it the weight would be another. Raises NeurariumError."""
    layers = {
        path
        for path, module in model.named_modules()
        if path and not any(module.children()) and any(True for _ in module.parameters())
    }
    owners = ((name, name.rpartition(".")) for name in unused)
    _refuse(
        [
            name
            for name, (owner, _, last) in owners
            if last not in ("weight", "bias") or owner not in layers
            if any(path in layers for path in _paths_above(name))
        ],
        label,
    )


def _paths_above(name: str) -> Iterator[str]:
    """`a.b` and `a` of `a.b.c`."""
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def _refuse(names: Sequence[str], label: str) -> None:
    if names:
        raise NeurariumError(
            f"The weights of {label!r} hold an adapter, such as LoRA, that is not applied "
            f"({names[0]} and {len(names) - 1:,} more). {_MERGE}, and name the folder of the "
            "result."
        )


def adapter_alone(label: str) -> str:
    """The error message for an adapter without its model."""
    return (
        f"{label!r} is an adapter, such as LoRA, without its model ({ADAPTER_CONFIG}, and no "
        f"config.json). {_MERGE}, and name the folder of the result."
    )


def adapter_beside(label: str, name: str) -> str:
    """The error message for a model with an adapter in the same place."""
    return (
        f"{label!r} holds an adapter beside the model ({name}): which of the two is meant is not "
        f"clear. {_MERGE}, or move the adapter's files to another folder."
    )
