"""/compare: two neurons side by side on one scale, as a page and as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.compare import queries
from app.compare.schemas import Comparison
from app.compare.view import CompareContext, compare_view
from app.drawing.quoting import quoted
from app.errors import AppError, Invalid
from app.examples.lines import REACH
from app.navigation.find import find
from app.reading.store import Store
from app.sets import ModelSet
from app.web import api_urls, urls
from app.web.address import FORMS, NeuronPlace, parse
from app.web.answers import single
from app.web.frame import Frame
from app.web.links import Links
from app.web.params import ALL_TITLES, ERRORS, Fields, Titles
from app.web.site import site_of

router = APIRouter()

Named = Annotated[
    str, Query(description="`MODEL/LAYER/NEURON`, another form of address, or a page's address.")
]


@dataclass(frozen=True)
class Requested:
    """Two requested neurons, by letter: `a` and `b`."""

    texts: dict[str, str]
    places: dict[str, NeuronPlace] = field(default_factory=dict)
    """The neurons that exist."""
    errors: dict[str, AppError] = field(default_factory=dict)
    """Why the others do not."""


@router.get("/api/v1/compare", response_model=Comparison, responses=ERRORS, tags=["api"])
def compare(request: Request, a: Named = "", b: Named = "", fields: Fields = None) -> Response:
    """Two neurons, each as on its own page, with a common scale and axis."""
    site = site_of(request)
    if unchanged := site.unchanged(request, None):
        return unchanged
    requested = read(site.store, a, b)
    for letter in "ab":
        if letter in requested.errors:
            raise requested.errors[letter]
        if letter not in requested.places:
            raise Invalid(f"{letter} is empty: name two neurons, such as MODEL/3/45.")
    places = requested.places
    page = queries.compare(site.store, places["a"], places["b"])
    return single(request, page, fields)


@router.get("/compare", include_in_schema=False)
def compare_page(request: Request, a: str = "", b: str = "", titles: Titles = None) -> Response:
    """Two neurons side by side; with fewer than two, the form that asks for them."""
    site = site_of(request)
    requested = read(site.store, a, b)
    if requested.errors:  # no ETag: what does not exist may be indexed later
        return _form(request, requested, min(error.status for error in requested.errors.values()))
    if unchanged := site.unchanged(request, None):
        return unchanged
    places = requested.places
    if len(places) < 2:
        return _form(request, requested)
    return _comparison(request, places["a"], places["b"], titled=titles is not None)


def read(store: Store, a: str, b: str) -> Requested:
    """The neurons that two texts name. A text without a model means the other's model and run; if
    the other has an error, such a text is not checked."""
    requested = Requested({"a": a.strip(), "b": b.strip()})
    for letter, other in (("a", "b"), ("b", "a")):
        text = requested.texts[letter]
        address = parse(text)
        complete = address is None or address.model is not None
        if not text or (other in requested.errors and not complete):
            continue
        try:
            beside = None if complete else requested.places.get(other)
            requested.places[letter] = _place(store, text, beside)
        except AppError as error:
            requested.errors[letter] = error
    return requested


def _place(store: Store, text: str, beside: NeuronPlace | None) -> NeuronPlace:
    """The neuron that a text names. Raises Invalid, NotFound."""
    name, run = (beside.name, beside.run) if beside else (None, None)
    address = find(store, text, name, run)
    assert address.model is not None  # `find` always names one
    if address.layer is None or address.neuron is None:
        raise Invalid(f"“{quoted(text)}” does not name a single neuron. Try {FORMS}.")
    name, run = ModelSet(address.model, address.set), address.run
    if run is not None and store.is_default(name, run):
        run = None
    store.check_neuron(name, address.layer, address.neuron, run)
    return NeuronPlace(name.model, address.layer, address.neuron, run, name.set)


def _named(place: NeuronPlace) -> str:
    """A neuron as addresses of comparisons name it."""
    return urls.named(place.name, place.layer, place.neuron, run=place.run)


def _comparison(request: Request, a: NeuronPlace, b: NeuronPlace, *, titled: bool) -> Response:
    site = site_of(request)
    page = queries.compare(site.store, a, b, REACH["peak"])
    links = (Links(a.name, a.run), Links(b.name, b.run))
    name_a, name_b = _named(a), _named(b)
    context = CompareContext(
        frame=Frame(
            json_url=api_urls.compare(name_a, name_b), canonical=urls.compare(name_a, name_b)
        ),
        view=compare_view(page, *links, titled=titled),
        texts={"a": name_a, "b": name_b},
        swapped_url=urls.compare(name_b, name_a),
        titled_url=None if titled else urls.compare(name_a, name_b, titles=ALL_TITLES),
    )
    return site.html(request, "compare/compare.html", context)


def _form(request: Request, requested: Requested, status: int = 200) -> Response:
    names = {letter: _named(place) for letter, place in requested.places.items()}
    context = CompareContext(
        frame=Frame(),
        texts=requested.texts | names,
        errors={letter: error.detail for letter, error in requested.errors.items()},
    )
    return site_of(request).html(request, "compare/compare.html", context, status)
