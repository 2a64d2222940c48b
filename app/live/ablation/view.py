"""The page of neurons ablated at chosen tokens of a custom text."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from app.drawing.characters import chip, chip_in_text, label
from app.drawing.numbers import MINUS, number, share
from app.drawing.quoting import shortened
from app.live.ablation.schemas import (
    AblatedNeuron,
    AblationAnswer,
    NextToken,
    PositionPredictions,
)
from app.schemas import WholeRun
from app.web.frame import Frame
from app.web.links import Links

_LONGEST_TOKEN = 40
"""The most characters of a token in a title."""
STEPS = 10
"""Colours, by the divergence's share of the largest in the text."""


@dataclass(frozen=True, slots=True)
class Typed:
    """The fields of the form."""

    text: str = ""
    neurons: str = ""
    at: tuple[int, ...] = ()
    """Positions that are ticked; none: all tokens."""
    of: str = ""
    """A hash of the text that the positions belong to."""


@dataclass(frozen=True, slots=True)
class Place:
    """A token that can be ticked."""

    position: int
    token: Markup
    css: str
    """Its colour; empty: none."""
    title: str
    ticked: bool


@dataclass(frozen=True, slots=True)
class Total:
    """The whole text at baseline or with one ablation."""

    name: str
    loss: str
    change: str
    divergence: str
    """The mean over all positions from the first ablated one on."""
    highest: str
    """The largest divergence."""
    after: Markup
    """The token after which it is; empty at baseline."""


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One token of the text."""

    position: int
    token: Markup
    ablated: bool
    loss: str
    changes: tuple[str, str]
    """Of the loss: zero-ablated, mean-ablated."""
    divergences: tuple[str, str]
    likeliest: Markup
    ablated_likeliest: Markup
    """The most likely next token when zero-ablated; empty if it is the same."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A neuron that was ablated."""

    name: str
    href: str
    mean: str


@dataclass(frozen=True, slots=True)
class Result:
    """The result for a text."""

    units: list[Unit]
    where: str
    """At which tokens, in words."""
    totals: list[Total]
    places: list[Place]
    rows: list[TokenRow]
    of: str
    """A hash of the text, which comes back with the positions that are ticked."""
    notes: list[str]


@dataclass(frozen=True, slots=True)
class AblationContext:
    """What `live/ablation.html` is rendered with."""

    frame: Frame
    page: WholeRun
    layers: int
    """The layers that have units."""
    typed: Typed
    problem: str | None
    """Why the text or the neurons were refused."""
    result: Result | None
    most: int
    """The most tokens that a text may have."""


def result(answer: AblationAnswer, links: Links, typed: Typed, of: str, notes: list[str]) -> Result:
    """The view of an answer. `of`: a hash of its text; `notes`: what to say below it."""
    first, n = answer.included_from, len(answer.tokens)
    href = links.neurons()
    everywhere = len(answer.positions) == n - first
    token = "token" if len(answer.positions) == 1 else "tokens"
    return Result(
        units=[
            Unit(_called(one), href(one.layer, one.neuron), number(one.mean))
            for one in answer.neurons
        ],
        where="at all tokens"
        if everywhere
        else f"at {len(answer.positions)} {token} of {n - first}",
        totals=_totals(answer),
        places=_places(answer, set(typed.at) if typed.of == of else set()),
        rows=_rows(answer),
        of=of,
        notes=[*notes, *([answer.note] if answer.note else [])],
    )


def _totals(answer: AblationAnswer) -> list[Total]:
    start = answer.positions[0]
    base = answer.baseline.loss

    def total(name: str, made: PositionPredictions, *, changed: bool) -> Total:
        tail = made.divergences[start:]
        at = start + max(range(len(tail)), key=tail.__getitem__)
        return Total(
            name=name,
            loss="—" if made.loss is None else number(made.loss),
            change=_change(made.loss, base) if changed else "",
            divergence=number(sum(tail) / len(tail)) if changed else "",
            highest=number(made.divergences[at]) if changed else "",
            after=chip_in_text(answer.tokens, at) if changed else Markup(""),
        )

    return [
        total("Baseline", answer.baseline, changed=False),
        total("Zero-ablated", answer.zero_ablated, changed=True),
        total("Mean-ablated", answer.mean_ablated, changed=True),
    ]


def _places(answer: AblationAnswer, ticked: set[int]) -> list[Place]:
    divergences = answer.zero_ablated.divergences
    largest = max(divergences)
    places = []
    for at in range(answer.included_from, len(answer.tokens)):
        level = step(divergences[at], largest)
        name = label(shortened(answer.tokens[at], _LONGEST_TOKEN))
        places.append(
            Place(
                position=at,
                token=chip_in_text(answer.tokens, at),
                css=f"p{level}" if level else "",
                title=f"{name} at {at}: KL {number(divergences[at])} nats after it, zero-ablated",
                ticked=at in ticked,
            )
        )
    return places


def step(divergence: float, largest: float) -> int:
    """The colour of a divergence, 0 to 10: tenths of the largest in the text, rounded."""
    return int(STEPS * divergence / largest + 0.5) if largest > 0 else 0


def _rows(answer: AblationAnswer) -> list[TokenRow]:
    base, ablated = answer.baseline, (answer.zero_ablated, answer.mean_ablated)
    where = set(answer.positions)
    rows = []
    for at in range(answer.included_from, len(answer.tokens)):
        loss = base.losses[at]
        zero, mean = (_change(made.losses[at], loss) for made in ablated)
        same = ablated[0].likeliest[at].token_id == base.likeliest[at].token_id
        rows.append(
            TokenRow(
                position=at,
                token=chip_in_text(answer.tokens, at),
                ablated=at in where,
                loss="—" if loss is None else number(loss),
                changes=(zero, mean),
                divergences=(
                    number(ablated[0].divergences[at]),
                    number(ablated[1].divergences[at]),
                ),
                likeliest=_likeliest(base.likeliest[at]),
                ablated_likeliest=Markup("") if same else _likeliest(ablated[0].likeliest[at]),
            )
        )
    return rows


def _likeliest(token: NextToken) -> Markup:
    return Markup('<span class="chip">{}</span> <span class="quiet">{}</span>').format(
        chip(token.token), share(token.probability)
    )


def _change(loss: float | None, base: float | None) -> str:
    """The change of a loss, signed; 0 if it is exactly none."""
    if loss is None or base is None:
        return "—"
    change = loss - base
    if change == 0:
        return "0"
    return f"{'+' if change > 0 else MINUS}{number(abs(change))}"


def _called(unit: AblatedNeuron) -> str:
    """A unit's layer and index, and its name if it has one."""
    return f"{unit.layer}/{unit.neuron}{f' “{unit.name}”' if unit.name else ''}"
