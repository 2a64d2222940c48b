"""Provenance as visitors see it: a path of the machine that indexed is cut to its last part. The
store keeps whole paths, by which runs are resumed and verified."""

from __future__ import annotations

from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import Any

from app.schemas import Run


def without_folders(run: Run) -> Run:
    """A run whose provenance names no folder of the machine it was indexed on."""
    return run.model_copy(update={"provenance": _cut(run.provenance)})


def _cut(value: Any) -> Any:
    if isinstance(value, dict):
        # Sources are names of the corpus's own, which every page shows.
        return {key: item if key == "sources" else _cut(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_cut(item) for item in value]
    if isinstance(value, str):  # dictionaries are several paths, separated by commas
        return ",".join(map(_last, value.split(",")))
    return value


def _last(text: str) -> str:
    """`…/corpus.jsonl` for an absolute path or one in a home folder, else the text itself."""
    kinds: tuple[type[PurePath], ...] = (PurePosixPath, PureWindowsPath)
    for kind in kinds:
        path = kind(text.strip())
        if path.name and (path.is_absolute() or path.parts[0] == "~"):
            return f"…/{path.name}"
    return text
