"""Whether two names are one model's: files name models by hub id, by TransformerLens's alias, or by
the last part of either."""

from __future__ import annotations

from pathlib import Path

from transformer_lens.supported_models import MODEL_ALIASES


def same_model(one: str, other: str) -> bool:
    """Whether two names may be one model's. A folder's or a file's name says nothing."""
    if Path(one).exists() or Path(other).exists():
        return True
    return bool(_names(one) & _names(other))


def _names(name: str) -> set[str]:
    """A name without its owner, and all others of the same model, in lower case."""
    names = {_short(name)}
    for official, aliases in MODEL_ALIASES.items():
        known = {_short(official), *map(_short, aliases)}
        if _short(name) in known:
            names |= known
    return names


def _short(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1].lower()
