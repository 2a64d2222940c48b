"""Reads the address of a model, layer or neuron as a reader types it, such as `L3N45`.

One pattern holds every form, and no address can lead to another server.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from app.sets import ModelSet
from indexer.store.units import HEADS, SET_NAME

FORMS = (
    "3/45, L3N45, blocks.3.mlp.hook_post 45, layer 3 neuron 45, MODEL/3/45, MODEL/3, MODEL, "
    "MODEL/SET/3/45, L3H2 or the full address of a page"
)
"""The forms of an address, for readers."""
LONGEST = 1000
"""The most characters of an address."""

_INDEX = "[0-9]{1,9}"
_SET = rf"(?!l(?:ayer)?\s*[0-9]){SET_NAME.pattern}"
"""The name of a set of units, which does not look like a layer."""
_MODEL = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
_HOOK_POINT = r"[a-z_]+(?:\.[a-z_]+)+"
_BETWEEN = r"(?:\s*[/.,:]\s*|\s+)"
_N = r"n(?:euron)?\s*"
_PLACE = (
    # blocks.3.mlp.hook_post 45, with a space or a slash before the neuron
    rf"blocks\.(?P<block>{_INDEX})\.(?P<hook>{_HOOK_POINT})"
    rf"(?:{_BETWEEN}(?:{_N})?(?P<unit>{_INDEX}))?"
    # 3/45, L3N45, layer 3 neuron 45: a sign, a space or a word separates the numbers
    rf"|(?:l(?:ayer)?\s*)?(?P<layer>{_INDEX})(?:{_BETWEEN}(?:{_N})?|{_N})(?P<neuron>{_INDEX})"
    # L3H2, layer 3 head 2
    rf"|l(?:ayer)?\s*(?P<heads>{_INDEX})(?:{_BETWEEN})?\s*h(?:ead)?\s*(?P<head>{_INDEX})"
    rf"|l(?:ayer)?\s*(?P<only>{_INDEX})"
)
_FLAGS = re.IGNORECASE | re.ASCII
_IN_THIS_MODEL = re.compile(_PLACE, _FLAGS)
_IN_A_MODEL = re.compile(
    rf"(?P<model>{_MODEL})(?:\s*/\s*(?P<set>{_SET}))?"
    rf"(?:/|(?:\s*/\s*|\s+)(?:{_PLACE}|(?P<number>{_INDEX})))?",
    _FLAGS,
)
_PATH = re.compile(
    rf"/(?P<model>{_MODEL})(?:/(?P<set>{SET_NAME.pattern}))?"
    rf"(?:/(?P<layer>{_INDEX})(?:/(?P<neuron>{_INDEX})(?:\.html)?)?)?/?"
)
_URL = re.compile(r"https?://|/", _FLAGS)


@dataclass(frozen=True, slots=True)
class Address:
    """The parts of an address; None: not given."""

    model: str | None = None
    layer: int | None = None
    neuron: int | None = None
    hook_point: str | None = None
    """Without its block, such as `mlp.hook_post`."""
    run: int | None = None
    set: str | None = None
    """The set of units; None: the model's default set."""


@dataclass(frozen=True, slots=True)
class NeuronPlace:
    """A neuron of a run; None: of the model's default run."""

    model: str
    layer: int
    neuron: int
    run: int | None = None
    set: str | None = None
    """The set of units; None: the model's default set."""

    @property
    def name(self) -> ModelSet:
        """The model and the set."""
        return ModelSet(self.model, self.set)


def parse(text: str) -> Address | None:
    """The parts of an address; None if it has none of `FORMS`. Whether they exist is not checked.

    An address within the current model goes first: `3.45` is layer 3, and a model with that name
    is `3.45/`. Of a URL only the path and `run=` count. Its host is ignored, since a server behind
    a proxy does not know its own.
    """
    text = " ".join(text.split())  # copied text can hold other kinds of blanks
    if not text or len(text) > LONGEST:
        return None
    if _URL.match(text):
        return _of_url(text)
    match = _IN_THIS_MODEL.fullmatch(text) or _IN_A_MODEL.fullmatch(text)
    if match is None:
        return None
    parts = match.groupdict()
    if parts["head"] and parts.get("set") and parts["set"].lower() != HEADS:
        return None
    layers = ("block", "layer", "heads", "only", "number")
    return Address(
        model=parts.get("model"),
        set=HEADS if parts["head"] else parts["set"].lower() if parts.get("set") else None,
        layer=_number(next((parts[name] for name in layers if parts.get(name)), None)),
        neuron=_number(parts["unit"] or parts["neuron"] or parts["head"]),
        hook_point=parts["hook"].lower() if parts["hook"] else None,
    )


def _of_url(text: str) -> Address | None:
    try:
        parts = urlsplit(text)
        query = parse_qs(parts.query)
    except ValueError:  # such as an unclosed bracket in the host
        return None
    match = _PATH.fullmatch(unquote(parts.path))
    if match is None:
        return None
    run = query.get("run", [""])[-1]
    return Address(
        model=match["model"],
        set=match["set"],
        layer=_number(match["layer"]),
        neuron=_number(match["neuron"]),
        run=_number(run) if re.fullmatch(_INDEX, run) else None,
    )


def _number(digits: str | None) -> int | None:
    return int(digits) if digits is not None else None
