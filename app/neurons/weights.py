"""Pure: what a neuron's weights and its kept peaks say → the tables and sentences of its page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from app.drawing import charts
from app.drawing.characters import chip
from app.drawing.numbers import MINUS, count, number, share
from app.drawing.tables import LinkRow, PeakRow, TokenRow, link_rows, peak_rows, token_tables
from app.neurons.schemas import (
    InputTokens,
    LogitEffects,
    NeuronLink,
    NeuronPage,
    SignCounts,
    TokenValue,
)

PEAK_TOKENS = 10
"""Tokens that are listed of those a neuron peaks on."""

NeuronAddress = Callable[[int, int], str]
"""Where a neuron is, by layer and index."""
TokenAddress = Callable[[int, str | None], str]
"""Where the neurons of a token are, by its id and by what they do to it."""


@dataclass(frozen=True, slots=True)
class Effects:
    """What the neuron adds to the logits."""

    promoted: list[TokenRow]
    suppressed: list[TokenRow]
    shown: Markup
    """Both lists as tables, made here: templates take several times as long for so many rows."""
    chart: Markup
    words: str


@dataclass(frozen=True, slots=True)
class Inputs:
    """What one part of a neuron reads."""

    title: str
    cosine: str
    excites: list[TokenRow]
    inhibits: list[TokenRow]
    shown: Markup
    """Both lists as tables."""


@dataclass(frozen=True, slots=True)
class LinkTable:
    """Other neurons that are related in one way."""

    title: str
    purpose: str
    measure: str
    rows: list[LinkRow]
    empty: str
    """What is said where there are none."""
    shown: Markup
    """The rows as those of a table."""


@dataclass(frozen=True, slots=True)
class Signs:
    """The four cases of a gated neuron's signs, each as share and number of positions."""

    both: tuple[str, str]
    gate_only: tuple[str, str]
    linear_only: tuple[str, str]
    neither: tuple[str, str]


@dataclass(frozen=True, slots=True)
class WeightsView:
    """The sections from the weights and from the data."""

    effects: Effects
    inputs: list[Inputs]
    direct: str
    """How far the direct reading of what it writes goes."""
    reading: str
    """How far the direct reading of what it reads goes."""
    links: list[LinkTable]
    together: LinkTable
    peak_tokens: list[PeakRow]
    peaks_shown: Markup
    """The peak tokens as rows of a table."""
    peaks_of: str
    """What the peak tokens were counted over."""
    signs: Signs | None


def weights(page: NeuronPage, address: NeuronAddress, find: TokenAddress) -> WeightsView:
    """What the page says besides statistics and examples."""
    gated = any(some.part == "gate" for some in page.weights.inputs)
    peak_tokens = peak_tokens_of(page, find)
    return WeightsView(
        effects=effects_of(page.weights.logit_effects, find),
        inputs=[_inputs(some, gated, find) for some in page.weights.inputs],
        direct=_direct(page),
        reading=_read(page),
        links=_links(page, address),
        together=_table(
            "Fires together with",
            "Neurons of this layer whose peaks, context by context over the sample, go along with "
            "its own; a liking for the same source is enough.",
            "correlation",
            page.together,
            address,
            "none: its peaks do not vary, or no others' do",
        ),
        peak_tokens=peak_tokens,
        peaks_shown=peak_rows(peak_tokens),
        peaks_of=peaks_of(page),
        signs=None if page.signs is None else _signs(page.signs),
    )


def signed(value: float) -> str:
    """A number with its sign, also where it is positive."""
    text = number(value)
    return text if text.startswith(MINUS) or text == "0" else f"+{text}"


def _rows(
    some: Sequence[TokenValue], largest: float, find: TokenAddress, role: str | None
) -> list[TokenRow]:
    return [
        TokenRow(
            token=chip(one.token),
            token_id=one.token_id,
            href=find(one.token_id, role),
            value=signed(one.value),
            bar=charts.bar(one.value, largest, "pos" if one.value > 0 else "neg"),
        )
        for one in some
    ]


