"""The sections of a neuron's page that hold its examples, and its whole contexts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from markupsafe import Markup

from app.drawing import charts
from app.drawing import tokens as highlight
from app.drawing.legend import Legend, legend
from app.drawing.numbers import count, exact, number, share
from app.drawing.palette import Palette
from app.examples.lines import Kind, Layout, Line, lines, markup, whole
from app.examples.schemas import Band, Example, Examples, SourceExamples
from app.neurons.ends import both_ends, floor
from app.neurons.schemas import ContextPage, NeuronPage
from app.neurons.summary import tokens_by_position

SOURCES_IN_FULL = 4
"""With more sources than this, a neuron's page has only the first example of each."""


@dataclass(frozen=True, slots=True)
class Group:
    """The examples under one heading: a section has one group, or one for each band or source."""

    title: str | None
    note: str
    lines: list[Line]
    markup: Markup
    """The lines as a list."""


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row in the chart of sources."""

    name: str
    highest: str
    mean: str
    bar: Markup


@dataclass(frozen=True, slots=True)
class Section:
    """The examples of one kind."""

    id: str
    title: str
    part: str
    """Their share of the corpus, in words."""
    purpose: str
    empty: str
    """The sentence if there are none."""
    groups: list[Group]
    sources: list[SourceRow]
    """The chart of sources, in the section of examples by source."""
    cut: bool
    """Whether some examples are only on the page of sources."""
    size: int
    """The number of examples."""
    logo: Markup = field(default_factory=Markup)
    """Tokens by position; empty if no token repeats."""
    folded: str = ""
    """The line in place of the examples, if they are folded."""
    letters: str = ""
    """What letters in the lines stand for: a phone shows neither."""
    stronger: str = ""
    """A sentence that leads to the bottom examples, if they say more than these."""


@dataclass(frozen=True, slots=True)
class ContextView:
    """What the page of a whole context shows besides its `ContextPage`."""

    whole: Markup
    legend: Legend | None
    facts: list[tuple[str, str]]
    stored: str
    """Which of its activations are stored, in words."""


FAR = 1.3
"""Bottom examples are announced where the minimum is at least this many times the maximum."""
_BANDS = "Quantiles are of the sample's first half; examples and shares are of its second half."
_SPARSE_BANDS = (
    "Quantiles are of up to 200 contexts in which it fires, drawn uniformly; examples are among "
    "the random ones below."
)


def sections(page: NeuronPage, layout: Layout) -> list[Section]:
    """A neuron's examples of all kinds, in the order of its page."""
    kinds, scanned, noun = page.examples, page.run.contexts, page.run.units.noun
    two_sided, sparse = both_ends(page), page.run.units.sparse
    cut, by_source_kinds = _source_kinds(kinds.sources, full=False)
    seen = _places(kinds)
    top, bottom, random, *rest = lines(
        [
            Kind(kinds.top, factors=True),
            Kind(kinds.bottom, trough=True, factors=True),
            Kind(kinds.random, seen=seen["random"]),
            *(Kind(band.examples, seen=seen["bands"]) for band in kinds.bands),
            *(kind._replace(seen=seen["sources"]) for kind in by_source_kinds),
        ],
        layout,
    )
    letters = (
        "g: gate at the peak, l: linear part; the activation is act(g) × l."
        if page.run.units.parts
        else ""
    )
    intermediate = [example for band in kinds.bands for example in band.examples]
    at_floor = floor(kinds.bottom)
    clipped = " Stronger inhibition is clipped and cannot be seen." if at_floor else ""
    on_peak, on_trough = (
        f", aligned on the {centre}" if layout.view == "peak" else ""
        for centre in ("peak", "trough")
    )
    sections = [
        _section(
            "top",
            "Top",
            _part(len(kinds.top), scanned),
            f"The highest-activating contexts of the corpus{on_peak}. "
            "Top examples can mislead: check any hypothesis against the intermediate and random "
            "examples below.",
            [_group(None, "", top, layout)],
            kinds.top,
            letters=letters,
            logo=tokens_by_position(kinds.top),
            stronger=_other_end(page.stats.max, page.stats.min) if two_sided else "",
        ),
        _section(
            "bands",
            "Intermediate",
            "by quantile of peak activation" if kinds.bands else "",
            "Contexts between ordinary and extreme, by quantile of their peak. "
            + (_SPARSE_BANDS if sparse else _BANDS),
            [
                _group(_band(band), _band_note(band), band_lines, layout)
                for band, band_lines in zip(kinds.bands, rest, strict=False)
            ],
            intermediate,
            logo=tokens_by_position(intermediate),
        ),
        _section(
            "random",
            "Random",
            _part(len(kinds.random), scanned),
            f"Contexts drawn uniformly from those in which this {noun} fires. A good explanation "
            "should account for these too."
            if sparse
            else f"Contexts drawn without looking at this {noun}, the same for every {noun}: its "
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
            logo=tokens_by_position(kinds.bottom, trough=True) if two_sided else None,
            folded=at_floor,
        ),
    ]
    if sparse:  # nothing is below 0
        sections.pop()
    if kinds.sources:
        sections.append(_by_source(page, rest[len(kinds.bands) :], layout, cut=cut))
    if two_sided:
        sections.insert(1, sections.pop(3))
    if page.stats.dead:
        return [
            replace(section, folded=section.folded or f"{count(section.size)} examples")
            for section in sections
        ]
    return sections


