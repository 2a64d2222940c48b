"""The page that compares two neurons on one colour scale and one axis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from markupsafe import Markup

from app.compare.schemas import Comparison
from app.drawing import charts
from app.drawing.legend import Legend, legend
from app.drawing.numbers import MISSING, count, number, share
from app.drawing.palette import palette
from app.drawing.scatter import scatter
from app.drawing.tables import peak_rows
from app.examples.lines import Kind, Layout, lines, markup
from app.examples.schemas import FEWEST_COMMON
from app.neurons.schemas import Histogram, NeuronPage
from app.neurons.view import Stat, stats
from app.neurons.weights import effects_of, peak_tokens_of, peaks_of
from app.reading.statistics import DEAD, HEAD_STATISTICS
from app.web.frame import Frame
from app.web.links import Links

AT_FIRST = 10
"""Top examples that are visible before a reader opens the rest."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two neurons."""

    letter: str
    page: NeuronPage
    href: str
    name: str
    first: Markup
    """The first top examples, as a list."""
    rest: Markup
    """The others."""
    n_rest: int
    activations: Markup
    peaks: Markup
    bins: list[tuple[str, Markup]]
    effects: Markup
    peak_tokens: Markup
    peaks_of: str


@dataclass(frozen=True, slots=True)
class Fact:
    """A row of the table of both neurons."""

    label: str
    definition: str
    a: str
    b: str


@dataclass(frozen=True, slots=True)
class CompareView:
    """A comparison as the page shows it."""

    sides: list[Side]
    facts: list[Fact]
    grounds: list[Fact]
    """What each was indexed with."""
    equal: list[Fact]
    """Of `facts` and `grounds`, those with the same value in both, which the page folds."""
    legend: Legend | None
    scale: str
    """A sentence about the colour scale."""
    activations: list[str]
    """What an activation is, where the word says too little."""
    shared: str
    """A sentence about the top examples they share."""
    together: str
    """A sentence about the correlation of their peaks."""
    has_effects: bool
    """Whether logit effects of either are stored."""
    scatter: Markup | None
    """Their peaks, a dot a context; None if the runs have different samples."""


@dataclass(frozen=True, slots=True)
class CompareContext:
    """What `compare/compare.html` is rendered with."""

    frame: Frame
    texts: dict[str, str]
    """The texts in the boxes `a` and `b`."""
    view: CompareView | None = None
    """None: the form alone."""
    errors: dict[str, str] = field(default_factory=dict)
    """What is wrong with either text."""
    swapped_url: str | None = None
    """The comparison with its sides swapped."""
    titled_url: str | None = None
    """The same page with whole titles on every token; None on that page."""


def compare_view(page: Comparison, a: Links, b: Links, *, titled: bool = False) -> CompareView:
    """The view of a comparison. `a`, `b`: the links of each neuron's model. `titled`: each token
    carries its whole title."""
    shared = page.shared or []
    facts, grounds = [*_scores(page), *_facts(page.a, page.b)], _grounds(page.a, page.b)
    return CompareView(
        sides=[
            _side(
                "a",
                page.a,
                page,
                a,
                {context.context_id_a: context.rank_b for context in shared},
                titled,
            ),
            _side(
                "b",
                page.b,
                page,
                b,
                {context.context_id_b: context.rank_a for context in shared},
                titled,
            ),
        ],
        facts=facts,
        grounds=grounds,
        equal=[fact for fact in (*facts, *grounds) if fact.a == fact.b],
        legend=legend(
            page.scale,
            min(page.a.stats.min, page.b.stats.min),
            max(page.a.stats.max, page.b.stats.max),
        ),
        scale=_scale(page),
        activations=sorted({side.run.units.activation for side in (page.a, page.b)} - {""}),
        shared=_shared(page),
        together=_together(page),
        has_effects=any(side.weights.logit_effects.top for side in (page.a, page.b)),
        scatter=_scatter(page, a),
    )


def name(page: NeuronPage) -> str:
    """What the neuron is called: model, layer and index, and its name if it has one."""
    own = f" “{page.name}”" if page.name else ""
    return f"{page.run.name} {page.layer}/{page.neuron}{own}"


def _side(
    letter: str,
    page: NeuronPage,
    both: Comparison,
    links: Links,
    also: dict[int, int],
    titled: bool,
) -> Side:
    colours = palette(both.scale, low=page.stats.min, high=page.stats.max)
    context = links.contexts(page.layer, page.neuron)
    layout = Layout("peak", colours, context, also, titled)
    find = links.tokens()
    (top,) = lines([Kind(page.examples.top, named=False)], layout)
    first, rest = top[:AT_FIRST], top[AT_FIRST:]
    histograms = (
        ("by-position", "Activations by position", "positions", page.histogram, True),
        ("by-context", "Peaks by context", "contexts", page.peak_histogram, False),
    )
    activations, peaks = (
        _chart(f"{letter}-{kind}", title, what, histogram, both, log=log)
        for kind, title, what, histogram, log in histograms
    )
    return Side(
        letter=letter,
        page=page,
        href=links.neuron(page.layer, page.neuron),
        name=name(page),
        first=markup(first, layout) if first else Markup(),
        rest=markup(rest, layout) if rest else Markup(),
        n_rest=len(rest),
        activations=activations,
        peaks=peaks,
        bins=[
            (
                f"{title}: {name(page)}",
                charts.bins(histogram.edges, histogram.counts, name=f"{letter}-{kind}"),
            )
            for kind, title, _, histogram, _ in histograms
            if sum(histogram.counts)
        ],
        effects=effects_of(page.weights.logit_effects, find).tables,
        peak_tokens=peak_rows(peak_tokens_of(page, find)),
        peaks_of=peaks_of(page),
    )


