"""What the routes share: the store's queries, the templates, answers with their tags."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel

from app.drawing import charts, quoting
from app.drawing.characters import chip, visible
from app.drawing.numbers import compact, count, exact, number, share, when
from app.errors import Forbidden
from app.live.engine import Live
from app.notes.service import ServedNotes
from app.queries import Queries
from app.web import assets, caching, urls
from app.web.middleware import POLICY, content_policy

FILTERS: dict[str, Callable[..., Any]] = {
    "number": number,
    "exact": exact,
    "share": share,
    "count": count,
    "compact": compact,
    "chip": chip,
    "visible": visible,
    "plain": quoting.printable,
    "bar": charts.bar,
    "when": when,
}
"""What the templates call as filters: `environment.filters.update(present.FILTERS)`."""

NO_STORE = {"Cache-Control": "no-store"}


@dataclass(frozen=True)
class Site:
    """One server's parts, made once in `create_app`."""

    queries: Queries
    templates: Environment
    version: str
    release: str
    embed: str = ""
    """Whose frames may show a bare page: sources of CSP's frame-ancestors. Empty: nobody's."""
    live: Live | None = None
    """What reads visitors' texts; None where the server loads no models."""
    notes: ServedNotes | None = None
    """What people wrote on neurons; None where the server keeps no notes."""

    def html(self, template: str, page: BaseModel, status: int = 200, **context: Any) -> Response:
        """A page: `page` is the object it shows, the rest what its template's head names."""
        context = {"json_url": None, "canonical": None, "embed": False} | context
        text = self.templates.get_template(template).render(page=page, **context)
        if context["embed"]:  # links leave the frame, by <base>; those inside the page stay
            text = text.replace('href="#', 'target="_self" href="#')
        return HTMLResponse(text, status)

    def bare(self, embed: str | None) -> bool:
        """Whether ?embed=1 asks for a bare page. Raises Forbidden where the setting has none."""
        if embed is not None and not self.embed:
            raise Forbidden(
                "Pages may not be embedded here: the setting NEURARIUM_EMBED says who may, and is "
                "empty."
            )
        return embed is not None

    def answer(
        self,
        request: Request,
        model: str | None,
        build: Callable[[], Response],
        *,
        bare: bool = False,
        beside: Iterable[str] = (),
    ) -> Response:
        """What `build` makes, or 304 where the visitor has it. Tagged by the runs of `model`, and
        by `beside`: what else identifies it.

        `bare`: a page for the frames of those whom the setting names; all others are for nobody's.
        """
        response = self._tagged(request, [*self.queries.versions(model), *beside], build)
        if bare:
            response.headers[POLICY] = content_policy(self.embed)
        return response

    def _tagged(
        self, request: Request, runs: Iterable[str], build: Callable[[], Response]
    ) -> Response:
        tag = caching.etag(request, self.version, runs)
        known = caching.known(request)
        if tag in known:
            return caching.not_modified(tag)
        response = build()
        if response.status_code >= 400:  # only an answer is kept
            response.headers.update(NO_STORE)
            return response
        return caching.not_modified(tag) if "*" in known else caching.tagged(response, tag)


def json_of(page: BaseModel) -> Response:
    """An object as JSON, exactly as its schema says."""
    return Response(page.model_dump_json(), media_type="application/json")


def templates() -> Environment:
    """The templates, with the filters and functions they all use."""
    environment = Environment(
        loader=FileSystemLoader(assets.folder("templates")),
        autoescape=True,
        auto_reload=False,  # a server runs one version: no file is looked at a second time
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    environment.globals.update(urls=urls, static=static_url)
    return environment


@cache
def static_url(name: str) -> str:
    """The address of a static file, with its version."""
    return urls.static(name, assets.version_of(name))
