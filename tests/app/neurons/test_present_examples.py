"""Examples become sections and lines: aligned, folded, of every kind, with their share."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from app.drawing.legend import legend
from app.drawing.numbers import exact, share
from app.drawing.palette import palette
from app.examples import lines as present_lines
from app.examples.lines import Kind, Layout, Line
from app.examples.schemas import Example, Examples
from app.neurons import sections as present_examples
from app.neurons import view as present
from app.neurons.schemas import NeuronPage
from app.neurons.sections import Section
from app.schemas import View
from app.web import urls
from app.web.links import Links
from app.web.params import VIEWS
from tests.helpers import sample_neurons as neurons
from tests.helpers.sample_examples import context, example, examples, sources
from tests.helpers.sample_neurons import neuron_page

COLOURS = palette(6.0, low=-3.0, high=6.0)


def layout(reading: View = "peak") -> Layout:
    """A layout whose contexts are at their own ids."""
    return Layout(reading, COLOURS, str)


def lines(some: Sequence[Example], how: Layout) -> list[Line]:
    """Examples of one kind as lines."""
    (made,) = present_lines.lines([Kind(some)], how)
    return made


def sections(page: NeuronPage, reading: View = "peak") -> dict[str, Section]:
    """A page's sections by their ids."""
    view = present.neuron_view(page, reading, Links("demo", 3))
    return {section.id: section for section in view.sections}


def plain(markup: str) -> str:
    """Markup's text, as it is read."""
    return re.sub(r"<[^>]*>", "", markup).replace("&#39;", "'").replace("&lt;", "<")


def all_lines(section: Section) -> list[Line]:
    """The lines of a section in order."""
    return [line for group in section.groups for line in group.lines]


def test_lines_are_aligned_on_peak_or_trough() -> None:
    """The right part begins with the mark; its number is the peak's, or for bottom the trough's."""
    page = neuron_page()
    found = sections(page)
    assert list(found) == ["top", "bottom", "random", "bands", "sources"]
    assert [section.size for section in found.values()] == [20, 10, 15, 9, 9]
    for section in found.values():
        for line in all_lines(section):
            assert line.right.startswith("<mark ")
            assert "<mark " not in line.left + line.right[1:]
    assert all_lines(found["top"])[0].value == exact(page.examples.top[0].peak)
    bottom = all_lines(found["bottom"])[0]
    assert bottom.value == exact(page.examples.bottom[0].trough)
    assert f"at {page.examples.bottom[0].trough_position}," in bottom.right.split(">")[0]


@pytest.mark.parametrize("reading", ["window", "context"])
def test_running_text_is_whole(reading: View) -> None:
    """Where lines are not aligned all that was asked of the store is shown, in order."""
    one = examples(1)[0]
    (line,) = lines([one], layout(reading))
    assert line.left == ""
    text = "".join(one.tokens).replace("\n", "↵\n").replace("\t", "→\t")
    shown = plain(line.right).replace("&gt;", ">").replace("&#34;", '"')
    peak = one.tokens[one.peak_position - one.start]
    assert shown.replace("␣", " ") == text or peak in text


def test_an_aligned_line_ends_at_what_fits() -> None:
    """At most about so many characters on each side, and never a hole between."""
    tokens, _ = context(3, length=400)
    one = example(tokens, start=0)
    (line,) = lines([one], layout())
    assert len(plain(line.left)) <= 47 + 8
    assert len(plain(line.right)) <= 62 + 8
    joined = "".join(one.tokens).replace("\n", "↵").replace("\t", "→")
    assert plain(line.left + line.right).replace("␣", " ") in joined


def test_the_same_text_is_folded() -> None:
    """Lines that show the same tokens become one; the others' contexts are named, once each."""
    one = examples(1)[0]
    twin = one.model_copy(update={"rank": 2, "context_id": 900, "peak": one.peak - 0.5})
    third = one.model_copy(update={"rank": 3, "context_id": 901})
    other = example(context(9)[0], 4)
    made = lines([one, twin, other, third], layout())
    assert [line.example.rank for line in made] == [1, 4]
    assert [(some.context_id, value) for some, value in made[0].others] == [
        (900, exact(one.peak - 0.5)),
        (901, exact(one.peak)),
    ]
    shown = present_lines.markup(made, layout())
    assert shown.count("<li>") == 2
    assert '<span class="times">×3</span>' in shown
    assert '<a href="900">900</a>' in shown
    assert '<a href="901">901</a>' in shown


