"""The server put together: `create_app(settings)` wires the rooms and holds no state of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import fastapi_swagger
from fastapi import FastAPI, Response
from fastapi.staticfiles import StaticFiles
from starlette_compress import CompressMiddleware

from app import api
from app.compare import routes as compare
from app.lists import routes as lists
from app.live.behaviour.routes import behaviour_router
from app.live.engine import Live
from app.live.neuron.routes import live_router
from app.models import routes as pages
from app.navigation.routes import going_router
from app.neurons import routes as neuron_pages
from app.notes.routes import note_api, note_pages
from app.notes.service import notes_of
from app.queries import Queries
from app.schemas import Error
from app.search.numbers.routes import number_api, number_pages
from app.search.routes import search_router
from app.settings import Settings
from app.web import assets
from app.web.docs import docs_router
from app.web.failures import install
from app.web.health import health_router, unknown_router
from app.web.middleware import CommonHeaders
from app.web.site import Site, templates
from indexer.store.database import open_store


def create_app(settings: Settings | None = None) -> FastAPI:
    """The web server over the store that `settings` name. Raises NeurariumError."""
    settings = settings or Settings()
    live = None
    if settings.live:
        live = Live(
            memory=settings.live_memory,
            tokens=settings.live_tokens,
            waiting=settings.live_waiting,
        )
    notes = notes_of(settings)
    site = Site(
        queries=Queries(open_store(settings.database_url, create=True)),
        templates=templates(),
        version=assets.site_version() + ("+live" if live else "") + ("+notes" if notes else ""),
        release=_release(),
        embed=settings.embed,
        live=live,
        notes=notes,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        if live is not None:
            live.close()
        if notes is not None:
            notes.close()
        site.queries.close()

    app = FastAPI(
        title="Neurarium",
        version=site.release,
        summary="Every neuron of a language model, shown through the text that fires it.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    # Of what the visitor can read: zstd, brotli, gzip. zstd makes a page smaller than gzip at its
    # default level in an eighth of the time (measured: benchmarks/README.md).
    app.add_middleware(CompressMiddleware, minimum_size=1000, zstd_level=3, gzip_level=4)
    app.add_middleware(CommonHeaders)
    install(app, lambda request, error: _error_page(site, error))
    app.mount("/static/swagger", StaticFiles(directory=_swagger_folder()), name="swagger")
    app.add_api_route(f"/static/{assets.STYLE_SHEET}", _style_sheet, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=assets.folder("static")), name="static")
    app.include_router(api.router(site))
    app.include_router(number_api(site))
    app.include_router(compare.api_router(site))
    app.include_router(lists.api_router(site))
    app.include_router(live_router(site))
    app.include_router(note_api(site))
    app.include_router(behaviour_router(site))
    app.include_router(search_router(site))
    app.include_router(unknown_router())
    app.include_router(health_router(site))
    app.include_router(docs_router(site))
    app.include_router(going_router(site))
    app.include_router(number_pages(site))  # before a layer that would be called "neurons"
    app.include_router(compare.router(site))
    app.include_router(lists.router(site))
    app.include_router(pages.router(site))
    app.include_router(neuron_pages.router(site))
    app.include_router(note_pages(site))
    return app


def _error_page(site: Site, error: Error) -> Response:
    return site.html("error.html", error, error.status)


def _style_sheet() -> Response:
    return Response(assets.style_sheet(), media_type="text/css")


def _swagger_folder() -> Path:
    """Swagger UI's own files, which the package fastapi-swagger carries."""
    return Path(fastapi_swagger.__file__).parent / "resources"


def _release() -> str:
    try:
        return version("neurarium")
    except PackageNotFoundError:
        return "0"
