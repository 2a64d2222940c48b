"""Adapters (LoRA and the like) found where a model is looked for: they are refused by name, since
activations would be those of the adapted model and facts from the weights those of the other.
"""

from __future__ import annotations

from pathlib import Path

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_FILES = (ADAPTER_CONFIG, "adapter_model.safetensors", "adapter_model.bin")
_MERGE = "Merge it into the model first (peft: merge_and_unload, then save_pretrained)"


def adapter_in(folder: Path) -> str | None:
    """The name of a file in a folder that belongs to an adapter, or None."""
    return next((name for name in ADAPTER_FILES if (folder / name).exists()), None)


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
