"""Finds templates and static files, in a checkout and in a wheel, and versions them."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import indexer.store

STYLES = (
    "base/theme",
    "base/style",
    "base/page",
    "base/header",
    "base/help",
    "base/frame",
    "base/tables",
    "base/colours",
    "base/forms",
    "neurons/neuron",
    "neurons/summary",
    "neurons/bar",
    "neurons/charts",
    "examples/examples",
    "models/layer",
    "models/gallery",
    "search/numbers",
    "live/live",
    "notes/notes",
    "search/search",
    "contexts/context",
    "live/behaviour",
    "live/ablation",
    "compare/compare",
    "lists/list",
    "heads/heads",
)
"""The files that make up the style sheet, in order."""
STYLE_SHEET = "site.css"
_APP = Path(__file__).parent.parent
_STORE = Path(indexer.store.__file__).parent


def folder(name: str) -> Path:
    """The folder `templates` or `static`: inside the installed package, or beside it."""
    inside = _APP / name
    return inside if inside.is_dir() else _APP.parent / name


@cache
def style_sheet() -> bytes:
    """All styles in one sheet, because browsers paint nothing before the last sheet arrives."""
    return b"\n".join((folder("static") / f"{name}.css").read_bytes() for name in STYLES)


@cache
def version_of(name: str) -> str:
    """A short hash of a static file's content."""
    content = style_sheet() if name == STYLE_SHEET else (folder("static") / name).read_bytes()
    return hashlib.blake2b(content, digest_size=6).hexdigest()


def site_version() -> str:
    """A hash of all that shapes a page besides its data: the code that reads and renders it, the
    templates and the static files. It is part of every ETag."""
    content = hashlib.blake2b(digest_size=8)
    for root, pattern in (
        (_APP, "**/*.py"),
        (_STORE, "**/*.py"),
        (folder("templates"), "**/*"),
        (folder("static"), "**/*"),
    ):
        for path in sorted(path for path in root.glob(pattern) if path.is_file()):
            content.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return content.hexdigest()
