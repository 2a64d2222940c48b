"""The names that units have in the file of their dictionary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.reading.packed import stored_arrays
from app.reading.store import Reading

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class UnitNames:
    """The names of a set's units."""

    by_index: Mapping[int, str]
    """By index over all layers; only units with a name."""
    by_name: Mapping[str, int]
    """Indices by name in lower case; of equal names the first."""


NO_NAMES = UnitNames({}, {})


def name_of(packed: Array) -> str | None:
    """The name of a unit, None if it has none. `packed` is its array `name`: UTF-8 bytes [length],
    padded with zeros."""
    return bytes(packed).rstrip(b"\0").decode("utf-8", "replace") or None


def unit_names(reading: Reading) -> UnitNames:
    """All names of the run's units. Read once a run and cached in memory. Raises Damaged."""
    if not has_names(reading):
        return NO_NAMES
    return reading.derived.of("unit names", reading.run, compute=lambda: _read(reading))


def has_names(reading: Reading) -> bool:
    """Whether any unit of the run has a name."""
    return bool(reading.run.provenance.get("dictionary", {}).get("named"))


def name_at(reading: Reading, layer: int, unit: int) -> str | None:
    """The name of a unit, or None. Raises Damaged."""
    return unit_names(reading).by_index.get(reading.places.index(layer, unit))


def _read(reading: Reading) -> UnitNames:
    names: dict[int, str] = {}
    for layer in range(len(reading.run.widths)):
        for first, arrays in stored_arrays(reading, layer, ("name",)):
            packed = arrays["name"]
            for place in np.flatnonzero(packed.lengths).tolist():
                if name := name_of(packed.values[place, : packed.lengths[place]]):
                    names[reading.places.index(layer, first + place)] = name
    indices: dict[str, int] = {}
    for index, name in names.items():
        indices.setdefault(name.casefold(), index)
    return UnitNames(names, indices)
