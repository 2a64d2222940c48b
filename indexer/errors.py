"""The error that the command line and the server show as one line, without a traceback."""

from __future__ import annotations

import reprlib


class NeurariumError(Exception):
    """A problem the user can fix.

    The message says what was wrong, with the value, and what to do. The command line prints it as
    one line and exits with code 2.
    """


_MOST_QUOTED = 80
"""Characters of a value that an error quotes."""


def quoted(value: object) -> str:
    """A value as an error quotes it: on one line, at most about 80 characters."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a whole number of {value.bit_length():,} bits"
    short = reprlib.Repr()
    short.maxlevel, short.maxstring, short.maxother = 3, _MOST_QUOTED, _MOST_QUOTED
    text = short.repr(value)
    return text if len(text) <= _MOST_QUOTED + 2 else f"{text[:_MOST_QUOTED]}…"
