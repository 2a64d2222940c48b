"""Answers a search by custom text, from a forward pass and the store's facts about the neurons."""

from __future__ import annotations

from typing import Any

import numpy as np

from app.live.behaviour.firing import PEAK_COLUMNS, Firing, Reference, contrast, fire
from app.live.behaviour.reference import reference
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
from app.reading.unit_names import unit_names
from app.schemas import Sample

Columns = dict[str, np.ndarray[Any, Any]]


def answer(texts: list[OpenText], reading: Reading, request: BehaviourText) -> BehaviourAnswer:
    """The neurons that fire on a text; with a second text, also those that tell the two apart.

    Raises Damaged.
    """
    run, (text, *others) = reading.run, texts
    length = len(text.token_ids) - text.first

    def of_layer(layer: int) -> Reference:
        return reference(reading, layer, request.by)

    directions: list[Columns] = []
    if others:
        (other,) = others
        layers = (text.each_layer, other.each_layer)
        both_signs = reading.units.two_sided
        firing, *directions = contrast(*layers, of_layer, length, request.k, both_signs=both_signs)
    else:
        firing = fire(text.each_layer, of_layer, length, request.k)
    known = _Known(reading, [firing.top, *directions])
    return BehaviourAnswer(
        model=run.model,
        run=run.id,
        dtype=run.dtype,
        hook_point=run.hook_point,
        by=request.by,
        k=request.k,
        sample=Sample(contexts=run.sample_contexts, positions=run.sample_positions),
        n_neurons=sum(run.widths),
        compared=firing.compared,
        tokens=text.tokens,
        token_ids=text.token_ids,
        included_from=text.first,
        neurons=_neurons(firing, text, known),
        shares=_by_token(firing, text, firing.shares),
        strongest=_by_token(firing, text, firing.strongest),
        contrast=_contrast(text, others[0], directions, known) if others else None,
        note=note_of(run.dtype),
    )


class _Known:
    """The token that each of the answer's neurons peaks on, and its name."""

    def __init__(self, reading: Reading, tables: list[Columns]) -> None:
        self._places, self._names = reading.places, unit_names(reading).by_index
        places = [
            place
            for columns in tables
            for place in zip(columns["layer"].tolist(), columns["neuron"].tolist(), strict=True)
        ]
        indices = (reading.places.index(layer, neuron) for layer, neuron in places)
        self._tokens = peak_tokens(reading, indices)

    def __call__(self, layer: int, neuron: int) -> dict[str, Any]:
        """Fields of a neuron's schema."""
        index = self._places.index(layer, neuron)
        return {"name": self._names.get(index), "peak_token": self._tokens[index]}


def _neurons(firing: Firing, text: OpenText, known: _Known) -> list[list[FiringNeuron]]:
    lists: list[list[FiringNeuron]] = [[] for _ in text.token_ids]
    names = ("row", "layer", "neuron", "activation", "value", "tie")
    columns = [firing.top[name].tolist() for name in names]
    for row, layer, neuron, activation, share, of_maximum in zip(*columns, strict=True):
        lists[text.first + row].append(
            FiringNeuron(
                layer=layer,
                neuron=neuron,
                activation=activation,
                share=share,
                of_maximum=of_maximum,
                **known(layer, neuron),
            )
        )
    return lists


def _by_token(firing: Firing, text: OpenText, values: np.ndarray[Any, Any]) -> list[list[Any]]:
    """A row a layer, a value a token; None if no neuron fires or the position is not included."""
    rows = []
    for values_, fires in zip(values.tolist(), (firing.shares > 0).tolist(), strict=True):
        known = [value if fired else None for value, fired in zip(values_, fires, strict=True)]
        rows.append([*[None] * text.first, *known])
    return rows


def _contrast(
    text: OpenText, other: OpenText, directions: list[Columns], known: _Known
) -> Contrast:
    more, less = ([*_contrasted(columns, text, other, known)] for columns in directions)
    return Contrast(
        tokens=other.tokens,
        token_ids=other.token_ids,
        included_from=other.first,
        more=more,
        less=less,
    )


def _contrasted(
    columns: Columns, text: OpenText, other: OpenText, known: _Known
) -> list[ContrastedNeuron]:
    def peaks(side: str, first: int) -> list[TextPeak]:
        values = (columns[f"{name} {side}"].tolist() for name in PEAK_COLUMNS)
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
            text=in_text,
            against=in_other,
            **known(layer, neuron),
        )
        for layer, neuron, difference, in_text, in_other in zip(*places, *sides, strict=True)
    ]
