"""Whether a dictionary's file names another model than the one that is indexed: files name models
by hub id, by TransformerLens's alias, or by the last part of either."""

from __future__ import annotations

import json
import re
from pathlib import Path

from transformer_lens.supported_models import MODEL_ALIASES
from transformer_lens.tools.model_registry.api import get_supported_models

_FAMILY = re.compile(r"(?:GPT)?(.*?)(?:Text)?(?:For[A-Z].*|LMHead.*|Model)")


def why_another(named: str, label: str, architecture: str) -> str | None:
    """Why the model `named` is certainly another than that of `label`, the end of a sentence; None
    if it may be the same.

    A folder's or a file's name says nothing. What its configuration says counts: its architecture,
    and the model it was saved from, if TransformerLens knows both.
    """
    if Path(named).expanduser().exists():
        return None
    if not Path(label).exists():
        return None if _names(named) & _names(label) else f"the model is {label!r}"
    known = _architectures(named)
    if known and _family(architecture) not in map(_family, known):
        return f"{label!r} is no {' or '.join(sorted(known))}, it is a {architecture}"
    saved = saved_from(Path(label))
    if saved is None or not known or not _architectures(saved):
        return None
    may_be = _names(saved) | {_short(str(Path(label).resolve()))}
    if _names(named) & may_be:
        return None
    return f"the config.json of {label!r} says that it was saved from {saved!r}"


def saved_from(folder: Path) -> str | None:
    """The hub id of the model that a folder's configuration says it was saved from, if any."""
    try:
        facts = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    name = facts.get("_name_or_path") if isinstance(facts, dict) else None
    return name if isinstance(name, str) and name.count("/") <= 1 and name[:1].isalnum() else None


def _architectures(name: str) -> set[str]:
    """The architectures of the models that TransformerLens knows by this name, of any owner."""
    names = _names(name)
    return {one.architecture_id for one in get_supported_models() if _short(one.model_id) in names}


def _family(architecture: str) -> str:
    """An architecture without what it is for: the text half of `Gemma3ForConditionalGeneration` is
    a `Gemma3ForCausalLM`, and TransformerLens calls a `GPTNeoXForCausalLM` NeoX."""
    match = _FAMILY.fullmatch(architecture)
    return match[1].lower() if match else architecture


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
