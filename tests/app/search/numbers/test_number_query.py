"""Searches by number over the hand-written store, in each database, against plain Python."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, event

from app.errors import Invalid, NotFound
from app.reading import cursors
from app.reading.statistics import STATISTICS
from app.reading.store import Store
from app.search.numbers import queries
from app.search.numbers.grammar import GrammarError, Query, parse
from app.search.numbers.schemas import NumberSearch
from indexer.store.database import open_store
from tests.helpers.fixture_neurons import Neuron
from tests.helpers.fixture_store import MARKUP_SOURCE, RUNS, SOURCES, TOY, WIDE, WIDE_RUN, RunOf

SIGNS = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
}
FIELDS = {"max": "maximum", "min": "minimum"}
NEVER_VARIED = float("-inf")

Place = tuple[int, int]


@pytest.fixture(scope="module")
def store(any_filled: Engine) -> Store:
    """The hand-written store, in each kind of database."""
    return Store(any_filled)


def search(
    store: Store, model: str, run: int | None, query: Query, limit: int, cursor: str | None
) -> NumberSearch:
    """One page of a search."""
    with store.reading(model, run) as reading:
        return queries.search(reading, query, limit, cursor)


def value_of(neuron: Neuron, name: str) -> float | None:
    """A statistic as it was written by hand; None where it is not known."""
    value: float | None = getattr(neuron, FIELDS.get(name, name))
    return None if value in (None, NEVER_VARIED) else value


def by_hand(run: RunOf, text: str) -> list[Place]:
    """What a search should find, in order: read neuron by neuron."""
    query = parse(text)
    found: list[tuple[float, Place]] = []
    for layer, neurons in enumerate(run.layers):
        if query.layers and not any(first <= layer <= last for first, last in query.layers):
            continue
        for index, neuron in enumerate(neurons):
            known = {name: value_of(neuron, name) for name in STATISTICS}
            holds = [
                known[one.name] is not None and SIGNS[one.sign](known[one.name], one.value)
                for one in query.comparisons
            ]
            if query.dead is not None:
                holds.append(neuron.dead == query.dead)
            if query.source is not None:
                top = neuron.top_source()
                holds.append(top >= 0 and run.sources[top] == query.source)
            key = 0.0 if query.order.name == "neuron" else known[query.order.name]
            if all(holds) and key is not None:
                found.append((-key if query.order.descending else key, (layer, index)))
    if query.order == parse("sort:-neuron").order:
        return [place for _, place in sorted(found)][::-1]
    return [place for _, place in sorted(found)]


def places(page: NumberSearch) -> list[Place]:
    """Layer and neuron of each result."""
    return [(row.layer, row.neuron) for row in page.items]


def all_pages(store: Store, run: int, text: str, limit: int) -> Iterator[NumberSearch]:
    """Every page, through their cursors."""
    cursor: str | None = None
    while True:
        page = search(store, RUNS[run - 1].model, run, parse(text), limit, cursor)
        yield page
        cursor = page.next
        if cursor is None:
            return


NUMBERS = ["-2", "-1.25", "-0.5", "0", "0.25", "50%", "0.3", "1", "1e30", "4.5"]
COMPARED = st.builds(
    "{}{}{}".format,
    st.sampled_from(list(STATISTICS)),
    st.sampled_from([">", ">=", "<", "<=", "="]),
    st.sampled_from(NUMBERS),
)
OTHERS = st.sampled_from(
    ["layer:0", "layer:1", "layer:0-1", "dead:yes", "dead:no", "source:plain", 'source:""']
)
SORTS = st.builds(
    "sort:{}{}".format, st.sampled_from(["", "-"]), st.sampled_from(["neuron", *STATISTICS])
)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Queries of up to two comparisons, each word at most once."""
    terms = draw(st.lists(COMPARED, max_size=2))
    terms += draw(st.lists(OTHERS, max_size=2, unique_by=lambda term: term.split(":")[0]))
    terms += draw(st.lists(SORTS, max_size=1))
    return " ".join(terms)


@settings(max_examples=150, deadline=None)
@given(text=texts(), run=st.sampled_from([TOY, WIDE_RUN]), limit=st.integers(1, 50))
def test_a_search_finds_what_plain_python_does(
    store: Store, text: str, run: int, limit: int
) -> None:
    """The same neurons in the same order; through cursors each once; the count is of all pages."""
    expected = by_hand(RUNS[run - 1], text)
    pages = list(all_pages(store, run, text, limit))
    assert [place for page in pages for place in places(page)] == expected
    assert {page.total for page in pages} == {len(expected)}
    assert all(len(page.items) == limit for page in pages[:-1])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max>2.5", [(1, 1)]),
        ("max>=2.5", [(1, 1), (0, 0), (0, 3), (1, 3)]),
        ("max<0.5", [(0, 2), (0, 1), (1, 2)]),
        ("kurtosis<100", [(0, 2), (0, 0), (0, 1), (0, 3), (1, 1), (1, 3)]),
        ("sort:-kurtosis layer:1", [(1, 1), (1, 3)]),
        ("skewness<0", [(0, 2)]),
        ("gate_out_cosine>-2", [(0, 3)]),
        ("in_out_cosine<1", [(0, 0), (0, 3)]),
        ("dead:yes sort:neuron", [(0, 1), (0, 2), (1, 2)]),
        ("layer:1 sort:-neuron dead:no", [(1, 3), (1, 1), (1, 0)]),
        ("density=50% max>2.5", [(1, 1)]),
        ("max>100", []),
    ],
)
def test_searches_by_hand(store: Store, text: str, expected: list[Place]) -> None:
    """Small searches whose results are known; what never varied or is not known is left out."""
    assert places(search(store, "toy", None, parse(text), 100, None)) == expected


