"""What the name of a dictionary can mean, by its form alone: nothing is read."""

from __future__ import annotations

import re
from pathlib import Path

from indexer.errors import NeurariumError

WEIGHTS = (".safetensors", ".npz", ".pt")
"""Endings of the files that hold dictionaries."""
_HUB = re.compile(r"([\w.-]+/[\w.-]+)(?::(.+))?")


def local_path(reference: str) -> Path | None:
    """The file or folder on this machine that a reference names; None for what can only be a
    repository of the hub. Raises NeurariumError for what can be neither."""
    path = Path(reference).expanduser()
    if path.exists():
        return path
    repository_of(reference)
    return None


def repository_of(reference: str) -> tuple[str, str | None]:
    """A repository of the hub and a subfolder or file in it. Raises NeurariumError."""
    match = _HUB.fullmatch(reference)
    if match is None or (reference.endswith(WEIGHTS) and ":" not in reference):
        raise NeurariumError(
            f"There is no file or folder {reference!r}, and it is not a hub repository such as "
            "owner/name or owner/name:subfolder (--dictionary)."
        )
    return match[1], match[2]
