"""How the values of options are written."""

from __future__ import annotations

import re
from typing import Any

import typer

_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?(e[+-]?[0-9]{1,2})?", re.IGNORECASE)


def whole_number(least: int | None = None) -> Any:
    """A typer option or argument's settings for a whole number, also written as 1e6, 2.5e6,
    1_000_000 or 1,000,000, with an optional least value."""

    def parse(value: str | int) -> int:
        number = value if isinstance(value, int) else parse_whole(value)
        if number is None:
            raise typer.BadParameter(f"{value!r} is not a whole number: write 1000000 or 1e6.")
        if least is not None and number < least:
            raise typer.BadParameter(f"{value} is too small: it must be {least} or more.")
        return number

    return {"parser": parse, "metavar": "INTEGER"}


def parse_whole(text: str) -> int | None:
    """The whole number a text means; None for anything else."""
    plain = text.strip()
    if re.search(r"[0-9][_,][0-9]", plain):
        if not re.fullmatch(r"[+-]?[0-9]{1,3}(_[0-9]{3})+|[+-]?[0-9]{1,3}(,[0-9]{3})+", plain):
            return None
        plain = plain.replace("_", "").replace(",", "")
    match = _NUMBER.fullmatch(plain)
    if match is None:
        return None
    if not match[1] and not match[2]:
        return int(plain) if len(plain) <= 30 else None
    digits, _, power = plain.lower().partition("e")
    before, _, after = digits.partition(".")
    shift = int(power or 0) - len(after)
    number = int(before + after)
    if shift >= 0:
        return number * int(10**shift)
    whole, rest = divmod(number, int(10**-shift))
    return None if rest else whole
