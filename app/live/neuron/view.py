"""The form for custom text on a neuron's page, and its result."""

from __future__ import annotations

import math
from dataclasses import dataclass

from markupsafe import Markup, escape

from app.drawing import tokens as highlight
from app.drawing.characters import chip, chip_in_text
from app.drawing.numbers import count, exact, number, share
from app.drawing.palette import palette
from app.live.neuron.schemas import DirectAttribution, LiveAnswer, LiveEffects
from app.live.view import PredictionView, prediction_view
from app.neurons.schemas import Histogram, NeuronPage
from app.schemas import UnitsRef
from app.web.frame import Frame
from app.web.links import Links

WIDTH, TOP, FLOOR, HEIGHT = 440.0, 12.0, 40.0, 54.0
"""The chart of peaks, in user units: its width, the top and the foot of its bars, its height."""
_LETTER = 5.4
"""The approximate width of a letter in its labels."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result for a text."""

    text: Markup
    """The text, coloured on the page's scale."""
    peak: str
    """The peak in three significant digits."""
    exact_peak: str
    token: Markup
    position: int
    standing: str
    """How the peak compares with the peaks that are kept, in words."""
    chart: Markup
    """The same as a chart; empty if the store has no histogram of peaks."""
    parts: str
    """Gate and linear part at the peak; empty if the neuron has none."""
    note: str | None
    predictions: list[PredictionView]
    no_ablation: str
    """Why there are no predictions with the unit ablated; else empty."""
    attribution: Markup


@dataclass(frozen=True, slots=True)
class Box:
    """The form for a text, and its result."""

    action: str
    """Where the text is sent."""
    neuron: str
    """The address of the neuron's JSON, below which its contexts are."""
    most: str
    """The most tokens that a text may have."""
    steer: str
    """The page that steers a text with the unit; empty where it is not known what it writes."""
    text: str = ""
    problem: str | None = None
    """Why the text was refused."""
    result: Result | None = None


@dataclass(frozen=True, slots=True)
class TryContext:
    """What `live/try.html` is rendered with."""

    frame: Frame
    page: NeuronPage
    live: Box


def box(
    page: NeuronPage,
    most: int,
    links: Links,
    *,
    text: str = "",
    problem: str | None = None,
    answer: LiveAnswer | None = None,
) -> Box:
    """The form on a neuron's page. `most`: the most tokens of a text; `text`: the text that was
    sent, with the `problem` or the `answer`."""
    return Box(
        action=links.try_text(page.layer, page.neuron),
        neuron=links.api_neuron(page.layer, page.neuron),
        most=count(most),
        steer="" if page.run.units.no_writes else links.steer(page.layer, page.neuron),
        text=text,
        problem=problem,
        result=None if answer is None else result(page, answer),
    )


def result(page: NeuronPage, answer: LiveAnswer) -> Result:
    """The text in the neuron's colours, marked at its peak, and next-token predictions."""
    text = highlight.render(
        answer.tokens,
        answer.token_ids,
        answer.activations,
        start=0,
        colours=palette(page.scale, low=page.stats.min, high=page.stats.max),
        centre=answer.peak_position,
        value=answer.peak,
    )
    gated = answer.gate is not None and answer.linear is not None
    return Result(
        text=text,
        peak=number(answer.peak),
        exact_peak=exact(answer.peak),
        token=chip_in_text(answer.tokens, answer.peak_position),
        position=answer.peak_position,
        standing=standing(answer.higher_than, answer.peak, page),
        chart=peaks_chart(page.peak_histogram, answer.peak, page.run.units.peaked),
        parts=f"gate {number(answer.gate)}, linear part {number(answer.linear)}" if gated else "",
        note=answer.note,
        predictions=_predictions(answer.effects),
        no_ablation=answer.effects.no_ablation,
        attribution=_attribution(answer.effects.attribution, page.run.units),
    )


def standing(higher_than: float | None, peak: float, page: NeuronPage) -> str:
    """How a peak compares with the peaks that are kept, without claiming more than the bound."""
    if peak > page.stats.max:
        highest = number(page.stats.max)
        return f"higher than every peak of the whole corpus (the highest is {highest})"
    if higher_than is None:
        return f"the peaks of the {page.run.units.peaked} are not known"
    if higher_than == 1:
        return f"higher than the peaks of all of the {page.run.units.peaked}"
    if higher_than == 0:
        return _at_the_low_end(peak, page.peak_histogram, page.run.units.peaked)
    # Rounded down: "at least" has to stay true.
    bound = f"{math.floor(higher_than * 1000) / 10:.1f}%"
    if higher_than < 0.001:
        bound = share(higher_than)
    return f"higher than the peaks of at least {bound} of the {page.run.units.peaked}"


