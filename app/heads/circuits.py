"""Reads what a head's weights say, and which MLP neurons it names are indexed here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from app.heads.schemas import Circuits, NeuronComposition, NeuronLists, TokenPair
from app.reading.neurons import peak_tokens
from app.reading.store import Reading
from indexer.store.units import NEURONS

_PAIRS = ("promoted", "matched", "matched_previous")


def circuits_of(reading: Reading, stored: dict[str, Any]) -> Circuits:
    """A head's circuits from what its run stored. Runs of older versions lack the later ones.
    Raises Damaged."""
    pairs = {name: _pairs(stored[name], reading.vocabulary) for name in _PAIRS if name in stored}
    return Circuits(**stored | pairs | {"neurons": _neurons(reading, stored.get("neurons"))})


def _pairs(stored: list[list[Any]] | None, vocabulary: list[str]) -> list[TokenPair] | None:
    if stored is None:
        return None
    return [
        TokenPair(
            first=vocabulary[first],
            first_id=first,
            second=vocabulary[second],
            second_id=second,
            value=value,
        )
        for first, second, value in stored
    ]


def _neurons(
    reading: Reading, stored: dict[str, list[dict[str, Any]] | None] | None
) -> NeuronLists | None:
    """The lists with the neurons' peak tokens, where the model's neurons are indexed too."""
    if stored is None:
        return None
    tokens = _peak_tokens(
        reading, [entry for entries in stored.values() for entry in entries or ()]
    )
    return NeuronLists(
        **{
            name: None
            if entries is None
            else [
                NeuronComposition(**entry, peak_token=tokens.get((entry["layer"], entry["neuron"])))
                for entry in entries
            ]
            for name, entries in stored.items()
        }
    )


def _peak_tokens(reading: Reading, entries: list[dict[str, Any]]) -> dict[tuple[int, int], str]:
    """The peak tokens of those neurons that the model's default run of neurons has."""
    run = next((other for other in reading.sets if other.set_name == NEURONS), None)
    if run is None or not entries:
        return {}
    there = replace(reading, run=run, others=[])

    def known() -> Iterator[tuple[tuple[int, int], int]]:
        for entry in entries:
            layer, neuron = entry["layer"], entry["neuron"]
            if layer < len(run.widths) and neuron < run.widths[layer]:
                yield (layer, neuron), there.places.index(layer, neuron)

    indices = dict(known())
    tokens = peak_tokens(there, indices.values()) if indices else {}
    return {at: tokens[index] for at, index in indices.items()}
