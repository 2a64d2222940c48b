"""Pure: schema objects → what the templates show. Apart so that templates hold no arithmetic and
the JSON of a page holds no wording."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from app import charts, highlight
from app.numbers import MINUS, MISSING, compact, count, exact, number, share, when
from app.schemas import Band, Example, LogitEffect, NeuronPage


@dataclass(frozen=True, slots=True)
class Stat:
    """One number of the statistics strip."""

    label: str
    value: str
    definition: str


@dataclass(frozen=True, slots=True)
class Effect:
    """One row of a list of logit effects."""

    token: Markup
    token_id: int
    value: str
    bar: Markup


@dataclass(frozen=True, slots=True)
class Line:
    """One example: a line aligned on its peak (or trough), and the whole context behind it."""

    rank: int
    value: str
    """The exact peak or trough."""
    left: Markup
    right: Markup
    """From the peak on."""
    context: Markup
    source: str | None
    facts: str


@dataclass(frozen=True, slots=True)
class Group:
    """Examples under one heading; only bands have more than one group a section."""

    title: str | None
    note: str | None
    lines: list[Line]


@dataclass(frozen=True, slots=True)
class Section:
    """One kind of examples."""

    id: str
    title: str
    purpose: str
    empty: str
    groups: list[Group]

    @property
    def size(self) -> int:
        """How many examples there are."""
        return sum(len(group.lines) for group in self.groups)


@dataclass(frozen=True, slots=True)
class Swatch:
    """One step of the legend."""

    css: str
    title: str


@dataclass(frozen=True, slots=True)
class Legend:
    """The page's one colour scale, from the most negative step to the most positive."""

    low: str
    high: str
    swatches: list[Swatch]


@dataclass(frozen=True, slots=True)
class NeuronView:
    """All a neuron page shows that is not already a field of its `NeuronPage`."""

    stats: list[Stat]
    ground: str
    """What the numbers were counted over, in one sentence."""
    quantiles: list[Stat]
    histogram: Markup
    histogram_text: str
    promoted: list[Effect]
    suppressed: list[Effect]
    legend: Legend | None
    """None where every activation is zero: there is no scale then."""
    sections: list[Section]


def neuron(page: NeuronPage) -> NeuronView:
    """Everything the neuron page needs beside `page` itself."""
    scale = scale_of(page)
    stats = page.stats
    peaks = stats.peak_quantiles
    quantiles = [
        ("1%", peaks.q01),
        ("10%", peaks.q10),
        ("25%", peaks.q25),
        ("median", peaks.q50),
        ("75%", peaks.q75),
        ("90%", peaks.q90),
        ("99%", peaks.q99),
    ]
    edges, counts = page.histogram.edges, page.histogram.counts
    return NeuronView(
        stats=_stats(page),
        ground=(
            f"Maximum and minimum over all {count(page.run.tokens)} tokens; the rest of "
            f"{count(page.sample.positions)} positions in {count(page.sample.contexts)} "
            "sampled contexts."
        ),
        quantiles=[
            Stat(label, number(value), f"{label} of the sample's contexts peak at or below this.")
            for label, value in quantiles
        ],
        histogram=charts.histogram(
            edges,
            counts,
            low=stats.min,
            high=stats.max,
            quantiles=[(f"{label} of peaks", value) for label, value in quantiles],
            ticks=[example.peak for example in page.examples.top],
        ),
        histogram_text=charts.describe(edges, counts),
        promoted=_effects(page.logit_effects.top, page),
        suppressed=_effects(page.logit_effects.bottom, page),
        legend=legend(scale) if scale > 0 else None,
        sections=_sections(page, scale),
    )


def scale_of(page: NeuronPage) -> float:
    """The largest |activation| the page shows: one scale for all kinds of examples."""
    largest = 0.0
    for example in _all_examples(page):
        largest = max(largest, abs(example.peak), abs(example.trough))
    return largest or max(abs(page.stats.max), abs(page.stats.min))


def _all_examples(page: NeuronPage) -> Iterable[Example]:
    kinds = page.examples
    yield from kinds.top
    yield from kinds.bottom
    yield from kinds.random
    for band in kinds.bands:
        yield from band.examples


def _stats(page: NeuronPage) -> list[Stat]:
    s = page.stats
    return [
        Stat("max", number(s.max), "Largest activation over the whole corpus: exact."),
        Stat("min", number(s.min), "Smallest activation over the whole corpus: exact."),
        Stat("mean", number(s.mean), "Mean activation over the sample's positions."),
        Stat("std", number(s.std), "Standard deviation over the sample's positions."),
        Stat(
            "skewness",
            number(s.skewness),
            "Third standardised moment: 0 for a symmetric distribution, positive where the long "
            "tail is above the mean.",
        ),
        Stat(
            "kurtosis",
            number(s.kurtosis),
            "Excess kurtosis: 0 for a normal distribution; large where few positions hold most of "
            "the variance.",
        ),
        Stat(
            "density > 0",
            share(s.density),
            "Share of the sample's positions where the activation is above zero.",
        ),
        Stat(
            f"density ≥ {number(s.tenth)}" if s.max > 0 else "density ≥ 10% of max",
            share(s.density_over_tenth) if s.max > 0 else MISSING,
            "Share of the sample's positions at or above 10% of the maximum (rounded up to an edge "
            "of the fine histogram). GELU is rarely exactly zero, so this says more than the share "
            "above zero. Not given where the maximum is not above zero.",
        ),
    ]


