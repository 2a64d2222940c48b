"""A dictionary's file read as the indexer reads it, whatever its layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from indexer.errors import NeurariumError

if TYPE_CHECKING:
    from indexer.models.dictionaries.dictionary import Dictionary


def dictionary_of_layer(reference: str, layer: int, hook_point: str | None) -> Dictionary:
    """The dictionary of one layer. Raises NeurariumError."""
    from indexer.models.dictionaries.layouts import read_dictionaries

    found = read_dictionaries(reference, hook_point)
    for dictionary in found:
        if dictionary.hook.layer == layer:
            return dictionary
    layers = ", ".join(str(dictionary.hook.layer) for dictionary in found)
    raise NeurariumError(f"{reference} has no dictionary of layer {layer}: it has {layers}.")
