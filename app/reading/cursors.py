"""Where a page of a list ended, as a text that is given back for the next: opaque, and checked."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from app.errors import Invalid


def encode(*parts: str | float) -> str:
    """Parts as a text that is safe in an address."""
    # −inf is not JSON, but Python's own reading of it is all that is needed here.
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def decode(cursor: str, *kinds: type) -> list[Any]:
    """The parts of a cursor, which must be of these types. Raises Invalid."""
    try:
        parts = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        parts = None
    fits = isinstance(parts, list) and len(parts) == len(kinds)
    if not fits or not all(
        isinstance(part, kind) and not isinstance(part, bool) and _fits(part)
        for part, kind in zip(parts, kinds, strict=True)
    ):
        raise Invalid("The cursor is not one this server gave: start again without it.")
    return list(parts)


def _fits(part: object) -> bool:
    """Whether a database can be asked about it: none has greater integers."""
    return not isinstance(part, int) or -(2**63) <= part < 2**63
