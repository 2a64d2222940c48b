"""Reads what a latent has of its dictionary, and which units of other sets write alike."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

import numpy as np
from sqlalchemy import Row

from app.neurons.schemas import AlignedUnit, DictionaryFacts, DictionaryQuality, NeuronLink
from app.reading.columns import finite
from app.reading.packed import stored_arrays
from app.reading.store import Reading
from app.reading.unit_names import name_at, name_of
from app.reading.vocabulary import text_of
from indexer.store import schema
from indexer.store.units import NEURONS

Array = np.ndarray[Any, Any]

MOST_ALIGNED = 5
"""Units of each other set that are listed."""
Lists = Mapping[int, list[tuple[int, float]]]
"""By an index over all layers of one set: indices of another, with cosines."""


def dictionary_facts(
    reading: Reading, layer: int, arrays: Mapping[str, Array], encoders: list[NeuronLink]
) -> DictionaryFacts | None:
    """What a unit with these small `arrays` has of its dictionary; None for other units."""
    stored: dict[str, Any] | None = reading.run.provenance.get("dictionary")
    if stored is None:
        return None
    measured = next((of for of in stored["quality"] if of["layer"] == layer), None)
    # Runs of an older version say it once for all layers.
    own = next((of for of in stored.get("layers", ()) if of["layer"] == layer), stored)
    threshold = arrays["threshold"].tolist()
    file, on_hub = _file_of(reading, layer, stored["files"])
    return DictionaryFacts(
        file=file,
        on_hub=on_hub,
        hook_point=reading.run.provenance["capture"]["hook_point"],
        name=name_of(arrays["name"]),
        threshold=finite(threshold[0]) if threshold else None,
        activation=own["activation"],
        k=own["k"],
        target=own["target"],
        encoders=encoders,
        quality=None
        if measured is None
        else DictionaryQuality(**{name: measured[name] for name in DictionaryQuality.model_fields}),
    )


def _file_of(reading: Reading, layer: int, labels: list[str]) -> tuple[str, bool]:
    """The repository of a layer's dictionary, or else the name of its file; and whether it is a
    repository. Files of this machine are stored with whole paths, bundled ones by a name without a
    slash."""
    present = [index for index, width in enumerate(reading.run.widths) if width]
    label = labels[present.index(layer)]
    references = str(reading.run.provenance["capture"].get("dictionary") or label).split(",")
    hub = [one for one in references if "/" in one and not PurePath(one).is_absolute()]
    if not hub:
        return label.rpartition("/")[2], False
    named = [one for one in hub if re.split("[:/]", one)[-1] in label.split("/")]
    return (named or hub)[0], True


@dataclass(frozen=True)
class Aligned:
    """Units of another set that write as a unit does, best first."""

    reading: Reading
    """Of the other set."""
    pairs: list[tuple[int, float]]
    """Their indices over all layers, with cosines."""

    @property
    def keys(self) -> list[int]:
        """Their keys in the store."""
        return [schema.neuron_key(self.reading.run.id, index) for index, _ in self.pairs]

    def units(self, rows: Mapping[int, Row[Any]]) -> list[AlignedUnit]:
        """The units, given the rows of `keys`, by key. Raises Damaged."""
        run, vocabulary = self.reading.run, self.reading.vocabulary
        noun = self.reading.units.noun
        units = []
        for key, (index, value) in zip(self.keys, self.pairs, strict=True):
            layer, neuron = self.reading.places.of(index)
            units.append(
                AlignedUnit(
                    set=run.set_name,
                    noun=noun,
                    layer=layer,
                    neuron=neuron,
                    name=name_at(self.reading, layer, neuron),
                    value=value,
                    peak_token=text_of(vocabulary, rows[key].peak_token_id),
                )
            )
        return units


def aligned(reading: Reading, index: int, arrays: Mapping[str, Array]) -> list[Aligned]:
    """The units of the model's other sets that write as the unit with this `index` does: MLP
    neurons for a latent, as far as they are indexed, and for a neuron the latents that list it."""
    sets: list[Aligned] = []
    if reading.run.set_name != NEURONS:
        neurons, cosines = arrays["aligned_neurons"].tolist(), arrays["aligned_values"].tolist()
        for other in reading.sets:
            if other.set_name == NEURONS and other.id != reading.run.id:
                sets.append(_aligned(reading, other, list(zip(neurons, cosines, strict=True))))
        return sets
    for other in reading.sets:
        if other.set_name != NEURONS and "dictionary" in other.provenance:
            sets.append(_aligned(reading, other, _listing(reading, other).get(index, [])))
    return sets


def _aligned(reading: Reading, other: Row[Any], pairs: list[tuple[int, float]]) -> Aligned:
    there = _opened(reading, other)
    return Aligned(there, [pair for pair in pairs if pair[0] < len(there.places)])


def _listing(reading: Reading, other: Row[Any]) -> Lists:
    """The units of another set that list each neuron as aligned, best first; cached in memory."""
    there = _opened(reading, other)

    def compute() -> Lists:
        lists: dict[int, list[tuple[int, float]]] = {}
        for layer, width in enumerate(other.widths):
            if not width:
                continue
            at = there.places.index(layer, 0)
            for first, arrays in stored_arrays(there, layer, ("aligned_neurons", "aligned_values")):
                lengths = arrays["aligned_neurons"].lengths.tolist()
                neurons, cosines = (array.values.tolist() for array in arrays.values())
                for unit, length in enumerate(lengths):
                    pairs = zip(neurons[unit][:length], cosines[unit][:length], strict=True)
                    for neuron, cosine in pairs:
                        lists.setdefault(neuron, []).append((at + first + unit, cosine))
        for pairs_of in lists.values():
            pairs_of.sort(key=lambda pair: (-pair[1], pair[0]))
            del pairs_of[MOST_ALIGNED:]
        return lists

    return reading.derived.of("aligned", other, compute=compute)


def _opened(reading: Reading, other: Row[Any]) -> Reading:
    """The same model's other run, on the same connection."""
    return replace(reading, run=other, others=[])
