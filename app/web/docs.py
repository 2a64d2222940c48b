"""/docs: the API's documentation, with Swagger UI's files served from here."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from app.schemas import Schema
from app.web.site import Site


class Operation(Schema):
    """One route of the API."""

    method: str
    path: str
    summary: str


class ApiIndex(Schema):
    """The API's routes in short, for readers without JavaScript."""

    operations: list[Operation]


def docs_router(site: Site) -> APIRouter:
    """The route of the documentation."""
    docs = APIRouter(include_in_schema=False)

    @docs.get("/docs")
    def show(request: Request) -> Response:
        """The API's documentation."""
        paths = request.app.openapi()["paths"]
        operations = [
            Operation(
                method=method.upper(),
                path=path,
                summary=str(operation.get("description") or operation.get("summary", "")),
            )
            for path, methods in paths.items()
            for method, operation in methods.items()
        ]
        return site.html("web/docs.html", ApiIndex(operations=operations), canonical="/docs")

    return docs
