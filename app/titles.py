"""Whole titles without scripts: lines are brief, as `static/tokens.js` completes them; the same
page brings all that is said of each token where it is asked to."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import Query, Request

Titles = Annotated[Literal["all"] | None, Query()]
"""Whether each token of a line brings its whole title."""


def all_titles(request: Request) -> str | None:
    """Where this page is with whole titles, relative to itself; None if it is that one."""
    asked = request.query_params.multi_items()
    if any(name == "titles" for name, _ in asked):
        return None
    return "?" + urlencode([*asked, ("titles", "all")], safe="/,")
