"""The tables and sentences of a neuron's page about its weights and the tokens it peaks on."""

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
"""The most tokens in the list of tokens that a neuron peaks on."""

NeuronAddress = Callable[[int, int], str]
"""Makes a neuron's address from its layer and index."""
TokenAddress = Callable[[int, str | None], str]
"""Makes the address of the search for a token from its id and the neurons' role."""


@dataclass(frozen=True, slots=True)
class Effects:
    """The neuron's logit effects."""

    tables: Markup
    """The promoted and suppressed tokens. Made here, because templates are slow with many rows."""
    chart: Markup
    """The histogram over the vocabulary; empty if there is none."""
    spread: str
    """The distribution over the vocabulary, in words."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a part of the neuron reads."""

    title: str
    cosine: str
    """The cosine of what it reads and what the neuron writes, in words."""
    tables: Markup
    """The tokens that activate and inhibit it most."""


@dataclass(frozen=True, slots=True)
class LinkTable:
    """The neurons that are related in one way."""

    title: str
    purpose: str
    measure: str
    rows: list[LinkRow]
    markup: Markup
    """The rows of the table; a sentence if there are none."""
    noun: str = ""
    """What they are, if not units of the page's own set."""


@dataclass(frozen=True, slots=True)
class Signs:
    """The four combinations of a gated neuron's signs, each as share and number of positions."""

    both: tuple[str, str]
    gate_only: tuple[str, str]
    linear_only: tuple[str, str]
    neither: tuple[str, str]


@dataclass(frozen=True, slots=True)
class WeightsView:
    """What a neuron's page shows from its weights, and from all its examples together."""

    effects: Effects
    inputs: list[Inputs]
    direct: str
    """How meaningful the direct effects are, in words."""
    reading: str
    """How meaningful the input tokens are, in words."""
    links: list[LinkTable]
    together: LinkTable
    peak_tokens: Markup
    """The tokens it peaks on most often, as rows of a table; empty if there are none."""
    peaks_of: str
    """What the peak tokens were counted over, in words."""
    signs: Signs | None
    """None unless the neuron is gated."""
    not_available: str
    """What the weights do not tell, and why; empty if nothing."""


def weights(
    page: NeuronPage,
    address: NeuronAddress,
    find: TokenAddress,
    aligned: LinkTable | None = None,
) -> WeightsView:
    """The view of a neuron's weights and peak tokens. `aligned`: units of other sets that write
    alike."""
    return WeightsView(
        effects=effects_of(page.weights.logit_effects, find),
        inputs=[_inputs(inputs, page.run.units.gated, find) for inputs in page.weights.inputs],
        direct=_direct(page),
        reading=_read(page),
        links=[
            *_links(page, address),
            *([_encoders(page, address)] if page.dictionary is not None else []),
            *([aligned] if aligned is not None else []),
        ],
        together=_table(
            f"Correlated {page.run.units.noun}s",
            f"{page.run.units.noun.capitalize()}s of this layer whose peaks over the sample's "
            "contexts correlate most with its own. A shared preference for one source can cause "
            "this.",
            "correlation",
            page.together,
            address,
            "none: its peaks do not vary, or those of all others do not",
        ),
        peak_tokens=peak_rows(peak_tokens_of(page, find)),
        peaks_of=peaks_of(page),
        signs=None if page.signs is None else _signs(page.signs),
        not_available=page.weights.not_available or "",
    )


def signed(value: float) -> str:
    """A number with its sign, also if it is positive."""
    text = number(value)
    return text if text.startswith(MINUS) or text == "0" else f"+{text}"


def _rows(
    tokens: Sequence[TokenValue], largest: float, find: TokenAddress, role: str | None
) -> list[TokenRow]:
    return [
        TokenRow(
            token=chip(token.token),
            token_id=token.token_id,
            href=find(token.token_id, role),
            value=signed(token.value),
            bar=charts.bar(token.value, largest, "pos" if token.value > 0 else "neg"),
        )
        for token in tokens
    ]


