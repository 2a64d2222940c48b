"""Builds every address of the site."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from urllib.parse import quote, urlencode

from app.sets import ModelSet

Name = str | ModelSet
"""A model, or one of its sets of units: addresses name the set after the model."""


@lru_cache(maxsize=1 << 12)
def _path(*parts: Name | int) -> str:
    words: list[str | int] = []
    for part in parts:
        if isinstance(part, ModelSet):
            words += [part.model] if part.set is None else [part.model, part.set]
        else:
            words.append(part)
    return "/" + "/".join(quote(str(word), safe="") for word in words)


@lru_cache(maxsize=1 << 12)
def _api(name: Name, *parts: str | int) -> str:
    """The JSON of a model or set, or of what `parts` name in it."""
    if isinstance(name, str):
        name = ModelSet(name)
    place = [name.model] if name.set is None else [name.model, "sets", name.set]
    return "/api/v1" + _path("models", *place, *parts)


def _with(path: str, **query: str | int | None) -> str:
    given = {key: value for key, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


def home(*, limit: int | None = None, cursor: str | None = None) -> str:
    """The list of models."""
    return _with("/", limit=limit, cursor=cursor)


def model(name: Name, *, run: int | None = None) -> str:
    """A model's page; here and below `run` is None for the model's default run."""
    return _with(_path(name), run=run)


def layer(
    name: Name,
    layer_index: int,
    *,
    run: int | None = None,
    sort: str | None = None,
    order: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
    picture: str | None = None,
    x: str | None = None,
    y: str | None = None,
    first: int | None = None,
) -> str:
    """A layer's page: the order of its table, the statistics of its plot or (`picture`) of its
    grid, and their first neuron."""
    query = {"picture": picture, "x": x, "y": y, "from": first or None}
    query |= {"sort": sort, "order": order}
    return _with(_path(name, layer_index), **query, limit=limit, cursor=cursor, run=run)


def search_numbers(
    name: Name, *, q: str | None = None, cursor: str | None = None, run: int | None = None
) -> str:
    """The search by statistics; `q` is the query."""
    return _with(_path(name, "neurons"), q=q or None, cursor=cursor, run=run)


def differences(
    name: Name,
    a: int | None = None,
    b: int | None = None,
    *,
    layer: int | None = None,
    sort: str | None = None,
    order: str | None = None,
    cursor: str | None = None,
) -> str:
    """What changed of each neuron between the runs `a` and `b` of a model."""
    query = {"a": a, "b": b, "layer": layer, "sort": sort, "order": order}
    return _with(_path(name, "differences"), **query, cursor=cursor)


def behaviour(name: Name, *, run: int | None = None) -> str:
    """The search by custom text: its form and its result."""
    return _with(_path(name, "behaviour"), run=run)


def ablation(name: Name, *, n: str | None = None, run: int | None = None) -> str:
    """Several neurons ablated on a custom text: the form, with the neurons `n`, and its result."""
    return _with_named(_path(name, "ablation"), n=n or None, run=run)


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
    return _with(_path(name, layer_index, neuron_index), run=run, view=view, titles=titles)


def try_text(name: Name, layer_index: int, neuron_index: int, *, run: int | None = None) -> str:
    """The page of one neuron on a custom text: its form and its result."""
    return _with(_path(name, layer_index, neuron_index, "try"), run=run)


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
    path = _path(name, layer_index, neuron_index, "notes")
    return _with(path, cursor=cursor, run=run, view=view)


def all_notes(
    name: Name | None = None, *, cursor: str | None = None, run: int | None = None
) -> str:
    """All notes on the neurons of a model, or of all models."""
    parts: list[Name] = [] if name is None else [name]
    return _with(_path(*parts, "notes"), cursor=cursor, run=run)


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
    path = _path(name, layer_index, neuron_index, "contexts")
    query = _with("", run=run, view=view)
    return lambda context_id: f"{path}/{context_id}{query}"


def neurons(
    name: Name, *, run: int | None = None, view: str | None = None
) -> Callable[[int, int], str]:
    """A function from layer and neuron to the neuron's page: quick, for pages with many links."""
    path, query = _path(name), _with("", run=run, view=view)
    return lambda layer_index, neuron_index: f"{path}/{layer_index}/{neuron_index}{query}"


