"""Which neurons of a run are exported: all, those of layers, of a query, or of a list."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.errors import Invalid
from app.lists.entries import entries
from app.reading.store import Reading
from app.search.numbers.grammar import GrammarError, parse
from app.search.numbers.queries import matching

Indices = NDArray[np.int64]
"""Indices of neurons over all layers."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a user asked for; without anything, all neurons."""

    layers: str | None = None
    """As `layer:` in a query: 3, 0-2, 0,4-5."""
    query: str | None = None
    """A search by statistics."""
    listed: str | None = None
    """A list of neurons, as lists have it."""

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole run."""
        return self.layers is None and self.query is None and self.listed is None


def chosen(reading: Reading, choice: Choice) -> Indices:
    """The neurons in the order of the query or list. Raises Invalid if a choice cannot be read or
    names what the run does not have, NotFound for a neuron that does not exist."""
    if choice.listed is not None:
        if choice.layers is not None or choice.query is not None:
            raise Invalid("A list names its neurons: leave out layers and query.")
        return np.array(_listed(reading, choice.listed), np.int64)
    if choice.is_whole:
        return np.arange(len(reading.places))
    layers = [] if choice.layers is None else [f"layer:{choice.layers}"]
    text = " ".join([*layers, "sort:neuron" if choice.query is None else choice.query])
    try:
        return matching(reading, parse(text))
    except GrammarError as error:
        raise Invalid(error.detail) from None


def _listed(reading: Reading, listed: str) -> list[int]:
    run = reading.run
    indices = []
    for entry in entries(listed, lambda _: str(run.model)):
        if entry.place is None:
            raise Invalid(entry.wrong)
        place = entry.place
        if place.model != run.model or place.run not in (None, run.id):
            raise Invalid(f"{entry.text} is not in run {run.id} of {run.model}: leave it out.")
        indices.append(reading.index_of(place.layer, place.neuron))
    if not indices:
        raise Invalid("The list names no neuron: write it as 1/10,1/349.")
    return indices


def ranges(indices: Indices) -> list[tuple[int, int]]:
    """The first and last of each run of consecutive indices, in their order."""
    if not len(indices):
        return []
    ends = np.flatnonzero(np.diff(indices) != 1)
    firsts = indices[np.concatenate([[0], ends + 1])]
    lasts = indices[np.concatenate([ends, [len(indices) - 1]])]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))
