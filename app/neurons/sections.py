"""A neuron's examples as the sections of its page, and its whole contexts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from markupsafe import Markup

from app.drawing import charts
from app.drawing import tokens as highlight
from app.drawing.legend import Legend, legend
from app.drawing.numbers import count, exact, number, share
from app.drawing.tokens import Palette
from app.examples.lines import Kind, Layout, Line, lines, markup, whole
from app.examples.schemas import Band, Example, SourceExamples
from app.neurons.schemas import ContextPage, NeuronPage
from app.neurons.summary import tokens_by_position

_FLOOR = 1e-4
"""Troughs that differ by no more than this share are all at the nonlinearity's own minimum."""
SOURCES_IN_FULL = 4
"""With more sources than this a neuron's page shows the first example of each."""


@dataclass(frozen=True, slots=True)
class Group:
    """Examples under one heading; bands and sources have more than one group a section."""

    title: str | None
    note: str
    lines: list[Line]
    shown: Markup
    """The lines as a list."""


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One source in the chart of sources."""

    name: str
    highest: str
    mean: str
    bar: Markup


@dataclass(frozen=True, slots=True)
class Section:
    """One kind of examples."""

    id: str
    title: str
    part: str
    """What share of the corpus it stands for."""
    purpose: str
    empty: str
    groups: list[Group]
    sources: list[SourceRow]
    """The chart of sources, in their section."""
    cut: bool
    """Whether there are more examples than are given here."""
    size: int
    logo: Markup = field(default_factory=Markup)
    """Tokens by position; empty where no token repeats."""
    folded: str = ""
    """If the examples are folded: what stands in their place."""


@dataclass(frozen=True, slots=True)
class ContextView:
    """All a context's page shows that is not already a field of its `ContextPage`."""

    whole: Markup
    legend: Legend | None
    facts: list[tuple[str, str]]
    kept: str
    """Which of its activations there are to see."""


def sections(page: NeuronPage, layout: Layout) -> list[Section]:
    """All kinds of examples of a neuron, in the order they are to be read."""
    kinds, scanned = page.examples, page.run.contexts
    cut, shown = _sources_shown(kinds.sources, full=False)
    top, bottom, random, *rest = lines(
        [
            Kind(kinds.top, factors=True),
            Kind(kinds.bottom, trough=True, factors=True),
            Kind(kinds.random),
            *(Kind(band.examples) for band in kinds.bands),
            *shown,
        ],
        layout,
    )
    gated = any(example.gate is not None for example in kinds.top)
    letters = " g: gate at the peak; l: linear part." if gated else ""
    intermediate = [example for band in kinds.bands for example in band.examples]
    floor = _floor(kinds.bottom)
    clipped = " Stronger inhibition is clipped and cannot be seen." if floor else ""
    on_peak, on_trough = (
        f", aligned on the {centre}" if layout.view == "peak" else ""
        for centre in ("peak", "trough")
    )
    found = [
        _section(
            "top",
            "Top",
            _part(len(kinds.top), scanned),
            f"The highest-activating contexts of the corpus{on_peak}. "
            "Top examples can mislead: check any hypothesis against the intermediate and random "
            f"examples below.{letters}",
            [_group(None, "", top, layout)],
            kinds.top,
            logo=tokens_by_position(kinds.top),
        ),
        _section(
            "bands",
            "Intermediate",
            "by quantile of peak activation" if kinds.bands else "",
            "Contexts between the ordinary and the extreme, chosen by the quantile of their peak. "
            "Quantiles are of the sample's first half; examples and shares are of its second half.",
            [
                _group(_band(band), _band_note(band), made, layout)
                for band, made in zip(kinds.bands, rest, strict=False)
            ],
            intermediate,
            logo=tokens_by_position(intermediate),
        ),
        _section(
            "random",
            "Random",
            _part(len(kinds.random), scanned),
            "Contexts drawn without looking at this neuron, the same for every neuron: its "
            "behavior on ordinary text. A good explanation should account for these too.",
            [_group(None, "", random, layout)],
            kinds.random,
        ),
        _section(
            "bottom",
            "Bottom",
            _part(len(kinds.bottom), scanned),
            f"The lowest-activating contexts of the corpus{on_trough}.{clipped}",
            [_group(None, "", bottom, layout)],
            kinds.bottom,
            folded=floor,
        ),
    ]
    if kinds.sources:
        found.append(_by_source(page, rest[len(kinds.bands) :], layout, cut=cut))
    if page.stats.dead:
        return [
            replace(section, folded=section.folded or f"{count(section.size)} examples")
            for section in found
        ]
    return found


def by_source(page: NeuronPage, layout: Layout) -> Section:
    """The sources of the corpus: a chart of their peaks and all examples of each."""
    _, shown = _sources_shown(page.examples.sources, full=True)
    return _by_source(page, lines(shown, layout), layout, cut=False)


def _sources_shown(sources: list[SourceExamples], *, full: bool) -> tuple[bool, list[Kind]]:
    """Whether there are too many sources for all their examples, and those that are shown of
    each that has any: all, or the first."""
    kept = [some for some in sources if some.examples]
    cut = not full and len(kept) > SOURCES_IN_FULL
    most = 1 if cut else None
    return cut, [Kind(some.examples[:most], named=some.other) for some in kept]


