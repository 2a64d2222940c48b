"""The form for custom text on a head's page, and its result."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup

from app.drawing.characters import chip
from app.drawing.numbers import count, number, share
from app.heads.grid import pattern_svg, too_long
from app.heads.lines import token_chip_in, whole_text
from app.heads.schemas import HeadPage
from app.live.head.schemas import HeadAnswer, HeadPattern, HeadText, LogitParts
from app.live.schemas import Predictions
from app.live.view import PredictionView, prediction_view
from app.web.frame import Frame


@dataclass(frozen=True, slots=True)
class Small:
    """A head of the layer beside the others."""

    name: str
    href: str
    current: bool
    picture: Markup


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A token of the text."""

    token: Markup
    position: int
    keys: Markup
    """What it attends to most."""
    effect: str
    """The direct effect on the next token's logit."""
    next: Markup
    """That token."""


@dataclass(frozen=True, slots=True)
class LayerParts:
    """What the parts of a layer add to a logit."""

    heads: list[tuple[str, bool]]
    """Every head's effect, and whether it is the head of the page; empty texts fill the row."""
    bias: str
    mlp: str


@dataclass(frozen=True, slots=True)
class LogitView:
    """A logit as the sum of what every part adds."""

    heads: range
    """Of the widest layer."""
    layers: list[LayerParts]
    totals: list[tuple[str, str]]
    """Name and value: sums of parts, the logit, the remainder."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result for a text."""

    text: Markup
    pattern_json: str
    """The head's pattern, for the script."""
    grid: Markup | None
    """None for texts that are too long for pictures."""
    no_grid: str | None
    """Why there is none."""
    heads: list[Small]
    tokens: list[TokenRow]
    predictions: list[PredictionView]
    direct: Markup
    """The direct effect on the likeliest token, a sentence."""
    logit: LogitView | None
    """None where direct effects are not known."""
    mean: str
    """What the mean is over."""
    note: str | None


@dataclass(frozen=True, slots=True)
class HeadTryContext:
    """What `live/head.html` is rendered with."""

    frame: Frame
    page: HeadPage
    form: str
    """Where the form is sent."""
    typed: HeadText
    most: int
    """The most tokens that a text may have."""
    problem: str | None
    result: Result | None


def result(answer: HeadAnswer, address: Callable[[int], str], unknown: str) -> Result:
    """The view of an answer. `address` makes the page of a head of the layer; `unknown` says why
    direct effects are not known."""
    own = answer.heads[answer.head]
    no_grid = too_long(len(answer.tokens), "text")
    # Typed text never becomes a special token.
    pattern = {"rows": own.rows, "included_from": answer.included_from, "special": []}
    return Result(
        text=whole_text(answer.tokens, own.rows[-1], len(answer.tokens) - 1),
        pattern_json=json.dumps(pattern),
        grid=None if no_grid else pattern_svg(own.rows, label=True),
        no_grid=no_grid,
        heads=[]
        if no_grid
        else [
            Small(
                f"H{other.head}",
                address(other.head),
                other.head == answer.head,
                pattern_svg(other.rows),
            )
            for other in answer.heads
        ],
        tokens=_token_rows(answer, own),
        predictions=_predictions(answer),
        direct=_direct(answer, unknown),
        logit=None if answer.logit is None else _logit(answer, answer.logit),
        mean=f"over {count(answer.mean_contexts)} random contexts of the run",
        note=answer.note,
    )


def _token_rows(answer: HeadAnswer, own: HeadPattern) -> list[TokenRow]:
    tokens = [*answer.tokens, answer.predicted]
    rows = []
    for position, row in enumerate(own.rows):
        keys = Markup(", ").join(
            Markup("{} {}").format(token_chip_in(tokens, key), share(attention))
            for key, attention in row[:3]
        )
        effect = None if answer.direct_effects is None else answer.direct_effects[position]
        here, after = token_chip_in(tokens, position), token_chip_in(tokens, position + 1)
        rows.append(TokenRow(here, position, keys, number(effect), after))
    return rows


def _predictions(answer: HeadAnswer) -> list[PredictionView]:
    effects = answer.effects
    changed: list[tuple[str, Predictions | None]] = [
        ("Zero-ablated", effects.zero_ablated),
        ("Mean-ablated", effects.mean_ablated),
        ("Pattern patched", effects.pattern_patched),
        ("Output patched", effects.output_patched),
    ]
    known = [(title, predictions) for title, predictions in changed if predictions is not None]
    largest = max(
        choice.probability
        for predictions in (effects.as_is, *(predictions for _, predictions in known))
        for choice in predictions.tokens
    )
    return [
        prediction_view("Baseline", "unchanged", effects.as_is, largest, changed=False),
        *(
            prediction_view(
                title, f"{number(predictions.divergence)} nats", predictions, largest, changed=True
            )
            for title, predictions in known
        ),
    ]


def _logit(answer: HeadAnswer, parts: LogitParts) -> LogitView:
    widest = max(map(len, parts.heads))
    layers = [
        LayerParts(
            [
                (number(effect), (layer, head) == (answer.layer, answer.head))
                for head, effect in enumerate(heads)
            ]
            + [("", False)] * (widest - len(heads)),
            number(bias),
            number(mlp),
        )
        for layer, (heads, bias, mlp) in enumerate(
            zip(parts.heads, parts.attention_biases, parts.mlps, strict=True)
        )
    ]
    totals = [
        ("token embedding", parts.embedding),
        *([] if parts.positions is None else [("positions", parts.positions)]),
        ("heads", sum(map(sum, parts.heads))),
        ("attention biases", sum(parts.attention_biases)),
        ("MLPs", sum(parts.mlps)),
        ("final biases", parts.biases),
        ("sum", parts.sum),
        ("model’s logit", parts.logit),
        ("remainder", parts.remainder),
    ]
    return LogitView(range(widest), layers, [(name, number(value)) for name, value in totals])


def _direct(answer: HeadAnswer, unknown: str) -> Markup:
    if answer.direct_effects is None:
        return Markup("{}").format(unknown)
    value = answer.direct_effects[-1]
    return Markup(
        'The head itself adds <b>{}{}</b> to the logit of <span class="chip">{}</span>, the '
        "most likely next token."
    ).format("+" if value > 0 else "", number(value), chip(answer.predicted))
