"""The page of a search by custom text."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from app.drawing.characters import chip, chip_in_text, label
from app.drawing.numbers import compact, count, number
from app.drawing.quoting import shortened
from app.drawing.tables import tick, unit_name
from app.live.behaviour.schemas import USUAL, BehaviourAnswer, By, ContrastedNeuron, TextPeak
from app.schemas import UnitsRef, WholeRun
from app.web.frame import Frame
from app.web.links import Links

CHOICES = (5, 10, 20, 50)
"""The numbers of neurons a token that the form offers."""
CUTS = (0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999)
"""The percentiles at which colours begin: each colour is about half as frequent as the previous."""
_LONGEST_TOKEN = 40
"""The most characters of a token in a title."""


@dataclass(frozen=True, slots=True)
class Typed:
    """The fields of the form."""

    text: str = ""
    against: str = ""
    by: str = "maximum"
    k: str = str(USUAL)


@dataclass(frozen=True, slots=True)
class Step:
    """A colour of the legend."""

    css: str
    title: str
    mark: str | None
    """The label under it, if any."""


@dataclass(frozen=True, slots=True)
class Side:
    """A neuron on one of two texts."""

    share: Markup
    token: Markup
    title: str


@dataclass(frozen=True, slots=True)
class Difference:
    """A neuron that fires more on one of two texts."""

    layer: int
    neuron: int
    name: str
    called: Markup
    """Its name in its dictionary's file."""
    href: str
    named: str
    """As lists name it."""
    difference: str
    text: Side
    against: Side
    peak_token: Markup


@dataclass(frozen=True, slots=True)
class Direction:
    """The neurons that fire more on one of two texts than on the other."""

    name: str
    title: str
    none: str
    """The sentence if there are none."""
    rows: list[Difference]


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a search."""

    summary: str
    measure: str
    """What the numbers mean."""
    left_out: str
    """Which neurons are left out; empty if none are."""
    cells: Markup
    """The picture, layers × tokens: a table's head and body."""
    narrow: bool
    """Whether most cells have at most two digits."""
    legend: list[Step]
    ranks: range
    rows: Markup
    """The neurons of each token: the rows of a table."""
    directions: list[Direction]
    note: str | None


@dataclass(frozen=True, slots=True)
class BehaviourContext:
    """What `live/behaviour.html` is rendered with."""

    frame: Frame
    page: WholeRun
    layers: int
    """The layers that have units."""
    typed: Typed
    problem: str | None
    """Why the text was refused."""
    result: Result | None
    most: int
    """The most tokens that a text may have."""
    choices: tuple[int, ...] = CHOICES
    """The numbers of neurons a token that the form offers."""


def result(answer: BehaviourAnswer, links: Links, units: UnitsRef, layers: Sequence[int]) -> Result:
    """The view of an answer about the units that these layers have."""
    noun = units.noun
    href = links.neurons()
    first, n_layers = answer.included_from, len(layers)
    tokens = len(answer.tokens) - first
    most = max(map(len, answer.neurons), default=0)
    return Result(
        summary=f"{_many(tokens, 'token')}, {_many(n_layers, 'layer')}, "
        f"{count(answer.compared)} {noun}s",
        measure=_measure(answer, units),
        left_out=_left_out(answer, noun),
        cells=_cells(answer, layers, href, noun),
        narrow=answer.by == "maximum",
        legend=legend(answer.by),
        ranks=range(1, max(most, 1) + 1),
        rows=_rows(answer, links, max(most, 1), noun),
        directions=_directions(answer, links, noun),
        note=answer.note,
    )


def step(share: float, by: By) -> int:
    """The colour of a share, 0 to 10: by maximum its tenths, rounded; by percentile by `CUTS`."""
    if by == "percentile":
        return bisect_right(CUTS, share)
    return max(0, min(10, int(share * 10 + 0.5)))


def percentage(share: float, by: By) -> str:
    """A share in percent; percentiles are rounded down, so that "at least" stays true."""
    percent = share * 100
    if by == "maximum":
        return f"{percent:.1f}%" if percent < 99.95 else f"{_large(percent)}%"
    if share >= 1:
        return "100%"
    digits = 1 if percent < 99 else 2 if percent < 99.99 else 3
    return f"{_floored(percent, digits)}%"


def brief(share: float, by: By) -> str:
    """As `percentage`, short enough for a cell."""
    percent = share * 100
    if by == "maximum":
        return _large(percent)
    if share >= 1:
        return "100"
    return _floored(percent, 0 if percent < 90 else 1 if percent < 99 else 2)


def legend(by: By) -> list[Step]:
    """The ten colours, palest first."""
    if by == "maximum":
        marks = {1: "10%", 5: "50%", 10: "100%"}
        return [
            Step(f"p{n}", f"about {10 * n}% of its maximum{' or more' * (n == 10)}", marks.get(n))
            for n in range(1, 11)
        ]
    words = [f"{100 * cut:g}%" for cut in CUTS]
    marked = {0: words[0], 3: words[3], 6: words[6], 9: words[9]}
    return [
        Step(f"p{n + 1}", f"at least {word} of positions are lower", marked.get(n))
        for n, word in enumerate(words)
    ]


def _large(percent: float) -> str:
    """A whole percentage, which can be very large for neurons that hardly fire in the corpus."""
    if percent < 1000:
        return f"{percent:.0f}"
    return compact(percent) if percent < 1e9 else number(percent)


def _floored(percent: float, digits: int) -> str:
    # Floating point can put a product just under its true value.
    scale = 10**digits
    return f"{math.floor(percent * scale + 1e-7) / scale:.{digits}f}"


def _many(n: int, thing: str) -> str:
    return f"{count(n)} {thing}{'s' * (n != 1)}"


