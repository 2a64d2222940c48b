"""Files of weights and the settings beside them, before anyone asks which layout they have."""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors import SafetensorError, safe_open
from torch import Tensor

from indexer.errors import NeurariumError, quoted
from indexer.models.dictionaries.names import WEIGHTS
from indexer.models.json_text import parsed

SETTINGS = ("cfg.json", "config.json", "hyperparams.json", "config.yaml")
_BESIDE = ("sparsity", "log_sparsity", "feature_sparsity", "log_feature_sparsity", "optimizer")
"""Settings files that trainers write next to a dictionary's weights."""
_MATRIX = re.compile(r"w_|affine_|(?:en|de)coder\.weight", re.IGNORECASE)
_VECTOR = re.compile(r"^b_|bias$|^r_mag$", re.IGNORECASE)
"""What tensors are by their names, in all layouts."""


_LONG = 60
"""Characters of a name that an error shows as it is."""


@dataclass(frozen=True)
class WeightsFile:
    """One file of weights."""

    path: Path
    label: str
    """What the file is called in messages."""
    names: str
    """The file with its repository and all folders: some layouts say the layer nowhere else."""
    tensors: Mapping[str, Tensor]
    settings: Mapping[str, Any]
    """Of the files of settings beside it; empty if there are none."""
    kind: str
    """The name of the file of settings, or an empty string."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The metadata in the header of a safetensors file."""

    def tensor(self, name: str) -> Tensor:
        """A tensor in float32. Raises `NeurariumError` if the file has no tensor of this name,
        or if its type, shape or values cannot be those of weights."""
        if name not in self.tensors:
            raise self.wrong(f"has no tensor {quoted(name)}: it has {few(self.tensors)}")
        tensor = self.tensors[name]
        if not tensor.is_floating_point():
            raise self.wrong(
                f"has {quoted(name)} as {tensor.dtype}, and weights are floating point"
            )
        if tensor.ndim < (2 if _MATRIX.match(name) else 1 if _VECTOR.search(name) else 0):
            what = "a matrix" if _MATRIX.match(name) else "a list of numbers"
            raise self.wrong(f"has {name} of shape {tuple(tensor.shape)}, and it is {what}")
        tensor = tensor.float()
        if not bool(torch.isfinite(tensor).all()):
            raise self.wrong(
                f"has values in {quoted(name)} that are not finite: get the file again"
            )
        return tensor

    def optional(self, name: str) -> Tensor | None:
        """As `tensor`; None if the file has no tensor of this name. Raises `NeurariumError`."""
        return self.tensor(name) if name in self.tensors else None

    def wrong(self, what: str) -> NeurariumError:
        """The error that this file is no dictionary that can be used."""
        return NeurariumError(f"The dictionary {self.label} {what}.")


def few(names: Iterable[str]) -> str:
    """The first of some names, in order, as an error lists them."""
    ordered = sorted(names)
    shown = [
        name if len(name) <= _LONG and name.isprintable() else quoted(name) for name in ordered[:8]
    ]
    return ", ".join(shown + ["…"] * (len(ordered) > len(shown)))


def weight_files(path: Path) -> list[Path]:
    """The files of weights at a path, in order of name.

    Raises `NeurariumError` if there are none.
    """
    if path.is_file():
        if path.suffix not in WEIGHTS:
            raise NeurariumError(
                f"The dictionary {path} is not a file of weights: name one of "
                f"{', '.join(WEIGHTS)}, or its folder (--dictionary)."
            )
        return [path]
    file = sorted(
        file
        for file in path.rglob("*")
        if file.suffix in WEIGHTS and file.is_file() and not file.stem.startswith(_BESIDE)
    )
    if not file:
        raise NeurariumError(
            f"The folder {path} has no dictionary: no file of it ends with {', '.join(WEIGHTS)} "
            "(--dictionary)."
        )
    return file


def read_file(path: Path, names: str) -> WeightsFile:
    """Read a file of weights and the settings beside it. Raises `NeurariumError`."""
    label = "/".join(names.split("/")[-3:])
    settings, kind = _settings(path, label)
    metadata: dict[str, str] = {}
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as opened:
                metadata = dict(opened.metadata() or {})
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        elif path.suffix == ".npz":
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        else:
            tensors = _of_pickle(path, label)
    except (SafetensorError, OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile) as error:
        # What numpy says of a file that is no archive proposes to run the code in it.
        why = "it is no archive of arrays" if path.suffix == ".npz" else _first_line(error)
        raise NeurariumError(
            f"The dictionary {label} cannot be read ({why}): get the file again, or "
            "name another (--dictionary)."
        ) from error
    return WeightsFile(path, label, names, tensors, settings, kind, metadata)


def _of_pickle(path: Path, label: str) -> dict[str, Tensor]:
    """The tensors of a PyTorch file, without running any code in it."""
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, KeyError, struct.error) as error:
        raise NeurariumError(
            f"The dictionary {label} is a pickle with more than tensors in it, or damaged: code in "
            "it could do anything, so it is not opened. Convert it to safetensors."
        ) from error
    nested = loaded.get("state_dict") if isinstance(loaded, dict) else None
    loaded = nested if isinstance(nested, dict) else loaded
    if not isinstance(loaded, dict):
        raise NeurariumError(f"The dictionary {label} has no named tensors: name another file.")
    return {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}


def _settings(path: Path, label: str) -> tuple[dict[str, Any], str]:
    """The settings in the file's folder, or in the one above where that is the checkpoints'."""
    folders = [path.parent, *([path.parent.parent] if path.parent.name == "checkpoints" else [])]
    for folder in folders:
        for name in SETTINGS:
            file = folder / name
            if not file.is_file():
                continue
            try:
                text = file.read_text(encoding="utf-8")
                loaded = _yaml(text) if name.endswith("yaml") else parsed(text)
            except (OSError, ValueError, yaml.YAMLError) as error:
                raise NeurariumError(
                    f"{name} beside the dictionary {label} cannot be read ({_first_line(error)}): "
                    "get the file again."
                ) from error
            if not isinstance(loaded, dict):
                raise NeurariumError(
                    f"{name} beside the dictionary {label} has no settings: get the file again."
                )
            return loaded, name
    return {}, ""


def _yaml(text: str) -> Any:
    """The value that YAML gives. Raises ValueError or YAMLError."""
    try:
        return yaml.safe_load(text)
    except RecursionError:
        raise ValueError("it has lists or maps inside each other without end") from None


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
