"""Pure: tokens, ids and activations → spans to show, as safe markup.

Tokens are hostile text: this is the one place where their characters become HTML. A span carries
its colour as a class (`p1`…`p10`, `n1`…`n10`): the pages' content policy allows no inline style.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from app.numbers import exact, number

STEPS = 10
"""Steps of colour on either side of zero."""
NOT_INCLUDED = "x"
"""Class of a token at a position that is not included (BOS): it has no activation."""
PEAK = "k"
"""Class of the token an example is aligned on, beside its colour."""

LINE_TOKENS = 24
LINE_LEFT = 84
LINE_RIGHT = 104
"""A line shows at most so many tokens on each side, and stops at about so many characters."""
TOKEN_CHARACTERS = 80
"""A longer token is cut in a line…"""
TOKEN_LONGEST = 1_000
"""…and one longer than this everywhere."""
MARKS = 4
"""A base character carries at most so many combining marks; the next gets a base of its own."""

_PLAIN = " -~¡-¬®-ʯΑ-Ͽ\u0400-\u0482\u048a-\u052f‐-‧‰-⁞₠-⃀℀-⭏、-〩ぁ-ゖァ-ヺ一-鿿가-힣"
"""Ranges without marks, controls or anything else that cannot be shown as it is."""
_OTHERS = re.compile(f"[^{_PLAIN}]+")
_BYTE = r"\\x([89a-fA-F][0-9a-fA-F])"
_BYTES_HEAD = re.compile(rf"(?:{_BYTE})+")
_BYTES_TAIL = re.compile(rf"(?:{_BYTE})+\Z")
_ONE_BYTE = re.compile(_BYTE)
_RIGHT_TO_LEFT = re.compile(
    "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefe\U00010800-\U00010fff\U0001e800-\U0001efff]"
)


_CONTROLS = (
    "NUL SOH STX ETX EOT ENQ ACK BEL BS TAB LF VT FF CR SO SI "
    "DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US"
).split()


def _substitute(character: str) -> str | None:
    """What stands for a character that would not be seen, or None if it can be shown as it is."""
    code = ord(character)
    if code < 0x20:
        return f"‹{_CONTROLS[code]}›"
    if code == 0x7F:
        return "‹DEL›"
    if code == 0xA0:
        return "\N{SHOULDERED OPEN BOX}"
    category = unicodedata.category(character)
    nonsense = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
    if category in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} or nonsense:
        return f"‹U+{code:04X}›"
    if character in "\u115f\u1160\u3164\uffa0\u2800":  # letters and a symbol that draw nothing
        return f"‹U+{code:04X}›"
    return None


def visible(text: str, *, breaks: bool = False) -> Markup:
    """`text` as markup in which every character can be seen and none acts on its surroundings.

    Line breaks become `↵` (with `breaks`, the line is broken after it too), tabs `→`; control,
    format (bidirectional, zero-width), private and surrogate characters their name or code point,
    nothing at all `∅`.
    What stands for a character is inside `<i>`, so that it differs from the same sign in the text.
    """
    if not text:
        return Markup("<i>∅</i>")
    if text.isascii() and text.isprintable():  # most tokens are: the short way
        return escape(text)
    escaped = str(escape(text))
    return Markup(_OTHERS.sub(lambda found: _spelled(found, breaks=breaks), escaped))


def _spelled(found: re.Match[str], *, breaks: bool) -> str:
    """A run of characters of which some cannot be shown as they are."""
    out: list[str] = []
    marks = 0 if found.start() else MARKS  # at the start there is no base to carry a mark
    for character in found[0]:
        if character == "\n":
            out.append("<i>↵</i>\n" if breaks else "<i>↵</i>")
            marks = MARKS
        elif character == "\t":
            out.append("<i>→</i>\t" if breaks else "<i>→</i>")
            marks = MARKS
        elif unicodedata.category(character)[0] == "M":
            if marks >= MARKS:
                out.append("\N{DOTTED CIRCLE}")
                marks = 0
            out.append(character)
            marks += 1
        elif (shown := _substitute(character)) is not None:
            out.append(f"<i>{shown}</i>")
            marks = MARKS
        else:
            out.append(character)
            marks = 0
    return "".join(out)


def chip(token: str) -> Markup:
    """A token on its own: as `visible`, with its outer spaces shown as `␣`; cut when very long."""
    cut = token if len(token) <= TOKEN_CHARACTERS else token[:TOKEN_CHARACTERS]
    body = cut.strip(" ")
    space = Markup("<i>␣</i>")
    if cut and not body:
        inner = space * len(cut)
    else:
        left = len(cut) - len(cut.lstrip(" "))
        right = len(cut) - len(cut.rstrip(" "))
        inner = space * left + visible(body) + space * right
    return inner if cut is token else inner + Markup("<i>…</i>")


def step(value: float | None, scale: float) -> str:
    """The colour class of an activation: its tenths of `scale`, rounded; `""` for the zeroth.

    `scale` is the largest magnitude of the page, so the same colour is the same activation.
    """
    if value is None:
        return NOT_INCLUDED
    if scale <= 0 or value != value:
        return ""
    tenths = min(STEPS, int(abs(value) / scale * STEPS + 0.5))
    if tenths == 0:
        return ""
    return f"{'p' if value > 0 else 'n'}{tenths}"


class Piece(NamedTuple):
    """What is shown in one span: a token; the tokens that only together make up whole characters;
    or a stretch of tokens near zero."""

    first: int
    """Position of its first token in the context."""
    last: int
    """Position of its last one."""
    text: str
    value: float | None
    """The activation; of several tokens the one of largest magnitude."""
    css: str
    """The colour class, without the mark of the peak."""
    token_id: int
    """The id of its first token."""
    peak: bool = False
    note: str = ""
    """The title of a piece of several tokens."""

    @property
    def title(self) -> str:
        """What hovering says: the activation (of the peak exactly), the id, the position."""
        if self.note:
            return self.note
        return _fact(self.value, self.token_id, self.first, exactly=self.peak)


def _fact(value: float | None, token_id: int, position: int, *, exactly: bool) -> str:
    if value is None:
        shown = "not included"
    else:
        shown = f"{exact(value)} exactly" if exactly else number(value)
    return f"{shown} · id {token_id} · position {position}"


def _encoded(token: str) -> bytes:
    """The bytes of a token whose `\\xNN` stand for bytes."""
    out = bytearray()
    end = 0
    for found in _ONE_BYTE.finditer(token):
        out += token[end : found.start()].encode("utf-8", "surrogatepass")
        out.append(int(found[1], 16))
        end = found.end()
    out += token[end:].encode("utf-8", "surrogatepass")
    return bytes(out)


def _unfinished(token: str) -> bytes:
    """The bytes at the end of `token` that begin a character and do not complete it."""
    found = _BYTES_TAIL.search(token)
    tail = _encoded(found[0]) if found else b""
    for back in range(1, min(3, len(tail)) + 1):
        if tail[-back] >= 0xC2:
            return tail[-back:] if back < _length(tail[-back]) else b""
    return b""


def _length(lead: int) -> int:
    """How many bytes a UTF-8 character has that begins with the byte `lead`."""
    return 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4


def _together(tokens: Sequence[str], first: int) -> int:
    """Index of the last token that completes the character which token `first` leaves unfinished.

    `first` itself, if it leaves none or what follows does not complete it.
    """
    last = first
    while character := _unfinished(tokens[last]):
        need = _length(character[0])
        at = last
        while len(character) < need:
            at += 1
            head = _BYTES_HEAD.match(tokens[at]) if at < len(tokens) else None
            if head is None:
                return last
            character += _encoded(head[0])[: need - len(character)]
            if len(character) < need and head.end() < len(tokens[at]):
                return last
        try:
            character.decode()
        except UnicodeDecodeError:
            return last
        last = at
    return last


def pieces(
    tokens: Sequence[str],
    token_ids: Sequence[int],
    activations: Sequence[float | None],
    *,
    start: int,
    scale: float,
    peak: int | None = None,
    peak_value: float = 0.0,
) -> list[Piece]:
    """The pieces of one example, in order, covering every token once.

    `tokens`, `token_ids` and `activations` are equally long; `start` is the position in the context
    of the first; `peak` the index of the token to align on (None, or out of range: none of them),
    `peak_value` its exact activation. Raises ValueError if the lengths differ.
    """
    if not len(tokens) == len(token_ids) == len(activations):
        raise ValueError("tokens, ids and activations differ in number")
    out: list[Piece] = []
    at = 0
    while at < len(tokens):
        last = _together(tokens, at) if "\\x" in tokens[at] else at
        has_peak = peak is not None and at <= peak <= last
        text, value, note = tokens[at], activations[at], ""
        if last > at:
            here = range(at, last + 1)
            text = b"".join(_encoded(tokens[i]) for i in here).decode("utf-8", "backslashreplace")
            known = [v for i in here if (v := activations[i]) is not None]
            value = max(known, key=abs, default=None)
            facts = (
                f"{tokens[i]}: "
                + _fact(
                    peak_value if i == peak else activations[i],
                    token_ids[i],
                    start + i,
                    exactly=i == peak,
                )
                for i in here
            )
            note = _safe_title(f"{len(here)} tokens together. " + "; ".join(facts))
        if len(text) > TOKEN_LONGEST:
            text = f"{text[:TOKEN_LONGEST]}…"
        if has_peak:
            value = peak_value
        colour = step(value, scale)
        out.append(
            Piece(start + at, start + last, text, value, colour, token_ids[at], has_peak, note)
        )
        at = last + 1
    return out


def _safe_title(text: str) -> str:
    """A title that holds token text, without the characters that would act inside a tooltip."""
    return "".join(_substitute(character) or character for character in text)


def _mergeable(piece: Piece) -> bool:
    if piece.css or piece.peak:
        return False
    return piece.text.isascii() or not _RIGHT_TO_LEFT.search(piece.text)


def merged(parts: Iterable[Piece]) -> list[Piece]:
    """Neighbouring pieces of the zeroth step as one, with their range in its title.

    Most of a context is near zero: this is what keeps a page small. Text written from right to left
    is left apart, since inside one span it would reorder its neighbours.
    """
    out: list[Piece] = []
    block: list[Piece] = []

    def close() -> None:
        if len(block) == 1:
            out.append(block[0])
        elif block:
            values = [piece.value for piece in block if piece.value is not None]
            low, high = number(min(values)), number(max(values))
            first, last = block[0].first, block[-1].last
            spread = low if low == high else f"{low} to {high}"
            out.append(
                Piece(
                    first,
                    last,
                    "".join(piece.text for piece in block),
                    max(values, key=abs),
                    "",
                    block[0].token_id,
                    note=f"{spread} · positions {first} to {last}",
                )
            )
        block.clear()

    for piece in parts:
        if _mergeable(piece):
            block.append(piece)
        else:
            close()
            out.append(piece)
    close()
    return out


def window(parts: Sequence[Piece]) -> tuple[list[Piece], list[Piece]]:
    """The pieces before the peak and those from the peak on that a line has room for.

    Without a peak all is to the right, from the first piece on.
    """
    at = next((i for i, piece in enumerate(parts) if piece.peak), 0)
    left: list[Piece] = []
    room = LINE_LEFT
    for piece in reversed(parts[:at]):
        if room <= 0 or len(left) == LINE_TOKENS:
            break
        left.append(_cut(piece, keep_end=True))
        room -= len(left[-1].text)
    right: list[Piece] = []
    room = LINE_RIGHT
    for piece in parts[at:]:
        if room <= 0 or len(right) > LINE_TOKENS:
            break
        right.append(_cut(piece, keep_end=False))
        room -= len(right[-1].text)
    return left[::-1], right


def _cut(piece: Piece, *, keep_end: bool) -> Piece:
    if len(piece.text) <= TOKEN_CHARACTERS:
        return piece
    if keep_end:
        return piece._replace(text="…" + piece.text[-TOKEN_CHARACTERS:])
    return piece._replace(text=piece.text[:TOKEN_CHARACTERS] + "…")


def render(parts: Iterable[Piece], *, breaks: bool = False) -> Markup:
    """The pieces as markup, a `<span>` each, the peak a `<mark>`; `breaks` as in `visible`."""
    out: list[str] = []
    for piece in parts:
        text = visible(piece.text, breaks=breaks)
        title = escape(piece.title) if piece.note else piece.title
        if piece.peak:
            css = f"{piece.css} {PEAK}" if piece.css else PEAK
            out.append(f'<mark class="{css}" title="{title}">{text}</mark>')
        elif piece.css:
            out.append(f'<span class="{piece.css}" title="{title}">{text}</span>')
        else:
            out.append(f'<span title="{title}">{text}</span>')
    return Markup("".join(out))
