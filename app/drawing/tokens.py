"""Pure: tokens, ids and activations → spans to show, as safe markup.

A page shows thousands of tokens, and this is where its time goes: so all tokens of a page are put
together at once, and a token's text is looked up rather than escaped anew. A span has its colour as
a class (`p1`…`p10`, `n1`…`n10`): the pages' content policy allows no inline style.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import NamedTuple
from unicodedata import bidirectional

from markupsafe import Markup

from app.drawing.characters import chip, joined, label, spaced, together, visible
from app.drawing.palette import (
    BRIEF_OPENINGS,
    DIGITS,
    IS_BRIEF,
    NOT_INCLUDED,
    OPEN_ZERO,
    OPENINGS,
    SHARES,
    STEPS,
    Palette,
    beginning,
    brief_beginning,
    fact,
    looked_up,
    paint,
    palette,
    step,
)

__all__ = [
    "NOT_INCLUDED", "STEPS", "Palette", "Row", "chip", "extent", "palette", "render", "spans",
    "step", "visible",
]  # fmt: skip

PEAK = "k"
"""Class of the token an example is aligned on, beside its colour."""

LINE_LEFT = 47
LINE_RIGHT = 62
"""About so many characters of a line are to be seen on either side of where its peak begins."""
LINE_TOKENS = 28
"""…and never more tokens than this on a side, however short they are."""
LINE_CHARACTERS = 80
"""A longer token is cut in a line: its middle is left out."""
BLOCK_CHARACTERS = 1_000
"""A longer token is cut everywhere."""
TITLE_CHARACTERS = 40

_POSITIONS = [str(position) for position in range(2048)]


def _cut(text: str, most: int) -> str:
    half = most // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


_Ending = tuple[str, str]
"""What ends a token's span, and what ends the comment that says the same in brief. A plain tuple:
of strings alone, it is nothing that Python's collector of cycles has to look at."""


@lru_cache(maxsize=1 << 15)
def _in_line(token: str, token_id: int) -> _Ending | None:
    """A token's endings in a line; None where its bytes may need others' to be a character.

    Kept for the tokens met last: here is where their characters become HTML.
    """
    return None if "\\x" in token else _ending(token, token_id, breaks=False)


@lru_cache(maxsize=1 << 13)
def _in_block(token: str, token_id: int) -> _Ending | None:
    """The same in running text, where a line break breaks the line."""
    return None if "\\x" in token else _ending(token, token_id, breaks=True)


def _ending(token: str, token_id: int, *, breaks: bool) -> _Ending:
    body = visible(_cut(token, BLOCK_CHARACTERS if breaks else LINE_CHARACTERS), breaks=breaks)
    apart = _apart(token)
    alone = f"<span{apart}>{body}</span>" if apart else body
    return f', id {token_id}"{apart}>{body}</span>', f", id {token_id}-->{alone}"


def _apart(text: str) -> str:
    """The attribute that keeps text that runs to the left from turning its neighbours round.

    Where none does a browser has no need to look for it, which is a tenth of a page's layout.
    """
    return ' dir="ltr"' if any(map(_runs_left, text)) else ""


def _runs_left(character: str) -> bool:
    return bidirectional(character) in {"R", "AL", "AN"}


def extent(tokens: Sequence[str], centre: int) -> tuple[int, int]:
    """First index and end of the tokens that a line aligned on `centre` has room for."""
    first, end = centre, centre
    room, least = LINE_LEFT, max(0, centre - LINE_TOKENS)
    while room > 0 and first > least:
        first -= 1
        room -= len(tokens[first])
    room, most = LINE_RIGHT, min(len(tokens), centre + LINE_TOKENS + 1)
    while room > 0 and end < most:
        room -= len(tokens[end])
        end += 1
    return first, end


class Row(NamedTuple):
    """A stretch of one context; its three lists are equally long."""

    tokens: Sequence[str]
    token_ids: Sequence[int]
    activations: Sequence[float | None]
    start: int
    """The position in the context of the first token."""
    centre: int | None = None
    """The index of the token to align on, a `<mark>`; None, or out of range: there is none."""
    value: float = 0.0
    """Its exact activation."""


