"""Text a visitor typed, made safe to quote in a message: as plain text, not markup."""

from __future__ import annotations

_LONGEST = 100
_UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"


def printable(text: str) -> str:
    """The text with each white-space character as a blank and each unprintable one as U+FFFD: it
    stays as long as it was."""
    blanks = "".join(" " if char.isspace() else char for char in text)
    return "".join(char if char.isprintable() else _UNPRINTABLE for char in blanks)


def quoted(text: str) -> str:
    """The text cut to 100 characters, with U+FFFD for every unprintable character."""
    cut = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return "".join(char if char.isprintable() else _UNPRINTABLE for char in cut)
