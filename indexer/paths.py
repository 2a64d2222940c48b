"""Paths as they are stored with a run: absolute, and under the names the user gave."""

from __future__ import annotations

from pathlib import Path


def absolute(path: Path) -> Path:
    """The absolute path. Links stay links, since their names and endings are the ones that count;
    only what comes before a `..` is resolved, as the system would."""
    path = path.expanduser().absolute()
    parts = path.parts
    if ".." not in parts:
        return path
    end = len(parts) - parts[::-1].index("..")
    return Path(*parts[:end]).resolve().joinpath(*parts[end:])