def test_the_same_text_with_another_peak_is_not_folded() -> None:
    """What is aligned on another token is another line."""
    one = examples(1)[0]
    at = one.peak_position + 1
    moved = one.model_copy(update={"peak_position": at, "context_id": 5})
    assert len(lines([one, moved], layout())) == 2


def test_a_peak_outside_the_window_leaves_a_line_without_a_mark() -> None:
    """A stored window that does not hold its peak is still shown, from its start."""
    odd = examples(1)[0].model_copy(update={"peak_position": 4000})
    for reading in VIEWS:
        (line,) = lines([odd], layout(reading))
        assert "<mark" not in line.right
        assert line.left == ""
        assert "endoftext" in line.right[:100]


def test_gate_and_linear_part_are_said() -> None:
    """Of top and bottom examples on the line; of all, where they are known, in the facts."""
    found = sections(neurons.gated_page())
    first = all_lines(found["top"])[0]
    assert first.factors == "g 3.00 · l −1.50"
    assert "gate 3.00, linear part −1.50" in first.facts
    assert all_lines(found["bottom"])[0].factors == "g 3.00 · l −1.50"
    assert not all_lines(found["random"])[0].factors
    assert not all_lines(sections(neuron_page())["top"])[0].factors
    assert "gate" not in all_lines(sections(neuron_page())["top"])[0].facts


def test_sections_say_their_share_of_the_corpus() -> None:
    """How many of how many contexts, whatever was folded."""
    page = neuron_page()
    found = sections(page)
    assert found["top"].part == f"20 of 3,210 contexts, {share(20 / 3210)}"
    assert found["random"].part == f"15 of 3,210 contexts, {share(15 / 3210)}"
    nothing = page.examples.model_copy(update={"top": []})
    assert sections(page.model_copy(update={"examples": nothing}))["top"].part == ""


def test_bands_go_down_from_the_highest() -> None:
    """Each says its bounds and the share that fell in it, beside the nominal one."""
    bands = sections(neuron_page())["bands"].groups
    assert [(band.title, band.note) for band in bands] == [
        ("Peak from 4.84 up", "0.98% of contexts (nominally 1.0%)"),
        ("Peak from 3.33 to 4.84", "8.4% of contexts (nominally 9.0%)"),
        ("Peak from 1.61 to 3.33", "41.0% of contexts (nominally 40.0%)"),
        ("Peak below 1.61", "49.6% of contexts (nominally 50.0%)"),
    ]


def with_sources(count: int) -> NeuronPage:
    """A neuron of a corpus with so many sources."""
    page = neuron_page()
    kinds = page.examples.model_copy(update={"sources": sources(count)})
    return page.model_copy(update={"examples": kinds})


@pytest.mark.parametrize(
    ("count", "each", "cut"), [(2, 3, False), (4, 3, False), (5, 1, True), (9, 1, True)]
)
def test_many_sources_are_cut(count: int, each: int, cut: bool) -> None:
    """More than four sources show their first examples; their own page shows all."""
    page = with_sources(count)
    section = sections(page)["sources"]
    assert section.cut == cut
    assert [len(group.lines) for group in section.groups] == [each] * count
    assert len(section.sources) == count
    full = present_examples.by_source(page, layout())
    assert not full.cut
    assert sum(len(group.lines) for group in full.groups) == full.size == 3 * count
    if count == 9:
        assert section.groups[-1].title == "other sources"


def test_one_source_has_no_section() -> None:
    """Where the corpus has no two sources there is nothing to compare."""
    assert "sources" not in sections(with_sources(0))


def test_a_source_without_examples_is_in_the_chart_alone() -> None:
    """Nothing of it was kept: a dash, and no bar."""
    some = sources(3)
    some[1] = some[1].model_copy(update={"examples": [], "mean_peak": None})
    page = neuron_page()
    kinds = page.examples.model_copy(update={"sources": some})
    section = sections(page.model_copy(update={"examples": kinds}))["sources"]
    assert [row.highest for row in section.sources][1] == "—"
    assert section.sources[1].bar == ""
    assert len(section.groups) == 2


