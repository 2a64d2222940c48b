"""Examples as sections and lines: aligned, folded, of every kind, with their share."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from app.drawing.legend import legend
from app.drawing.numbers import exact, share
from app.drawing.palette import palette
from app.examples import lines as example_lines
from app.examples.lines import Kind, Layout, Line
from app.examples.schemas import Example, Examples
from app.neurons.schemas import NeuronPage
from app.neurons.sections import Section, by_source
from app.neurons.view import context_view, neuron_view
from app.schemas import View
from app.web import urls
from app.web.links import Links
from app.web.params import VIEWS
from tests.helpers import sample_neurons as neurons
from tests.helpers.sample_examples import context, example, examples, sources
from tests.helpers.sample_neurons import neuron_page

COLOURS = palette(6.0, low=-3.0, high=6.0)


def layout(view: View = "peak") -> Layout:
    """A layout in which a context's address is its id."""
    return Layout(view, COLOURS, str)


def lines(examples: Sequence[Example], layout: Layout) -> list[Line]:
    """The lines of examples of one kind."""
    (rows,) = example_lines.lines([Kind(examples)], layout)
    return rows


def sections(page: NeuronPage, view: View = "peak") -> dict[str, Section]:
    """A page's sections by their ids."""
    sections = neuron_view(page, view, Links("demo", 3)).sections
    return {section.id: section for section in sections}


def plain(markup: str) -> str:
    """The text of markup."""
    return re.sub(r"<[^>]*>", "", markup).replace("&#39;", "'").replace("&lt;", "<")


def all_lines(section: Section) -> list[Line]:
    """The lines of a section in order."""
    return [line for group in section.groups for line in group.lines]


def test_lines_are_aligned_on_peak_or_trough() -> None:
    """The right part begins with the mark: the peak or, for bottom examples, the trough."""
    page = neuron_page()
    by_id = sections(page)
    assert list(by_id) == ["top", "bands", "random", "bottom", "sources"]
    assert [section.size for section in by_id.values()] == [20, 9, 15, 10, 9]
    for section in by_id.values():
        for line in all_lines(section):
            assert line.right.startswith("<mark ")
            assert "<mark " not in line.left + line.right[1:]
    assert all_lines(by_id["top"])[0].value == exact(page.examples.top[0].peak)
    bottom = all_lines(by_id["bottom"])[0]
    assert bottom.value == exact(page.examples.bottom[0].trough)
    assert f"at {page.examples.bottom[0].trough_position}," in bottom.right.split(">")[0]


@pytest.mark.parametrize(
    ("low", "high", "floored", "both"),
    [
        (-3.0, 6.0, False, True),
        (-2.9, 6.0, False, False),
        (-9.0, 6.0, False, True),
        (-13.2, 6.0, False, True),
        (-9.0, 6.0, True, False),
        (-1.0, -0.5, False, True),
    ],
    ids=["half", "less", "more", "far more", "the activation's own minimum", "never above 0"],
)
def test_a_strong_minimum_stands_beside_the_maximum(
    low: float, high: float, floored: bool, both: bool
) -> None:
    """The summary and the order of the sections show both ends where the lower one is strong."""
    page = neuron_page()
    bottom = [
        one.model_copy(update={"trough": low if floored else low + 0.1 * place})
        for place, one in enumerate(page.examples.bottom)
    ]
    page = page.model_copy(
        update={
            "stats": page.stats.model_copy(update={"min": low, "max": high}),
            "examples": page.examples.model_copy(update={"bottom": bottom}),
        }
    )
    view = neuron_view(page, "peak", Links("demo", 3))
    assert bool(view.summary.lowest_on) is both
    assert [section.id for section in view.sections].index("bottom") == (1 if both else 3)
    stronger = "Its lowest activation is 2.2 times as strong: see Bottom."
    assert (view.sections[0].stronger == stronger) is (both and (low, high) == (-13.2, 6.0))