def neurons_of_layer(
    name: Name, layer_index: int, *, run: int | None = None, view: str | None = None
) -> tuple[str, str]:
    """The parts before and after a neuron's index in the addresses of a layer's neurons."""
    return f"{_path(name)}/{layer_index}/", _with("", run=run, view=view)


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
    path = _path(name, layer_index, neuron_index, "sources")
    return _with(path, run=run, view=view, titles=titles)


def search(
    name: Name,
    *,
    token: str | None = None,
    token_id: int | None = None,
    role: str | None = None,
    sort: str | None = None,
    order: str | None = None,
    text: str | None = None,
    cursor: str | None = None,
    run: int | None = None,
) -> str:
    """The search by token and text; `sort` and `order` are of the neurons of a token."""
    query = {"token": token, "token_id": token_id, "as": role, "sort": sort, "order": order}
    query |= {"text": text}
    return _with(_path(name, "search"), **query, cursor=cursor, run=run)


def tokens(name: Name, *, run: int | None = None) -> Callable[[int, str | None], str]:
    """A function from token id and role to the search for the token."""
    path, rest = _path(name, "search"), "" if run is None else f"&run={run}"

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
    return _with(_path(name, "contexts", context_id), at=at, cursor=cursor, run=run)


def run(run_id: int) -> str:
    """A run's provenance."""
    return _path("runs", run_id)


def random(
    name: Name | None = None,
    layer_index: int | None = None,
    *,
    run: int | None = None,
    view: str | None = None,
) -> str:
    """A random neuron of all models, of a model, or of a layer."""
    parts = [part for part in (name, layer_index) if part is not None]
    return _with(_path(*parts, "random"), run=run, view=view)


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
    return _with_named("/compare", a=a, b=b, titles=titles)


def neuron_list(
    n: str | None = None, *, title: str | None = None, titles: str | None = None
) -> str:
    """A list of neurons; `n` joins them, as `named` makes them, with commas."""
    return _with_named("/list", n=n or None, title=title or None, titles=titles)


def _with_named(path: str, **query: str | int | None) -> str:
    """As `_with`, with slashes and commas left readable."""
    given = {key: value for key, value in query.items() if value is not None}
    return f"{path}?{urlencode(given, safe='/,')}" if given else path


def static(name: str, version: str) -> str:
    """A static file; its version changes with its content, so that it can be cached forever."""
    return _with(_path("static", *name.split("/")), v=version)


def docs() -> str:
    """The API's documentation."""
    return "/docs"


def swagger(name: str) -> str:
    """A file of Swagger UI."""
    return _path("static", "swagger", name)


def openapi() -> str:
    """The API's schema."""
    return "/openapi.json"


def heads(model_name: str, *, by: str | None = None, run: int | None = None) -> str:
    """All attention heads of a model, coloured and sorted by a score."""
    return _with(_path(model_name, "heads"), by=by, run=run)


def api_heads(model_name: str, *, run: int | None = None) -> str:
    """JSON: all attention heads of a model."""
    return _with(_api(model_name, "heads"), run=run)


def api_head(model_name: str, layer_index: int, head: int, *, run: int | None = None) -> str:
    """JSON: an attention head."""
    return _with(_api(model_name, "heads", layer_index, head), run=run)


def api_head_context(
    model_name: str, layer_index: int, head: int, context_id: int, *, run: int | None = None
) -> str:
    """JSON: a head's pattern over a whole context."""
    path = _api(model_name, "heads", layer_index, head, "contexts", context_id)
    return _with(path, run=run)


def api_models(*, limit: int | None = None, cursor: str | None = None) -> str:
    """JSON: the list of models."""
    return _with("/api/v1/models", limit=limit, cursor=cursor)


def api_model(name: Name, *, run: int | None = None) -> str:
    """JSON: a model."""
    return _with(_api(name), run=run)


def api_gallery(name: Name, *, run: int | None = None) -> str:
    """JSON: a model's gallery."""
    return _with(_api(name, "gallery"), run=run)


