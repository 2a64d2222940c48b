"""/docs: the API's documentation, with Swagger UI."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from app.schemas import Schema
from app.web import urls
from app.web.frame import Frame
from app.web.site import site_of

router = APIRouter(include_in_schema=False)


class Operation(Schema):
    """One route of the API."""

    method: str
    path: str
    summary: str


class ApiIndex(Schema):
    """The API's routes, for readers without JavaScript."""

    operations: list[Operation]


@dataclass(frozen=True, slots=True)
class DocsContext:
    """What `web/docs.html` is rendered with."""

    frame: Frame
    page: ApiIndex


@router.get("/docs")
def docs(request: Request) -> Response:
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
    context = DocsContext(Frame(canonical=urls.docs()), ApiIndex(operations=operations))
    return site_of(request).html(request, "web/docs.html", context)
