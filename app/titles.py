"""Whole titles without scripts: lines are brief, as `static/tokens.js` completes them; the same
page brings all that is said of each token where its address asks for it."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query

ALL: Literal["all"] = "all"
Titles = Annotated[Literal["all"] | None, Query()]
"""Whether each token of a line brings its whole title."""
