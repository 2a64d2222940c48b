"""What a head's page shows from its weights: token pairs, and the heads and neurons it composes
with."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from app.drawing.characters import chip
from app.drawing.numbers import number
from app.heads.lines import token_chip
from app.heads.schemas import Composition, HeadPage, NeuronComposition, TokenPair
from app.sets import ModelSet
from app.web.links import Links


@dataclass(frozen=True, slots=True)
class PairTable:
    """Token pairs with a value."""

    title: str
    columns: tuple[str, str]
    rows: list[tuple[Markup, Markup, str]]


@dataclass(frozen=True, slots=True)
class NeuronRow:
    """A neuron that a head composes with."""

    name: str
    href: str | None
    """Its page; None where the model's neurons are not indexed."""
    part: str
    """What a gated neuron reads with."""
    score: str
    token: Markup
    """What it peaks on; empty where that is not known."""


@dataclass(frozen=True, slots=True)
class NeuronTable:
    """The neurons that a head composes with in one way, the strongest first."""

    title: str
    rows: list[NeuronRow]
    """Empty if all products are 0."""


@dataclass(frozen=True, slots=True)
class HeadWeightsView:
    """What a head's page shows from its weights."""

    promoted: list[tuple[Markup, Markup, str]]
    """Also in the summary under the title."""
    pairs: list[PairTable]
    heads: list[tuple[str, list[tuple[str, str, str]]]]
    """By side: name, address and score of earlier heads."""
    neurons: list[NeuronTable]
    neurons_note: str
    """How to read the tables of neurons; empty without any."""


def weights_view(page: HeadPage, links: Links) -> HeadWeightsView:
    """Token pairs from a head's OV and QK circuits, and the heads and neurons it composes with, as
    tables."""
    circuits = page.circuits
    promoted = _pairs(circuits.promoted)
    apart = circuits.matched_previous is not None
    tables = (
        ("Promoted: attending to … raises", ("token", "raised"), promoted),
        (
            "Matched: a query … looks for" + (" (relative distance 0)" if apart else ""),
            ("query", "key"),
            _pairs(circuits.matched),
        ),
        (
            "Matched, key right before the query (relative distance 1)",
            ("query", "key"),
            _pairs(circuits.matched_previous),
        ),
    )
    sides = (
        ("Queries read from", circuits.queries),
        ("Keys read from", circuits.keys),
        ("Values read from", circuits.values),
    )
    return HeadWeightsView(
        promoted=promoted,
        pairs=[PairTable(title, columns, rows) for title, columns, rows in tables if rows],
        heads=[(title, _earlier(side, links)) for title, side in sides if side],
        neurons=_neuron_tables(page, links),
        neurons_note=_note(page),
    )


def _pairs(pairs: list[TokenPair] | None) -> list[tuple[Markup, Markup, str]]:
    return [
        (token_chip(pair.first), token_chip(pair.second), number(pair.value))
        for pair in pairs or ()
    ]


def _earlier(side: list[Composition], links: Links) -> list[tuple[str, str, str]]:
    return [(f"L{c.layer}H{c.head}", links.neuron(c.layer, c.head), number(c.score)) for c in side]


def _neuron_tables(page: HeadPage, links: Links) -> list[NeuronTable]:
    lists = page.circuits.neurons
    if lists is None:
        return []
    sides = [
        ("Neurons that read its output", lists.readers),
        *(
            (f"{side} read neurons", neurons)
            for side, neurons in (
                ("Queries", lists.queries),
                ("Keys", lists.keys),
                ("Values", lists.values),
            )
            if page.layer > 0
        ),
    ]
    return [
        NeuronTable(title, [_row(neuron, links) for neuron in neurons])
        for title, neurons in sides
        if neurons is not None
    ]


def _row(neuron: NeuronComposition, links: Links) -> NeuronRow:
    indexed = neuron.peak_token is not None
    there = links.in_set(ModelSet(links.name.model))
    return NeuronRow(
        name=f"{neuron.layer}/{neuron.neuron}",
        href=there.neuron(neuron.layer, neuron.neuron) if indexed else None,
        part=neuron.part or "",
        score=number(neuron.score),
        token=chip(neuron.peak_token) if neuron.peak_token is not None else Markup(),
    )


def _note(page: HeadPage) -> str:
    lists = page.circuits.neurons
    if lists is None:
        return ""
    sides = (lists.readers, lists.queries, lists.keys, lists.values)
    every = [neuron for side in sides for neuron in side or ()]
    note = "Composition with MLP neurons: ‖A B‖ ÷ (‖A‖ · ‖B‖) of a matrix and a neuron’s vector"
    if not every:
        return f"{note}; all products are 0."
    if all(neuron.peak_token is None for neuron in every):
        return f"{note}. The model’s neurons are not indexed here."
    return f"{note}, with the token each neuron peaks on."
