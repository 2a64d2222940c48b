"""The names that units have in the file of their dictionary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from app.reading.packed import stored_arrays
from app.reading.store import Reading

Array = np.ndarray[Any, Any]


def name_in(arrays: Mapping[str, Array]) -> str | None:
    """The name among a unit's small arrays, or None."""
    return bytes(arrays["name"]).rstrip(b"\0").decode("utf-8", "replace") or None


def unit_names(reading: Reading) -> dict[str, int]:
    """Indices over all layers by name, in lower case; of equal names the first. Read once a run and
    kept in memory. Raises Damaged."""
    if not reading.run.provenance.get("dictionary", {}).get("named"):
        return {}
    return reading.derived.of("unit names", reading.run, compute=lambda: _read(reading))


def _read(reading: Reading) -> dict[str, int]:
    names: dict[str, int] = {}
    for layer, width in enumerate(reading.run.widths):
        for unit, arrays in enumerate(stored_arrays(reading, layer) if width else ()):
            if (name := name_in(arrays)) is not None:
                names.setdefault(name.casefold(), reading.places.index(layer, unit))
    return names
