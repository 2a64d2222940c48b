"""The search by statistics, as a page and as JSON."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.errors import Invalid
from app.reading.runs import whole_run, with_units
from app.search.numbers import queries
from app.search.numbers.grammar import GrammarError, parse
from app.search.numbers.schemas import NumberSearch
from app.search.numbers.view import NumbersContext, refused_view, results_view
from app.sets import ModelSet
from app.web import api_urls, urls
from app.web.answers import listing, with_notes
from app.web.frame import Frame
from app.web.params import DEFAULT_LIMIT, ERRORS, LISTS, Cursor, Fields, InSet, Limit, RunId
from app.web.site import Site, site_of

router = APIRouter()

QueryText = Annotated[
    str,
    Query(
        description="Conditions, separated by spaces; all must match: "
        "`max>5 density<1% layer:3-5 dead:no source:NAME sort:-kurtosis`. Without any: all neurons."
    ),
]


@router.get(
    "/api/v1/models/{model}/neurons",
    response_model=NumberSearch,
    responses=ERRORS | LISTS,
    tags=["api"],
)
def search(
    request: Request,
    model: InSet,
    q: QueryText = "",
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
    run: RunId = None,
    fields: Fields = None,
) -> Response:
    """A page of the neurons of all layers whose statistics match a query."""
    site = site_of(request)
    if unchanged := site.unchanged(request, model, beside=[site.marks(model).version]):
        return unchanged
    try:
        page = _search(site, model, q, limit, cursor, run)
    except GrammarError as error:
        raise Invalid(error.detail) from None
    return listing(request, with_notes(request, page, model), fields)


@router.get("/{model}/neurons", include_in_schema=False)
def search_page(
    request: Request, model: InSet, q: str = "", cursor: Cursor = None, run: RunId = None
) -> Response:
    """The box for a query, and a table of the results."""
    site = site_of(request)
    marks = site.marks(model)
    if unchanged := site.unchanged(request, model, beside=[marks.version]):
        return unchanged
    try:
        page = _search(site, model, q, DEFAULT_LIMIT, cursor, run)
    except GrammarError as error:
        return _refused(site, request, model, run, error)
    links = site.links(model, run)
    frame = Frame(
        links,
        json_url=api_urls.search_numbers(model, q=q, cursor=cursor, run=run),
        canonical=urls.search_numbers(model, q=page.query, run=run),
        marks=marks,
    )
    layers = len(site.store.layers_with_units(model, run))
    context = NumbersContext(frame, page, layers, results_view(page, parse(q), q, links), cursor)
    return site.html(request, "search/numbers.html", context)


def _search(
    site: Site, model: ModelSet, q: str, limit: int, cursor: str | None, run: int | None
) -> NumberSearch:
    query = parse(q)
    with site.store.reading(model, run) as reading:
        return queries.search(reading, query, limit, cursor)


def _refused(
    site: Site, request: Request, model: ModelSet, run: int | None, error: GrammarError
) -> Response:
    """The page of a query that cannot be parsed: the box, and what is wrong."""
    with site.store.reading(model, run) as reading:
        page, layers = whole_run(reading.run), len(with_units(reading.run))
    links = site.links(model, run)
    context = NumbersContext(Frame(links), page, layers, refused_view(page, error, links), None)
    return site.html(request, "search/numbers.html", context, 422)