def spans(
    rows: Sequence[Row], colours: Palette, *, breaks: bool = False, brief: bool = False
) -> list[tuple[str, str]]:
    """Each row's tokens as spans, those before the one it is aligned on apart from the rest.

    Without a token to align on all is to the right. Tokens that only together make up whole
    characters share a span. With `breaks`, lines are broken where the text does. A span's title
    names activation, share of the neuron's maximum (of its minimum, below zero), position and id:
    in this order, what repeats along a line stands together, and a page is a tenth smaller.

    With `brief`, a title names activation and id alone, and a token without colour has no span:
    a comment before it says the same. Where a token is pointed at, tokens.js makes a whole title
    of either, which takes the range of the neuron and the position of the row.

    All rows of a page are best given at once. The strings are markup. Raises ValueError where
    lengths differ.
    """
    if any(not len(row.tokens) == len(row.token_ids) == len(row.activations) for row in rows):
        raise ValueError("tokens, ids and activations differ in number")
    every = chain.from_iterable
    endings = list(
        map(
            _in_block if breaks else _in_line,
            every(row.tokens for row in rows),
            every(row.token_ids for row in rows),
        )
    )
    parts, width = (_brief_parts if brief else _parts)(rows, endings, colours)
    nothing_after = [""] * (width - 1)
    some_of_bytes = not all(endings)
    shown = []
    done = 0
    for row in rows:
        first, done = done, done + len(row.tokens)
        mark = row.centre if row.centre is not None and 0 <= row.centre < len(row.tokens) else None
        start, end = width * first, width * done
        centre = start + width * (mark or 0)
        if mark is not None:
            marked = _mark(
                row.tokens[mark], row.token_ids[mark], row.value, row.start + mark, colours, breaks
            )
            parts[centre : centre + width] = [marked, *nothing_after]
        if some_of_bytes and not all(endings[first:done]):
            here = ["".join(parts[i : i + width]) for i in range(start, end, width)]
            before = _join(here, endings[first:done], row, mark, colours, breaks)
            shown.append(("".join(here[:before]), "".join(here[before:])))
        else:
            shown.append(("".join(parts[start:centre]), "".join(parts[centre:end])))
    return shown


def _parts(
    rows: Sequence[Row], endings: Sequence[_Ending | None], colours: Palette
) -> tuple[list[str], int]:
    """All tokens in five parts each: opening, digits, share, position, ending."""
    values = list(chain.from_iterable(row.activations for row in rows))
    found = looked_up(values, colours)
    parts: list[str] = [""] * (5 * len(values))
    parts[0::5] = OPENINGS[found.openings].tolist()
    parts[1::5] = DIGITS[found.digits].tolist()
    parts[2::5] = SHARES[found.shares].tolist()
    parts[3::5] = chain.from_iterable(_positions(row.start, len(row.tokens)) for row in rows)
    parts[4::5] = [ending[0] if ending else "" for ending in endings]
    for i in found.unusual:
        parts[5 * i : 5 * i + 3] = [beginning(values[i], colours), "", ""]
    return parts, 5


def _brief_parts(
    rows: Sequence[Row], endings: Sequence[_Ending | None], colours: Palette
) -> tuple[list[str], int]:
    """All tokens in three parts each: opening, digits, ending."""
    values = list(chain.from_iterable(row.activations for row in rows))
    found = looked_up(values, colours)
    kinds = IS_BRIEF[found.openings].tolist()
    parts: list[str] = [""] * (3 * len(values))
    parts[0::3] = BRIEF_OPENINGS[found.openings].tolist()
    parts[1::3] = DIGITS[found.digits].tolist()
    parts[2::3] = [
        ending[kind] if ending else "" for ending, kind in zip(endings, kinds, strict=True)
    ]
    for i in found.unusual:
        start, ending = brief_beginning(values[i], colours), endings[i]
        rest = ending[start.startswith("<!--")] if ending else ""
        parts[3 * i : 3 * i + 3] = [start, "", rest]
    return parts, 3


