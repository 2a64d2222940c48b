"""Refuses query parameters of the API that its routes do not have: a misspelt one would change
nothing, silently. Pages ignore unknown ones, which links from elsewhere carry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from difflib import get_close_matches

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from app.drawing.quoting import quoted
from app.errors import Invalid

_ALIKE = 0.5
"""The least similarity of a name that is offered, as `difflib` measures it."""


def only_known(route: APIRoute) -> Callable[[Request], Awaitable[None]]:
    """A dependency that raises Invalid for query parameters that `route` does not declare."""
    known = sorted(_declared(route.dependant))

    async def check(request: Request) -> None:
        for name in request.query_params:
            if name not in known:
                raise Invalid(f"There is no parameter “{quoted(name)}” here{_instead(name, known)}")

    return check


def _declared(dependant: Dependant) -> set[str]:
    """The query parameters of a route and of all that it depends on."""
    own = {field.alias for field in dependant.query_params}
    return own.union(*(_declared(below) for below in dependant.dependencies))


def _instead(name: str, known: list[str]) -> str:
    """What to write instead, as the end of a sentence."""
    if near := get_close_matches(name.lower(), known, 1, _ALIKE):
        return f": did you mean `{near[0]}`?"
    return f": use {', '.join(known)}." if known else ", and none is needed."
