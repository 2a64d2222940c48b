"""The query language of the search by statistics (`max>5 layer:3-5`): text to query and back."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from app.drawing.quoting import printable, quoted
from app.reading.statistics import STATISTICS

FORMS = "max>5, density<1%, layer:3-5, dead:no, source:NAME or sort:-kurtosis"
"""The conditions, for readers."""
LONGEST = 1000
"""Characters of a query."""
MOST_COMPARISONS = 20
_SAID_BACK = 40
_ROUND_A_MARK = 40
"""Characters shown before and after what is marked as wrong."""

_WORD = re.compile(r"\S+")
_BLANKS = re.compile(r"\s*")
_COMPARISON = re.compile(r"(?P<name>[^\s<>=:\"]+)\s*(?P<sign>>=|<=|>|<|=)\s*(?P<value>\S*)")
_KEYWORD = re.compile(r"(?P<name>[^\s<>=:\"]+):")
_NUMBER = re.compile(
    r"(?P<mantissa>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?:e(?P<power>[+-]?[0-9]{1,4}))?(?P<percent>%?)",
    re.IGNORECASE,
)
_LAYERS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)

Span = tuple[int, int]
"""First character and the one after the last, counted from 0."""


class GrammarError(ValueError):
    """A text that is no query: what is wrong, and with which of its characters."""

    def __init__(self, text: str, span: Span, message: str) -> None:
        super().__init__(message)
        self.text = text
        self.start, self.end = span
        self.message = message

    @property
    def detail(self) -> str:
        """One sentence: where, which word, what can be written."""
        word = self.text[self.start : self.end]
        cut = word if len(word) <= _SAID_BACK else f"{word[:_SAID_BACK]}…"
        said = f", “{quoted(cut)}”" if word else ""
        return f"At character {self.start + 1} of the query{said}: {self.message}."

    @property
    def excerpt(self) -> tuple[str, str, str]:
        """What stands before the wrong characters, these, and what stands after them."""
        before, after = self.text[: self.start], self.text[self.end :]
        if len(before) > _ROUND_A_MARK:
            before = f"…{before[-_ROUND_A_MARK:]}"
        if len(after) > _ROUND_A_MARK:
            after = f"{after[:_ROUND_A_MARK]}…"
        wrong = self.text[self.start : self.end]
        return printable(before), quoted(printable(wrong)), printable(after)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One statistic against a number."""

    name: str
    sign: str
    value: float

    def __str__(self) -> str:
        return f"{self.name}{self.sign}{_written(self.value)}"


@dataclass(frozen=True, slots=True)
class Order:
    """What results are sorted by: a statistic, or `neuron` for their place."""

    name: str
    descending: bool

    def __str__(self) -> str:
        return f"sort:{'-' if self.descending else ''}{self.name}"


@dataclass(frozen=True, slots=True)
class Query:
    """A search over the neurons of a run; what is None or empty was not said."""

    comparisons: tuple[Comparison, ...] = ()
    layers: tuple[tuple[int, int], ...] = ()
    """First and last of each range: ascending, apart from each other."""
    dead: bool | None = None
    source: str | None = None
    sort: Order | None = None
    text: str = field(default="", compare=False, repr=False)
    """What was typed, for errors that only the run can tell; with the places in it."""
    layers_at: Span = field(default=(0, 0), compare=False, repr=False)
    source_at: Span = field(default=(0, 0), compare=False, repr=False)

    def __str__(self) -> str:
        """The query as it is written in short; it reads back as the same."""
        terms = [str(comparison) for comparison in self.comparisons]
        if self.layers:
            ranges = (f"{a}" if a == b else f"{a}-{b}" for a, b in self.layers)
            terms.append(f"layer:{','.join(ranges)}")
        if self.dead is not None:
            terms.append(f"dead:{'yes' if self.dead else 'no'}")
        if self.source is not None:
            terms.append(f"source:{source_word(self.source)}")
        if self.sort is not None:
            terms.append(str(self.sort))
        return " ".join(terms)

    @property
    def order(self) -> Order:
        """The order asked for; else that of the first comparison, from the end it points to."""
        if self.sort is not None:
            return self.sort
        if self.comparisons:
            first = self.comparisons[0]
            return Order(first.name, not first.sign.startswith("<"))
        return Order("max", True)

    @property
    def asked(self) -> list[str]:
        """The statistics that decide what is found and where it stands, each once."""
        names = [comparison.name for comparison in self.comparisons]
        if self.order.name != "neuron":
            names.append(self.order.name)
        return list(dict.fromkeys(names))


def parse(text: str) -> Query:
    """Read a query. All its terms must hold; an empty one holds for every neuron.

    Raises GrammarError. Whether there is such a layer or source only the run can tell.
    """
    if len(text) > LONGEST:
        raise GrammarError(
            text, (LONGEST, len(text)), f"a query ends after {LONGEST:,} characters at most"
        )
    comparisons: list[Comparison] = []
    said: dict[str, Term] = {}
    at = _skip(text, 0)
    while at < len(text):
        if found := _COMPARISON.match(text, at):
            if len(comparisons) == MOST_COMPARISONS:
                message = f"there are {MOST_COMPARISONS} comparisons before it, which is the most"
                raise GrammarError(text, found.span(), message)
            comparisons.append(_comparison(text, found))
            end = found.end()
        elif found := _KEYWORD.match(text, at):
            name = found["name"].lower()
            term = _term(text, found)
            if name in said:
                raise GrammarError(text, (at, term.end), f"{name}: stands here a second time")
            said[name] = term
            end = term.end
        else:
            raise _no_term(text, at)
        at = _skip(text, end)
    values = {name: term.value for name, term in said.items()}
    return Query(
        comparisons=tuple(comparisons),
        layers=values.get("layer", ()),
        dead=values.get("dead"),
        source=values.get("source"),
        sort=values.get("sort"),
        text=text,
        layers_at=said["layer"].span if "layer" in said else (0, 0),
        source_at=said["source"].span if "source" in said else (0, 0),
    )


