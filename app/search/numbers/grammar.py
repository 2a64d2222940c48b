"""The query language of the search by statistics (`max>5 layer:3-5`): text to query and back."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from app.drawing.quoting import printable, quoted, shortened
from app.reading.statistics import HEAD_STATISTICS, STATISTICS

FORMS = "max>5, density<1%, layer:3-5, dead:no, source:NAME or sort:-kurtosis"
"""The forms of conditions, for readers."""
ALL = STATISTICS | HEAD_STATISTICS
"""What may be compared; the scores of heads in runs of attention heads alone."""
LONGEST = 1000
"""The most characters of a query."""
MOST_COMPARISONS = 20
_LONGEST_WORD = 40
"""The most characters of a word in a message."""
_AROUND = 40
"""The most characters before and after the wrong ones in an excerpt."""

_WORD = re.compile(r"\S+")
_BLANKS = re.compile(r"\s*")
_COMPARISON = re.compile(r"(?P<name>[^\s<>=:\"]+)\s*(?P<sign>>=|<=|>|<|=)\s*(?P<value>\S*)")
_KEYWORD = re.compile(r"(?P<name>[^\s<>=:\"]+):")
_NUMBER = re.compile(
    r"(?P<mantissa>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?:e(?P<power>[+-]?[0-9]{1,4}))?(?P<percent>%?)",
    re.IGNORECASE,
)
_SELECTIVITY = re.compile(
    r'selectivity\(\s*(?P<source>"(?:[^"\\]|\\.)*"|[^\s()"]+)\s*\)', re.IGNORECASE | re.DOTALL
)
_SIGN_AND_VALUE = re.compile(r"\s*(?P<sign>>=|<=|>|<|=)\s*(?P<value>\S*)")
_LAYERS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)

COMPUTED = {
    "alike": "cosine with the most similar output weights of another unit, which is "
    "named: `alike>0.9` finds near-duplicates, live ones unless the query says dead:yes",
    "selectivity(SOURCE)": "how much higher it peaks in that source than in the others, from −1 to "
    "1: (s − o) ÷ (|s| + |o|), of its mean peak s there and the mean o of the others’",
}
"""Statistics that are computed for the search, with their definitions."""

Span = tuple[int, int]
"""The index of the first character, and of the character after the last, from 0."""


class GrammarError(ValueError):
    """A query that cannot be parsed: what is wrong, and with which characters."""

    def __init__(self, text: str, span: Span, message: str) -> None:
        super().__init__(message)
        self.text = text
        self.start, self.end = span
        self.message = message

    @property
    def detail(self) -> str:
        """A sentence with the place, the word there, and what is wrong."""
        word = quoted(self.text[self.start : self.end], _LONGEST_WORD)
        where = f"At character {self.start + 1} of the query"
        return f"{where}, “{word}”: {self.message}." if word else f"{where}: {self.message}."

    @property
    def excerpt(self) -> tuple[str, str, str]:
        """The text before the wrong characters, these characters, and the text after them."""
        before, after = self.text[: self.start], shortened(self.text[self.end :], _AROUND)
        if len(before) > _AROUND:
            before = f"…{before[-_AROUND:]}"
        wrong = self.text[self.start : self.end]
        return printable(before), quoted(printable(wrong)), printable(after)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A condition that compares a statistic with a number."""

    name: str
    sign: str
    value: float

    def __str__(self) -> str:
        return f"{self.name}{self.sign}{_written(self.value)}"


@dataclass(frozen=True, slots=True)
class Order:
    """The order of results: by a statistic, or by `neuron` for layer and index."""

    name: str
    descending: bool

    def __str__(self) -> str:
        return f"sort:{'-' if self.descending else ''}{self.name}"


@dataclass(frozen=True, slots=True)
class Query:
    """A search over the neurons of a run; None or empty: no such condition."""

    comparisons: tuple[Comparison, ...] = ()
    layers: tuple[tuple[int, int], ...] = ()
    """The first and last layer of each range; the ranges ascend, with gaps between them."""
    dead: bool | None = None
    source: str | None = None
    sort: Order | None = None
    text: str = field(default="", compare=False, repr=False)
    """The query as typed, for errors that need the run, with the places of two conditions in it."""
    layers_at: Span = field(default=(0, 0), compare=False, repr=False)
    source_at: Span = field(default=(0, 0), compare=False, repr=False)

    def __str__(self) -> str:
        """The query in its shortest form, which parses to the same query."""
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
    def only_dead(self) -> bool | None:
        """As `dead`; but near-duplicates are of live neurons unless the query asks for dead ones,
        which are alike by the thousand in some models and say nothing."""
        return False if self.dead is None and "alike" in self.statistics else self.dead

    @property
    def order(self) -> Order:
        """The order in the query; by default that of the first comparison: largest first for `>`,
        smallest first for `<`."""
        if self.sort is not None:
            return self.sort
        if self.comparisons:
            first = self.comparisons[0]
            return Order(first.name, not first.sign.startswith("<"))
        return Order("max", True)

    @property
    def statistics(self) -> list[str]:
        """The statistics in comparisons and in the order, each once."""
        names = [comparison.name for comparison in self.comparisons]
        if self.order.name != "neuron":
            names.append(self.order.name)
        return list(dict.fromkeys(names))