def _effects(effects: list[LogitEffect], page: NeuronPage) -> list[Effect]:
    both = (*page.logit_effects.top, *page.logit_effects.bottom)
    largest = max((abs(effect.value) for effect in both), default=0.0)
    return [
        Effect(
            token=highlight.chip(effect.token),
            token_id=effect.token_id,
            value=signed(effect.value),
            bar=charts.bar(effect.value, largest, "pos" if effect.value > 0 else "neg"),
        )
        for effect in effects
    ]


def signed(value: float) -> str:
    """A number with its sign, also where it is positive."""
    text = number(value)
    return text if text.startswith(MINUS) or text == "0" else f"+{text}"


def legend(scale: float) -> Legend:
    """The steps of a colour scale with the activations each stands for; `scale` is above zero."""
    unit = scale / highlight.STEPS
    swatches: list[Swatch] = []
    for tenth in range(-highlight.STEPS, highlight.STEPS + 1):
        css = highlight.step(tenth * unit, scale)
        low = max(-scale, (tenth - 0.5) * unit)
        high = min(scale, (tenth + 0.5) * unit)
        swatches.append(Swatch(css, f"{number(low)} to {number(high)}"))
    return Legend(number(-scale), number(scale), swatches)


def _sections(page: NeuronPage, scale: float) -> list[Section]:
    kinds = page.examples
    scanned = count(page.run.contexts)
    half = "the sample's second half"
    return [
        Section(
            "top",
            "Top",
            f"The highest peaks of all {scanned} contexts, aligned on the peak. They suggest what "
            "the neuron responds to, and cannot confirm it: they are its extremes.",
            "No top examples were kept.",
            [Group(None, None, _lines(kinds.top, scale))],
        ),
        Section(
            "bottom",
            "Bottom",
            f"The lowest troughs of all {scanned} contexts, aligned on the trough: what drives "
            "the neuron furthest below zero.",
            "No bottom examples were kept.",
            [Group(None, None, _lines(kinds.bottom, scale, trough=True))],
        ),
        Section(
            "random",
            "Random",
            "Contexts drawn without looking at this neuron, the same for every neuron: what it "
            "does on ordinary text, and what the top examples must be told apart from.",
            "No random examples were kept.",
            [Group(None, None, _lines(kinds.random, scale))],
        ),
        Section(
            "bands",
            "Bands",
            "Contexts picked by where their peak falls among the neuron's peaks, not by how high "
            "it is: what lies between the ordinary and the extreme. The cuts are the median, 90% "
            "and 99% of the sample's first half; examples and shares are of "
            f"{half}.",
            "No bands were kept.",
            [
                Group(_band(band), _band_note(band), _lines(band.examples, scale))
                for band in kinds.bands
            ],
        ),
    ]


def _band(band: Band) -> str:
    if band.low is None and band.high is None:
        return "All peaks"
    if band.low is None:
        return f"Peak below {number(band.high)}"
    if band.high is None:
        return f"Peak from {number(band.low)} up"
    return f"Peak from {number(band.low)} to {number(band.high)}"


def _band_note(band: Band) -> str:
    return f"{share(band.share)} of contexts (nominally {share(band.nominal_share)})"


def _lines(examples: list[Example], scale: float, *, trough: bool = False) -> list[Line]:
    return [_line(example, scale, trough=trough) for example in examples]


def _line(example: Example, scale: float, *, trough: bool) -> Line:
    value = example.trough if trough else example.peak
    position = example.trough_position if trough else example.peak_position
    parts = highlight.pieces(
        example.tokens,
        example.token_ids,
        example.activations,
        start=example.start,
        scale=scale,
        peak=position - example.start,
        peak_value=value,
    )
    left, right = highlight.window(parts)
    last = example.start + len(example.tokens) - 1
    facts = [
        f"peak {exact(example.peak)} at position {example.peak_position}",
        f"trough {exact(example.trough)} at position {example.trough_position}",
        f"positions {example.start} to {last}",
        f"context {example.context_id}",
        f"document {example.document_index}",
    ]
    return Line(
        rank=example.rank,
        value=exact(value),
        left=highlight.render(left),
        right=highlight.render(right),
        context=highlight.render(highlight.merged(parts), breaks=True),
        source=example.source,
        facts=" · ".join(facts),
    )


FILTERS: dict[str, Callable[..., Any]] = {
    "number": number,
    "exact": exact,
    "share": share,
    "count": count,
    "compact": compact,
    "chip": highlight.chip,
    "bar": charts.bar,
    "when": when,
}
"""What the templates call as filters: `environment.filters.update(present.FILTERS)`."""
