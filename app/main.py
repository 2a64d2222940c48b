"""The server put together: `create_app(settings)` wires the rooms and holds no state of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import fastapi_swagger
from fastapi import FastAPI, Request, Response
from fastapi.staticfiles import StaticFiles
from starlette.middleware.gzip import GZipMiddleware

from app import api, assets, errors, pages
from app.docs import docs_router
from app.queries import Queries
from app.schemas import Error
from app.settings import Settings
from app.site import Site, templates
from indexer.store.database import open_store

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
_A_YEAR = "public, max-age=31536000, immutable"


def create_app(settings: Settings | None = None) -> FastAPI:
    """The web server over the store that `settings` name. Raises NeurariumError."""
    settings = settings or Settings()
    site = Site(
        queries=Queries(open_store(settings.database_url, create=True)),
        templates=templates(),
        version=assets.site_version(),
        release=_release(),
    )
    app = FastAPI(
        title="Neurarium",
        version=site.release,
        summary="Every neuron of a language model, shown through the text that fires it.",
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(GZipMiddleware, minimum_size=1000, compresslevel=6)
    app.middleware("http")(_add_headers)
    errors.install(app, lambda request, error: _error_page(site, error))
    app.mount("/static/swagger", StaticFiles(directory=_swagger_folder()), name="swagger")
    app.mount("/static", StaticFiles(directory=assets.folder("static")), name="static")
    app.include_router(api.router(site))
    app.include_router(api.health_router(site))
    app.include_router(docs_router(site))
    app.include_router(pages.router(site))
    return app


async def _add_headers(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    response = await call_next(request)
    response.headers.update(SECURITY_HEADERS)
    if request.url.path.startswith("/static/") and response.status_code == 200:
        versioned = "v" in request.query_params
        response.headers["Cache-Control"] = _A_YEAR if versioned else "no-cache"
    return response


def _error_page(site: Site, error: Error) -> Response:
    return site.html("error.html", error, error.status)


def _swagger_folder() -> Path:
    """Swagger UI's own files, which the package fastapi-swagger carries."""
    return Path(fastapi_swagger.__file__).parent / "resources"


def _release() -> str:
    try:
        return version("neurarium")
    except PackageNotFoundError:
        return "0"
