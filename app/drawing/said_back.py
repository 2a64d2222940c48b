"""Text a visitor typed, made safe to repeat: short, with invisible characters visible."""

from __future__ import annotations

_SAID_BACK = 100


def visible(text: str) -> str:
    """The same number of characters, none of which a reader could not see."""
    blanks = "".join(" " if char.isspace() else char for char in text)
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in blanks)


def quoted(text: str) -> str:
    """What was typed, to be said back: cut, and with nothing in it that cannot be seen."""
    cut = text if len(text) <= _SAID_BACK else f"{text[:_SAID_BACK]}…"
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in cut)
