"""The routes of a search by number: a page, and the same as JSON."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from app.errors import Invalid
from app.search.numbers import view as number_view
from app.search.numbers.grammar import GrammarError, parse
from app.search.numbers.schemas import NumberSearch
from app.web import urls
from app.web.links import carried_run
from app.web.params import DEFAULT_LIMIT, ERRORS, Cursor, Limit, RunId
from app.web.site import Site, json_of

Asked = Annotated[
    str,
    Query(
        description="Conditions with blanks between, all of which must hold: "
        "`max>5 density<1% layer:3-5 dead:no source:NAME sort:-kurtosis`. Without any: all neurons."
    ),
]


def number_api(site: Site) -> APIRouter:
    """The JSON route."""
    api = APIRouter(prefix="/api/v1", tags=["api"], responses=ERRORS)

    @api.get("/models/{model}/neurons", response_model=NumberSearch)
    def search(
        request: Request,
        model: str,
        q: Asked = "",
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = None,
        run: RunId = None,
    ) -> Response:
        """The neurons of all layers whose numbers are as a query asks, a page at a time."""

        def build() -> Response:
            try:
                return json_of(site.queries.numbers(model, run, parse(q), limit, cursor))
            except GrammarError as error:
                raise Invalid(error.detail) from None

        return site.answer(request, model, build)

    return api


def number_pages(site: Site) -> APIRouter:
    """The page's route."""
    pages = APIRouter(include_in_schema=False)

    @pages.get("/{model}/neurons")
    def search(
        request: Request, model: str, q: str = "", cursor: Cursor = None, run: RunId = None
    ) -> Response:
        """A box for a query, and a table of what it found."""

        def build() -> Response:
            query = parse(q)
            page = site.queries.numbers(model, run, query, DEFAULT_LIMIT, cursor)
            carried = carried_run(site, model, run)
            links: dict[str, Any] = {
                "json_url": urls.api_search_numbers(model, q=q, cursor=cursor, run=run),
                "canonical": urls.search_numbers(model, q=page.query, run=run),
                "run_query": carried,
                "cursor": cursor,
            }
            view = number_view.found(page, query, q, carried)
            return site.html("search/numbers.html", page, view=view, **links)

        try:
            return site.answer(request, model, build)
        except GrammarError as error:  # outside of what is tagged: only an answer is kept
            ground = site.queries.number_ground(model, run)
            carried = carried_run(site, model, run)
            view = number_view.refused(ground, error, carried)
            context: dict[str, Any] = {"view": view, "run_query": carried, "cursor": None}
            return site.html("search/numbers.html", ground, 422, **context)

    return pages