@pytest.mark.parametrize("view", ["window", "context"])
def test_running_text_is_whole(view: View) -> None:
    """Lines that are not aligned have all positions that were read, in order."""
    first = examples(1)[0]
    (line,) = lines([first], layout(view))
    assert line.left == ""
    text = "".join(first.tokens).replace("\n", "↵\n").replace("\t", "→\t")
    right = plain(line.right).replace("&gt;", ">").replace("&#34;", '"')
    peak = first.tokens[first.peak_position - first.start]
    assert right.replace("␣", " ") == text or peak in text


def test_an_aligned_line_ends_at_what_fits() -> None:
    """Each side has a limited number of characters, without gaps."""
    tokens, _ = context(3, length=400)
    long = example(tokens, start=0)
    (line,) = lines([long], layout())
    assert len(plain(line.left)) <= 47 + 8
    assert len(plain(line.right)) <= 62 + 8
    joined = "".join(long.tokens).replace("\n", "↵").replace("\t", "→")
    assert plain(line.left + line.right).replace("␣", " ") in joined


def test_the_same_text_is_folded() -> None:
    """Examples with the same tokens share a line, which names each context once."""
    first = examples(1)[0]
    twin = first.model_copy(update={"rank": 2, "context_id": 900, "peak": first.peak - 0.5})
    third = first.model_copy(update={"rank": 3, "context_id": 901})
    other = example(context(9)[0], 4)
    rows = lines([first, twin, other, third], layout())
    assert [line.example.rank for line in rows] == [1, 4]
    assert [(folded.context_id, value) for folded, value in rows[0].others] == [
        (900, exact(first.peak - 0.5)),
        (901, exact(first.peak)),
    ]
    markup = example_lines.markup(rows, layout())
    assert markup.count("<li>") == 2
    assert '<span class="times">×3</span>' in markup
    assert '<a href="900">900</a>' in markup
    assert '<a href="901">901</a>' in markup


def test_the_same_text_with_another_peak_is_not_folded() -> None:
    """Examples aligned on different tokens have different lines."""
    first = examples(1)[0]
    at = first.peak_position + 1
    moved = first.model_copy(update={"peak_position": at, "context_id": 5})
    assert len(lines([first, moved], layout())) == 2


def test_a_peak_outside_the_window_leaves_a_line_without_a_mark() -> None:
    """A stored window without its own peak is drawn from its start."""
    odd = examples(1)[0].model_copy(update={"peak_position": 4000})
    for view in VIEWS:
        (line,) = lines([odd], layout(view))
        assert "<mark" not in line.right
        assert line.left == ""
        assert "endoftext" in line.right[:100]


def test_gate_and_linear_part_are_on_lines() -> None:
    """Top and bottom examples have them on the line, and all examples in the facts, if known."""
    by_id = sections(neurons.gated_page())
    first = all_lines(by_id["top"])[0]
    assert first.factors == "g 3.00 · l −1.50"
    assert "gate 3.00, linear part −1.50" in first.facts
    assert all_lines(by_id["bottom"])[0].factors == "g 3.00 · l −1.50"
    assert not all_lines(by_id["random"])[0].factors
    assert not all_lines(sections(neuron_page())["top"])[0].factors
    assert "gate" not in all_lines(sections(neuron_page())["top"])[0].facts


def test_sections_have_their_share_of_the_corpus() -> None:
    """Folded examples count too."""
    page = neuron_page()
    by_id = sections(page)
    assert by_id["top"].part == f"20 of 3,210 contexts, {share(20 / 3210)}"
    assert by_id["random"].part == f"15 of 3,210 contexts, {share(15 / 3210)}"
    without_top = page.examples.model_copy(update={"top": []})
    assert sections(page.model_copy(update={"examples": without_top}))["top"].part == ""