def api_neurons(
    name: Name,
    layer_index: int,
    *,
    run: int | None = None,
    sort: str | None = None,
    order: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> str:
    """JSON: a layer's neurons."""
    path = _api(name, "layers", layer_index, "neurons")
    return _with(path, sort=sort, order=order, limit=limit, cursor=cursor, run=run)


def api_picture(
    name: Name, layer_index: int, stat: str, *, run: int | None = None, first: int | None = None
) -> str:
    """JSON: one statistic of all of a layer's neurons."""
    path = _api(name, "layers", layer_index, "picture")
    return _with(path, **{"stat": stat, "from": first or None}, run=run)


def api_scatter(
    name: Name,
    layer_index: int,
    x: str,
    y: str,
    *,
    run: int | None = None,
    first: int | None = None,
) -> str:
    """JSON: two statistics of a layer's neurons."""
    path = _api(name, "layers", layer_index, "scatter")
    return _with(path, **{"x": x, "y": y, "from": first or None}, run=run)


def api_search_numbers(
    name: Name,
    *,
    q: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
    run: int | None = None,
) -> str:
    """JSON: the search by statistics."""
    path = _api(name, "neurons")
    return _with(path, q=q or None, limit=limit, cursor=cursor, run=run)


def api_neuron(name: Name, layer_index: int, neuron_index: int, *, run: int | None = None) -> str:
    """JSON: a neuron."""
    return _with(_api(name, "layers", layer_index, "neurons", neuron_index), run=run)


def api_activations(
    name: Name, layer_index: int, neuron_index: int, *, run: int | None = None
) -> str:
    """JSON, by POST: a neuron on a text."""
    place = _api(name, "layers", layer_index, "neurons", neuron_index, "activations")
    return _with(place, run=run)


def api_context(
    name: Name, layer_index: int, neuron_index: int, context_id: int, *, run: int | None = None
) -> str:
    """JSON: a whole context that is an example of a neuron."""
    place = _api(name, "layers", layer_index, "neurons", neuron_index)
    return _with(f"{place}/contexts/{context_id}", run=run)


def api_notes(name: Name, layer_index: int, neuron_index: int, *, cursor: str | None = None) -> str:
    """JSON: the notes on a neuron."""
    place = _api(name, "layers", layer_index, "neurons", neuron_index, "notes")
    return _with(place, cursor=cursor)


def api_model_notes(name: Name, *, cursor: str | None = None) -> str:
    """JSON: the notes on all neurons of a model."""
    return _with(_api(name, "notes"), cursor=cursor)


def api_all_notes(*, cursor: str | None = None) -> str:
    """JSON: the notes on all neurons of all models."""
    return _with("/api/v1/notes", cursor=cursor)


def api_differences(
    name: Name,
    a: int,
    b: int,
    *,
    layer: int | None = None,
    sort: str | None = None,
    order: str | None = None,
    cursor: str | None = None,
) -> str:
    """JSON: what changed of each neuron between two runs."""
    query = {"a": a, "b": b, "layer": layer, "sort": sort, "order": order}
    return _with(_api(name, "differences"), **query, cursor=cursor)


def api_compare(a: str, b: str) -> str:
    """JSON: two neurons."""
    return _with_named("/api/v1/compare", a=a, b=b)


def api_list(n: str | None = None, *, title: str | None = None) -> str:
    """JSON: a list of neurons."""
    return _with_named("/api/v1/list", n=n or None, title=title or None)


def api_run(run_id: int) -> str:
    """JSON: a run."""
    return "/api/v1" + _path("runs", run_id)


def api_tokens(name: Name, *, run: int | None = None) -> str:
    """JSON: tokens that begin with `prefix`, a parameter that a script adds."""
    return _with(_api(name, "tokens"), run=run)


def api_token_neurons(
    name: Name,
    *,
    token: str | None = None,
    token_id: int | None = None,
    role: str | None = None,
    sort: str | None = None,
    order: str | None = None,
    cursor: str | None = None,
    run: int | None = None,
) -> str:
    """JSON: the neurons of a token."""
    path = _api(name, "search", "token")
    query = {"token": token, "token_id": token_id, "as": role, "sort": sort, "order": order}
    return _with(path, **query, cursor=cursor, run=run)


def api_split(name: Name, text: str, *, run: int | None = None) -> str:
    """JSON: how a text is split into tokens."""
    return _with(_api(name, "search", "split"), text=text, run=run)


def api_text(name: Name, q: str, *, cursor: str | None = None, run: int | None = None) -> str:
    """JSON: the contexts that contain a text."""
    path = _api(name, "search", "text")
    return _with(path, q=q, cursor=cursor, run=run)


def api_context_neurons(
    name: Name,
    context_id: int,
    *,
    at: int | None = None,
    cursor: str | None = None,
    run: int | None = None,
) -> str:
    """JSON: a context with the neurons that peak in it."""
    path = _api(name, "contexts", context_id)
    return _with(path, at=at, cursor=cursor, run=run)
