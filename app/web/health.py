"""The health check, and the 404 of unknown addresses under /api."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Response

from app.schemas import Error, Health
from app.web.site import NO_STORE, Site, json_of


def unknown_router() -> APIRouter:
    """What is under /api and no route: 404, not the page of a model that is called api."""
    unknown = APIRouter(include_in_schema=False)

    @unknown.get("/api")
    @unknown.get("/api/{rest:path}")
    def nothing() -> Response:
        """Nothing is here."""
        raise HTTPException(404)

    return unknown


def health_router(site: Site) -> APIRouter:
    """The one route outside the API's prefix: for load balancers and containers."""
    health = APIRouter(tags=["health"])

    @health.get(
        "/healthz",
        response_model=Health,
        responses={503: {"model": Error, "description": "The database does not answer."}},
    )
    def healthz() -> Response:
        """Whether the server and its database answer."""
        response = json_of(site.queries.health(site.release))
        response.headers.update(NO_STORE)
        return response

    return health