def test_bands_go_down_from_the_highest() -> None:
    """Each has its bounds, its share and its nominal share."""
    bands = sections(neuron_page())["bands"].groups
    assert [(band.title, band.note) for band in bands] == [
        ("Peak ≥ 4.84", "0.98% of contexts (target 1.0%)"),
        ("Peak from 3.33 to 4.84", "8.4% of contexts (target 9.0%)"),
        ("Peak from 1.61 to 3.33", "41.0% of contexts (target 40.0%)"),
        ("Peak below 1.61", "49.6% of contexts (target 50.0%)"),
    ]


def with_sources(count: int) -> NeuronPage:
    """A neuron of a corpus with `count` sources."""
    page = neuron_page()
    kinds = page.examples.model_copy(update={"sources": sources(count)})
    return page.model_copy(update={"examples": kinds})


@pytest.mark.parametrize(
    ("count", "each", "cut"), [(2, 3, False), (4, 3, False), (5, 1, True), (9, 1, True)]
)
def test_many_sources_are_cut(count: int, each: int, cut: bool) -> None:
    """With more than four sources, only the page of sources has more than the first examples."""
    page = with_sources(count)
    section = sections(page)["sources"]
    assert section.cut == cut
    assert [len(group.lines) for group in section.groups] == [each] * count
    assert len(section.sources) == count
    full = by_source(page, layout())
    assert not full.cut
    assert sum(len(group.lines) for group in full.groups) == full.size == 3 * count
    if count == 9:
        assert section.groups[-1].title == "other sources"


def test_one_source_has_no_section() -> None:
    """With fewer than two sources there is nothing to compare."""
    assert "sources" not in sections(with_sources(0))


def test_a_source_without_examples_is_only_in_the_chart() -> None:
    """Its row has a dash and no bar."""
    with_gap = sources(3)
    with_gap[1] = with_gap[1].model_copy(update={"examples": [], "mean_peak": None})
    page = neuron_page()
    kinds = page.examples.model_copy(update={"sources": with_gap})
    section = sections(page.model_copy(update={"examples": kinds}))["sources"]
    assert [row.highest for row in section.sources][1] == "—"
    assert section.sources[1].bar == ""
    assert len(section.groups) == 2


def test_the_legend_ends_at_the_page_s_scale() -> None:
    """The largest magnitude is the end on both sides; if it is 0, there is no legend."""
    drawn = legend(9.25)
    assert drawn is not None
    assert (drawn.low, drawn.high) == ("−9.25", "9.25")
    assert [swatch.css for swatch in drawn.swatches] == [
        *(f"n{i}" for i in range(10, 0, -1)),
        "",
        *(f"p{i}" for i in range(1, 11)),
    ]
    assert "Steps of colour: 10 above zero and 10 below zero, each 0.925 wide" in drawn.words
    assert legend(0.0) is None


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (
            0.0,
            4.0,
            "10 above zero, each 0.400 wide; the last above zero is half as wide and ends at 4.00.",
        ),
        (
            -1.0,
            4.0,
            "10 above zero and 3 below zero, each 0.400 wide; the last above zero is half as wide "
            "and ends at 4.00.",
        ),
        (
            -4.0,
            0.1,
            "10 below zero, each 0.400 wide; the last below zero is half as wide and ends at "
            "−4.00.",
        ),
    ],
)
def test_the_legend_counts_the_steps_it_has(low: float, high: float, words: str) -> None:
    """No more steps than the ramp has colours on either side."""
    drawn = legend(4.0, low, high)
    assert drawn is not None
    assert drawn.words == (
        f"Activations within 0.200 of zero have no colour. Steps of colour: {words}"
    )


def test_links_of_lines_lead_to_their_contexts() -> None:
    """Each line has the escaped address of its context, in the run of the page."""
    page = neuron_page()
    markup = sections(page)["top"].groups[0].markup
    first = page.examples.top[0].context_id
    assert f'<a class="fetch" href="/demo/1/45/contexts/{first}?run=3">' in markup
    address = urls.contexts("demo", 1, 45, run=3, view="window")
    rows = lines(page.examples.top[:1], layout())
    markup = example_lines.markup(rows, Layout("peak", COLOURS, address))
    assert f"contexts/{first}?run=3&amp;view=window" in markup


