"""/list: neurons that an address alone puts together, as a page and as JSON."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from app.errors import Invalid
from app.examples.lines import REACH
from app.lists import view as list_view
from app.lists.entries import LIMIT, LONGEST_TITLE, Entry, entries, spelled
from app.lists.schemas import ListPage
from app.navigation.find import only_model
from app.queries import Queries
from app.titles import ALL, Titles
from app.web import urls
from app.web.params import ERRORS
from app.web.site import NO_STORE, Site, json_of

Neurons = Annotated[
    str,
    Query(
        description="Neurons with commas between, at most 150: `MODEL/3/45,3/46`. What names no "
        "model is of that before it."
    ),
]
Title = Annotated[str, Query(max_length=LONGEST_TITLE, description="What the list is called.")]


def api_router(site: Site) -> APIRouter:
    """The JSON of a list."""
    api = APIRouter(prefix="/api/v1", tags=["api"], responses=ERRORS)

    @api.get("/list", response_model=ListPage)
    def neurons(request: Request, n: Neurons = "", title: Title = "") -> Response:
        """Neurons of any models, in the order given; what is not there says why."""
        return site.answer(request, None, lambda: json_of(read(site.queries, n, title)))

    return api


def router(site: Site) -> APIRouter:
    """The page of a list, and what adds to it."""
    pages = APIRouter(include_in_schema=False)

    @pages.get("/list")
    def neurons(
        request: Request,
        n: Neurons = "",
        title: Title = "",
        add: str = "",
        titles: Titles = None,
    ) -> Response:
        """A list of neurons; with `add`, on to the list that has this one too."""
        titled = titles is not None
        if not add.strip():
            return site.answer(request, None, lambda: _answer(site, n, title, titled))
        try:
            target = urls.neuron_list(_added(site.queries, n, add), title=title)
        except Invalid as error:
            return _answer(site, n, title, titled, add, error)
        return RedirectResponse(target, 307, headers=NO_STORE)

    return pages


def read(queries: Queries, n: str, title: str, reach: int | None = None) -> ListPage:
    """A list by its address. Raises Invalid where it is too long."""
    items = queries.rows(_entries(queries, n), reach)
    short = spelled([row.address for row in items])
    return ListPage(title=title.strip() or None, n=short, items=items)


def _entries(queries: Queries, n: str) -> list[Entry]:
    return entries(n, partial(only_model, queries))


def _added(queries: Queries, n: str, add: str) -> str:
    """A list with more in it. Raises Invalid for what names no neuron."""
    before = {entry.text for entry in _entries(queries, n)}
    all_of_them = _entries(queries, f"{n},{add}")
    for entry in all_of_them:
        if entry.wrong and entry.text not in before:
            raise Invalid(entry.wrong)
    return spelled([row.address for row in queries.rows(all_of_them)])


def _answer(
    site: Site, n: str, title: str, titled: bool, add: str = "", error: Invalid | None = None
) -> Response:
    page = read(site.queries, n, title, REACH["peak"])
    whole = urls.neuron_list(page.n, title=page.title, titles=ALL)
    context: dict[str, Any] = {
        "rows": list_view.rows(page, titled=titled),
        "all_titles": None if titled else whole,
        "limit": LIMIT,
        "add": add,
        "wrong": error.detail if error else None,
        "json_url": urls.api_list(page.n, title=page.title),
        "canonical": urls.neuron_list(page.n, title=page.title),
    }
    return site.html("lists/list.html", page, error.status if error else 200, **context)
