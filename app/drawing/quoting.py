"""Text a visitor typed, made safe to quote in a message, as plain text; our own, with its code."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

_LONGEST = 100
_UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"


def printable(text: str) -> str:
    """The text with each white-space character as a blank and each unprintable one as U+FFFD: it
    stays as long as it was."""
    blanks = "".join(" " if char.isspace() else char for char in text)
    return "".join(char if char.isprintable() else _UNPRINTABLE for char in blanks)


def shortened(text: str, most: int = _LONGEST) -> str:
    """The text, cut to `most` characters and an ellipsis if it is longer."""
    return text if len(text) <= most else f"{text[:most]}…"


def quoted(text: str, most: int = _LONGEST) -> str:
    """The text, shortened, with U+FFFD for every unprintable character."""
    cut = shortened(text, most)
    return "".join(char if char.isprintable() else _UNPRINTABLE for char in cut)


def with_code(text: str) -> Markup:
    """Our own text as markup, with what stands between backticks as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))
