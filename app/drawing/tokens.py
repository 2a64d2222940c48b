"""Tokens with their activations as coloured spans, in safe markup.

A page has thousands of tokens and most of its time is spent here. So all tokens of a page are built
at once, and the escaped text of a token is cached. The colour is a class (`p1`…`p10`, `n1`…`n10`),
because the pages' content security policy forbids inline styles.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from operator import getitem
from typing import NamedTuple
from unicodedata import bidirectional

from markupsafe import Markup

from app.drawing.characters import joined, label, last_of_character, spaced, visible
from app.drawing.palette import (
    BRIEF_OPENINGS,
    DIGITS,
    IS_BRIEF,
    OPEN_ZERO,
    OPENINGS,
    SHARES,
    Palette,
    beginning,
    brief_beginning,
    fact,
    look_up,
    paint,
)

PEAK = "k"
"""Class of the token an example is aligned on, beside its colour."""

LINE_LEFT = 47
LINE_RIGHT = 62
"""About how many characters a line has before its peak, and from there on."""
LINE_TOKENS = 28
"""The most tokens a line has on one side of its peak, however short they are."""
LINE_CHARACTERS = 80
"""In a line, the middle of a longer token is left out."""
BLOCK_CHARACTERS = 1_000
"""In running text, the middle of a longer token is left out."""
TITLE_CHARACTERS = 40
"""In a title, the middle of a longer token is left out."""

_POSITIONS = [str(position) for position in range(2048)]


def _cut(text: str, most: int) -> str:
    half = most // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


_Ending = tuple[str, str]
"""The end of a token's span, and the end of the comment that replaces it in brief markup. A tuple
of strings only, because Python's garbage collector does not track those."""


@lru_cache(maxsize=1 << 15)
def _in_line(token: str, token_id: int) -> _Ending | None:
    """A token's ending in a line; None if it holds single bytes, which may be part of a character.

    Cached, because escaping the text is slow.
    """
    return None if "\\x" in token else _ending(token, token_id, breaks=False)


@lru_cache(maxsize=1 << 13)
def _in_block(token: str, token_id: int) -> _Ending | None:
    """The same in running text, where line breaks are real."""
    return None if "\\x" in token else _ending(token, token_id, breaks=True)


def _ending(token: str, token_id: int, *, breaks: bool) -> _Ending:
    body = visible(_cut(token, BLOCK_CHARACTERS if breaks else LINE_CHARACTERS), breaks=breaks)
    direction = _direction(token)
    brief_body = f"<span{direction}>{body}</span>" if direction else body
    return f', id {token_id}"{direction}>{body}</span>', f", id {token_id}-->{brief_body}"


def _direction(text: str) -> str:
    """The attribute that keeps right-to-left text from reordering its neighbours, if needed.

    Not set elsewhere, because it costs a tenth of the time in which a browser lays out a page.
    """
    return ' dir="ltr"' if any(map(_is_right_to_left, text)) else ""


def _is_right_to_left(character: str) -> bool:
    return bidirectional(character) in {"R", "AL", "AN"}


def extent(tokens: Sequence[str], centre: int) -> tuple[int, int]:
    """The range (first, end) of the tokens that fit in a line aligned on token `centre`."""
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
    """Consecutive tokens of one context; the three lists have the same length."""

    tokens: Sequence[str]
    token_ids: Sequence[int]
    activations: Sequence[float | None]
    start: int
    """The first token's position in the context."""
    centre: int | None = None
    """Index of the token to align on, shown as a `<mark>`. None or out of range: no such token."""
    value: float = 0.0
    """The exact activation of the token at `centre`."""


def spans(
    rows: Sequence[Row], colours: Palette, *, breaks: bool = False, brief: bool = False
) -> list[tuple[str, str]]:
    """Each row's tokens as spans, in markup: those before the token at `centre`, and the rest.
    Without a token to align on, all are in the second part.

    Tokens that together make up a character share a span. With `breaks`, line breaks are real. A
    span's title names the activation, its share of the neuron's maximum (or minimum, below zero),
    position and id: in this order a page compresses a tenth better.

    With `brief`, a title names only activation and id, and a token without colour has no span but
    a comment before it that says the same. When a token is hovered, tokens.js makes the full title
    from these, the neuron's range and the row's first position.

    Give all rows of a page at once: that is fastest. Raises ValueError if the three lists of a row
    differ in length.
    """
    if any(not len(row.tokens) == len(row.token_ids) == len(row.activations) for row in rows):
        raise ValueError("tokens, ids and activations differ in number")
    flatten = chain.from_iterable
    endings = list(
        map(
            _in_block if breaks else _in_line,
            flatten(row.tokens for row in rows),
            flatten(row.token_ids for row in rows),
        )
    )
    parts, width = (_brief_parts if brief else _parts)(rows, endings, colours)
    padding = [""] * (width - 1)
    has_bytes = not all(endings)
    halves = []
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
            parts[centre : centre + width] = [marked, *padding]
        if has_bytes and not all(endings[first:done]):
            made = ["".join(parts[i : i + width]) for i in range(start, end, width)]
            before = _join_bytes(made, endings[first:done], row, mark, colours, breaks)
            halves.append(("".join(made[:before]), "".join(made[before:])))
        else:
            halves.append(("".join(parts[start:centre]), "".join(parts[centre:end])))
    return halves