def parse(text: str) -> Query:
    """Parse a query. All its conditions must match; an empty query matches every neuron.

    Raises GrammarError. Whether its layers and source exist is not checked.
    """
    if len(text) > LONGEST:
        raise GrammarError(text, (LONGEST, len(text)), f"the maximum is {LONGEST:,} characters")
    comparisons: list[Comparison] = []
    terms: dict[str, Term] = {}
    at = _skip(text, 0)
    while at < len(text):
        if match := _SELECTIVITY.match(text, at):
            compared = _SIGN_AND_VALUE.match(text, match.end())
            if compared is None:
                name = selectivity(_unquoted(match["source"]))
                message = f"compare it with a number, as in {name}>0.5, or sort by it: sort:-{name}"
                raise GrammarError(text, match.span(), message)
            _check_room(text, comparisons, (at, compared.end()))
            value = _number(text, compared)
            name = selectivity(_unquoted(match["source"]))
            comparisons.append(Comparison(name, compared["sign"], value))
            end = compared.end()
        elif match := _COMPARISON.match(text, at):
            _check_room(text, comparisons, match.span())
            comparisons.append(_comparison(text, match))
            end = match.end()
        elif match := _KEYWORD.match(text, at):
            name = match["name"].lower()
            term = _term(text, match)
            if name in terms:
                raise GrammarError(text, (at, term.end), f"{name}: can only be used once")
            terms[name] = term
            end = term.end
        else:
            raise _no_term(text, at)
        at = _skip(text, end)
    values = {name: term.value for name, term in terms.items()}
    return Query(
        comparisons=tuple(comparisons),
        layers=values.get("layer", ()),
        dead=values.get("dead"),
        source=values.get("source"),
        sort=values.get("sort"),
        text=text,
        layers_at=terms["layer"].span if "layer" in terms else (0, 0),
        source_at=terms["source"].span if "source" in terms else (0, 0),
    )


def selectivity(source: str) -> str:
    """The statistic's name for a source, as queries write it."""
    if re.fullmatch(r'[^\s()"]+', source):
        return f"selectivity({source})"
    escaped = source.replace("\\", "\\\\").replace('"', '\\"')
    return f'selectivity("{escaped}")'


def selected_source(name: str) -> str | None:
    """The source in a name that `selectivity` made; None for other names."""
    match = _SELECTIVITY.fullmatch(name)
    return None if match is None else _unquoted(match["source"])


def _unquoted(word: str) -> str:
    if not word.startswith('"'):
        return word
    return re.sub(r"\\(.)", r"\1", word[1:-1], flags=re.DOTALL)


def source_word(name: str) -> str:
    """A source's name in a query, in quotation marks if necessary."""
    if re.fullmatch(r'[^\s"]\S*', name):
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


@dataclass(frozen=True, slots=True)
class Term:
    """The value after a word and a colon."""

    value: Any
    span: Span

    @property
    def end(self) -> int:
        """The character after its last."""
        return self.span[1]


def _skip(text: str, at: int) -> int:
    blanks = _BLANKS.match(text, at)
    assert blanks is not None  # it also matches an empty text
    return blanks.end()


def _comparison(text: str, match: re.Match[str]) -> Comparison:
    name = match["name"].lower()
    if name not in ALL and name != "alike":
        raise GrammarError(text, match.span("name"), _no_statistic(name))
    return Comparison(name, match["sign"], _number(text, match))


def _check_room(text: str, comparisons: list[Comparison], span: Span) -> None:
    if len(comparisons) == MOST_COMPARISONS:
        raise GrammarError(text, span, f"the maximum is {MOST_COMPARISONS} comparisons")