def _at_the_low_end(peak: float, peaks: Histogram, peaked: str) -> str:
    """As `standing`, for peaks below the second bin; the first can hold most of the contexts."""
    if peak < peaks.edges[0]:
        return f"lower than the peaks of all of the {peaked}"
    lowest = share(peaks.counts[0] / sum(peaks.counts))
    return f"in the lowest bin of peaks, with {lowest} of the {peaked}"


def peaks_chart(peaks: Histogram, peak: float, peaked: str) -> Markup:
    """The histogram of the peaks of the contexts `peaked` (log counts), with a line at `peak`."""
    if not peaks.counts:
        return Markup("")
    first, last = min(peak, peaks.edges[0]), max(peak, peaks.edges[-1])
    if last <= first:  # a single value: widen the axis around it
        pad = abs(first) * 0.5 or 1.0
        first, last = first - pad, last + pad
    scale = (WIDTH - 2) / (last - first)
    most = math.log1p(max(peaks.counts))

    def x(value: float) -> float:
        return 1 + (value - first) * scale

    bars = []
    for low, high, n in zip(peaks.edges[:-1], peaks.edges[1:], peaks.counts, strict=True):
        if n:
            tall = math.log1p(n) / most * (FLOOR - TOP)
            bars.append(
                f'<rect x="{x(low):.1f}" y="{FLOOR - tall:.1f}" '
                f'width="{max(2.0, x(high) - x(low) - 0.8):.1f}" height="{tall:.1f}"/>'
            )
    at, value_text = x(peak), number(peak)
    ends = [(peaks.edges[0], "start"), (peaks.edges[-1], "end")]
    labels = [
        f'<text x="{x(value):.1f}" y="{HEIGHT - 3:.0f}" text-anchor="{anchor}">'
        f"{escape(number(value))}</text>"
        for value, anchor in ends
    ]
    reach = _LETTER * len(value_text) / 2
    anchor = "start" if at < reach else "end" if at > WIDTH - reach else "middle"
    return Markup(
        f'<svg class="standing" viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img" '
        f'aria-label="Peaks of the {peaked}, from {escape(number(peaks.edges[0]))} to '
        f"{escape(number(peaks.edges[-1]))}, and this text's peak, {escape(value_text)}\">"
        f"{''.join(bars)}"
        f'<path class="axis" d="M0 {FLOOR:.0f}H{WIDTH:.0f}"/>{"".join(labels)}'
        f'<path class="here" d="M{at:.1f} {TOP:.0f}V{FLOOR + 3:.0f}"/>'
        f'<text class="here" x="{at:.1f}" y="{TOP - 3:.0f}" text-anchor="{anchor}">'
        f"{escape(value_text)}</text></svg>"
    )


def _predictions(effects: LiveEffects) -> list[PredictionView]:
    columns = [
        ("Baseline", "unchanged", effects.as_is),
        ("Zero-ablated", "", effects.zero_ablated),
        ("Mean-ablated", f"{number(effects.mean)} · ", effects.mean_ablated),
    ]
    known = [(name, of, found) for name, of, found in columns if found is not None]
    largest = max(choice.probability for *_, found in known for choice in found.tokens)
    return [
        prediction_view(name, of, found, largest, changed=False)
        if found is effects.as_is
        else prediction_view(
            name, f"{of}{number(found.divergence)} nats", found, largest, changed=True
        )
        for name, of, found in known
    ]


def _attribution(attribution: DirectAttribution | None, units: UnitsRef) -> Markup:
    """The direct logit attribution in one sentence, or why it is not known."""
    if attribution is None:
        return Markup("{}").format(units.no_writes)
    value = number(attribution.value)
    signed = value if attribution.value <= 0 else f"+{value}"
    return Markup(
        'The {} directly adds <b>{}</b> to the logit of <span class="chip">{}</span>, the most '
        "likely next token: its activation at the last token, {}, × its logit effect on that "
        "token, {}, ÷ the norms’ scale there, {}."
    ).format(
        units.noun,
        signed,
        chip(attribution.token),
        number(attribution.activation),
        number(attribution.logit_effect),
        number(attribution.scale),
    )
