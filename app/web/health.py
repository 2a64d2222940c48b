"""The health check, and the answer to unknown addresses under /api."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request, Response
from sqlalchemy import func, select

from app.reading.runs import RUNS
from app.reading.store import Store
from app.schemas import Error, Health
from app.web.site import json_of, no_store, site_of

router = APIRouter()


@router.get(
    "/healthz",
    response_model=Health,
    responses={503: {"model": Error, "description": "The database does not answer."}},
    tags=["health"],
)
def healthz(request: Request) -> Response:
    """Whether the server and its database answer."""
    site = site_of(request)
    return no_store(json_of(health(site.store, site.release)))


@router.get("/api", include_in_schema=False)
@router.get("/api/{rest:path}", include_in_schema=False)
def unknown() -> Response:
    """Answer 404 under /api, where a model's page would otherwise match."""
    raise HTTPException(404)


def health(store: Store, version: str) -> Health:
    """The server's version, and how many runs the database has ready."""
    with store.connect() as connection:
        count = connection.scalar(select(func.count()).where(RUNS.c.ready))
    return Health(status="ok", version=version, runs=count or 0)
