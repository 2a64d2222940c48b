"""The text of tokens as markup in which every character is visible and none has an effect.

Tokens are hostile text, and only this module turns their characters into HTML.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from markupsafe import Markup, escape

MARKS = 4
"""How many combining marks a base character carries; the next one gets a base of its own."""
CHIP_CHARACTERS = 80
"""A longer token is cut in a chip."""

_PLAIN = " -~¡-¬®-ʯΑ-Ͽ\u0400-\u0482\u048a-\u052f‐-‧‰-⁞₠-⃀℀-⭏、-〩ぁ-ゖァ-ヺ一-鿿가-힣"
"""Ranges without marks, control characters or anything else that needs a substitute."""
_NOT_PLAIN = re.compile(f"[^{_PLAIN}]+")
_BYTE = r"\\x([89a-fA-F][0-9a-fA-F])"
_BYTES_HEAD = re.compile(rf"(?:{_BYTE})+")
_BYTES_TAIL = re.compile(rf"(?:{_BYTE})+\Z")
_SINGLE_BYTE = re.compile(_BYTE)
_SPACE = "<i>␣</i>"
_SPACED_SCRIPTS = re.compile("[a-z\u00aa-\u0dff\u10a0-\u10ff\u1e00-\u1fff가-힣]")
"""The first characters of words in scripts that put spaces between them; capitals are left out
below."""
PIECE = Markup('<i class="mid"></i>')
"""Marks a token that goes on a word. Style sheets draw it as a faint hyphen, on pages of
vocabularies whose words begin with a space: so it is neither copied nor read out."""
PIECE_IN_PICTURE = Markup('<tspan class="mid">-</tspan>')
"""The same in the text of a picture, which cannot have text from a style sheet."""
_CONTROLS = (
    "NUL SOH STX ETX EOT ENQ ACK BEL BS TAB LF VT FF CR SO SI "
    "DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US"
).split()


def _substitute(character: str) -> str | None:
    """The substitute for an invisible character; None if it can be shown unchanged."""
    code = ord(character)
    if code < 0x20:
        return f"‹{_CONTROLS[code]}›"
    if code == 0x7F:
        return "‹DEL›"
    if code == 0xA0:
        return "\N{SHOULDERED OPEN BOX}"
    category = unicodedata.category(character)
    noncharacter = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
    if category in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} or noncharacter:
        return f"‹U+{code:04X}›"
    if character in "\u115f\u1160\u3164\uffa0\u2800":  # letters and a symbol without ink
        return f"‹U+{code:04X}›"
    return None


def visible(text: str, *, breaks: bool = False) -> Markup:
    """`text` as markup in which every character is visible and none affects its surroundings.

    A line break becomes `↵` (with `breaks`, followed by a real one) and a tab `→`. Control, format
    (bidirectional, zero-width), private and surrogate characters become their name or code point,
    and an empty text `∅`. Substitutes are inside `<i>`, to differ from the same sign in the text.
    """
    if not text:
        return Markup("<i>∅</i>")
    if text.isascii() and text.isprintable():  # most tokens: the fast path
        return escape(text)
    escaped = str(escape(text))
    return Markup(_NOT_PLAIN.sub(lambda match: _substituted(match, breaks=breaks), escaped))


def _substituted(match: re.Match[str], *, breaks: bool) -> str:
    """A run of characters that are not plain, with substitutes where needed."""
    out: list[str] = []
    marks = 0 if match.start() else MARKS  # at the start of the text there is no base
    for character in match[0]:
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
        elif (substitute := _substitute(character)) is not None:
            out.append(f"<i>{substitute}</i>")
            marks = MARKS
        else:
            out.append(character)
            marks = 0
    return "".join(out)


@lru_cache(maxsize=1 << 13)
def chip(token: str) -> Markup:
    """A token outside running text: as `visible`, with `␣` for outer spaces, cut if very long. A
    word piece is marked."""
    return PIECE + _chip(token) if is_piece(token) else _chip(token)


def chip_in_text(tokens: Sequence[str], at: int) -> Markup:
    """As `chip`, of a token in a text: marked only if the token before it ends within a word."""
    goes_on = at > 0 and tokens[at - 1][-1:].isalnum()
    return chip(tokens[at]) if goes_on else _chip(tokens[at])


def is_piece(token: str) -> bool:
    """Whether a token, where words begin with a space, most likely goes on a word: no space before
    its first letter, which is no capital. Capitals begin lines and names; scripts that are written
    without spaces have no such pieces."""
    return bool(_SPACED_SCRIPTS.match(token)) and token[0].isalpha() and not token[0].isupper()


def _chip(token: str) -> Markup:
    if len(token) > CHIP_CHARACTERS:
        return spaced(token[:CHIP_CHARACTERS]) + Markup("<i>…</i>")
    return spaced(token)


def spaced(text: str, *, trailing: bool = True) -> Markup:
    """As `visible`, with `␣` for leading and, with `trailing`, for trailing spaces."""
    body = text.strip(" ") if trailing else text.lstrip(" ")
    if not body and text:
        return Markup(_SPACE * len(text))
    if body is text:
        return visible(text)
    before = len(text) - len(text.lstrip(" "))
    after = len(text) - before - len(body)
    return Markup(f"{_SPACE * before}{visible(body)}{_SPACE * after}")


def label(text: str) -> str:
    """A token's text for an attribute: as `chip`, but without tags and not cut."""
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
    """A token's bytes in UTF-8; `\\xNN` in it stands for a single byte."""
    out = bytearray()
    end = 0
    for match in _SINGLE_BYTE.finditer(token):
        out += token[end : match.start()].encode("utf-8", "surrogatepass")
        out.append(int(match[1], 16))
        end = match.end()
    out += token[end:].encode("utf-8", "surrogatepass")
    return bytes(out)


def joined(tokens: Sequence[str]) -> str:
    """The text that the bytes of several tokens make up."""
    return b"".join(encoded(token) for token in tokens).decode("utf-8", "backslashreplace")


def _unfinished(token: str) -> bytes:
    """The bytes at the end of `token` that begin a character without completing it."""
    match = _BYTES_TAIL.search(token)
    tail = encoded(match[0]) if match else b""
    for back in range(1, min(3, len(tail)) + 1):
        if tail[-back] >= 0xC2:
            return tail[-back:] if back < _length(tail[-back]) else b""
    return b""


def _length(lead: int) -> int:
    """How many bytes a UTF-8 character has whose first byte is `lead`."""
    return 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4


def last_of_character(tokens: Sequence[str], first: int) -> int:
    """The index of the token that completes the character which token `first` begins at its end.

    `first` itself, if it ends with a complete character or the next tokens do not complete it. A
    token that completes a character and begins another is not the last: the search goes on.
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
