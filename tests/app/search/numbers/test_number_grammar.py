"""The grammar of searches by number: what is read, what it is written back as, what is refused."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.reading.statistics import STATISTICS
from app.search.numbers.grammar import (
    LONGEST,
    MOST_COMPARISONS,
    Comparison,
    GrammarError,
    Order,
    Query,
    parse,
    source_word,
)
from indexer.store import schema

NUMBERS = st.floats(allow_nan=False, allow_infinity=False).map(lambda value: value + 0.0)
COMPARISONS = st.builds(
    Comparison,
    st.sampled_from(list(STATISTICS)),
    st.sampled_from([">", ">=", "<", "<=", "="]),
    NUMBERS,
)
ORDERS = st.builds(Order, st.sampled_from(["neuron", *STATISTICS]), st.booleans())
FRAGMENTS = st.sampled_from(
    [
        *("max", "kurtosis", ">", "<=", "=", "5", "-1.5", "1e-3", "1%", "nan", "inf", " ", "\n"),
        *("layer:", "3-5", "5-3", ",", "dead:", "yes", "source:", '"', "\\", "sort:", "-", ":"),
    ]
)


@st.composite
def layer_ranges(draw: st.DrawFn) -> tuple[tuple[int, int], ...]:
    """Ranges as a query has them: ascending, with at least one layer between."""
    ranges, first = [], 0
    for gap, width in draw(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=6)):
        ranges.append((first + gap, first + gap + width))
        first += gap + width + 2
    return tuple(ranges)


QUERIES = st.builds(
    Query,
    comparisons=st.lists(COMPARISONS, max_size=6).map(tuple),
    layers=layer_ranges(),
    dead=st.none() | st.booleans(),
    source=st.none() | st.text(max_size=40),
    sort=st.none() | ORDERS,
)


def test_every_searchable_column_has_a_word() -> None:
    """The grammar's statistics are the store's columns; the other two have words of their own."""
    assert {*STATISTICS, "dead", "top_source"} <= set(schema.COLUMNS)


@given(QUERIES)
def test_a_query_reads_back_as_itself(query: Query) -> None:
    """What a query is written as is read as the same query, and written the same again."""
    assert parse(str(query)) == query
    assert str(parse(str(query))) == str(query)


@given(st.text(max_size=60) | st.lists(FRAGMENTS, max_size=12).map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing else is raised, and what is refused lies inside the text."""
    query = read(text)
    if isinstance(query, GrammarError):
        assert 0 <= query.start <= query.end <= len(text)
        assert query.text == text
        assert query.detail.isprintable()
        assert all(part.isprintable() for part in query.excerpt)
    else:
        assert parse(str(query)) == query
        assert all(math.isfinite(one.value) for one in query.comparisons)


def read(text: str) -> Query | GrammarError:
    """What comes of a text."""
    try:
        return parse(text)
    except GrammarError as error:
        return error


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("", ""),
        ("   ", ""),
        ("max>5", "max>5"),
        ("  MAX  >=  5.0 ", "max>=5"),
        ("max=-1.50", "max=-1.5"),
        ("density<1%", "density<0.01"),
        ("density<1.1%", "density<0.011"),
        ("density<=0.5E-1%", "density<=0.0005"),
        ("min<−2", "min<-2"),
        ("max>+.5 max<5.", "max>0.5 max<5"),
        ("max>1000000", "max>1e6"),
        ("max>-0", "max>0"),
        ("layer:3", "layer:3"),
        ("layer:4-6,1", "layer:1,4-6"),
        ("layer:1,2,3,7-9,8-12", "layer:1-3,7-12"),
        ("dead:YES", "dead:yes"),
        ("source:C++", "source:C++"),
        ('source:"two words"', 'source:"two words"'),
        ('source:"plain"', "source:plain"),
        (r'source:"a \"b\" \\"', r'source:"a \"b\" \\"'),
        ('source:it"s', 'source:it"s'),
        ('source:""', 'source:""'),
        ("source:a>b", "source:a>b"),
        ("sort:-kurtosis", "sort:-kurtosis"),
        ("sort:−max", "sort:-max"),
        ("sort:neuron", "sort:neuron"),
        (
            "sort:-kurtosis dead:no max>5 source:python layer:3-5 density<0.01",
            "max>5 density<0.01 layer:3-5 dead:no source:python sort:-kurtosis",
        ),
    ],
)
def test_what_is_read(text: str, canonical: str) -> None:
    """Ways of writing, each with the one it is written back as."""
    assert str(parse(text)) == canonical