def test_the_legend_ends_at_the_page_s_scale() -> None:
    """The largest magnitude of either sign ends it on both sides; without any there is none."""
    drawn = legend(9.25)
    assert drawn is not None
    assert (drawn.low, drawn.high) == ("−9.25", "9.25")
    assert [swatch.css for swatch in drawn.swatches] == [
        *(f"n{i}" for i in range(10, 0, -1)),
        "",
        *(f"p{i}" for i in range(1, 11)),
    ]
    assert legend(0.0) is None


def test_links_of_lines_lead_to_their_contexts() -> None:
    """Each line has the address of its context, with the run that was named; escaped."""
    page = neuron_page()
    shown = sections(page)["top"].groups[0].shown
    first = page.examples.top[0].context_id
    assert f'<a class="fetch" href="/demo/1/45/contexts/{first}?run=3">' in shown
    address = urls.contexts("demo", 1, 45, run=3, view="window")
    made = lines(page.examples.top[:1], layout())
    marked = present_lines.markup(made, Layout("peak", COLOURS, address))
    assert f"contexts/{first}?run=3&amp;view=window" in marked


def test_contexts_are_in_place() -> None:
    """In the view of whole contexts nothing has to be opened; each says which context it is."""
    page = neuron_page()
    shown = sections(page, "context")["top"].groups[0].shown
    assert "<details" not in shown
    ids = re.findall(r'data-context="(\d+)"', shown)
    assert ids == [str(one.context_id) for one in page.examples.top][: len(ids)]
    assert len(ids) >= 6


def test_a_context_s_page_says_all_of_it() -> None:
    """Peak, trough, factors, kinds, length, document and source; its mark is at the peak."""
    page = neurons.context_page()
    view = present.context_view(page)
    facts = dict(view.facts)
    one: Example = page.example
    assert facts["peak"] == f"{exact(one.peak)} at position {one.peak_position}"
    assert facts["trough"] == f"{exact(one.trough)} at position {one.trough_position}"
    assert facts["gate at the peak"] == "3.00"
    assert facts["linear part at the peak"] == "−1.50"
    assert facts["example of kind"] == "top, source"
    assert facts["length"] == "128 tokens"
    assert facts["context"] == str(one.context_id)
    assert facts["document"] == str(one.document_index)
    assert facts["source"] == one.source
    assert view.whole.count("<mark ") == 1
    assert f'data-context="{one.context_id}"' in view.whole
    bottom = present.context_view(page.model_copy(update={"kinds": ["bottom"]}))
    assert f"at {one.trough_position}," in bottom.whole.split("<mark ")[1].split(">")[0]
    assert "gate at the trough" in dict(bottom.facts)


def test_what_is_not_stored_of_a_context_is_told_from_what_is_not_included() -> None:
    """Where a window was kept, the rest of the context and the page say so."""
    page = neurons.context_page()
    whole = page.example.activations
    assert whole[0] is None, "a BOS"
    activations = [value if 20 <= i < 84 else None for i, value in enumerate(whole)]
    example = page.example.model_copy(update={"activations": activations, "peak_position": 40})
    part = page.model_copy(update={"example": example, "stored_from": 20, "stored_to": 84})
    view = present.context_view(part)
    assert view.whole.count('title="not stored, at ') == 128 - 64
    assert "not included" not in view.whole
    assert view.kept == "Its activations at positions 20 to 83, which are all that is kept"
    assert present.context_view(page).kept == "Its activations on every token"
    assert present.context_view(page).whole.count('title="not included, at 0') == 1


def test_nothing_kept_says_so() -> None:
    """Every kind without examples has its sentence."""
    page = neurons.empty_page()
    assert page.examples == Examples(top=[], bottom=[], random=[], bands=[], sources=[])
    found = sections(page)
    assert [section.empty for section in found.values()] == [
        "No top examples were kept.",
        "No bottom examples were kept.",
        "No random examples were kept.",
        "No bands were kept.",
    ]
    assert all(section.part == "" for section in found.values())
