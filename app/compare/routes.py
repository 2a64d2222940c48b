"""/compare: two neurons beside each other on one scale, as a page and as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from app.compare import view as compare_view
from app.compare.schemas import CompareForm, Comparison
from app.compare.view import Links
from app.drawing.quoting import quoted
from app.errors import AppError, Invalid
from app.examples.lines import REACH
from app.navigation.find import found
from app.queries import Queries
from app.titles import ALL, Titles
from app.web import urls
from app.web.address import FORMS, NeuronPlace, parse
from app.web.params import ERRORS
from app.web.site import Site, json_of

Named = Annotated[
    str, Query(description="`MODEL/LAYER/NEURON`, another form of address, or a page's address.")
]


@dataclass(frozen=True)
class Asked:
    """What was asked for on either side, and what is wrong with it. All by letter, `a` and `b`."""

    texts: dict[str, str]
    places: dict[str, NeuronPlace] = field(default_factory=dict)
    errors: dict[str, AppError] = field(default_factory=dict)


def api_router(site: Site) -> APIRouter:
    """The JSON of a comparison."""
    api = APIRouter(prefix="/api/v1", tags=["api"], responses=ERRORS)

    @api.get("/compare", response_model=Comparison)
    def compare(request: Request, a: Named = "", b: Named = "") -> Response:
        """Two neurons, each as on its own page, with what it takes to show them on one scale."""

        def build() -> Response:
            asked = read(site.queries, a, b)
            for letter in "ab":
                if letter in asked.errors:
                    raise asked.errors[letter]
                if letter not in asked.places:
                    raise Invalid(f"{letter} is empty: name two neurons, such as MODEL/3/45.")
            return json_of(site.queries.compare(asked.places["a"], asked.places["b"]))

        return site.answer(request, None, build)

    return api


def router(site: Site) -> APIRouter:
    """The page of a comparison, and the form that asks for one."""
    pages = APIRouter(include_in_schema=False)

    @pages.get("/compare")
    def compare(request: Request, a: str = "", b: str = "", titles: Titles = None) -> Response:
        """Two neurons beside each other; with fewer than two, the form that asks for them."""
        asked = read(site.queries, a, b)
        if asked.errors:  # has no tag: what does not exist may come to be
            status = min(error.status for error in asked.errors.values())
            return _form(site, asked, status)
        return site.answer(request, None, lambda: _answer(site, asked, titled=titles is not None))

    return pages


def read(queries: Queries, a: str, b: str) -> Asked:
    """The neurons that two texts name, read as a list's are: the second is of the first's model and
    run where it names no model, and then not judged where the first cannot be found."""
    asked = Asked({"a": a.strip(), "b": b.strip()})
    for letter, other in (("a", "b"), ("b", "a")):
        text = asked.texts[letter]
        said = parse(text)
        alone = said is None or said.model is not None
        if not text or (other in asked.errors and not alone):
            continue
        try:
            asked.places[letter] = _place(queries, text, None if alone else asked.places.get(other))
        except AppError as error:
            asked.errors[letter] = error
    return asked


def _place(queries: Queries, text: str, beside: NeuronPlace | None) -> NeuronPlace:
    model, run = (beside.model, beside.run) if beside else (None, None)
    address = found(queries, text, model, run)
    assert address.model is not None  # what is found has one
    if address.layer is None or address.neuron is None:
        raise Invalid(f"“{quoted(text)}” names no single neuron: write {FORMS}.")
    run = address.run
    if run is not None and queries.is_default(address.model, run):
        run = None
    place = NeuronPlace(address.model, address.layer, address.neuron, run)
    queries.check(place)
    return place


def named(place: NeuronPlace) -> str:
    """A neuron as addresses of comparisons and lists have it."""
    return urls.named(place.model, place.layer, place.neuron, run=place.run)


def _answer(site: Site, asked: Asked, titled: bool) -> Response:
    if len(asked.places) < 2:
        return _form(site, asked)
    a, b = asked.places["a"], asked.places["b"]
    page = site.queries.compare(a, b, REACH["peak"])
    texts = {letter: named(place) for letter, place in asked.places.items()}
    context: dict[str, Any] = {
        "view": compare_view.view(page, _links(a), _links(b), titled=titled),
        "all_titles": None if titled else urls.compare(texts["a"], texts["b"], titles=ALL),
        "json_url": urls.api_compare(texts["a"], texts["b"]),
        "canonical": urls.compare(texts["a"], texts["b"]),
        "turned": urls.compare(texts["b"], texts["a"]),
    }
    return site.html("compare/compare.html", page, texts=texts, errors={}, **context)


def _form(site: Site, asked: Asked, status: int = 200) -> Response:
    errors = {letter: error.detail for letter, error in asked.errors.items()}
    texts = asked.texts | {letter: named(place) for letter, place in asked.places.items()}
    context: dict[str, Any] = {"texts": texts, "errors": errors, "view": None}
    return site.html("compare/compare.html", CompareForm(), status, **context)


def _links(place: NeuronPlace) -> Links:
    at = (place.model, place.layer, place.neuron)
    return Links(
        page=urls.neuron(*at, run=place.run),
        context=urls.contexts(*at, run=place.run),
        find=urls.tokens(place.model, run=place.run),
    )
