"""Pure: what a reader types to name a place, such as `L3N45`, read as model, layer and neuron.
Apart so that every way of writing one is in one pattern, and none can lead off this server."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

FORMS = (
    "3/45, L3N45, blocks.3.mlp.hook_post 45, layer 3 neuron 45, MODEL/3/45, MODEL/3, MODEL "
    "or the full address of a page"
)
"""The ways of writing a place, for readers."""
LONGEST = 1000
"""Characters of an address; a page's own is far shorter."""

_INDEX = "[0-9]{1,9}"
_MODEL = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
_HOOK_POINT = r"[a-z_]+(?:\.[a-z_]+)+"
_BETWEEN = r"(?:\s*[/.,:]\s*|\s+)"
_N = r"n(?:euron)?\s*"
_PLACE = (
    # blocks.3.mlp.hook_post 45, its neuron after a space or a slash
    rf"blocks\.(?P<block>{_INDEX})\.(?P<hook>{_HOOK_POINT})"
    rf"(?:{_BETWEEN}(?:{_N})?(?P<unit>{_INDEX}))?"
    # 3/45, L3N45, layer 3 neuron 45: a sign, a space or the word keeps the two numbers apart
    rf"|(?:l(?:ayer)?\s*)?(?P<layer>{_INDEX})(?:{_BETWEEN}(?:{_N})?|{_N})(?P<neuron>{_INDEX})"
    rf"|l(?:ayer)?\s*(?P<only>{_INDEX})"
)
_FLAGS = re.IGNORECASE | re.ASCII
_IN_THIS_MODEL = re.compile(_PLACE, _FLAGS)
_IN_A_MODEL = re.compile(
    rf"(?P<model>{_MODEL})(?:/|(?:\s*/\s*|\s+)(?:{_PLACE}|(?P<number>{_INDEX})))?", _FLAGS
)
_PATH = re.compile(
    rf"/(?P<model>{_MODEL})(?:/(?P<layer>{_INDEX})(?:/(?P<neuron>{_INDEX})(?:\.html)?)?)?/?"
)
_URL = re.compile(r"https?://|/", _FLAGS)


@dataclass(frozen=True, slots=True)
class Address:
    """A place in a model; what is None was not said."""

    model: str | None = None
    layer: int | None = None
    neuron: int | None = None
    hook_point: str | None = None
    """Without its block, such as `mlp.hook_post`."""
    run: int | None = None


@dataclass(frozen=True, slots=True)
class NeuronPlace:
    """A neuron; without a run, of its model's default one."""

    model: str
    layer: int
    neuron: int
    run: int | None = None


def parse(text: str) -> Address | None:
    """Read an address; None where it is in none of `FORMS`. Nothing is looked up.

    What can be read as a place in the model at hand is: `3.45` is layer 3, though a model could be
    called so, and is then reached by `3.45/`. Of a URL only path and `run=` count, not the host:
    a server behind a proxy does not know its own name, and no host is in what is built from them.
    """
    text = " ".join(text.split())  # text that was copied can hold other blanks than ours
    if not text or len(text) > LONGEST:
        return None
    if _URL.match(text):
        return _of_url(text)
    found = _IN_THIS_MODEL.fullmatch(text)
    if found is None:
        found = _IN_A_MODEL.fullmatch(text)
    if found is None:
        return None
    said = found.groupdict()
    return Address(
        model=said.get("model"),
        layer=_number(said["block"] or said["layer"] or said["only"] or said.get("number")),
        neuron=_number(said["unit"] or said["neuron"]),
        hook_point=said["hook"].lower() if said["hook"] else None,
    )


def _of_url(text: str) -> Address | None:
    try:
        parts = urlsplit(text)
        query = parse_qs(parts.query)
    except ValueError:  # such as a bracket that is not closed in the host
        return None
    found = _PATH.fullmatch(unquote(parts.path))
    if found is None:
        return None
    run = query.get("run", [""])[-1]
    return Address(
        model=found["model"],
        layer=_number(found["layer"]),
        neuron=_number(found["neuron"]),
        run=_number(run) if re.fullmatch(_INDEX, run) else None,
    )


def _number(digits: str | None) -> int | None:
    return int(digits) if digits is not None else None
