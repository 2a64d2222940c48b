"""Tokens by position: a sequence logo as inline SVG.

After Schneider and Stephens 1990 (sequence logos), with the plain share of each token as its height
in place of information content: a vocabulary is too large for counts of twenty to estimate that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from markupsafe import Markup

from app.drawing.characters import PIECE_IN_PICTURE, is_piece, label

BEFORE, AFTER = 4, 3
"""Positions before and after the peak that have a column."""
HEIGHT = 112
"""Of a column that every example has a token in, in pixels."""
_TEXT = 11
"""Blocks of at least this height, in pixels, carry their token: two of twenty examples do."""
_LONGEST = 40
"""A longer token is cut."""
_NARROW = 2
"""On narrow screens, columns further than this from the peak are left out."""


@dataclass(frozen=True, slots=True)
class Column:
    """The tokens at one position relative to the peak, most frequent first; ties in order."""

    offset: int
    tokens: list[tuple[str, int]]


def columns(windows: Sequence[tuple[Sequence[str], int, int]]) -> list[Column]:
    """The columns of some windows of tokens.

    Each window is (tokens, index of the peak among them, index of the first included token). Tokens
    that are not included (BOS) and positions outside the window count for no column.
    """
    stacks = []
    for offset in range(-BEFORE, AFTER + 1):
        counts: Counter[str] = Counter()
        for tokens, peak, first in windows:
            if first <= peak + offset < len(tokens):
                counts[tokens[peak + offset]] += 1
        stacks.append(Column(offset, counts.most_common()))
    return stacks


def logo(drawn: Sequence[Column], examples: int, centre: str = "peak") -> Markup:
    """A logo of `examples` examples; empty where no column has a token twice. `centre`: what the
    examples are aligned on, `peak` or `trough`.

    Columns share the width that there is, so that text keeps its size on any screen.
    """
    if not any(count > 1 for column in drawn for _, count in column.tokens):
        return Markup("")
    width = 100 / len(drawn)
    parts = [
        _column(column, index * width, width, examples, centre)
        for index, column in enumerate(drawn)
    ]
    words = describe(drawn, centre)
    return Markup(
        f'<svg class="logo" height="{HEIGHT + 16}" role="img" aria-label="{words}">'
        f"{''.join(parts)}</svg>"
    )


def describe(drawn: Sequence[Column], centre: str = "peak") -> str:
    """The logo in words, escaped: the three most frequent tokens of each position."""
    return "Tokens by position. " + " ".join(
        f"{_name(column.offset, centre).capitalize()}: "
        + ", ".join(f"{short(token)} {count}" for token, count in column.tokens[:3])
        + "."
        for column in drawn
        if column.tokens
    )


@lru_cache(maxsize=1 << 13)
def short(token: str) -> str:
    """A token as a label, escaped, with runs of spaces run-length coded: `↵␣×15`."""
    text, out, at = label(token[:_LONGEST]), [], 0
    while at < len(text):
        end = at
        while end < len(text) and text[end] == text[at]:
            end += 1
        run = end - at
        coded = text[at] in " ␣↵→" and run > 2
        out.append(f"{'␣' if text[at] == ' ' else text[at]}×{run}" if coded else text[at:end])
        at = end
    return "".join(out)


def _column(column: Column, x: float, width: float, examples: int, centre: str) -> str:
    css = centre if column.offset == 0 else "near" if abs(column.offset) <= _NARROW else "far"
    repeated = [(token, count) for token, count in column.tokens if count > 1]
    y, blocks = 0.0, []
    for token, count in repeated:
        # Frequent tokens are dark.
        shade = min(4, 1 + round(4 * count / examples))
        text = short(token)
        height = HEIGHT * count / examples
        blocks.append(_block(shade, f"{text}: {count} of {examples}", y, height))
        if height >= _TEXT:
            mark = PIECE_IN_PICTURE if is_piece(token) else ""
            blocks.append(f'<text x="50%" y="{y + height / 2 + 3.5:.1f}">{mark}{text}</text>')
        blocks.append("</g>")
        y += height
    # A token that occurs once says little, and many of them would be half of the markup.
    if once := [short(token) for token, count in column.tokens if count == 1]:
        words = f"once each: {', '.join(once)}" if len(once) > 1 else f"{once[0]}: 1 of {examples}"
        blocks += [_block(0, words, y, HEIGHT * len(once) / examples), "</g>"]
    return (
        f'<svg class="{css}" x="{x:.2f}%" width="{width * 0.97:.2f}%" height="{HEIGHT + 16}">'
        f"{''.join(blocks)}"
        f'<text class="at" x="50%" y="{HEIGHT + 12}">{_name(column.offset, centre)}</text></svg>'
    )


def _block(shade: int, title: str, y: float, height: float) -> str:
    """The beginning of a block: its title and its area."""
    return (
        f'<g class="s{shade}"><title>{title}</title>'
        f'<rect y="{y:.1f}" width="100%" height="{max(0.8, height - 1):.1f}"/>'
    )


def _name(offset: int, centre: str) -> str:
    return centre if offset == 0 else f"{offset:+d}".replace("-", "−")
