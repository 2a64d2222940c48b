"""The form for steering, and its result."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from app.drawing import tokens as highlight
from app.drawing.characters import chip_in_text
from app.drawing.numbers import count, number
from app.drawing.palette import palette
from app.live.steering.schemas import Generated, SteeringAnswer
from app.live.steering.typed import WHERE, Typed
from app.neurons.schemas import NeuronPage
from app.web.frame import Frame
from app.web.links import Links


@dataclass(frozen=True, slots=True)
class UnitRow:
    """A unit, its strength and what was added."""

    name: str
    href: str
    strength: str
    activation: str


@dataclass(frozen=True, slots=True)
class Result:
    """The result for a text."""

    units: list[UnitRow]
    plain: Markup
    steered: Markup
    same: bool
    """Whether both texts are the same."""
    divergences: Markup
    """The text and what was generated without steering, coloured by the divergences."""
    mean: str
    largest: str
    on: Markup
    """The token at the largest divergence."""
    note: str | None


@dataclass(frozen=True, slots=True)
class Box:
    """The form for a text, and its result."""

    action: str
    most: str
    typed: Typed
    where: dict[str, str]
    problem: str | None = None
    result: Result | None = None


@dataclass(frozen=True, slots=True)
class SteerContext:
    """What `live/steer.html` is rendered with."""

    frame: Frame
    page: NeuronPage
    steering: Box


def box(
    page: NeuronPage,
    most: int,
    links: Links,
    *,
    typed: Typed,
    problem: str | None = None,
    answer: SteeringAnswer | None = None,
) -> Box:
    """The form with what was `typed`. `most`: the most tokens of a text."""
    return Box(
        action=links.steer(page.layer, page.neuron),
        most=count(most),
        typed=typed,
        where=WHERE,
        problem=problem,
        result=None if answer is None else result(page, answer, links),
    )


def result(page: NeuronPage, answer: SteeringAnswer, links: Links) -> Result:
    """Both generated texts; the sent text with the unsteered one, coloured by how far predictions
    differ."""
    tokens = [*answer.tokens, *answer.plain.tokens]
    token_ids = [*answer.token_ids, *answer.plain.token_ids]
    largest = max(answer.divergences)
    at = answer.divergences.index(largest)
    return Result(
        units=[
            UnitRow(
                name=f"layer {unit.layer}, {page.run.units.label(unit.neuron, unit.name)}",
                href=links.neuron(unit.layer, unit.neuron),
                strength=number(unit.strength),
                activation=number(unit.activation),
            )
            for unit in answer.units
        ],
        plain=_text(answer.plain),
        steered=_text(answer.steered),
        same=answer.plain == answer.steered,
        divergences=highlight.render(
            tokens,
            token_ids,
            answer.divergences,
            start=0,
            colours=palette(largest, low=0, high=largest),
            centre=at,
            value=largest,
        ),
        mean=number(answer.mean_divergence),
        largest=number(largest),
        on=chip_in_text(tokens, at),
        note=answer.note,
    )


def _text(made: Generated) -> Markup:
    """Generated tokens as running text."""
    zeros = [0.0] * len(made.tokens)
    return highlight.render(
        made.tokens, made.token_ids, zeros, start=0, colours=palette(0, low=0, high=0)
    )