@pytest.mark.parametrize(
    ("text", "order", "statistics"),
    [
        ("", Order("max", True), ["max"]),
        ("dead:no layer:1", Order("max", True), ["max"]),
        ("mean>=0 max<5", Order("mean", True), ["mean", "max"]),
        ("std=1", Order("std", True), ["std"]),
        ("max<5 mean>0", Order("max", False), ["max", "mean"]),
        ("max<=5", Order("max", False), ["max"]),
        ("max>5 sort:min", Order("min", False), ["max", "min"]),
        ("max>5 sort:neuron", Order("neuron", False), ["max"]),
        ("sort:-neuron", Order("neuron", True), []),
    ],
)
def test_the_order(text: str, order: Order, statistics: list[str]) -> None:
    """The given order; else by the first comparison, from its end; else by the maximum."""
    query = parse(text)
    assert query.order == order
    assert query.statistics == statistics


@pytest.mark.parametrize(
    ("text", "wrong", "said"),
    [
        ("max>5 kurtosi>3", "kurtosi", "kurtosis?"),
        ("max>5 zzz>3", "zzz", "the statistics are max, min, mean"),
        ("max>", ">", "a number has to follow"),
        ("max>five", "five", "-1.5"),
        ("max>nan", "nan", "not a number"),
        ("max>inf", "inf", "not a number"),
        ("max>1_0", "1_0", "not a number"),
        ("max>٣", "٣", "not a number"),
        ("max>1e999", "1e999", "too large"),
        ("max>>5", ">5", "not a number"),
        ("max=>5", ">5", "not a number"),
        ("max", "max", "as in max>5"),
        ("dead", "dead", "not a condition"),
        ("dead>1", "dead", "colon"),
        ("hello", "hello", "not a condition"),
        ("max:5", "max:", "max>5"),
        ("colour:red", "colour:", "no such condition"),
        (":5", ":5", "not a condition"),
        ("layer:", "", "3-5"),
        ("layer:x", "x", "3-5"),
        ("layer:1,x,3", "x", "3-5"),
        ("layer:1,,3", "1,,3", "3-5"),
        ("layer:0,5-3", "5-3", "layer:3-5"),
        ("layer:-1", "-1", "3-5"),
        ("layer:1 layer:2", "layer:2", "only be used once"),
        ("dead:maybe", "maybe", "dead:yes or dead:no"),
        ("dead: no", "", "dead:yes or dead:no"),
        ("source:", "source:", "name of a source"),
        ('source:"open max>5', '"open max>5', "not closed"),
        ('source:"a"b', '"a"b', "space has to follow"),
        ("sort:", "", "not an order"),
        ("sort:dead", "dead", "not an order"),
        ("sort:maxx", "maxx", "(max?)"),
        ("sort:--max", "--max", "not an order"),
        ("max>5 " * MOST_COMPARISONS + "min<0", "min<0", "the maximum"),
        ("x" * (LONGEST + 3), "xxx", "1,000 characters"),
    ],
)
def test_what_is_refused(text: str, wrong: str, said: str) -> None:
    """The offending characters and no others are marked; what can be written is said."""
    with pytest.raises(GrammarError) as caught:
        parse(text)
    error = caught.value
    assert text[error.start : error.end] == wrong
    assert said in error.message
    assert error.detail.startswith(f"At character {error.start + 1} of the query")
    assert wrong in error.detail


def test_an_error_says_little_back() -> None:
    """Long words are cut, characters that cannot be seen are replaced."""
    with pytest.raises(GrammarError) as caught:
        parse(f"max>5 {'y' * 500}\u202e\x00 {'z' * 100}")
    error = caught.value
    assert "y" * 41 not in error.detail
    assert len(error.detail) < 250
    before, wrong, after = error.excerpt
    assert before == "max>5 "
    assert len(wrong) <= 101
    assert len(after) <= 42
    with pytest.raises(GrammarError) as caught:
        parse("a\u202e\x00")
    assert "“a\ufffd\ufffd”" in caught.value.detail


@given(st.text(max_size=20))
def test_a_source_s_word_is_read_as_its_name(name: str) -> None:
    """Whatever a source is called, there is a way to write it."""
    assert parse(f"max>1 source:{source_word(name)} dead:no").source == name