def source_word(name: str) -> str:
    """A source's name as a query writes it: in quotation marks where it has to be."""
    if re.fullmatch(r'[^\s"]\S*', name):
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


@dataclass(frozen=True, slots=True)
class Term:
    """What follows a word and a colon."""

    value: Any
    span: Span

    @property
    def end(self) -> int:
        """The character after its last."""
        return self.span[1]


def _skip(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    assert found is not None  # it matches nothing at all, too
    return found.end()


def _comparison(text: str, found: re.Match[str]) -> Comparison:
    name = found["name"].lower()
    if name not in STATISTICS:
        raise GrammarError(text, found.span("name"), _no_statistic(name))
    if not found["value"]:
        raise GrammarError(text, found.span("sign"), "a number has to follow, as in max>5")
    # Pages write a minus sign where a query has a hyphen: what is copied from them is taken.
    number = _NUMBER.fullmatch(found["value"].replace("\N{MINUS SIGN}", "-"))
    if number is None:
        raise GrammarError(
            text, found.span("value"), "that is no number: write one as 5, -1.5, 1e-3 or 1%"
        )
    # A percentage moves the point rather than dividing, so that 1.1% is the float nearest to 0.011.
    power = int(number["power"] or 0) - (2 if number["percent"] else 0)
    value = float(f"{number['mantissa']}e{power}")
    if abs(value) == float("inf"):
        raise GrammarError(text, found.span("value"), "that is larger than any number here")
    return Comparison(name, found["sign"], value + 0.0)  # −0 is 0


def _no_statistic(name: str) -> str:
    if name in ("dead", "source", "sort", "layer"):
        return f"a colon comes after it: write one of {FORMS}"
    near = get_close_matches(name, STATISTICS, 1)
    guess = f" ({near[0]}?)" if near else ""
    return f"there is no such statistic{guess}; there are {', '.join(STATISTICS)}"


def _no_term(text: str, at: int) -> GrammarError:
    found = _WORD.match(text, at)
    assert found is not None  # `at` is no blank
    word = found[0].lower()
    if word in STATISTICS:
        message = f"compare it with a number, as in {word}>5, or sort by it: sort:-{word}"
    else:
        message = f"that is no condition: write {FORMS}"
    return GrammarError(text, found.span(), message)


def _term(text: str, found: re.Match[str]) -> Term:
    name, start = found["name"].lower(), found.end()
    word = _WORD.match(text, start)
    span = (start, word.end() if word else start)
    match name:
        case "layer":
            value: Any = _layers(text, span)
        case "dead":
            value = _dead(text, span)
        case "source":
            return _source(text, span)
        case "sort":
            value = _sort(text, span)
        case _ if name in STATISTICS:
            message = f"a statistic is compared, without a colon: {name}>5"
            raise GrammarError(text, found.span(), message)
        case _:
            raise GrammarError(text, found.span(), f"there is no such condition: write {FORMS}")
    return Term(value, span)


def _layers(text: str, span: Span) -> tuple[tuple[int, int], ...]:
    ranges, at = [], span[0]
    for part in text[slice(*span)].split(","):
        here = (at, at + len(part)) if part else span
        found = _LAYERS.fullmatch(part)
        if found is None:
            raise GrammarError(text, here, "layers are written as 3, 3-5 or 1,4-6")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            message = f"a range of layers goes up: write layer:{last}-{first}"
            raise GrammarError(text, here, message)
        ranges.append((first, last))
        at += len(part) + 1
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(merged)


def _dead(text: str, span: Span) -> bool:
    word = text[slice(*span)].lower()
    if word not in ("yes", "no"):
        raise GrammarError(text, span, "write dead:yes or dead:no")
    return word == "yes"


def _source(text: str, span: Span) -> Term:
    start, end = span
    if start == end:
        message = 'the name of a source has to follow, such as source:books or source:"two words"'
        raise GrammarError(text, (start - len("source:"), end), message)
    if text[start] != '"':
        return Term(text[start:end], span)
    found = _QUOTED.match(text, start)
    if found is None:
        raise GrammarError(text, (start, len(text)), "the quotation mark is not closed")
    if found.end() < len(text) and not text[found.end()].isspace():
        message = 'a blank has to follow the closing quotation mark; inside a name it is \\"'
        raise GrammarError(text, (start, found.end() + 1), message)
    return Term(re.sub(r"\\(.)", r"\1", found[1], flags=re.DOTALL), found.span())


def _sort(text: str, span: Span) -> Order:
    word = text[slice(*span)].lower().replace("\N{MINUS SIGN}", "-")
    name = word.removeprefix("-")
    if name != "neuron" and name not in STATISTICS:
        near = get_close_matches(name, STATISTICS, 1)
        guess = f" ({near[0]}?)" if near else ""
        raise GrammarError(
            text,
            span,
            f"nothing is sorted by that{guess}: write neuron, {', '.join(STATISTICS)}, "
            "with a hyphen before it for the largest first",
        )
    return Order(name, word != name)


def _written(value: float) -> str:
    """A float in few characters that read back as the same."""
    plain = repr(value).removesuffix(".0")
    mantissa, power = f"{value:.16e}".split("e")
    short = f"{mantissa.rstrip('0').rstrip('.')}e{int(power)}"
    return short if len(short) < len(plain) and float(short) == value else plain