def _number(text: str, match: re.Match[str]) -> float:
    """The number in a match with the groups `sign` and `value`."""
    if not match["value"]:
        raise GrammarError(text, match.span("sign"), "a number has to follow, as in max>5")
    # Pages have a minus sign instead of a hyphen: numbers copied from them work too.
    number = _NUMBER.fullmatch(match["value"].replace("\N{MINUS SIGN}", "-"))
    if number is None:
        message = "this is not a number; use 5, -1.5, 1e-3 or 1%"
        raise GrammarError(text, match.span("value"), message)
    # A percentage moves the point rather than dividing, so that 1.1% is the float nearest to 0.011.
    power = int(number["power"] or 0) - (2 if number["percent"] else 0)
    value = float(f"{number['mantissa']}e{power}")
    if abs(value) == float("inf"):
        raise GrammarError(text, match.span("value"), "this number is too large")
    return value + 0.0  # −0 is 0


def _no_statistic(name: str) -> str:
    if name in ("dead", "source", "sort", "layer"):
        return f"it needs a colon; try {FORMS}"
    near = get_close_matches(name, ALL, 1)
    guess = f" ({near[0]}?)" if near else ""
    known = ", ".join((*STATISTICS, *COMPUTED))
    return f"there is no such statistic{guess}; the statistics are {known}"


def _no_term(text: str, at: int) -> GrammarError:
    match = _WORD.match(text, at)
    assert match is not None  # `at` is not a blank
    word = match[0].lower()
    if word in ALL:
        message = f"compare it with a number, as in {word}>5, or sort by it: sort:-{word}"
    else:
        message = f"this is not a condition; try {FORMS}"
    return GrammarError(text, match.span(), message)


def _term(text: str, keyword: re.Match[str]) -> Term:
    name, start = keyword["name"].lower(), keyword.end()
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
            return _sort(text, span)
        case _ if name in ALL:
            message = f"a statistic needs a comparison instead of a colon: {name}>5"
            raise GrammarError(text, keyword.span(), message)
        case _:
            raise GrammarError(text, keyword.span(), f"there is no such condition; try {FORMS}")
    return Term(value, span)


def _layers(text: str, span: Span) -> tuple[tuple[int, int], ...]:
    ranges, at = [], span[0]
    for part in text[slice(*span)].split(","):
        part_span = (at, at + len(part)) if part else span
        match = _LAYERS.fullmatch(part)
        if match is None:
            raise GrammarError(text, part_span, "these are not layers; use 3, 3-5 or 1,4-6")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            message = f"a range of layers has to ascend: layer:{last}-{first}"
            raise GrammarError(text, part_span, message)
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
        raise GrammarError(text, span, "use dead:yes or dead:no")
    return word == "yes"


def _source(text: str, span: Span) -> Term:
    start, end = span
    if start == end:
        message = 'the name of a source has to follow, such as source:books or source:"two words"'
        raise GrammarError(text, (start - len("source:"), end), message)
    if text[start] != '"':
        return Term(text[start:end], span)
    match = _QUOTED.match(text, start)
    if match is None:
        raise GrammarError(text, (start, len(text)), "the quotation mark is not closed")
    if match.end() < len(text) and not text[match.end()].isspace():
        message = 'a space has to follow the closing quotation mark; inside a name, use \\"'
        raise GrammarError(text, (start, match.end() + 1), message)
    return Term(re.sub(r"\\(.)", r"\1", match[1], flags=re.DOTALL), match.span())


def _sort(text: str, span: Span) -> Term:
    hyphen = text[span[0] : span[0] + 1] in ("-", "\N{MINUS SIGN}")
    if match := _SELECTIVITY.match(text, span[0] + hyphen):
        name = selectivity(_unquoted(match["source"]))
        return Term(Order(name, bool(hyphen)), (span[0], match.end()))
    word = text[slice(*span)].lower().replace("\N{MINUS SIGN}", "-")
    name = word.removeprefix("-")
    if name not in ("neuron", "alike", *ALL):
        near = get_close_matches(name, ALL, 1)
        guess = f" ({near[0]}?)" if near else ""
        known = ", ".join((*STATISTICS, *COMPUTED))
        message = f"this is not an order{guess}; use neuron, {known}, with a hyphen before it"
        raise GrammarError(text, span, f"{message} for the largest first")
    return Term(Order(name, word != name), span)


def _written(value: float) -> str:
    """A float in as few characters as give the same float back."""
    plain = repr(value).removesuffix(".0")
    mantissa, power = f"{value:.16e}".split("e")
    short = f"{mantissa.rstrip('0').rstrip('.')}e{int(power)}"
    return short if len(short) < len(plain) and float(short) == value else plain