def test_ties_come_by_place(store: Store) -> None:
    """Equal values stand by layer and neuron, whichever way the values are sorted."""
    for text in ("sort:max", "sort:-max"):
        page = search(store, "wide", None, parse(text), 1000, None)
        rows = [(row.max, row.layer, row.neuron) for row in page.items]
        assert len(rows) == sum(map(len, WIDE))
        assert len({row[0] for row in rows}) < len(rows) / 3, "there are many ties"
        assert rows == sorted(rows, key=lambda r: (-r[0] if "-" in text else r[0], *r[1:]))


def test_a_source_is_asked_for_by_name(store: Store) -> None:
    """Whatever it is called; results say the source they mostly have."""
    found = 0
    for run_id, run in enumerate(RUNS, 1):
        for name in SOURCES:
            query = parse("source:" + '"' + name.replace('"', '\\"') + '" sort:neuron')
            page = search(store, run.model, run_id, query, 100, None)
            assert places(page) == by_hand(run, str(query))
            assert {row.top_source for row in page.items} <= {name}
            found += len(page.items)
    assert found


def test_a_row_has_all_that_can_be_asked_for(store: Store) -> None:
    """Every statistic of every neuron, as it was written."""
    for run_id, run in enumerate(RUNS, 1):
        page = search(store, run.model, run_id, parse("sort:neuron"), 1000, None)
        neurons = [neuron for layer in run.layers for neuron in layer]
        assert len(page.items) == page.total == len(neurons)
        for row, neuron in zip(page.items, neurons, strict=True):
            assert {name: getattr(row, name) for name in STATISTICS} == {
                name: value_of(neuron, name) for name in STATISTICS
            }
            assert row.dead == neuron.dead


def test_a_search_is_two_reads(sqlite_filled: str) -> None:
    """One SELECT of the columns it needs, one of the page's rows by key; no OFFSET."""
    engine = create_engine(sqlite_filled)
    asked: list[str] = []
    event.listen(
        engine, "before_cursor_execute", lambda c, cursor, statement, *_: asked.append(statement)
    )
    search(Store(engine), "wide", None, parse("max>0 density<1 dead:no"), 5, None)
    engine.dispose()
    assert sum("FROM neuron_columns" in one for one in asked) == 1
    assert sum("FROM neurons" in one for one in asked) == 1
    assert not any("OFFSET" in one for one in asked)


@pytest.mark.parametrize(
    ("text", "wrong", "said"),
    [
        ("max>1 source:nowhere", "nowhere", "plain"),
        ("source:Plain", "Plain", '""'),
        ('dead:no source:"a b" max>1', '"a b"', "its sources are plain"),
        ("layer:2", "2", "there is no layer 2; this run has layers 0 to 1"),
        ("layer:0,7-9 max>1", "0,7-9", "no layer 7"),
        ("layer:1-9", "1-9", "no layer 2"),
    ],
)
def test_what_the_run_has_not_is_marked(store: Store, text: str, wrong: str, said: str) -> None:
    """A source or layer that is not there is an error with its place, and says what there is."""
    refusal = r"no such source|there is no layer|no sources"
    with pytest.raises(GrammarError, match=refusal) as caught:
        search(store, "toy", None, parse(text), 10, None)
    assert text[caught.value.start : caught.value.end] == wrong
    assert said in caught.value.message


def test_few_sources_are_named_in_short(store_url: str) -> None:
    """Of many sources the first, cut; of none it is said that there are none."""
    engine = open_store(store_url, create=True)
    names = ("x" * 100, "a b", *(f"s{i}" for i in range(20)), "")
    for model, sources in (("many", names), ("bare", ("", ""))):
        RunOf(model, WIDE, sources=sources).write(engine)
    store = Store(engine)
    with pytest.raises(GrammarError) as caught:
        search(store, "many", None, parse("source:y"), 10, None)
    assert f'are {"x" * 40}…, "a b", s0, s1, s2 and 18 more' in caught.value.message
    with pytest.raises(GrammarError, match="this run has no sources"):
        search(store, "bare", None, parse("source:y"), 10, None)
    store.close()


GOOD: list[Any] = ["max", "desc", WIDE_RUN, 1.0, 3]


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        cursors.encode("max", "desc"),
        cursors.encode("max", "asc", *GOOD[2:]),
        cursors.encode("min", "desc", *GOOD[2:]),
        cursors.encode("max", "desc", TOY, 1.0, 3),
        cursors.encode("max", "desc", WIDE_RUN, float("nan"), 3),
        cursors.encode("max", "desc", WIDE_RUN, float("inf"), 3),
        cursors.encode("max", "desc", WIDE_RUN, 1.0, -1),
        cursors.encode("max", "desc", WIDE_RUN, 1.0, 42),
        cursors.encode("max", "desc", WIDE_RUN, 1.0, 10**40),
    ],
)
def test_a_wrong_cursor_is_refused(store: Store, cursor: str) -> None:
    """One of another order, another run, or of nothing at all."""
    assert search(store, "wide", None, parse(""), 5, cursors.encode(*GOOD)).items
    with pytest.raises(Invalid, match="start again without it"):
        search(store, "wide", None, parse(""), 5, cursor)


def test_what_is_not_there_is_not_found(store: Store) -> None:
    """No model, no run."""
    with pytest.raises(NotFound):
        search(store, "nobody", None, parse(""), 5, None)
    with pytest.raises(NotFound):
        search(store, "toy", WIDE_RUN, parse(""), 5, None)
    with store.reading("toy", None) as reading:
        assert MARKUP_SOURCE in reading.run.sources