def _both(
    tokens: LogitEffects | InputTokens, find: TokenAddress, roles: tuple[str, str | None]
) -> tuple[list[TokenRow], list[TokenRow]]:
    """The rows of the top and the bottom tokens, with bars on one scale."""
    values = [abs(token.value) for token in (*tokens.top, *tokens.bottom)]
    largest = max(values, default=0.0)
    return _rows(tokens.top, largest, find, roles[0]), _rows(tokens.bottom, largest, find, roles[1])


def effects_of(effects: LogitEffects, find: TokenAddress) -> Effects:
    """Promoted and suppressed tokens as tables, and the distribution over the vocabulary. `find`
    makes the address of the search for a token."""
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
            axis="logit effect",
            low=histogram.edges[0],
            high=histogram.edges[-1],
            height=92,
        )
    both = token_tables("Logit effect", ("Promotes", promoted), ("Suppresses", suppressed))
    return Effects(both, chart, _spread(effects))


def _spread(effects: LogitEffects) -> str:
    """The distribution of all logit effects, in words."""
    if effects.mean is None or effects.std is None:
        return ""
    start = f"All tokens: mean {signed(effects.mean)}, std {number(effects.std)}"
    if effects.kurtosis is None:
        return f"{start}. All are equal."
    text = f"{start}, excess kurtosis {number(effects.kurtosis)}: {_tails(effects.kurtosis)}."
    if not (effects.top and effects.bottom and effects.std > 0):
        return text
    above = (effects.top[0].value - effects.mean) / effects.std
    below = (effects.mean - effects.bottom[0].value) / effects.std
    return f"{text} Top token: +{number(above, 2)}σ; bottom: {MINUS}{number(below, 2)}σ."


def _tails(kurtosis: float) -> str:
    if kurtosis < 0.5:
        degree = "no" if kurtosis <= 0 else "hardly"
        return f"tails {degree} heavier than a normal distribution's"
    if kurtosis < 3:
        return "tails a little heavier than a normal distribution's"
    if kurtosis < 15:
        return "heavy tails: some tokens stand apart"
    return "very heavy tails: a few tokens stand apart"


def _inputs(inputs: InputTokens, gated: bool, find: TokenAddress) -> Inputs:
    # The store has no neurons that a token inhibits, so those tokens link to the search in general.
    excites, inhibits = _both(inputs, find, (inputs.part, None))
    name = {"in": "the linear part" if gated else "it", "gate": "the gate"}[inputs.part]
    both = token_tables("Value", ("Activated by", excites), ("Inhibited by", inhibits))
    return Inputs(f"What {name} reads", _cosine(inputs), both)


def _cosine(inputs: InputTokens) -> str:
    """The cosine of what is read and what is written, in words."""
    if inputs.cosine is None:
        return ""
    vector = "w_gate" if inputs.part == "gate" else "w_in"
    cosine = f"cos({vector}, w_out) = {number(inputs.cosine)}"
    degree = "in part " if abs(inputs.cosine) < 0.4 else ""
    if inputs.part == "gate":  # it decides how much is written, not with which sign
        if abs(inputs.cosine) < 0.1:
            return f"{cosine}: what opens it is nearly orthogonal to what it writes."
        direction = "along" if inputs.cosine > 0 else "against"
        return f"{cosine}: what opens it points {degree}{direction} what it writes."
    if abs(inputs.cosine) < 0.1:
        return f"{cosine}: what it reads is nearly orthogonal to what it writes."
    if inputs.cosine > 0:
        return f"{cosine}: it writes {degree}along what it reads, which strengthens it."
    return f"{cosine}: it writes {degree}against what it reads, which weakens it."


def _layers(n: int) -> str:
    return "1 layer" if n == 1 else f"{count(n)} layers"