def _by_source(
    page: NeuronPage, shown: Sequence[list[Line]], layout: Layout, *, cut: bool
) -> Section:
    sources = page.examples.sources
    kept = [some for some in sources if some.examples]
    groups = [
        _group(source_name(some), _source_note(some), made, layout)
        for some, made in zip(kept, shown, strict=True)
    ]
    size = sum(len(some.examples) for some in kept)
    return _section(
        "sources",
        "By source",
        _part(size, page.run.contexts),
        "The highest peaks within each part of the corpus. A neuron can look clean in one kind of "
        "text and mean something else in another: an explanation that "
        "only holds in one source is incomplete.",
        groups,
        [one for some in kept for one in some.examples],
        sources=_source_rows(sources),
        cut=cut,
    )


def of_context(page: ContextPage, colours: Palette) -> ContextView:
    """A context in full, marked at the neuron's peak (of bottom examples alone: at the trough)."""
    example = page.example
    trough = page.kinds == ["bottom"]
    facts = [
        ("peak", f"{exact(example.peak)} at position {example.peak_position}"),
        ("trough", f"{exact(example.trough)} at position {example.trough_position}"),
    ]
    if example.gate is not None and example.linear is not None:
        where = "trough" if trough else "peak"
        facts.append((f"gate at the {where}", number(example.gate)))
        facts.append((f"linear part at the {where}", number(example.linear)))
    facts += [
        ("example of kind", ", ".join(page.kinds)),
        ("length", f"{count(page.length)} tokens"),
        ("context", str(example.context_id)),
        ("document", str(example.document_index)),
    ]
    if example.source:
        facts.append(("source", example.source))
    # What is not stored is told from what is not included.
    activations = [
        math.nan if value is None and not page.stored_from <= position < page.stored_to else value
        for position, value in enumerate(example.activations)
    ]
    text = highlight.render(
        example.tokens,
        example.token_ids,
        activations,
        start=example.start,
        colours=colours,
        centre=(example.trough_position if trough else example.peak_position) - example.start,
        value=example.trough if trough else example.peak,
    )
    return ContextView(
        whole(example.context_id, text), legend(page.scale, page.min, page.max), facts, _kept(page)
    )


def _kept(page: ContextPage) -> str:
    """Which activations there are to see."""
    if page.stored_from == 0 and page.stored_to == page.length:
        return "Its activations on every token"
    positions = f"{page.stored_from} to {page.stored_to - 1}"
    return f"Its activations at positions {positions}, which are all that is kept"


def source_name(some: SourceExamples) -> str:
    """What a source is called on the page."""
    return "other sources" if some.other else some.source or "without a source"


def _floor(bottom: Sequence[Example]) -> str:
    """A sentence if all troughs are at the nonlinearity's own minimum; else empty."""
    troughs = [example.trough for example in bottom]
    if len(troughs) < 2 or max(troughs) - min(troughs) > _FLOOR * abs(min(troughs)):
        return ""
    return f"{count(len(troughs))} contexts tie at the activation's minimum, {number(min(troughs))}"


def _group(title: str | None, note: str, made: list[Line], layout: Layout) -> Group:
    return Group(title, note, made, markup(made, layout) if made else Markup())


def _section(
    name: str,
    title: str,
    part: str,
    purpose: str,
    groups: list[Group],
    examples: Sequence[Example],
    *,
    sources: list[SourceRow] | None = None,
    cut: bool = False,
    logo: Markup | None = None,
    folded: str = "",
) -> Section:
    return Section(
        name,
        title,
        part,
        purpose,
        empty=f"No {title.lower()} examples were stored.",
        groups=groups,
        sources=sources or [],
        cut=cut,
        size=len(examples),
        logo=logo or Markup(),
        folded=folded,
    )


def _part(kept: int, scanned: int) -> str:
    if not kept or not scanned:
        return ""
    return f"{count(kept)} of {count(scanned)} contexts, {share(min(1.0, kept / scanned))}"


def _band(band: Band) -> str:
    if band.low is None and band.high is None:
        return "All peaks"
    if band.low is None:
        return f"Peak below {number(band.high)}"
    if band.high is None:
        return f"Peak ≥ {number(band.low)}"
    return f"Peak from {number(band.low)} to {number(band.high)}"


def _band_note(band: Band) -> str:
    return f"{share(band.share)} of contexts (target {share(band.nominal_share)})"


def _source_note(some: SourceExamples) -> str:
    mean = "" if some.mean_peak is None else f", mean of its sample {number(some.mean_peak)}"
    return f"highest {number(some.examples[0].peak)}{mean}"


def _source_rows(sources: list[SourceExamples]) -> list[SourceRow]:
    peaks = [some.examples[0].peak if some.examples else None for some in sources]
    ends = [0.0, *(peak for peak in peaks if peak is not None)]
    ends += [some.mean_peak for some in sources if some.mean_peak is not None]
    low, high = min(ends), max(ends)
    return [
        SourceRow(
            source_name(some),
            number(peak),
            number(some.mean_peak),
            Markup() if peak is None else charts.bullet(peak, some.mean_peak, low=low, high=high),
        )
        for some, peak in zip(sources, peaks, strict=True)
    ]
