"""What the name of a dictionary can mean, by its form alone: nothing is read."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from indexer.demo import bundled, bundled_name
from indexer.errors import NeurariumError
from indexer.paths import absolute

WEIGHTS = (".safetensors", ".npz", ".pt")
"""Endings of the files that hold dictionaries."""
_HUB = re.compile(r"([\w.-]+/[\w.-]+)(?::(.+))?")


def local_path(reference: str) -> Path | None:
    """The file or folder on this machine that a reference names; None for what can only be a
    repository of the hub. Raises NeurariumError for what can be neither."""
    if (own := bundled(reference)) is not None:
        return own
    path = Path(reference).expanduser()
    with contextlib.suppress(OSError):  # a name longer than any file's
        if path.exists():
            return path
    repository_of(reference)
    return None


def repository_of(reference: str) -> tuple[str, str | None]:
    """A repository of the hub and a subfolder or file in it. Raises NeurariumError."""
    match = _HUB.fullmatch(reference)
    if match is None or (reference.endswith(WEIGHTS) and ":" not in reference):
        raise NeurariumError(
            f"There is no file or folder {reference!r:.200}, and it is no hub repository such as "
            "owner/name or owner/name:subfolder (--dictionary)."
        )
    return match[1], match[2]


def split(references: str) -> list[str]:
    """References that are separated by commas."""
    return [part for part in map(str.strip, references.split(",")) if part]


def lasting(references: str) -> str:
    """References that find the same dictionaries from any folder: names for what is bundled, and
    absolute paths for what is on this machine. Raises NeurariumError for what is nowhere."""
    file = []
    for part in split(references):
        path = local_path(part)
        file.append(part if path is None else bundled_name(path) or str(absolute(path)))
    return ",".join(file)


def moved(references: str) -> str | None:
    """The first of a run's references that was on this machine and is not any more, or None."""
    gone = (
        part
        for part in split(references)
        if Path(part).is_absolute() and not Path(part).exists() and bundled(part) is None
    )
    return next(gone, None)