def test_contexts_are_in_place() -> None:
    """In the view of whole contexts no line opens, and each context has its id."""
    page = neuron_page()
    markup = sections(page, "context")["top"].groups[0].markup
    assert "<details" not in markup
    ids = re.findall(r'data-context="(\d+)"', markup)
    assert ids == [str(example.context_id) for example in page.examples.top][: len(ids)]
    assert len(ids) >= 6


def test_a_context_s_page_has_all_facts() -> None:
    """Peak, trough, factors, kinds, length, document and source; the mark is at the peak."""
    page = neurons.context_page()
    view = context_view(page)
    facts = dict(view.facts)
    shown: Example = page.example
    assert facts["peak"] == f"{exact(shown.peak)} at position {shown.peak_position}"
    assert facts["trough"] == f"{exact(shown.trough)} at position {shown.trough_position}"
    assert facts["gate at the peak"] == "3.00"
    assert facts["linear part at the peak"] == "−1.50"
    assert facts["example of kind"] == "top, source"
    assert facts["length"] == "128 tokens"
    assert facts["context"] == str(shown.context_id)
    assert facts["document"] == str(shown.document_index)
    assert facts["source"] == shown.source
    assert view.whole.count("<mark ") == 1
    assert f'data-context="{shown.context_id}"' in view.whole
    bottom = context_view(page.model_copy(update={"kinds": ["bottom"]}))
    assert f"at {shown.trough_position}," in bottom.whole.split("<mark ")[1].split(">")[0]
    assert "gate at the trough" in dict(bottom.facts)


def test_positions_not_stored_differ_from_positions_not_included() -> None:
    """If only a window is stored, the other tokens and the page say so."""
    page = neurons.context_page()
    whole = page.example.activations
    assert whole[0] is None, "a BOS"
    activations = [value if 20 <= i < 84 else None for i, value in enumerate(whole)]
    example = page.example.model_copy(update={"activations": activations, "peak_position": 40})
    part = page.model_copy(update={"example": example, "stored_from": 20, "stored_to": 84})
    view = context_view(part)
    assert view.whole.count('title="not stored, at ') == 128 - 64
    assert "not included" not in view.whole
    assert view.stored == "Its activations at positions 20 to 83, the only ones stored"
    assert context_view(page).stored == "Its activations on every token"
    assert context_view(page).whole.count('title="not included, at 0') == 1


def test_kinds_without_examples_say_so() -> None:
    """Each such section has a sentence."""
    page = neurons.empty_page()
    assert page.examples == Examples(top=[], bottom=[], random=[], bands=[], sources=[])
    by_id = sections(page)
    assert [section.empty for section in by_id.values()] == [
        "No top examples were stored.",
        "No intermediate examples were stored.",
        "No random examples were stored.",
        "No bottom examples were stored.",
    ]
    assert all(section.part == "" for section in by_id.values())


def test_repeated_examples_say_where_they_stood() -> None:
    """An example that stood in a section before is marked; bottom examples, which show another
    place of the context, are not."""
    page = neuron_page()
    top = page.examples.top
    repeated = top[4].model_copy(update={"rank": 2})
    new = example([" new", " words"]).model_copy(update={"context_id": 99_999})
    kinds = page.examples.model_copy(
        update={"random": [new, repeated], "bottom": [top[4]], "bands": [], "sources": []}
    )
    by_id = sections(page.model_copy(update={"examples": kinds}))
    assert [line.seen for line in all_lines(by_id["top"])] == [""] * len(all_lines(by_id["top"]))
    assert [line.seen for line in all_lines(by_id["random"])] == ["", "top 5"]
    assert [line.seen for line in all_lines(by_id["bottom"])] == [""]
    (group,) = by_id["random"].groups
    assert group.markup.count('<li class="repeated">') == 1
    assert '<span class="stood">= top 5</span>' in group.markup
