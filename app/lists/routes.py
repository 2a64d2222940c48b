"""/list: a list of neurons that only its address holds, as a page and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from app.errors import Invalid
from app.examples.lines import REACH
from app.lists import queries
from app.lists.entries import LIMIT, LONGEST_TITLE, Entry, entries, spelled
from app.lists.schemas import ListPage
from app.lists.view import ListContext, ablation, noun, rows_view
from app.navigation.find import only_model
from app.reading.store import Store
from app.web import api_urls, urls
from app.web.answers import listing, with_inner_notes
from app.web.frame import NO_MARKS, Frame, Marks
from app.web.params import ALL_TITLES, ERRORS, LISTS, Fields, Titles
from app.web.site import NO_STORE, Site, site_of

router = APIRouter()

Neurons = Annotated[
    str,
    Query(
        description="Neurons, separated by commas, at most 150: `MODEL/3/45,3/46`. A neuron "
        "without a model is of the previous one's."
    ),
]
Title = Annotated[str, Query(max_length=LONGEST_TITLE, description="The list's title.")]

Add = Annotated[Sequence[str], Query()]
"""Neurons to add: one box of a page a value, each as `n`."""


@router.get("/api/v1/list", response_model=ListPage, responses=ERRORS | LISTS, tags=["api"])
def neurons(
    request: Request, n: Neurons = "", title: Title = "", fields: Fields = None
) -> Response:
    """Neurons of any models, in the given order. Those that do not exist say why."""
    site = site_of(request)
    if unchanged := site.unchanged(request, None, beside=[_marks(site, n).version]):
        return unchanged
    page = read(site.store, n, title)
    models = ["" if row.run is None else str(row.run.name) for row in page.items]
    return listing(request, with_inner_notes(request, page, models), fields)


@router.get("/list", include_in_schema=False)
def list_page(
    request: Request, n: Neurons = "", title: Title = "", add: Add = (), titles: Titles = None
) -> Response:
    """A list of neurons; with `add`, a redirect to the list with that neuron added."""
    site = site_of(request)
    titled = titles is not None
    added = ",".join(text for text in add if text.strip())
    if added:
        try:
            target = urls.neuron_list(_added(site.store, n, added), title=title)
        except Invalid as error:
            return _page(request, n, title, titled, NO_MARKS, added, error)
        return RedirectResponse(target, 307, headers=NO_STORE)
    marks = _marks(site, n)
    if unchanged := site.unchanged(request, None, beside=[marks.version]):
        return unchanged
    return _page(request, n, title, titled, marks)


def read(store: Store, n: str, title: str, reach: int | None = None) -> ListPage:
    """A list from the parameters of its address. Raises Invalid if it is too long."""
    items = queries.rows(store, _entries(store, n), reach)
    short = spelled([row.address for row in items])
    return ListPage(title=title.strip() or None, n=short, items=items)


def _marks(site: Site, n: str) -> Marks:
    """The notes on neurons of the models in a list."""
    return site.marks(*{entry.place.name for entry in _entries(site.store, n) if entry.place})


def _entries(store: Store, n: str) -> list[Entry]:
    return entries(n, lambda text: only_model(store, text))


def _added(store: Store, n: str, add: str) -> str:
    """A list with the neurons in `add`, as text. Raises Invalid if `add` has anything else."""
    before = {entry.text for entry in _entries(store, n)}
    extended = _entries(store, f"{n},{add}")
    for entry in extended:
        if entry.wrong and entry.text not in before:
            raise Invalid(entry.wrong)
    return spelled([row.address for row in queries.rows(store, extended)])


def _page(
    request: Request,
    n: str,
    title: str,
    titled: bool,
    marks: Marks,
    add: str = "",
    error: Invalid | None = None,
) -> Response:
    site = site_of(request)
    page = read(site.store, n, title, REACH["peak"])
    context = ListContext(
        frame=Frame(
            json_url=api_urls.list(page.n, title=page.title),
            canonical=urls.neuron_list(page.n, title=page.title),
            marks=marks,
        ),
        page=page,
        rows=rows_view(page, titled=titled),
        titled_url=(
            None if titled else urls.neuron_list(page.n, title=page.title, titles=ALL_TITLES)
        ),
        noun=noun(page),
        ablation=ablation(page) if site.live else None,
        limit=LIMIT,
        add=add,
        wrong=error.detail if error else None,
    )
    return site.html(request, "lists/list.html", context, error.status if error else 200)