def _parts(
    rows: Sequence[Row], endings: Sequence[_Ending | None], colours: Palette
) -> tuple[list[str], int]:
    """Five parts per token: opening, digits, share, position, ending."""
    values = list(chain.from_iterable(row.activations for row in rows))
    places = look_up(values, colours)
    parts: list[str] = [""] * (5 * len(values))
    parts[0::5] = OPENINGS[places.openings].tolist()
    parts[1::5] = DIGITS[places.digits].tolist()
    parts[2::5] = SHARES[places.shares].tolist()
    parts[3::5] = chain.from_iterable(_positions(row.start, len(row.tokens)) for row in rows)
    parts[4::5] = [ending[0] if ending else "" for ending in endings]
    for i in places.unusual:
        parts[5 * i : 5 * i + 3] = [beginning(values[i], colours), "", ""]
    return parts, 5


def _brief_parts(
    rows: Sequence[Row], endings: Sequence[_Ending | None], colours: Palette
) -> tuple[list[str], int]:
    """Three parts per token: opening, digits, ending."""
    values = list(chain.from_iterable(row.activations for row in rows))
    places = look_up(values, colours)
    kinds = IS_BRIEF[places.openings].tolist()
    parts: list[str] = [""] * (3 * len(values))
    parts[0::3] = BRIEF_OPENINGS[places.openings].tolist()
    parts[1::3] = DIGITS[places.digits].tolist()
    whole = [ending for ending in endings if ending]
    if len(whole) == len(endings):  # nearly always
        parts[2::3] = map(getitem, whole, kinds)
    else:
        parts[2::3] = [
            ending[kind] if ending else "" for ending, kind in zip(endings, kinds, strict=True)
        ]
    for i in places.unusual:
        start, ending = brief_beginning(values[i], colours), endings[i]
        rest = ending[start.startswith("<!--")] if ending else ""
        parts[3 * i : 3 * i + 3] = [start, "", rest]
    return parts, 3


def _positions(start: int, count: int) -> Iterable[str]:
    """Consecutive positions as text."""
    if start + count <= len(_POSITIONS):
        return _POSITIONS[start : start + count]
    return map(str, range(start, start + count))


def _join_bytes(
    markup: list[str],
    endings: Sequence[_Ending | None],
    row: Row,
    mark: int | None,
    colours: Palette,
    breaks: bool,
) -> int:
    """Replace the spans of tokens that hold single bytes, in place: one span for each character.

    Returns the index of the span with the mark, which may be before the token that is marked.
    """
    before, done = mark or 0, 0
    for i, ending in enumerate(endings):
        if ending is not None or i < done:
            continue
        last = last_of_character(row.tokens, i)
        done = last + 1
        if last > i:
            if mark is not None and i <= mark <= last:
                before = i
            markup[i:done] = [
                _character_span(row, i, last, mark, colours, breaks),
                *[""] * (last - i),
            ]
        elif i != mark:
            start = beginning(row.activations[i], colours)
            end = _ending(row.tokens[i], row.token_ids[i], breaks=breaks)
            markup[i] = f"{start}{row.start + i}{end[0]}"
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
    """One row as running text, with titles and a mark as in `spans`."""
    row = Row(tokens, token_ids, activations, start, centre, value)
    ((left, right),) = spans([row], colours, breaks=True)
    return Markup(left + right)


@lru_cache(maxsize=1 << 9)
def _as_mark(opening: str) -> str:
    """A span's opening as that of the mark an example is aligned on."""
    if opening == OPEN_ZERO:
        return f'<mark class="{PEAK}" title="'
    return opening.replace("<span", "<mark").replace('" title', f' {PEAK}" title')


def _marked_body(text: str, breaks: bool) -> Markup:
    """The text of a mark, with `␣` for leading spaces: “ the” and “the” are different tokens."""
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
    return f', id {token_id}"{_direction(token)}>{body}</mark>'


def _character_span(
    row: Row, first: int, last: int, mark: int | None, colours: Palette, breaks: bool
) -> str:
    """Tokens that together make up a character, as one span whose title lists them.

    Its colour is the mark's or, without a mark, that of the activation largest in magnitude.
    """
    indices = range(first, last + 1)
    values = {i: row.value if i == mark else row.activations[i] for i in indices}
    strongest = max((v for v in values.values() if v is not None), key=abs, default=None)
    opening = paint(row.value if mark in indices else strongest, colours)
    text = joined(row.tokens[first : last + 1])
    text = _cut(text, BLOCK_CHARACTERS if breaks else LINE_CHARACTERS)
    parts = "; ".join(
        f"{fact(values[i], colours, exactly=i == mark)}, at {row.start + i}, "
        f"id {row.token_ids[i]}: {label(_cut(row.tokens[i], TITLE_CHARACTERS))}"
        for i in indices
    )
    title = f"{len(indices)} tokens together, {parts}"
    if mark in indices:
        return f'{_as_mark(opening)}{title}"{_direction(text)}>{_marked_body(text, breaks)}</mark>'
    return f'{opening}{title}"{_direction(text)}>{visible(text, breaks=breaks)}</span>'
