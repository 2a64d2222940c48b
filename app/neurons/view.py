"""The pages of a neuron: statistics, charts, and the template contexts.

Templates do no arithmetic, and the JSON has no wording: both are here, in `sections` for examples
and in `weights` for weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from app.drawing import charts
from app.drawing.charts import Cut, Part
from app.drawing.legend import Legend, legend
from app.drawing.numbers import count, number, share
from app.drawing.palette import Palette, palette
from app.examples.lines import Layout
from app.neurons.aligned import Fact, aligned_table, dictionary_lines
from app.neurons.schemas import ContextPage, NeuronPage
from app.neurons.sections import ContextView, Section, by_source, of_context, sections
from app.neurons.snippet import from_json, transformer_lens
from app.neurons.summary import Summary, summary
from app.neurons.weights import WeightsView, weights
from app.reading.statistics import STATISTICS
from app.schemas import View
from app.web.frame import Frame
from app.web.links import Links

_STATS = (
    *("max", "density", "kurtosis", "lookup"),
    *("min", "mean", "std", "skewness", "density_over_tenth"),
)
"""The statistics at the head of a neuron's page, the most important first."""


@dataclass(frozen=True, slots=True)
class Stat:
    """A number with its label and definition."""

    label: str
    value: str
    definition: str


@dataclass(frozen=True, slots=True)
class NeuronView:
    """What a neuron's page shows besides its `NeuronPage`."""

    stats: list[Stat]
    ground: str
    """What the statistics are measured over, in a sentence."""
    quantiles: list[Stat]
    activations: Markup
    """The histogram of activations by position."""
    silent: str
    """The share of positions at which it does not fire."""
    peaks: Markup
    """The histogram of peaks by context."""
    peak_keys: Markup
    """Which colour is which source; empty where there is one."""
    bins: list[tuple[str, Markup]]
    """The charts as text: a title and a table each."""
    legend: Legend | None
    """None if every activation is zero, since there is no scale then."""
    sections: list[Section]
    weights: WeightsView
    dictionary: list[Fact]
    """Of the dictionary that a latent belongs to; empty for other units."""
    summary: Summary
    transformer_lens: str
    """Code that reproduces the first top example; empty without one."""
    from_json: str
    """The same from this server."""


@dataclass(frozen=True, slots=True)
class SourcesView:
    """What the page of examples by source shows besides its `NeuronPage`."""

    legend: Legend | None
    section: Section


@dataclass(frozen=True, slots=True)
class NeuronContext:
    """What `neurons/neuron.html` is rendered with."""

    frame: Frame
    page: NeuronPage
    view: NeuronView
    layout: View
    """How examples are laid out."""
    titled_url: str | None
    """The same page with whole titles on every token; None on that page."""
    origin: str
    """The server's scheme and host, for the citation; empty if unknown."""
    live: Any
    """The form for custom text (`live.neuron.view.Box`), or None."""
    notes: Any
    """The notes and their form (`notes.view.Box`), or None."""


@dataclass(frozen=True, slots=True)
class SourcesContext:
    """What `neurons/sources.html` is rendered with."""

    frame: Frame
    page: NeuronPage
    view: SourcesView
    layout: View
    titled_url: str | None


@dataclass(frozen=True, slots=True)
class ExampleContext:
    """What `neurons/context.html` is rendered with."""

    frame: Frame
    page: ContextPage
    view: ContextView


