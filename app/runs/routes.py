"""A run's provenance, as a page and as JSON."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from app.runs import queries
from app.runs.paths import without_folders
from app.runs.view import RunContext, tables
from app.schemas import Run
from app.web import api_urls, urls
from app.web.answers import single
from app.web.frame import Frame
from app.web.links import Links
from app.web.params import ERRORS, Fields
from app.web.site import site_of

router = APIRouter()

RunNumber = Annotated[int, Path(ge=1)]


@router.get("/api/v1/runs/{run}", response_model=Run, responses=ERRORS, tags=["api"])
def run(request: Request, run: RunNumber, fields: Fields = None) -> Response:
    """A run with its provenance."""
    site = site_of(request)
    if unchanged := site.unchanged(request, None):
        return unchanged
    return single(request, without_folders(queries.run(site.store, run)), fields)


@router.get("/runs/{run}", include_in_schema=False)
def run_page(request: Request, run: RunNumber) -> Response:
    """A run's provenance."""
    site = site_of(request)
    if unchanged := site.unchanged(request, None):
        return unchanged
    page = without_folders(queries.run(site.store, run))
    frame = Frame(Links(page.name), json_url=api_urls.run(run), canonical=urls.run(run))
    layers = len(site.store.layers_with_units(page.name, run))
    return site.html(request, "runs/run.html", RunContext(frame, page, tables(page, layers)))
