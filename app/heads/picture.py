"""The page of all heads: a picture and a table, by any score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from app.drawing.numbers import count, number
from app.heads.colours import colour
from app.heads.schemas import HeadsPage
from app.heads.scores import GROUNDS, SCORES, Score
from app.heads.training import TrainingView, training_view
from app.web.frame import Frame
from app.web.links import Links

PITCH, SIDE = 22, 20
"""The distance between cells of the picture and the side of a cell, in user units."""

_LEAST_SHARE = 0.1
"""What the strongest colour means at least: smaller shares stay pale."""


@dataclass(frozen=True, slots=True)
class Column:
    """The head of a column of the table of heads."""

    name: str
    words: str
    href: str
    sorted: str | None
    """`descending` for the column that sorts the table; else None."""
    title: str


@dataclass(frozen=True, slots=True)
class TableRow:
    """A head in the table."""

    layer: int
    head: int
    name: str
    href: str
    cells: list[str]


@dataclass(frozen=True, slots=True)
class HeadsView:
    """What the page of all heads shows besides its `HeadsPage`."""

    score: Score
    picture: Markup
    choices: list[tuple[str, list[tuple[str, str, bool]]]]
    """By ground: label, address and whether it is the current one."""
    low: str
    high: str
    columns: list[Column]
    rows: list[TableRow]
    training: TrainingView | None
    """How the heads formed, where that is known."""
    facts: list[str]
    """What is known of the model's heads together, sentences."""


@dataclass(frozen=True, slots=True)
class HeadsContext:
    """What `heads/heads.html` is rendered with."""

    frame: Frame
    page: HeadsPage
    view: HeadsView


Address = Callable[[str], str]
"""Makes the address of the same page with another score."""


def heads_view(page: HeadsPage, name: str, links: Links, address: Address) -> HeadsView:
    """The view of all heads, coloured and sorted by the score `name`."""
    score = SCORES[name]
    values = [score.of(head) for head in page.heads]
    known = [value for value in values if value is not None]
    low, high = _range(score, known)
    order = sorted(
        range(len(values)),
        key=lambda i: (values[i] is None, -(values[i] or 0.0), i),
    )
    shown = [s for s in SCORES.values() if s.ground == score.ground or not s.ground]
    if not score.ground:
        shown = [s for s in SCORES.values() if s.ground != "text"]
    # A score that no head has, such as of a sink in a run without BOS, has no column.
    shown = [s for s in shown if s is score or any(s.of(head) is not None for head in page.heads)]
    return HeadsView(
        score=score,
        picture=_picture(page, score, values, (low, high), links),
        choices=[
            (
                words,
                [
                    (s.label, address(s.name), s.name == name)
                    for s in SCORES.values()
                    if s.ground == ground
                ],
            )
            for ground, words in GROUNDS.items()
        ],
        low=score.words(low),
        high=score.words(high),
        columns=[
            Column(
                s.name,
                s.label,
                address(s.name),
                "descending" if s.name == name else None,
                s.definition,
            )
            for s in shown
        ],
        rows=[
            TableRow(
                layer=page.heads[i].layer,
                head=page.heads[i].head,
                name=f"L{page.heads[i].layer}H{page.heads[i].head}",
                href=links.neuron(page.heads[i].layer, page.heads[i].head),
                cells=[s.words(s.of(page.heads[i])) for s in shown],
            )
            for i in order
        ],
        training=training_view(page.facts.training),
        facts=_facts(page),
    )


def _facts(page: HeadsPage) -> list[str]:
    facts = page.facts
    repeated = facts.repeated
    sentences = [
        f"Repeated random tokens: {count(repeated.sequences)} sequences of {repeated.length} "
        f"random tokens, each repeated once (seed {repeated.seed}). Mean loss "
        f"{number(repeated.first_loss)} nats on the first copy, {number(repeated.second_loss)} on "
        "the second."
    ]
    if learning := facts.in_context:
        early, late = learning.early_positions, learning.late_positions
        sentences.append(
            f"In-context-learning score {number(learning.score)} nats: the mean loss at tokens "
            f"{late[0]}–{late[1]} minus that at tokens {early[0]}–{early[1]}, over "
            f"{count(learning.contexts)} contexts of the sample."
        )
    sentences.append(
        f"{count(facts.pairs)} pairs of positions were ranked: key before query, no special tokens."
    )
    return sentences


def _range(score: Score, known: Sequence[float]) -> tuple[float, float]:
    """The values of the palest and the strongest colour."""
    largest = max((abs(value) for value in known), default=1.0) or 1.0
    if score.is_share:
        return 0.0, 1.0 if largest > 0.5 else max(largest, _LEAST_SHARE)
    return (-largest, largest) if score.signed else (0.0, largest)


def _picture(
    page: HeadsPage,
    score: Score,
    values: Sequence[float | None],
    ends: tuple[float, float],
    links: Links,
) -> Markup:
    """All heads, a row a layer, each a link with a title. Readers without sight have the table."""
    wide = max((head.head for head in page.heads), default=0) + 1
    margin = 30
    out = [
        f'<svg class="heads-cells" width="{margin + wide * PITCH}" viewBox="0 0 '
        f'{margin + wide * PITCH} {page.n_layers * PITCH}" aria-hidden="true">'
    ]
    for layer in range(page.n_layers):
        y = layer * PITCH
        out.append(f'<text x="{margin - 6}" y="{y + SIDE / 2 + 4:g}">{layer}</text>')
    for head, value in zip(page.heads, values, strict=True):
        css = "v" if value is None else colour(value, *ends) or "z"
        x, y = margin + head.head * PITCH, head.layer * PITCH
        title = f"L{head.layer}H{head.head} · {score.words(value)}"
        href = escape(links.neuron(head.layer, head.head))
        out.append(
            f'<a href="{href}" class="{css}" tabindex="-1"><title>{title}</title>'
            f'<rect x="{x}" y="{y}" width="{SIDE}" height="{SIDE}"/></a>'
        )
    out.append("</svg>")
    return Markup("".join(out))