def neuron_view(
    page: NeuronPage, layout: View, links: Links, *, origin: str = "", titled: bool = False
) -> NeuronView:
    """The view of a neuron. `origin` is the server's scheme and host; `titled`: each token carries
    its whole title."""
    peaks = page.stats.peak_quantiles
    quantiles = [
        ("1%", peaks.q01),
        ("10%", peaks.q10),
        ("25%", peaks.q25),
        ("median", peaks.q50),
        ("75%", peaks.q75),
        ("90%", peaks.q90),
        ("99%", peaks.q99),
    ]
    activations_chart, peaks_chart = _histograms(page)
    effects = page.weights.logit_effects.histogram
    peaked = page.run.units.peaked
    return NeuronView(
        stats=[
            # Sparse sets and runs of earlier versions have no such score.
            stat
            for name, stat in zip(_STATS, stats(page), strict=True)
            if name != "lookup" or page.stats.lookup is not None
        ],
        ground=(
            ("Densities, maximum" if page.run.units.sparse else "Maximum")
            + f" and minimum over all {count(page.run.tokens)} tokens; the rest of "
            f"{count(page.sample.positions)} positions in {count(page.sample.contexts)} "
            "sampled contexts."
        ),
        quantiles=[
            Stat(label, number(value), f"{label} of the {peaked} peak at or below this.")
            for label, value in quantiles
        ],
        activations=activations_chart,
        silent=share(1 - page.stats.density),
        peaks=peaks_chart,
        peak_keys=charts.keys(parts) if (parts := peak_parts(page)) else Markup(),
        bins=[
            (title, charts.bins(histogram.edges, histogram.counts, name=name))
            for name, title, histogram in (
                ("by-position", "Positions by activation", page.histogram),
                ("by-context", "Contexts by peak", page.peak_histogram),
                ("effects-all", "Tokens by logit effect", effects),
            )
            if sum(histogram.counts)
        ],
        legend=legend(page.scale, page.stats.min, page.stats.max),
        sections=sections(page, _layout(page, layout, links, titled)),
        weights=weights(page, links.neurons(), links.tokens(), aligned_table(page, links)),
        dictionary=dictionary_lines(page),
        summary=summary(page, links.tokens()),
        transformer_lens=transformer_lens(page),
        from_json=from_json(page, origin + links.api_neuron(page.layer, page.neuron)),
    )


def sources_view(
    page: NeuronPage, layout: View, links: Links, *, titled: bool = False
) -> SourcesView:
    """All examples of each source, with the colour scale. `titled`: each token carries its whole
    title."""
    section = by_source(page, _layout(page, layout, links, titled))
    return SourcesView(legend(page.scale, page.stats.min, page.stats.max), section)


def context_view(page: ContextPage) -> ContextView:
    """A whole context on the neuron's colour scale."""
    return of_context(page, palette(page.scale, low=page.min, high=page.max))


def _layout(page: NeuronPage, layout: View, links: Links, titled: bool) -> Layout:
    context = links.contexts(page.layer, page.neuron)
    return Layout(layout, _palette(page), context, titled=titled)


def _palette(page: NeuronPage) -> Palette:
    return palette(page.scale, low=page.stats.min, high=page.stats.max)


def _histograms(page: NeuronPage) -> tuple[Markup, Markup]:
    """The histograms of activations by position and of peaks by context, on the same axis."""
    stats, by_position, by_context = page.stats, page.histogram, page.peak_histogram
    low = min(stats.min, by_position.edges[0], by_context.edges[0])
    high = max(stats.max, by_position.edges[-1], by_context.edges[-1])
    top = page.examples.top
    cuts: list[Cut] = []
    above = 0.0
    for band in page.examples.bands:  # from the highest down
        above += band.nominal_share
        if band.low is not None:
            upper = f" to {number(band.high)}" if band.high is not None else " up"
            title = f"Peak from {number(band.low)}{upper}: {share(band.share)} of contexts"
            cuts.append(Cut(band.low, f"top {above:.0%}", title))
    return (
        charts.histogram(
            by_position.edges,
            by_position.counts,
            name="by-position",
            title="Activations by position, counts on a log scale",
            what="positions",
            axis="activation",
            low=low,
            high=high,
            height=154,
        ),
        charts.histogram(
            by_context.edges,
            by_context.counts,
            name="by-context",
            title="Peaks by context",
            what="contexts",
            axis="peak",
            low=low,
            high=high,
            height=166,
            log=False,
            cuts=cuts[::-1],
            parts=peak_parts(page),
            ticks=[example.peak for example in top],
            ticks_title=f"The {count(len(top))} top examples, of all contexts",
        ),
    )


def peak_parts(page: NeuronPage) -> list[Part]:
    """The histogram of peaks by source, without sources that the sample has nothing of."""
    return [
        Part("other sources" if source.other else source.source or "without a source", counts)
        for source in page.peaks_by_source
        if sum(counts := source.counts)
    ]


def stats(page: NeuronPage) -> list[Stat]:
    """A neuron's statistics, in the order of the page."""
    measured = page.stats
    tenth = f"density ≥ {number(measured.tenth)}" if measured.max > 0 else "density ≥ 10% of max"
    labels = {"density": "density > 0", "density_over_tenth": tenth, "lookup": "token lookup"}
    shown = []
    for name in _STATS:
        statistic, value = STATISTICS[name], getattr(measured, name)
        explanation = statistic.explanation
        if statistic.counts:
            explanation = f"{explanation} Of {page.run.units.counted}."
        if name == "density_over_tenth" and measured.max <= 0:
            value = None
        shown.append(Stat(labels.get(name, statistic.label), statistic.text(value), explanation))
    return shown
