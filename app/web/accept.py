"""What a request accepts: JSON or CSV."""

from __future__ import annotations

from fastapi import Request

CSV = "text/csv"
_JSON = ("application/json", "application/*", "*/*", "text/html")
"""Kinds with which JSON will do; browsers that open an address of the API send the last."""


def wants_csv(request: Request) -> bool:
    """Whether CSV is what a request prefers; of equals, what it names first."""
    return _first(request) == CSV


def only_csv(request: Request) -> bool:
    """Whether a request takes CSV, and no JSON."""
    kinds = _accepted(request)
    return CSV in kinds and not any(kind in kinds for kind in _JSON)


def _first(request: Request) -> str:
    kinds = {kind: quality for kind, quality in _accepted(request).items() if kind != "*/*"}
    return max(kinds, key=lambda kind: kinds[kind], default="")


def _accepted(request: Request) -> dict[str, float]:
    """The kinds that a request names with a quality above 0, in its order."""
    found: dict[str, float] = {}
    for part in request.headers.get("accept", "").split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if kind == CSV or kind in _JSON:
            quality = _quality(parameters)
            if quality > 0:
                found[kind] = quality
    return found


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
