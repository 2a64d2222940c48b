"""A list of neurons as its address has it, `demo/1/10,1/11,0/3`, read and written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.drawing.quoting import quoted
from app.errors import AppError, Invalid
from app.web import address
from app.web.address import NeuronPlace

LIMIT = 150
"""Neurons of one list."""
LONGEST_TITLE = 100


@dataclass(frozen=True, slots=True)
class Entry:
    """One neuron of a list, as far as its text alone says which."""

    text: str
    """With its model, so that it can stand anywhere in a list."""
    place: NeuronPlace | None
    hook_points: tuple[str, ...]
    """Named in place of a run since a model was, without their blocks: read one after the other,
    each leaves the run as it is or goes on to the newest there, as `runs.at_hook_points` has it."""
    wrong: str
    """Why there is no place; else empty."""


def entries(n: str, only_model: Callable[[str], str] | None = None) -> list[Entry]:
    """The neurons of a list, each once, in its order. Raises Invalid where there are too many.

    What names no model is of that of the neuron before, and of its run; where there is none before,
    of what `only_model` says of its text: the one model there is, or raises an AppError.
    """
    found: dict[object, Entry] = {}
    before: NeuronPlace | None = None
    hook_points: tuple[str, ...] = ()
    for text in filter(None, (part.strip() for part in n.split(","))):
        entry = _entry(text, before, hook_points, only_model)
        if entry.place is not None:
            before, hook_points = entry.place, entry.hook_points
        found.setdefault((entry.place, entry.hook_points) if entry.place else text, entry)
    if len(found) > LIMIT:
        raise Invalid(
            f"A list holds {LIMIT} neurons at most, and this one has {len(found)}: make two of it."
        )
    return list(found.values())


def _entry(
    text: str,
    before: NeuronPlace | None,
    hook_points: tuple[str, ...],
    only_model: Callable[[str], str] | None,
) -> Entry:
    said = address.parse(text)
    if said is None or said.layer is None or said.neuron is None:
        why = f"“{quoted(text)}” names no neuron: write MODEL/3/45, or an address of a page."
        return Entry(text, None, (), why)
    if said.model is not None:
        model, run, hook_points = said.model, said.run, ()
    elif before is not None:
        model, run = before.model, before.run
    elif only_model is not None:
        try:
            model, run = only_model(text), None
        except AppError as error:
            return Entry(text, None, (), error.detail)
    else:
        why = f"“{quoted(text)}” names no model, nor does any before it: put its name first."
        return Entry(text, None, (), why)
    place = NeuronPlace(model, said.layer, said.neuron, run)
    if said.hook_point is not None:
        hook_points = *hook_points, said.hook_point
    if hook_points:
        full = f"{model} blocks.{said.layer}.{hook_points[-1]} {said.neuron}"
        return Entry(full, place, hook_points, "")
    return Entry(full_text(place), place, (), "")


def full_text(place: NeuronPlace) -> str:
    """A neuron as it can stand anywhere in a list."""
    at = f"{place.model}/{place.layer}/{place.neuron}"
    return at if place.run is None else f"/{at}?run={place.run}"


def spelled(texts: Sequence[str]) -> str:
    """Entries' texts as one, in short: a model is named where another one was before."""
    return _joined([_piece(text) for text in texts])


def without_each(texts: Sequence[str]) -> list[str]:
    """The list in short without its first entry, without its second, and so on."""
    pieces = [_piece(text) for text in texts]
    return [_joined([*pieces[:i], *pieces[i + 1 :]]) for i in range(len(pieces))]


_Piece = tuple[str, tuple[str | None, int | None, str | None] | None, str]
"""An entry's text; the model, run and hook point it leaves to what follows; and its text where it
has them."""


def _piece(text: str) -> _Piece:
    said = address.parse(text)
    if said is None or said.model is None or said.layer is None or said.neuron is None:
        return text, None, text
    # What names a hook point is one that was not found: it stands as it is.
    short = text if said.hook_point else f"{said.layer}/{said.neuron}"
    return text, (said.model, said.run, said.hook_point), short


def _joined(pieces: Sequence[_Piece]) -> str:
    before = None
    shown = []
    for text, home, short in pieces:
        shown.append(short if home is not None and home == before else text)
        before = home or before
    return ",".join(shown)
