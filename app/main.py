"""The server put together: `create_app(settings)` connects the wings."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import fastapi_swagger
from fastapi import Depends, FastAPI, Response
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from sqlalchemy import Engine
from starlette.convertors import Convertor, register_url_convertor
from starlette.routing import BaseRoute
from starlette_compress import CompressMiddleware

from app.compare import routes as compare
from app.contexts import routes as contexts
from app.differences import routes as differences
from app.export import routes as export
from app.heads import routes as heads
from app.lists import routes as lists
from app.live.ablation import routes as ablation
from app.live.behaviour import routes as behaviour
from app.live.elsewhere import Elsewhere
from app.live.engine import Live
from app.live.gate import AnyLive
from app.live.head import routes as live_head
from app.live.neuron import routes as live_neuron
from app.live.neuron.view import box as live_box
from app.live.steering import routes as steering
from app.models import routes as models
from app.navigation import routes as navigation
from app.neurons import routes as neurons
from app.neurons.panels import Panels
from app.notes import routes as notes
from app.notes.service import WRITERS, ServedNotes, token_of
from app.reading.store import Store
from app.runs import routes as runs
from app.search import routes as search
from app.search.numbers import routes as numbers
from app.settings import Settings
from app.web import assets, built, docs, failures, health
from app.web.known import only_known
from app.web.middleware import CommonHeaders
from app.web.params import SetName
from app.web.site import Site, templates
from app.web.visitors import OwnVisitors
from indexer.errors import NeurariumError
from indexer.store import notes as notes_store
from indexer.store.database import is_read_only, open_served
from indexer.store.units import SET_NAME

ROUTERS = (
    models.api,
    neurons.api,
    runs.router,
    numbers.router,
    export.router,
    compare.router,
    differences.router,
    lists.router,
    live_neuron.router,
    steering.router,
    notes.api,
    ablation.router,
    behaviour.router,
    search.api,
    contexts.router,
    health.router,
    docs.router,
    navigation.router,
    search.pages,
    models.pages,
    neurons.pages,
    notes.pages,
)
"""The routes of all wings, in any order: `_specificity` decides which of them answers."""


_SET = "{set:set}"
_PREFIXES = (
    ("/{model}", f"/{{model}}/{_SET}"),
    ("/api/v1/models/{model}", "/api/v1/models/{model}/sets/{set}"),
)
"""Where the routes of a model start, and where their twins for a set do. On pages only the form of
a set's name tells it from a layer; in the API `sets` does, so a name of another form is answered
with what is wrong with it (422)."""


class _SetConvertor(Convertor[str]):
    """The name of a set of units in an address."""

    regex = SET_NAME.pattern

    def convert(self, value: str) -> str:
        """The name itself."""
        return value

    def to_string(self, value: str) -> str:
        """The name itself."""
        return value


register_url_convertor("set", _SetConvertor())


def create_app(settings: Settings | None = None, *, live_at: Path | None = None) -> FastAPI:
    """The web server over the store that `settings` name; `live_at`: the socket of the process that
    has the live models, if it is another one. Raises NeurariumError."""
    settings = settings or Settings()
    live: AnyLive | None = None
    if live_at is not None:
        live = Elsewhere(live_at, tokens=settings.live_tokens, waiting=settings.live_waiting)
    elif settings.live:
        live = Live(
            memory=settings.live_memory,
            tokens=settings.live_tokens,
            waiting=settings.live_waiting,
            model_paths=settings.model_paths,
            dictionary_paths=settings.dictionary_paths,
        )
    token = token_of(settings)
    engine = open_served(settings.database_url)
    kept_notes = None if token is None else _notes(engine, settings.database_url, token)
    site = Site(
        store=Store(engine),
        templates=templates(),
        version=assets.site_version()
        + ("+live" if live else "")
        + ("+notes" if kept_notes else ""),
        release=_release(),
        embed=settings.embed,
        read_only=is_read_only(engine),
        live=live is not None,
        note_marks=None if kept_notes is None else kept_notes.marks,
        newest_notes=None if kept_notes is None else kept_notes.newest,
        built=built.BuiltPages(int(settings.page_memory * 2**20)),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        if live is not None:
            await live.close()
        if kept_notes is not None:
            kept_notes.close()
        site.store.close()

    app = FastAPI(
        title="Neurarium",
        version=site.release,
        summary="Every neuron, latent and head of a language model, shown through the text that "
        "activates it.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # its redirects are absolute: `failures` has relative ones
        lifespan=lifespan,
    )
    app.state.site, app.state.live, app.state.notes = site, live, kept_notes
    app.state.panels = Panels(
        live=None if live is None else lambda page, links: live_box(page, live.tokens, links),
        notes=None if kept_notes is None else partial(notes.panel, kept_notes),
    )
    # The best of zstd, brotli and gzip that the client takes. zstd makes a page smaller than gzip
    # at its default level, in an eighth of the time (measured: benchmarks/README.md). gzip is for
    # old clients; below level 6 the longest pages of neurons come to over 40 kB.
    app.add_middleware(CompressMiddleware, minimum_size=1000, zstd_level=built.LEVEL, gzip_level=6)
    hosts = settings.allowed_hosts.split()
    app.add_middleware(OwnVisitors, hosts=hosts, answer=failures.answer)
    app.add_middleware(CommonHeaders)
    failures.install(app)
    app.mount("/static/swagger", StaticFiles(directory=_swagger_folder()), name="swagger")
    app.add_api_route(f"/static/{assets.STYLE_SHEET}", _style_sheet, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=assets.folder("static")), name="static")
    routes = [_checked(route) for router in ROUTERS for route in router.routes]
    without_sets = (heads.api, heads.pages, live_head.router)
    own = [_checked(route) for router in without_sets for route in router.routes]
    app.router.routes.extend(sorted(routes + of_sets(routes) + own, key=_specificity))
    return app


def _notes(engine: Engine, url: str, token: str) -> ServedNotes:
    """The notes in a database that `engine` reads. Raises NeurariumError."""
    writer = open_served(url, patience=notes_store.PATIENCE, connections=WRITERS)
    try:
        return ServedNotes(engine, writer, token)
    except NeurariumError:
        writer.dispose()
        engine.dispose()
        raise


async def _documented(set: SetName) -> None:
    """Put the set into the API's documentation; `params.model_set` reads it."""