def _measure(answer: BehaviourAnswer, units: UnitsRef) -> str:
    noun = units.noun
    if answer.by == "maximum":
        return (
            f"Activation ÷ the {noun}’s own maximum over the corpus: above 100% if the text "
            "activates it more than anything in the corpus."
        )
    return (
        f"Percentiles: at least this share of the {units.ranked_among} have a lower activation, in "
        f"whole bins of the {noun}’s histogram."
    )


def _left_out(answer: BehaviourAnswer, noun: str) -> str:
    missing = answer.n_neurons - answer.compared
    if not missing:
        return ""
    are = "is" if missing == 1 else "are"
    unknown = " or no histogram" if answer.by == "percentile" else ""
    return f"{_many(missing, noun)} {are} left out: dead, or without a maximum above 0{unknown}."


def _words(share: float, by: By) -> str:
    if by == "maximum":
        return f"{percentage(share, by)} of its maximum"
    return f"at least {percentage(share, by)} of positions lower"


def _short(token: str) -> str:
    return label(shortened(token, _LONGEST_TOKEN))


def _cells(
    answer: BehaviourAnswer, layers: Sequence[int], href: Callable[[int, int], str], noun: str
) -> Markup:
    """The picture, `layers` × tokens: each cell has the strongest neuron's share, in its colour and
    with a link."""
    first, by = answer.included_from, answer.by
    heads = [
        f'<th scope="col"><a href="#t{at}" title="position {at}">'
        f"<span>{chip_in_text(answer.tokens, at)}</span></a></th>"
        for at in range(first, len(answer.tokens))
    ]
    # Each token is escaped once here, not in every cell.
    names = [f"{_short(token)} at {at}" for at, token in enumerate(answer.tokens)]
    out = [f"<thead><tr data-roving><td>layer</td>{''.join(heads)}</tr></thead><tbody>"]
    for layer in layers:
        shares, strongest = answer.shares[layer], answer.strongest[layer]
        out.append(f'<tr><th scope="row">{layer}</th>')
        for at in range(first, len(answer.tokens)):
            share, neuron = shares[at], strongest[at]
            if share is None or neuron is None:
                out.append(f'<td title="layer {layer}, {names[at]}: no {noun} fires">·</td>')
                continue
            css = f' class="p{step(share, by)}"' if step(share, by) else ""
            out.append(
                f'<td{css}><a href="{escape(href(layer, neuron))}" title="layer {layer}, '
                f'{names[at]}: {noun} {neuron}, {_words(share, by)}">{brief(share, by)}</a></td>'
            )
        out.append("</tr>")
    out.append("</tbody>")
    return Markup("".join(out))


def _rows(answer: BehaviourAnswer, links: Links, columns: int, noun: str) -> Markup:
    """A row a token: the neurons that fire most for it, highest first."""
    by, href, out = answer.by, links.neurons(), []
    for at in range(answer.included_from, len(answer.tokens)):
        neurons = answer.neurons[at]
        out.append(
            f'<tr id="t{at}" role="row"><th scope="row" role="rowheader">'
            f'<span class="at">{at}</span> '
            f'<span class="chip">{chip_in_text(answer.tokens, at)}</span></th>'
        )
        for fired in neurons:
            out.append(
                '<td role="cell"><span class="over">'
                f"<span>{tick(links.named(fired.layer, fired.neuron))} "
                f'<a class="name" href="{escape(href(fired.layer, fired.neuron))}">'
                f"{fired.layer}/{fired.neuron}</a>{unit_name(fired.name)}</span> "
                f"{_pill(fired.share, by)}</span>"
                f'<span class="under"><span class="chip">{chip(fired.peak_token)}</span> '
                f'<span class="quiet">{number(fired.activation)}</span></span></td>'
            )
        if not neurons:
            out.append(f'<td class="quiet" role="cell" colspan="{columns}">no {noun} fires</td>')
        out.append("</tr>")
    return Markup("".join(out))


def _pill(share: float, by: By) -> Markup:
    """A share on its colour."""
    css = f"pill p{step(share, by)}" if step(share, by) else "pill"
    return Markup(f'<span class="{css}">{percentage(share, by)}</span>')


def _directions(answer: BehaviourAnswer, links: Links, noun: str) -> list[Direction]:
    contrast = answer.contrast
    if contrast is None:
        return []
    tokens = (answer.tokens, contrast.tokens)

    def rows(neurons: list[ContrastedNeuron]) -> list[Difference]:
        return [_difference(neuron, tokens, answer.by, links) for neuron in neurons]

    none = f"No {noun} is higher on the {{}}."
    return [
        Direction("more", "First, not second", none.format("first"), rows(contrast.more)),
        Direction("less", "Second, not first", none.format("second"), rows(contrast.less)),
    ]


def _difference(
    neuron: ContrastedNeuron,
    tokens: tuple[list[str], list[str]],
    by: By,
    links: Links,
) -> Difference:
    text, against = (
        _side(peak, texts, by)
        for peak, texts in zip((neuron.text, neuron.against), tokens, strict=True)
    )
    return Difference(
        layer=neuron.layer,
        neuron=neuron.neuron,
        name=f"{neuron.layer}/{neuron.neuron}",
        called=unit_name(neuron.name),
        href=links.neuron(neuron.layer, neuron.neuron),
        named=links.named(neuron.layer, neuron.neuron),
        difference=percentage(neuron.difference, by),
        text=text,
        against=against,
        peak_token=chip(neuron.peak_token),
    )


def _side(peak: TextPeak, tokens: list[str], by: By) -> Side:
    share = _pill(peak.share, by) if peak.share > 0 else Markup('<span class="pill">0%</span>')
    return Side(
        share=share,
        token=chip_in_text(tokens, peak.position),
        title=f"{number(peak.activation)} at position {peak.position}",
    )
