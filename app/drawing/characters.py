"""Pure: the text of tokens → markup in which every character can be seen and none acts.

Tokens are hostile text: this is the one place where their characters become HTML.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from markupsafe import Markup, escape

MARKS = 4
"""A base character carries at most so many combining marks; the next gets a base of its own."""
CHIP_CHARACTERS = 80
"""A longer token is cut where it stands on its own."""

_PLAIN = " -~¡-¬®-ʯΑ-Ͽ\u0400-\u0482\u048a-\u052f‐-‧‰-⁞₠-⃀℀-⭏、-〩ぁ-ゖァ-ヺ一-鿿가-힣"
"""Ranges without marks, controls or anything else that cannot be shown as it is."""
_OTHERS = re.compile(f"[^{_PLAIN}]+")
_BYTE = r"\\x([89a-fA-F][0-9a-fA-F])"
_BYTES_HEAD = re.compile(rf"(?:{_BYTE})+")
_BYTES_TAIL = re.compile(rf"(?:{_BYTE})+\Z")
_ONE_BYTE = re.compile(_BYTE)
_SPACE = "<i>␣</i>"
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


@lru_cache(maxsize=1 << 13)
def chip(token: str) -> Markup:
    """A token on its own: as `visible`, with its outer spaces shown as `␣`; cut when very long."""
    if len(token) > CHIP_CHARACTERS:
        return spaced(token[:CHIP_CHARACTERS]) + Markup("<i>…</i>")
    return spaced(token)


def spaced(text: str, *, trailing: bool = True) -> Markup:
    """As `visible`, with the spaces in front (and, with `trailing`, behind) shown as `␣`."""
    body = text.strip(" ") if trailing else text.lstrip(" ")
    if not body and text:
        return Markup(_SPACE * len(text))
    if body is text:
        return visible(text)
    before = len(text) - len(text.lstrip(" "))
    after = len(text) - before - len(body)
    return Markup(f"{_SPACE * before}{visible(body)}{_SPACE * after}")


def label(text: str) -> str:
    """Token text for an attribute: escaped, spaces outside shown, nothing in it that would act."""
    if not text:
        return "∅"
    body = text.strip(" ")
    before = len(text) - len(text.lstrip(" ")) if body else len(text)
    after = len(text) - len(text.rstrip(" ")) if body else 0
    if not (body.isascii() and body.isprintable()):
        body = "".join(
            {"\n": "↵", "\t": "→"}.get(character) or _substitute(character) or character
            for character in body
        )
    return f"{'␣' * before}{escape(body)}{'␣' * after}"


def encoded(token: str) -> bytes:
    """The bytes of a token whose `\\xNN` stand for bytes."""
    out = bytearray()
    end = 0
    for found in _ONE_BYTE.finditer(token):
        out += token[end : found.start()].encode("utf-8", "surrogatepass")
        out.append(int(found[1], 16))
        end = found.end()
    out += token[end:].encode("utf-8", "surrogatepass")
    return bytes(out)


def joined(tokens: Sequence[str]) -> str:
    """The text of tokens whose bytes belong together."""
    return b"".join(encoded(token) for token in tokens).decode("utf-8", "backslashreplace")


def _unfinished(token: str) -> bytes:
    """The bytes at the end of `token` that begin a character and do not complete it."""
    found = _BYTES_TAIL.search(token)
    tail = encoded(found[0]) if found else b""
    for back in range(1, min(3, len(tail)) + 1):
        if tail[-back] >= 0xC2:
            return tail[-back:] if back < _length(tail[-back]) else b""
    return b""


def _length(lead: int) -> int:
    """How many bytes a UTF-8 character has that begins with the byte `lead`."""
    return 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4


def together(tokens: Sequence[str], first: int) -> int:
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
            character += encoded(head[0])[: need - len(character)]
            if len(character) < need and head.end() < len(tokens[at]):
                return last
        try:
            character.decode()
        except UnicodeDecodeError:
            return last
        last = at
    return last
