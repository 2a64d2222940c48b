"""What every route uses: the store, the templates, and answers with an ETag."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel

from app.drawing import quoting
from app.drawing.characters import chip, chip_in_text, visible
from app.drawing.charts import bar
from app.drawing.numbers import compact, count, exact, known, number, share, when
from app.errors import AppError, NotAcceptable
from app.reading.noted import Newest
from app.reading.statistics import STATISTICS
from app.reading.store import Store
from app.schemas import DEFAULT_VIEW, View
from app.sets import ModelSet
from app.web import assets, caching, urls
from app.web.accept import only_csv, wants_csv
from app.web.built import BuiltPages
from app.web.frame import NO_MARKS, Context, Marks
from app.web.links import Links
from app.web.middleware import POLICY, content_policy
from app.web.params import VIEWS
from app.web.paths import Name

CSV = "text/csv; charset=utf-8"
NO_STORE = {"Cache-Control": "no-store"}

FILTERS: dict[str, Callable[..., Any]] = {
    "number": number,
    "exact": exact,
    "count": count,
    "compact": compact,
    "share": share,
    "when": when,
    "visible": visible,
    "plain": quoting.printable,
    "chip": chip,
    "chip_in_text": chip_in_text,
    "bar": bar,
    "known": known,
    "with_code": quoting.with_code,
}
"""The filters of all templates."""


@dataclass(frozen=True)
class Site:
    """The parts of one server that its routes share, made once in `create_app`."""

    store: Store
    templates: Environment
    version: str
    """Changes with the code, the templates and the settings that shape pages; part of ETags."""
    release: str
    """The version of the package."""
    embed: str = ""
    """Sites that may show bare pages in a frame, as in CSP's frame-ancestors; empty: none."""
    read_only: bool = False
    """Whether the database cannot be written."""
    live: bool = False
    """Whether the server runs models on visitors' texts."""
    note_marks: Callable[[Iterable[str]], Marks] | None = None
    """Counts the notes on the neurons of models; None on a server without notes."""
    newest_notes: Newest | None = None
    """Reads the newest note on each of some neurons; None on a server without notes."""
    built: BuiltPages = field(default_factory=lambda: BuiltPages(0))
    """Pages that were built before."""

    def unchanged(
        self,
        request: Request,
        model: Name | None,
        *,
        beside: Iterable[str] = (),
        bare: bool = False,
    ) -> Response | None:
        """An answer with status 304 if the visitor already has the page or JSON, and the page if it
        was built before. Otherwise None; `html` or `json` then adds the ETag to the answer.

        The ETag depends on the runs of `model` (None: of all models) and on the strings `beside`.
        `bare`: the answer is a page for another site's frame.
        """
        runs = self.store.versions(_model_of(model))
        form = ["csv"] if wants_csv(request) else []
        tag = caching.etag(request, self.version, [*runs, *beside, *form])
        if tag in caching.known(request):
            return self._framed(caching.not_modified(tag), bare)
        request.state.tag, request.state.runs = tag, (_model_of(model), runs)
        page = self.built.get(request, tag)
        return page if page is None else _tagged(request, page)

    def json(
        self, request: Request, page: BaseModel, status: int = 200, *, include: Any = None
    ) -> Response:
        """The answer with an object as JSON, or with the fields of `include` (`fields.included`),
        and with the ETag that `unchanged` made, if it did. Raises NotAcceptable if the request
        takes CSV alone."""
        if only_csv(request):
            raise NotAcceptable(
                "This answer is not a list of objects, so it cannot be CSV: accept "
                "application/json."
            )
        return _tagged(request, json_of(page, status, include))

    def csv(self, request: Request, lines: bytes) -> Response:
        """The answer with lines of CSV, with the ETag that `unchanged` made, if it did."""
        return _tagged(request, Response(lines, media_type=CSV, headers={"Vary": "Accept"}))

    def html(
        self, request: Request, template: str, context: Context, status: int = 200
    ) -> Response:
        """The answer with a page, with the ETag that `unchanged` made, if it did."""
        names = {of.name: getattr(context, of.name) for of in fields(context)}
        frame = context.frame
        text = self.templates.get_template(template).render(
            links=frame.links,
            has_notes=self.note_marks is not None,
            pieces=status < 400 and self._marks_pieces(frame.links),
            **names,
        )
        if frame.embed:  # <base> makes links leave the frame, except those within the page
            text = text.replace('href="#', 'target="_self" href="#')
        response = self._framed(_tagged(request, HTMLResponse(text, status)), frame.embed)
        tag: str | None = getattr(request.state, "tag", None)
        if tag is None:
            return response
        # A run that appeared or disappeared meanwhile may be on the page, but not in its tag.
        model, runs = request.state.runs
        if self.store.versions(model) != runs:
            return response
        return self.built.keep(request, tag, response)

    def _marks_pieces(self, links: Links | None) -> bool:
        """Whether a page marks word pieces: a page without a model of its own does where all
        vocabularies have words that begin with a space."""
        if links is None:
            return self.store.begins_words_with_space(None, None)
        return self.store.begins_words_with_space(links.model, links.run)

    def marks(self, *names: Name) -> Marks:
        """The notes on neurons of models or sets, for pages that list neurons."""
        return NO_MARKS if self.note_marks is None else self.note_marks(map(str, names))

    def links(self, model: Name, run: int | None = None, view: View = DEFAULT_VIEW) -> Links:
        """The links of a page that was requested with this run and view. Raises NotFound."""
        if run is not None and self.store.is_default(model, run):
            run = None
        return Links(model, run, None if view == DEFAULT_VIEW else view)

    def _framed(self, response: Response, bare: bool) -> Response:
        if bare and self.embed:
            response.headers[POLICY] = content_policy(self.embed)
        return response


def site_of(request: Request) -> Site:
    """The site that a request was sent to."""
    site: Site = request.app.state.site
    return site


def json_of(page: BaseModel, status: int = 200, include: Any = None) -> Response:
    """An object as JSON, without an ETag."""
    return Response(page.model_dump_json(include=include), status, media_type="application/json")


def no_store(
    response: Response, status: int | None = None, error: AppError | None = None
) -> Response:
    """The answer, marked so that no browser or proxy stores it; with the status and the headers of
    an error that it shows, if there is one."""
    response.headers.update(NO_STORE)
    if error is not None:
        status = error.status
        response.headers.update(error.headers)
    if status is not None:
        response.status_code = status
    return response


def _model_of(name: Name | None) -> str | None:
    """The model alone."""
    return name.model if isinstance(name, ModelSet) else name


def _tagged(request: Request, response: Response) -> Response:
    """The answer with the ETag that `Site.unchanged` made, if it did."""
    tag: str | None = getattr(request.state, "tag", None)
    if tag is None:
        return response
    if response.status_code >= 400:
        return no_store(response)
    if "*" in caching.known(request):  # any version will do, and the object exists
        return caching.not_modified(tag)
    return caching.tagged(response, tag)


def templates() -> Environment:
    """The templates, with their filters and functions."""
    environment = Environment(
        loader=FileSystemLoader(assets.folder("templates")),
        autoescape=True,
        auto_reload=False,  # templates do not change while a server runs
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    environment.globals.update(
        urls=urls, static=static_url, views=VIEWS, has_notes=False, pieces=False
    )
    environment.globals.update(statistics=STATISTICS)
    return environment


@cache
def static_url(name: str) -> str:
    """The versioned address of a static file."""
    return urls.static(name, assets.version_of(name))
