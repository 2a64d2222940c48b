"""Reads and writes a list of neurons as text: `demo/1/10,1/11,0/3`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from app.drawing.quoting import quoted
from app.errors import AppError, Invalid
from app.sets import ModelSet
from app.web import address
from app.web.address import NeuronPlace

LIMIT = 150
"""The most neurons of a list."""
LONGEST_TITLE = 100


@dataclass(frozen=True, slots=True)
class Entry:
    """A neuron of a list, as its text names it."""

    text: str
    """With its model, so that it can be anywhere in a list."""
    place: NeuronPlace | None
    hook_points: tuple[str, ...]
    """The hook points named since the last model, without blocks: see `runs.at_hook_points`."""
    wrong: str
    """Why there is no place; else empty."""


def entries(n: str, only_model: Callable[[str], str] | None = None) -> list[Entry]:
    """The neurons of a list in order, without repetitions. Raises Invalid if there are too many.

    A neuron without a model has the model and run of the previous neuron. At the start of the list
    its model is `only_model(text)`, which can raise an AppError.
    """
    unique: dict[object, Entry] = {}
    before: NeuronPlace | None = None
    hook_points: tuple[str, ...] = ()
    for text in filter(None, (part.strip() for part in n.split(","))):
        entry = _entry(text, before, hook_points, only_model)
        if entry.place is not None:
            before, hook_points = entry.place, entry.hook_points
        unique.setdefault((entry.place, entry.hook_points) if entry.place else text, entry)
    if len(unique) > LIMIT:
        raise Invalid(
            f"A list has {LIMIT} neurons at most, and this one has {len(unique)}: split it in two."
        )
    return list(unique.values())


def _entry(
    text: str,
    before: NeuronPlace | None,
    hook_points: tuple[str, ...],
    only_model: Callable[[str], str] | None,
) -> Entry:
    parsed = address.parse(text)
    if parsed is None or parsed.layer is None or parsed.neuron is None:
        why = f"“{quoted(text)}” is not a neuron. Try MODEL/3/45, or the address of a page."
        return Entry(text, None, (), why)
    if parsed.model is not None:
        name, run, hook_points = ModelSet(parsed.model, parsed.set), parsed.run, ()
    elif before is not None:
        name, run = before.name, before.run
    elif only_model is not None:
        try:
            name, run = ModelSet(only_model(text)), None
        except AppError as error:
            return Entry(text, None, (), error.detail)
    else:
        why = f"“{quoted(text)}” has no model: put a model's name first."
        return Entry(text, None, (), why)
    place = NeuronPlace(name.model, parsed.layer, parsed.neuron, run, name.set)
    if parsed.hook_point is not None:
        hook_points = *hook_points, parsed.hook_point
    if hook_points:
        full = f"{name} blocks.{parsed.layer}.{hook_points[-1]} {parsed.neuron}"
        return Entry(full, place, hook_points, "")
    return Entry(full_text(place), place, (), "")


def full_text(place: NeuronPlace) -> str:
    """A neuron with its model and run, so that it can be anywhere in a list."""
    path = f"{place.name}/{place.layer}/{place.neuron}"
    return path if place.run is None else f"/{path}?run={place.run}"


def spelled(texts: Sequence[str]) -> str:
    """A list in short, given full texts: models are named only where they change."""
    return _joined([_spelling(text) for text in texts])


def without_each(texts: Sequence[str]) -> list[str]:
    """The list in short without its first entry, without its second, and so on."""
    spellings = [_spelling(text) for text in texts]
    return [_joined([*spellings[:i], *spellings[i + 1 :]]) for i in range(len(spellings))]


class _Spelling(NamedTuple):
    """The two ways to write an entry."""

    full: str
    home: tuple[str | None, str | None, int | None, str | None] | None
    """The model, set, run and hook point that later entries can leave out; None: unknown."""
    short: str
    """The text after an entry with the same home."""


def _spelling(text: str) -> _Spelling:
    parsed = address.parse(text)
    if parsed is None or parsed.model is None or parsed.layer is None or parsed.neuron is None:
        return _Spelling(text, None, text)
    # Only an entry that does not exist still names a hook point: it stays as it is.
    short = text if parsed.hook_point else f"{parsed.layer}/{parsed.neuron}"
    return _Spelling(text, (parsed.model, parsed.set, parsed.run, parsed.hook_point), short)


def _joined(spellings: Sequence[_Spelling]) -> str:
    home = None
    texts = []
    for entry in spellings:
        texts.append(entry.short if entry.home is not None and entry.home == home else entry.full)
        home = entry.home or home
    return ",".join(texts)
