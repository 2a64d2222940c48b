"""Builds the addresses of the site's pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Unpack

from app.web.paths import DifferencesQuery, LayerQuery, Name, TextQuery, path_of, with_query


def home(*, limit: int | None = None, cursor: str | None = None) -> str:
    """The list of models."""
    return with_query("/", limit=limit, cursor=cursor)


def model(name: Name, *, by: str | None = None, run: int | None = None) -> str:
    """A model's page, its picture of heads coloured by a score; here and below `run` is None for
    the model's default run."""
    return with_query(path_of(name), by=by, run=run)


def layer(
    name: Name, layer_index: int, *, run: int | None = None, **query: Unpack[LayerQuery]
) -> str:
    """A layer's page."""
    query["first"] = query.get("first") or None
    return with_query(path_of(name, layer_index), **query, run=run)


def search_numbers(
    name: Name, *, q: str | None = None, cursor: str | None = None, run: int | None = None
) -> str:
    """The search by statistics; `q` is the query."""
    return with_query(path_of(name, "neurons"), q=q or None, cursor=cursor, run=run)


def differences(
    name: Name, a: int | None = None, b: int | None = None, **query: Unpack[DifferencesQuery]
) -> str:
    """What changed of each neuron between the runs `a` and `b` of a model."""
    return with_query(path_of(name, "differences"), a=a, b=b, **query)


def behaviour(name: Name, *, run: int | None = None) -> str:
    """The search by custom text: its form and its result."""
    return with_query(path_of(name, "behaviour"), run=run)


def ablation(name: Name, *, n: str | None = None, run: int | None = None) -> str:
    """Several neurons ablated on a custom text: the form, with the neurons `n`, and its result."""
    return with_query(path_of(name, "ablation"), n=n or None, run=run, safe="/,")


def neuron(
    name: Name,
    layer_index: int,
    neuron_index: int,
    *,
    run: int | None = None,
    view: str | None = None,
    titles: str | None = None,
) -> str:
    """A neuron's page; `view` and `titles` as in `params.ViewQuery` and `params.Titles`."""
    return with_query(path_of(name, layer_index, neuron_index), run=run, view=view, titles=titles)


def try_text(name: Name, layer_index: int, neuron_index: int, *, run: int | None = None) -> str:
    """The page of one neuron on a custom text: its form and its result."""
    return with_query(path_of(name, layer_index, neuron_index, "try"), run=run)


def steer(name: Name, layer_index: int, neuron_index: int, *, run: int | None = None) -> str:
    """The page on which a text is steered with one neuron."""
    return with_query(path_of(name, layer_index, neuron_index, "steer"), run=run)


def notes(
    name: Name,
    layer_index: int,
    neuron_index: int,
    *,
    run: int | None = None,
    view: str | None = None,
    cursor: str | None = None,
) -> str:
    """All notes on a neuron, and where the form is sent; `run` and `view` are for the way back."""
    path = path_of(name, layer_index, neuron_index, "notes")
    return with_query(path, cursor=cursor, run=run, view=view)


def all_notes(
    name: Name | None = None, *, cursor: str | None = None, run: int | None = None
) -> str:
    """All notes on the neurons of a model, or of all models."""
    parts: list[Name] = [] if name is None else [name]
    return with_query(path_of(*parts, "notes"), cursor=cursor, run=run)


def context(
    name: Name,
    layer_index: int,
    neuron_index: int,
    context_id: int,
    *,
    run: int | None = None,
    view: str | None = None,
) -> str:
    """A whole context that is an example of a neuron; `view` is for the way back."""
    return contexts(name, layer_index, neuron_index, run=run, view=view)(context_id)


def contexts(
    name: Name,
    layer_index: int,
    neuron_index: int,
    *,
    run: int | None = None,
    view: str | None = None,
) -> Callable[[int], str]:
    """A function from a context's id to its page at one neuron: quick, for many links."""
    path = path_of(name, layer_index, neuron_index, "contexts")
    query = with_query("", run=run, view=view)
    return lambda context_id: f"{path}/{context_id}{query}"