def _chart(
    chart: str, title: str, what: str, histogram: Histogram, both: Comparison, *, log: bool
) -> Markup:
    return charts.histogram(
        histogram.edges,
        histogram.counts,
        name=chart,
        title=f"{title}{', counts on a log scale' if log else ''}",
        what=what,
        axis="peak" if what == "contexts" else "activation",
        low=both.low,
        high=both.high,
        height=140,
        log=log,
    )


def _scores(page: Comparison) -> list[Fact]:
    """Two heads' scores."""
    facts = []
    for name, values in (page.scores or {}).items():
        score = HEAD_STATISTICS[name]
        a, b = map(score.text, values)
        facts.append(Fact(score.label, score.definition, a, b))
    return _known(facts)


def _known(facts: list[Fact]) -> list[Fact]:
    """The facts that at least one side has."""
    return [fact for fact in facts if not fact.a == fact.b == MISSING]


def _facts(a: NeuronPage, b: NeuronPage) -> list[Fact]:
    facts = [_stat(stat_a, stat_b, a, b) for stat_a, stat_b in zip(stats(a), stats(b), strict=True)]
    peaked = sorted({page.run.units.peaked for page in (a, b)})
    below = f"of the {' or '.join(peaked)} peak at or below this."
    more: list[tuple[str, str, Callable[[NeuronPage], str]]] = [
        ("median peak", f"50% {below}", lambda page: number(page.stats.peak_quantiles.q50)),
        ("90% of peaks", f"90% {below}", lambda page: number(page.stats.peak_quantiles.q90)),
        ("99% of peaks", f"99% {below}", lambda page: number(page.stats.peak_quantiles.q99)),
        (
            "std of logit effects",
            "Standard deviation, over the vocabulary, of what one unit of activation adds.",
            lambda page: number(page.weights.logit_effects.std),
        ),
        (
            "kurtosis of logit effects",
            "Excess kurtosis over the vocabulary: high if few tokens are affected.",
            lambda page: number(page.weights.logit_effects.kurtosis),
        ),
        (
            "dead",
            DEAD,
            lambda page: "yes" if page.stats.dead else "no",
        ),
    ]
    facts += [Fact(label, definition, text(a), text(b)) for label, definition, text in more]
    return _known(facts)


def _stat(stat_a: Stat, stat_b: Stat, a: NeuronPage, b: NeuronPage) -> Fact:
    if not stat_a.label.startswith("density ≥"):
        return Fact(stat_a.label, stat_a.definition, stat_a.value, stat_b.value)
    # The label names the neuron's own threshold, so it moves to the value.
    value_a, value_b = (
        f"{stat.value} (≥ {number(page.stats.tenth)})" if page.stats.max > 0 else stat.value
        for stat, page in ((stat_a, a), (stat_b, b))
    )
    return Fact("density ≥ 10% of max", stat_a.definition, value_a, value_b)


def _grounds(a: NeuronPage, b: NeuronPage) -> list[Fact]:
    rows: list[tuple[str, Callable[[NeuronPage], str]]] = [
        ("model", lambda page: page.run.model_id),
        ("revision", lambda page: (page.run.revision or "newest")[:40]),
        ("hook point", lambda page: page.hook_point),
        ("corpus", lambda page: page.run.corpus),
        ("tokens", lambda page: count(page.run.tokens)),
        ("sample", _sample),
        ("dtype", lambda page: page.run.dtype),
    ]
    return [Fact(label, "", text(a), text(b)) for label, text in rows]


def _sample(page: NeuronPage) -> str:
    positions, contexts = count(page.sample.positions), count(page.sample.contexts)
    return f"{positions} positions in {contexts} contexts"


def _scale(page: Comparison) -> str:
    if page.scale <= 0:
        return "Both are always zero: there is no colour scale."
    if page.a.scale == page.b.scale:
        whose = "the end of both their own scales"
    else:
        larger, smaller = sorted((page.a, page.b), key=lambda side: -side.scale)
        whose = (
            f"the end of that of {name(larger)}; {name(smaller)} goes to "
            f"{number(smaller.scale)}, {share(smaller.scale / larger.scale)} of it"
        )
    return (
        f"One colour scale and one axis for both: the scale ends at {number(page.scale)}, {whose}."
    )


def _together(page: Comparison) -> str:
    correlation = page.correlation
    if correlation is None:
        return (
            f"Their samples have fewer than {FEWEST_COMMON} contexts in common: too few for a "
            "correlation of their peaks."
        )
    if page.a.run.id == page.b.run.id:
        contexts = f"the first {count(correlation.contexts)} contexts of the sample"
    else:
        contexts = f"the {count(correlation.contexts)} contexts that both samples have"
    if correlation.value is None:
        return f"The peaks of one are constant in {contexts}: there is no correlation."
    return f"Over {contexts} their peaks correlate at {correlation.value:+.2f}.".replace("-", "−")


def _scatter(page: Comparison, links: Links) -> Markup | None:
    """The peaks of both neurons, each dot a link to its context in the first one's run."""
    correlation = page.correlation
    if correlation is None:
        return None
    return scatter(
        correlation.a,
        correlation.b,
        title=f"Peaks of {name(page.a)} and {name(page.b)} in the same contexts",
        description=_together(page),
        names=(name(page.a), name(page.b)),
        hrefs=[
            None if context_id is None else links.context_neurons(context_id)
            for context_id in correlation.context_ids
        ],
    )


def _shared(page: Comparison) -> str:
    if page.shared is None:
        return "Their corpora or tokenizers differ, so they share no contexts."
    if not page.shared:
        return "No context is a top example of both."
    many = len(page.shared) > 1
    return (
        f"{count(len(page.shared))} {'contexts are' if many else 'context is'} among the top "
        "examples of both: marked ↔, with the rank on the other side."
    )
