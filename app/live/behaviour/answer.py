"""The answer to a search by custom text: what the model does on it, with what the store has of the
neurons."""

from __future__ import annotations

from typing import Any

import numpy as np

from app.live.behaviour.firing import OF_ONE, Firing, Ground, contrast, fire
from app.live.behaviour.ground import ground
from app.live.behaviour.schemas import (
    BehaviourAnswer,
    BehaviourText,
    Contrast,
    ContrastedNeuron,
    FiringNeuron,
    TextPeak,
)
from app.live.text import OpenText, note_of
from app.reading.neurons import peak_tokens
from app.reading.store import Reading
from app.schemas import Sample

Columns = dict[str, np.ndarray[Any, Any]]


def answer(texts: list[OpenText], reading: Reading, asked: BehaviourText) -> BehaviourAnswer:
    """The neurons of one text, or of the first of two with what tells them apart.

    Raises Gone where the run is deleted meanwhile.
    """
    run, (text, *others) = reading.run, texts
    length = len(text.token_ids) - text.first

    def of_layer(layer: int) -> Ground:
        return ground(reading, layer, asked.by)

    ways: list[Columns] = []
    if others:
        (other,) = others
        layers = (text.each_layer, other.each_layer)
        found, *ways = contrast(*layers, of_layer, length, asked.k)
    else:
        found = fire(text.each_layer, of_layer, length, asked.k)
    tokens = _PeakTokens(reading, [found.top, *ways])
    return BehaviourAnswer(
        model=run.model,
        run=run.id,
        dtype=run.dtype,
        hook_point=run.hook_point,
        by=asked.by,
        k=asked.k,
        sample=Sample(contexts=run.sample_contexts, positions=run.sample_positions),
        n_neurons=sum(run.widths),
        compared=found.compared,
        tokens=text.tokens,
        token_ids=text.token_ids,
        included_from=text.first,
        neurons=_neurons(found, text, tokens),
        shares=_shown(found, text, found.shares),
        strongest=_shown(found, text, found.strongest),
        contrast=_contrast(text, others[0], ways, tokens) if others else None,
        note=note_of(run.dtype),
    )


class _PeakTokens:
    """The token that each of the answer's neurons peaks on."""

    def __init__(self, reading: Reading, found: list[Columns]) -> None:
        self._places = reading.places
        places = [
            place
            for columns in found
            for place in zip(columns["layer"].tolist(), columns["neuron"].tolist(), strict=True)
        ]
        indices = (reading.places.index(layer, neuron) for layer, neuron in places)
        self._tokens = peak_tokens(reading, indices)

    def __call__(self, layer: int, neuron: int) -> str:
        return self._tokens[self._places.index(layer, neuron)]


def _neurons(found: Firing, text: OpenText, tokens: _PeakTokens) -> list[list[FiringNeuron]]:
    lists: list[list[FiringNeuron]] = [[] for _ in text.token_ids]
    names = ("row", "layer", "neuron", "activation", "value", "tie")
    columns = [found.top[name].tolist() for name in names]
    for row, layer, neuron, activation, share, of_maximum in zip(*columns, strict=True):
        lists[text.first + row].append(
            FiringNeuron(
                layer=layer,
                neuron=neuron,
                activation=activation,
                share=share,
                of_maximum=of_maximum,
                peak_token=tokens(layer, neuron),
            )
        )
    return lists


def _shown(found: Firing, text: OpenText, values: np.ndarray[Any, Any]) -> list[list[Any]]:
    """A row a layer, a value a token; None where nothing fires, or is not included."""
    fires = found.shares > 0
    return [
        [*[None] * text.first, *(one if here else None for one, here in zip(*row, strict=True))]
        for row in zip(values.tolist(), fires.tolist(), strict=True)
    ]


def _contrast(
    text: OpenText, other: OpenText, ways: list[Columns], tokens: _PeakTokens
) -> Contrast:
    more, less = ([*_contrasted(columns, text, other, tokens)] for columns in ways)
    return Contrast(
        tokens=other.tokens,
        token_ids=other.token_ids,
        included_from=other.first,
        more=more,
        less=less,
    )


def _contrasted(
    columns: Columns, text: OpenText, other: OpenText, tokens: _PeakTokens
) -> list[ContrastedNeuron]:
    def peaks(side: str, first: int) -> list[TextPeak]:
        values = (columns[f"{name} {side}"].tolist() for name in OF_ONE)
        return [
            TextPeak(activation=activation, share=share, position=first + int(position))
            for activation, share, position in zip(*values, strict=True)
        ]

    sides = (peaks("a", text.first), peaks("b", other.first))
    places = (columns[name].tolist() for name in ("layer", "neuron", "value"))
    return [
        ContrastedNeuron(
            layer=layer,
            neuron=neuron,
            difference=difference,
            text=one,
            against=another,
            peak_token=tokens(layer, neuron),
        )
        for layer, neuron, difference, one, another in zip(*places, *sides, strict=True)
    ]