def _both(
    some: LogitEffects | InputTokens, find: TokenAddress, roles: tuple[str, str | None]
) -> tuple[list[TokenRow], list[TokenRow]]:
    """Two lists of tokens with bars of one scale."""
    largest = max((abs(one.value) for one in (*some.top, *some.bottom)), default=0.0)
    return _rows(some.top, largest, find, roles[0]), _rows(some.bottom, largest, find, roles[1])


def effects_of(effects: LogitEffects, find: TokenAddress) -> Effects:
    """The tokens a neuron promotes and suppresses, and the spread of all."""
    promoted, suppressed = _both(effects, find, ("promoted", "suppressed"))
    histogram = effects.histogram
    chart = Markup()
    if sum(histogram.counts):
        chart = charts.histogram(
            histogram.edges,
            histogram.counts,
            name="effects-all",
            title="Logit effects of all tokens, counts on a log scale",
            what="tokens",
            low=histogram.edges[0],
            high=histogram.edges[-1],
            height=74,
        )
    shown = token_tables("Logit effect", ("Promotes", promoted), ("Suppresses", suppressed))
    return Effects(promoted, suppressed, shown, chart, _spread(effects))


def _spread(effects: LogitEffects) -> str:
    """The distribution of all logit effects in words."""
    if effects.mean is None or effects.std is None:
        return ""
    start = f"All tokens: mean {signed(effects.mean)}, std {number(effects.std)}"
    if effects.kurtosis is None:
        return f"{start}. They are all the same."
    said = f"{start}, excess kurtosis {number(effects.kurtosis)}: {_tails(effects.kurtosis)}."
    if not (effects.top and effects.bottom and effects.std > 0):
        return said
    above = (effects.top[0].value - effects.mean) / effects.std
    below = (effects.mean - effects.bottom[0].value) / effects.std
    return (
        f"{said} The most promoted lies {number(above, 2)} standard deviations above the mean, the "
        f"most suppressed {number(below, 2)} below."
    )


def _tails(kurtosis: float) -> str:
    if kurtosis < 0.5:
        said = "no" if kurtosis <= 0 else "hardly"
        return f"tails {said} heavier than a normal distribution's"
    if kurtosis < 3:
        return "tails a little heavier than a normal distribution's"
    if kurtosis < 15:
        return "heavy tails: some tokens stand apart"
    return "very heavy tails: a few tokens stand apart"


def _inputs(some: InputTokens, gated: bool, find: TokenAddress) -> Inputs:
    # No list is kept of whom a token inhibits: that leads to what else the token has to do with.
    excites, inhibits = _both(some, find, (some.part, None))
    name = {"in": "the linear part" if gated else "it", "gate": "the gate"}[some.part]
    shown = token_tables("Value", ("Excited by", excites), ("Inhibited by", inhibits))
    return Inputs(f"What {name} reads", _along(some), excites, inhibits, shown)


def _along(some: InputTokens) -> str:
    """The cosine of what is read and what is written, in words."""
    if some.cosine is None:
        return ""
    vector = "w_gate" if some.part == "gate" else "w_in"
    said = f"cos({vector}, w_out) = {number(some.cosine)}"
    little = "in part " if abs(some.cosine) < 0.4 else ""
    if some.part == "gate":  # it decides how much is written, not with which sign
        if abs(some.cosine) < 0.1:
            return f"{said}: what opens it and what it writes have next to nothing in common."
        way = "along" if some.cosine > 0 else "against"
        return f"{said}: what opens it points {little}{way} what it writes."
    if abs(some.cosine) < 0.1:
        return f"{said}: what it reads and what it writes have next to nothing in common."
    if some.cosine > 0:
        return f"{said}: it writes {little}along what it reads, and so adds to what is there."
    return f"{said}: it writes {little}against what it reads, and so takes away from it."


def _layers(number_of: int) -> str:
    return "1 layer" if number_of == 1 else f"{count(number_of)} layers"