def _positions(start: int, count: int) -> Iterable[str]:
    """Consecutive positions as text."""
    if start + count <= len(_POSITIONS):
        return _POSITIONS[start : start + count]
    return map(str, range(start, start + count))


def _join(
    here: list[str],
    endings: Sequence[_Ending | None],
    row: Row,
    mark: int | None,
    colours: Palette,
    breaks: bool,
) -> int:
    """Put right the spans of tokens that hold single bytes: one for each whole character.

    Returns where the span with the mark begins, which may be before the token that is marked.
    """
    before, done = mark or 0, 0
    for i, ending in enumerate(endings):
        if ending is not None or i < done:
            continue
        last = together(row.tokens, i)
        done = last + 1
        if last > i:
            if mark is not None and i <= mark <= last:
                before = i
            here[i:done] = [_several(row, i, last, mark, colours, breaks), *[""] * (last - i)]
        elif i != mark:
            start = beginning(row.activations[i], colours)
            end = _ending(row.tokens[i], row.token_ids[i], breaks=breaks)
            here[i] = f"{start}{row.start + i}{end[0]}"
    return before


def render(
    tokens: Sequence[str],
    token_ids: Sequence[int],
    activations: Sequence[float | None],
    *,
    start: int,
    colours: Palette,
    centre: int | None = None,
    value: float = 0.0,
) -> Markup:
    """One row as running text; otherwise as `spans`."""
    row = Row(tokens, token_ids, activations, start, centre, value)
    ((left, right),) = spans([row], colours, breaks=True)
    return Markup(left + right)


@lru_cache(maxsize=1 << 9)
def _as_mark(opening: str) -> str:
    """A span's start as that of the mark an example is aligned on."""
    if opening == OPEN_ZERO:
        return f'<mark class="{PEAK}" title="'
    return opening.replace("<span", "<mark").replace('" title', f' {PEAK}" title')


def _marked_body(text: str, breaks: bool) -> Markup:
    """The text of a mark: here the space a token begins with is what it is told apart by."""
    if breaks and "\n" in text:
        return visible(text, breaks=True)
    return spaced(text, trailing=False)


def _mark(
    token: str, token_id: int, value: float, position: int, colours: Palette, breaks: bool
) -> str:
    opening = _as_mark(paint(value, colours))
    facts = fact(value, colours, exactly=True)
    return f"{opening}{facts}, at {position}{_mark_ending(token, token_id, breaks)}"


@lru_cache(maxsize=1 << 12)
def _mark_ending(token: str, token_id: int, breaks: bool) -> str:
    body = _marked_body(_cut(token, BLOCK_CHARACTERS if breaks else LINE_CHARACTERS), breaks)
    return f', id {token_id}"{_apart(token)}>{body}</mark>'


def _several(
    row: Row, first: int, last: int, mark: int | None, colours: Palette, breaks: bool
) -> str:
    """Tokens that only together make up whole characters, as one span that names its parts.

    Its colour is that of the mark, or else of the activation of largest magnitude.
    """
    here = range(first, last + 1)
    values = {i: row.value if i == mark else row.activations[i] for i in here}
    strongest = max((v for v in values.values() if v is not None), key=abs, default=None)
    opening = paint(row.value if mark in here else strongest, colours)
    text = joined(row.tokens[first : last + 1])
    text = _cut(text, BLOCK_CHARACTERS if breaks else LINE_CHARACTERS)
    parts = "; ".join(
        f"{fact(values[i], colours, exactly=i == mark)}, at {row.start + i}, "
        f"id {row.token_ids[i]}: {label(_cut(row.tokens[i], TITLE_CHARACTERS))}"
        for i in here
    )
    title = f"{len(here)} tokens together, {parts}"
    if mark in here:
        return f'{_as_mark(opening)}{title}"{_apart(text)}>{_marked_body(text, breaks)}</mark>'
    return f'{opening}{title}"{_apart(text)}>{visible(text, breaks=breaks)}</span>'
