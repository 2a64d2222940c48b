"""The contexts that the samples of two runs have in common: over them peaks are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64
from sqlalchemy import select

from app.examples.queries import contexts_of
from app.examples.schemas import FEWEST_COMMON
from app.reading.store import Reading
from indexer.store import schema

Array = np.ndarray[Any, Any]
Places = Int64[np.ndarray, " common"]


@dataclass(frozen=True, slots=True)
class Common:
    """The contexts that the samples of runs `a` and `b` have in common."""

    places: tuple[Places, Places] | None
    """Their indices in the `sample_peaks` of `a` and of `b`; None: the samples are the same."""

    def peaks(self, a: Array, b: Array) -> tuple[Array, Array]:
        """The peaks [common] of `a` and of `b` in the common contexts, given their `sample_peaks`
        [sample]. Both are empty if either run has no peaks."""
        if not len(a) or not len(b) or (self.places is None and len(a) != len(b)):
            return a[:0], b[:0]
        if self.places is None:
            return a, b
        return a[self.places[0]], b[self.places[1]]

    def of_a(self, values: Array) -> Array:
        """The values [common] of the common contexts, given those [sample] of the sample of `a`."""
        return values if self.places is None else values[self.places[0]]

    @property
    def fewest(self) -> int:
        """The fewest contexts over which peaks are correlated."""
        return 1 if self.places is None else FEWEST_COMMON

    @property
    def known(self) -> bool:
        """Whether there are enough of them for a correlation."""
        return self.places is None or len(self.places[0]) >= FEWEST_COMMON


def common_contexts(a: Reading, b: Reading) -> Common:
    """The common contexts of two runs, by their tokens. Raises Damaged.

    A context of a sample that is no example of any neuron is not stored, and is left out, unless
    the samples are the same.
    """
    return a.derived.of("common", a.run, b.run, compute=lambda: _common(a, b))


def compared_ids(reading: Reading) -> list[int | None]:
    """The ids of the contexts of `sample_peaks`, None for those that are not stored; empty if the
    run was indexed before they were noted."""
    ids: list[int] = reading.run.provenance.get("sample", {}).get("compared_contexts", [])
    table = schema.contexts
    stored = set(
        reading.connection.scalars(
            select(table.c.context_id).where(
                table.c.run_id == reading.run.id, table.c.context_id.in_(ids)
            )
        )
    )
    return [context_id if context_id in stored else None for context_id in ids]


def _common(a: Reading, b: Reading) -> Common:
    if a.run.sample_identity and a.run.sample_identity == b.run.sample_identity:
        return Common(None)
    places: list[tuple[int, int]] = []
    if a.run.identity == b.run.identity:
        of_a, of_b = _places(a), _places(b)
        places = [(place, of_b[tokens]) for tokens, place in of_a.items() if tokens in of_b]
    in_a, in_b = np.array(places, np.int64).reshape(-1, 2).T
    return Common((in_a, in_b))


def _places(reading: Reading) -> dict[bytes, int]:
    """The place of each compared context among `sample_peaks`, by its included tokens."""
    ids = compared_ids(reading)
    stored = [context_id for context_id in ids if context_id is not None]
    contexts = contexts_of(reading.connection, reading.run, stored)
    return {
        contexts[context_id].token_ids[contexts[context_id].included_from :].tobytes(): place
        for place, context_id in enumerate(ids)
        if context_id is not None
    }
