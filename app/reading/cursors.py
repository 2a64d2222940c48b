"""Cursors of lists: an opaque text that says where a page ended, to ask for the next page with."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from app.errors import Invalid

BAD_CURSOR = "This is not a cursor of this server: start again without it."


def encode(*parts: str | float) -> str:
    """A cursor of these parts, safe in a URL."""
    # A part can be −inf, which is not JSON, but only Python reads it back.
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def decode(cursor: str, *kinds: type) -> list[Any]:
    """The parts of a cursor. Raises Invalid unless they have these types."""
    try:
        parts = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        parts = None
    valid = isinstance(parts, list) and len(parts) == len(kinds)
    if not valid or not all(
        isinstance(part, kind) and not isinstance(part, bool) and _fits(part)
        for part, kind in zip(parts, kinds, strict=True)
    ):
        raise Invalid(BAD_CURSOR)
    return list(parts)


def _fits(part: object) -> bool:
    """Whether a database can compare with it: their integers have 64 bits."""
    return not isinstance(part, int) or -(2**63) <= part < 2**63
