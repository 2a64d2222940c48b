"""How many examples a neuron has beside its top and bottom ones."""

from __future__ import annotations

RANDOM_EXAMPLES = 15
BAND_EXAMPLES = 3
"""In each band."""
FIRING_PEAKS = 200
"""Contexts in which a unit of a sparse set fires, of which its peaks are kept."""
SOURCE_EXAMPLES = 3
"""In each source slot."""
SOURCE_SLOTS = 8
"""Sources with a slot of their own; all later ones share one more, "other"."""