def of_sets(routes: Sequence[BaseRoute]) -> list[BaseRoute]:
    """The same routes for the sets of units that addresses name: `/{model}/{layer}` is also
    `/{model}/{set}/{layer}`, and `/api/v1/models/{model}` also `/api/v1/models/{model}/sets/{set}`.
    """
    twins: list[BaseRoute] = []
    for route in routes:
        if not isinstance(route, APIRoute):
            continue
        for prefix, with_set in _PREFIXES:
            if route.path == prefix or route.path.startswith(f"{prefix}/"):
                path = with_set + route.path.removeprefix(prefix)
                twins.append(_copy(route, path, _documented))
    return twins


def _checked(route: BaseRoute) -> BaseRoute:
    """A route of the API as one that refuses unknown query parameters; any other as it is."""
    if isinstance(route, APIRoute) and route.path.startswith(failures.API_PREFIX):
        return _copy(route, route.path, only_known(route))
    return route


def _copy(route: APIRoute, path: str, dependency: Callable[..., Awaitable[None]]) -> APIRoute:
    """The same route at a path, with another dependency."""
    return APIRoute(
        path,
        route.endpoint,
        name=route.name,
        methods=route.methods,
        response_model=route.response_model,
        response_class=route.response_class,
        status_code=route.status_code,
        tags=route.tags,
        responses=route.responses,
        include_in_schema=route.include_in_schema,
        openapi_extra=route.openapi_extra,
        dependencies=[*route.dependencies, Depends(dependency)],
    )


def _specificity(route: BaseRoute) -> list[int]:
    """The sort key by which a fixed word in an address comes before a parameter: /help is not the
    page of a model called help. Of each segment: 0 fixed, 1 partly fixed, 2 a set of
    units, which is never a number, 3 any other parameter, 4 any rest of an address."""
    path: str = getattr(route, "path", "")
    return [_kind(segment) for segment in path.strip("/").split("/")]


def _kind(segment: str) -> int:
    if ":path}" in segment:
        return 4
    if segment == _SET:
        return 2
    if re.fullmatch(r"\{.*\}", segment):
        return 3
    return 1 if "{" in segment else 0


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
