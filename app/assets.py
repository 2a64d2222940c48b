"""Where templates and static files are, in a checkout as in a wheel, and what version they are."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

STYLES = (
    "theme",
    "style",
    "frame",
    "tables",
    "colours",
    "neuron",
    "bar",
    "examples",
    "layer",
    "numbers",
    "live",
    "notes",
    "search",
    "behaviour",
    "compare",
)
"""The files of the one style sheet, in their order."""
STYLE_SHEET = "site.css"
_HERE = Path(__file__).parent


def folder(name: str) -> Path:
    """The folder `templates` or `static`: inside the installed package, or beside it."""
    inside = _HERE / name
    return inside if inside.is_dir() else _HERE.parent / name


@cache
def style_sheet() -> bytes:
    """All styles as one: nothing is painted before the last sheet has come, so there is one."""
    return b"\n".join((folder("static") / f"{name}.css").read_bytes() for name in STYLES)


@cache
def version_of(name: str) -> str:
    """A short hash of a static file's content: it changes when the file does."""
    content = style_sheet() if name == STYLE_SHEET else (folder("static") / name).read_bytes()
    return hashlib.blake2b(content, digest_size=6).hexdigest()


def site_version() -> str:
    """One hash over all that shapes a page besides its data: code, templates, static files."""
    files = [*_HERE.glob("*.py"), *folder("templates").rglob("*"), *folder("static").rglob("*")]
    content = hashlib.blake2b(digest_size=8)
    for path in sorted(path for path in files if path.is_file()):
        content.update(path.name.encode() + path.read_bytes())
    return content.hexdigest()