def _direct(page: NeuronPage) -> str:
    units = page.run.units
    if units.no_writes:
        return ""
    after = (page.n_layers - 1 if units.blocks is None else units.blocks) - page.layer
    if not after:
        return (
            f"Only the final norm lies between this {units.noun} and the logits, so direct effects "
            "are nearly the full effect."
        )
    lie, read = ("lies", "reads") if after == 1 else ("lie", "read")
    indirect = (
        "most of its effect may be indirect, so direct effects are weak evidence."
        if after >= page.n_layers / 2
        else "its indirect effects are not included."
    )
    return (
        f"{_layers(after)} {lie} between this {units.noun} and the logits and {read} what it "
        f"writes: {indirect}"
    )


def _read(page: NeuronPage) -> str:
    start = (
        "Each token's embedding alone, through the layer's norm, times what the "
        f"{page.run.units.noun} reads, with nothing else in the residual stream."
    )
    if page.layer == 0:
        return f"{start} In layer 0, positions and attention are left out."
    return (
        f"{start} {_layers(page.layer)} {'writes' if page.layer == 1 else 'write'} to it "
        f"before{', so this is weak evidence' if page.layer > 2 else ''}."
    )


def _links(page: NeuronPage, address: NeuronAddress) -> list[LinkTable]:
    related, units = page.weights, f"{page.run.units.noun.capitalize()}s"
    return [
        _table(
            "Similar output weights",
            f"{units} of the whole model with the most similar "
            f"{'output' if page.dictionary is None else 'decoder'} vectors.",
            "cosine",
            related.alike,
            address,
            "none",
        ),
        _table(
            "Upstream",
            f"{units} of earlier layers that write most strongly, in either direction, to what it "
            "reads.",
            "w_out · w_in",
            related.upstream,
            address,
            "none: this is the first layer" if page.layer == 0 else "none",
        ),
        _table(
            "Downstream",
            f"{units} of later layers that read most strongly, in either direction, what it "
            "writes.",
            "w_out · w_in",
            related.downstream,
            address,
            "none: this is the last layer" if page.layer == page.n_layers - 1 else "none",
        ),
    ]


def _encoders(page: NeuronPage, address: NeuronAddress) -> LinkTable:
    units = f"{page.run.units.noun.capitalize()}s"
    nearest = [] if page.dictionary is None else page.dictionary.encoders
    return _table(
        "Similar encoders",
        f"{units} of this layer with the most similar encoder vectors.",
        "cosine",
        nearest,
        address,
        "none",
    )


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
            called=link.name,
        )
        for link in links
    ]
    # Without a gate there is only one part, which needs no name.
    if all(row.part != "gate" for row in rows):
        rows = [row._replace(part="") for row in rows]
    return LinkTable(title, purpose, measure, rows, link_rows(rows, empty))


def peak_tokens_of(page: NeuronPage, find: TokenAddress) -> list[PeakRow]:
    """The tokens a neuron peaks on most often."""
    tokens = page.peak_tokens[:PEAK_TOKENS]
    largest = max((abs(token.mean) for token in tokens), default=0.0)
    return [
        PeakRow(
            token=chip(token.token),
            token_id=token.token_id,
            href=find(token.token_id, "peak"),
            count=count(token.count),
            mean=number(token.mean),
            bar=charts.bar(token.mean, largest, "pos" if token.mean > 0 else "neg"),
        )
        for token in tokens
    ]


def peaks_of(page: NeuronPage) -> str:
    """What the peak tokens were counted over, in words."""
    total, tokens = sum(token.count for token in page.peak_tokens), len(page.peak_tokens)
    text = (
        f"Of the {count(total)} different contexts that are examples of any kind: extremes are far "
        "more frequent here than in the corpus."
    )
    if more := max(0, tokens - PEAK_TOKENS):
        text += f" {count(more)} more {'token is' if more == 1 else 'tokens are'} in the JSON."
    return text


def _signs(signs: SignCounts) -> Signs:
    total = max(1, signs.both + signs.gate_only + signs.linear_only + signs.neither)

    def cell(positions: int) -> tuple[str, str]:
        return share(positions / total), count(positions)

    return Signs(
        cell(signs.both), cell(signs.gate_only), cell(signs.linear_only), cell(signs.neither)
    )