def _direct(page: NeuronPage) -> str:
    after = page.n_layers - 1 - page.layer
    if not after:
        return (
            "This is the last layer: between this neuron and the logits stands the final norm "
            "alone, so the direct reading is nearly all there is."
        )
    stands, read = ("stands", "reads") if after == 1 else ("stand", "read")
    weak = (
        "the direct reading is weak here, as most of what it does may go through them."
        if after >= page.n_layers / 2
        else "what it does through them is not in these numbers."
    )
    return (
        f"{_layers(after)} {stands} between this neuron and the logits and {read} what it writes "
        f"too: {weak}"
    )


def _read(page: NeuronPage) -> str:
    start = (
        "Each token's embedding alone, through the layer's norm, times what the neuron reads: as "
        "if nothing else stood in the residual stream."
    )
    if page.layer == 0:
        return f"{start} In layer 0 that leaves out positions and what attention adds."
    return (
        f"{start} But {_layers(page.layer)} {'has' if page.layer == 1 else 'have'} written there "
        f"before it reads{', so this is weak evidence' if page.layer > 2 else ''}."
    )


def _links(page: NeuronPage, address: NeuronAddress) -> list[LinkTable]:
    found = page.weights
    return [
        _table(
            "Writes alike",
            "Neurons of the whole model with the most similar write vectors.",
            "cosine",
            found.alike,
            address,
            "none known",
        ),
        _table(
            "Upstream",
            "Neurons of earlier layers that write most strongly, in either direction, to what it "
            "reads.",
            "w_out · w_in",
            found.upstream,
            address,
            "none: this is the first layer" if page.layer == 0 else "none known",
        ),
        _table(
            "Downstream",
            "Neurons of later layers that read most strongly, in either direction, what it writes.",
            "w_out · w_in",
            found.downstream,
            address,
            "none: this is the last layer" if page.layer == page.n_layers - 1 else "none known",
        ),
    ]


def _table(
    title: str,
    purpose: str,
    measure: str,
    links: Sequence[NeuronLink],
    address: NeuronAddress,
    empty: str,
) -> LinkTable:
    rows = [
        LinkRow(
            href=address(link.layer, link.neuron),
            name=f"{link.layer}/{link.neuron}",
            value=signed(link.value),
            part=link.part or "",
            token=chip(link.peak_token),
        )
        for link in links
    ]
    # Where nothing is gated there is one part, which need not be named.
    if all(row.part != "gate" for row in rows):
        rows = [LinkRow(row.href, row.name, row.value, "", row.token) for row in rows]
    return LinkTable(title, purpose, measure, rows, empty, link_rows(rows, empty))


def peak_tokens_of(page: NeuronPage, find: TokenAddress) -> list[PeakRow]:
    """The tokens a neuron peaks on most often."""
    some = page.peak_tokens[:PEAK_TOKENS]
    largest = max((abs(one.mean) for one in some), default=0.0)
    return [
        PeakRow(
            token=chip(one.token),
            token_id=one.token_id,
            href=find(one.token_id, "peak"),
            count=count(one.count),
            mean=number(one.mean),
            bar=charts.bar(one.mean, largest, "pos" if one.mean > 0 else "neg"),
        )
        for one in some
    ]


def peaks_of(page: NeuronPage) -> str:
    """What the peak tokens were counted over."""
    total, tokens = sum(one.count for one in page.peak_tokens), len(page.peak_tokens)
    said = (
        f"Over the {count(total)} different contexts kept here as examples of any kind, so with "
        "the extremes far more often than in the corpus."
    )
    if tokens > PEAK_TOKENS:
        said += f" {count(tokens - PEAK_TOKENS)} more tokens are in the JSON."
    return said


def _signs(signs: SignCounts) -> Signs:
    total = max(1, signs.both + signs.gate_only + signs.linear_only + signs.neither)

    def cell(positions: int) -> tuple[str, str]:
        return share(positions / total), count(positions)

    return Signs(
        cell(signs.both), cell(signs.gate_only), cell(signs.linear_only), cell(signs.neither)
    )