def _other_end(highest: float, lowest: float) -> str:
    """A sentence if the lowest activation is far stronger than the highest; else empty."""
    if -lowest < FAR * highest or highest <= 0:
        return ""
    return f"Its lowest activation is {-lowest / highest:.1f} times as strong: see Bottom."


def _places(kinds: Examples) -> dict[str, dict[int, str]]:
    """For each section that is aligned on peaks: the contexts in the sections before it, and their
    places there."""
    places: dict[int, str] = {}
    before = {}
    for name, examples in (
        ("top", [(f"top {example.rank}", example) for example in kinds.top]),
        ("bands", [("intermediate", e) for band in kinds.bands for e in band.examples]),
        ("random", [(f"random {example.rank}", example) for example in kinds.random]),
        ("sources", []),
    ):
        before[name] = places
        places = {example.context_id: place for place, example in examples} | places
    return before


def by_source(page: NeuronPage, layout: Layout) -> Section:
    """The examples by source: a chart of the sources, and all examples of each."""
    _, kinds = _source_kinds(page.examples.sources, full=True)
    return _by_source(page, lines(kinds, layout), layout, cut=False)


def _source_kinds(sources: list[SourceExamples], *, full: bool) -> tuple[bool, list[Kind]]:
    """The examples of each source that has any, only the first of each if there are many sources
    and not `full`; before them, whether that is so."""
    with_examples = [source for source in sources if source.examples]
    cut = not full and len(with_examples) > SOURCES_IN_FULL
    most = 1 if cut else None
    return cut, [Kind(source.examples[:most], named=source.other) for source in with_examples]


def _by_source(
    page: NeuronPage, source_lines: Sequence[list[Line]], layout: Layout, *, cut: bool
) -> Section:
    sources = page.examples.sources
    with_examples = [source for source in sources if source.examples]
    groups = [
        _group(source_name(source), _source_note(source), lines_, layout)
        for source, lines_ in zip(with_examples, source_lines, strict=True)
    ]
    size = sum(len(source.examples) for source in with_examples)
    return _section(
        "sources",
        "By source",
        _part(size, page.run.contexts),
        "The highest peaks within each part of the corpus. A "
        f"{page.run.units.noun} can look clean in one kind of text and mean something else in "
        "another: an explanation that only holds in one source is incomplete.",
        groups,
        [example for source in with_examples for example in source.examples],
        sources=_source_rows(sources),
        cut=cut,
    )


def of_context(page: ContextPage, colours: Palette) -> ContextView:
    """The view of a whole context, marked at the neuron's peak; at its trough, if it is only a
    bottom example."""
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
    # NaN: not stored; None: not included.
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
    scale = legend(page.scale, page.min, page.max)
    return ContextView(whole(example.context_id, text), scale, facts, _stored(page))


def _stored(page: ContextPage) -> str:
    """Which activations are stored, in words."""
    if page.stored_from == 0 and page.stored_to == page.length:
        return "Its activations on every token"
    positions = f"{page.stored_from} to {page.stored_to - 1}"
    return f"Its activations at positions {positions}, the only ones stored"


def source_name(source: SourceExamples) -> str:
    """A source's name on pages; “without a source” for documents that name none."""
    return "other sources" if source.other else source.source or "without a source"


def _group(title: str | None, note: str, rows: list[Line], layout: Layout) -> Group:
    return Group(title, note, rows, markup(rows, layout) if rows else Markup())


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
    letters: str = "",
    stronger: str = "",
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
        letters=letters,
        stronger=stronger,
    )


def _part(size: int, scanned: int) -> str:
    if not size or not scanned:
        return ""
    return f"{count(size)} of {count(scanned)} contexts, {share(min(1.0, size / scanned))}"


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


def _source_note(source: SourceExamples) -> str:
    mean = "" if source.mean_peak is None else f", mean of the sample {number(source.mean_peak)}"
    return f"highest {number(source.examples[0].peak)}{mean}"


def _source_rows(sources: list[SourceExamples]) -> list[SourceRow]:
    peaks = [source.examples[0].peak if source.examples else None for source in sources]
    values = [0.0, *(peak for peak in peaks if peak is not None)]
    values += [source.mean_peak for source in sources if source.mean_peak is not None]
    low, high = min(values), max(values)
    return [
        SourceRow(
            source_name(source),
            number(peak),
            number(source.mean_peak),
            Markup() if peak is None else charts.bullet(peak, source.mean_peak, low=low, high=high),
        )
        for source, peak in zip(sources, peaks, strict=True)
    ]