def neurons(
    name: Name, *, run: int | None = None, view: str | None = None
) -> Callable[[int, int], str]:
    """A function from layer and neuron to the neuron's page: quick, for pages with many links."""
    path, query = path_of(name), with_query("", run=run, view=view)
    return lambda layer_index, neuron_index: f"{path}/{layer_index}/{neuron_index}{query}"


def neurons_of_layer(
    name: Name, layer_index: int, *, run: int | None = None, view: str | None = None
) -> tuple[str, str]:
    """The parts before and after a neuron's index in the addresses of a layer's neurons."""
    return f"{path_of(name)}/{layer_index}/", with_query("", run=run, view=view)


def sources(
    name: Name,
    layer_index: int,
    neuron_index: int,
    *,
    run: int | None = None,
    view: str | None = None,
    titles: str | None = None,
) -> str:
    """A neuron's examples by source."""
    path = path_of(name, layer_index, neuron_index, "sources")
    return with_query(path, run=run, view=view, titles=titles)


def search(name: Name, *, run: int | None = None, **query: Unpack[TextQuery]) -> str:
    """The search by token and text."""
    return with_query(path_of(name, "search"), **query, run=run)


def tokens(name: Name, *, run: int | None = None) -> Callable[[int, str | None], str]:
    """A function from token id and role to the search for the token."""
    path, rest = path_of(name, "search"), "" if run is None else f"&run={run}"

    def address(token_id: int, role: str | None) -> str:
        return f"{path}?token_id={token_id}{f'&as={role}' if role else ''}{rest}"

    return address


def context_neurons(
    name: Name,
    context_id: int,
    *,
    at: int | None = None,
    cursor: str | None = None,
    run: int | None = None,
) -> str:
    """A context with the neurons that peak in it, or at the position `at`."""
    return with_query(path_of(name, "contexts", context_id), at=at, cursor=cursor, run=run)


def run(run_id: int) -> str:
    """A run's provenance."""
    return path_of("runs", run_id)


def random(
    name: Name | None = None,
    layer_index: int | None = None,
    *,
    run: int | None = None,
    view: str | None = None,
) -> str:
    """A random neuron of all models, of a model, or of a layer."""
    parts = [part for part in (name, layer_index) if part is not None]
    return with_query(path_of(*parts, "random"), run=run, view=view)


def go() -> str:
    """Where the go-to box is sent: the text as `to`, and its page's `model`, `run` and `view`."""
    return "/go"


def help_page() -> str:
    """The help page: keys, colours, words."""
    return "/help"


def named(name: Name, layer_index: int, neuron_index: int, *, run: int | None = None) -> str:
    """A neuron as comparisons and lists name it: `MODEL/3/45`, or its path if a run is named."""
    if run is None:
        return f"{name}/{layer_index}/{neuron_index}"
    return neuron(name, layer_index, neuron_index, run=run)


def compare(a: str | None = None, b: str | None = None, *, titles: str | None = None) -> str:
    """The comparison of two neurons, each as `named` makes it."""
    return with_query("/compare", a=a, b=b, titles=titles, safe="/,")


def neuron_list(
    n: str | None = None, *, title: str | None = None, titles: str | None = None
) -> str:
    """A list of neurons; `n` joins them, as `named` makes them, with commas."""
    return with_query("/list", n=n or None, title=title or None, titles=titles, safe="/,")


def static(name: str, version: str) -> str:
    """A static file; its version changes with its content, so that it can be cached forever."""
    return with_query(path_of("static", *name.split("/")), v=version)


def docs() -> str:
    """The API's documentation."""
    return "/docs"


def swagger(name: str) -> str:
    """A file of Swagger UI."""
    return path_of("static", "swagger", name)


def openapi() -> str:
    """The API's schema."""
    return "/openapi.json"


def heads(model_name: str, *, by: str | None = None, run: int | None = None) -> str:
    """All attention heads of a model, coloured and sorted by a score."""
    return with_query(path_of(model_name, "heads"), by=by, run=run)
