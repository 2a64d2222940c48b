"""Flat indices of units to their layers and back."""

from __future__ import annotations

import numpy as np
import pytest

from indexer.store.places import Places


def test_every_unit_has_one_place() -> None:
    """Layers of any width, empty ones included, in order and without gaps."""
    widths = (3, 0, 2, 1)
    places = Places(widths)
    pairs = [(layer, unit) for layer, width in enumerate(widths) for unit in range(width)]
    assert [places.of(flat) for flat in range(len(places))] == pairs
    assert [places.layer(layer).start + unit for layer, unit in pairs] == list(range(6))
    assert places.layer(1) == slice(3, 3)
    layers, units = places.of_all(np.arange(len(places)))
    assert list(zip(layers.tolist(), units.tolist(), strict=True)) == pairs


@pytest.mark.parametrize("flat", [-1, 6])
def test_there_is_no_unit_outside(flat: int) -> None:
    """Before the first and after the last unit there is none."""
    with pytest.raises(IndexError):
        Places((3, 3)).of(flat)
