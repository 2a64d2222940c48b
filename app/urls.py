"""Every path of the site is built here, never joined in a template."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote, urlencode

from app.schemas import NeuronRef


def _path(*parts: str | int) -> str:
    return "/" + "/".join(quote(str(part), safe="") for part in parts)


def _with(path: str, **query: str | int | None) -> str:
    given = {key: value for key, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


def home(*, limit: int | None = None, cursor: str | None = None) -> str:
    """The list of models."""
    return _with("/", limit=limit, cursor=cursor)


def model(name: str, *, run: int | None = None) -> str:
    """A model's page. `run` picks another run than the default one, here and below."""
    return _with(_path(name), run=run)


def layer(
    name: str,
    layer_index: int,
    *,
    run: int | None = None,
    sort: str | None = None,
    order: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
    picture: str | None = None,
    first: int | None = None,
) -> str:
    """A layer's page, with the order of its table, what its picture shows and from where on."""
    query = {"picture": picture, "from": first or None, "sort": sort, "order": order}
    return _with(_path(name, layer_index), **query, limit=limit, cursor=cursor, run=run)


def neuron(
    name: str,
    layer_index: int,
    neuron_index: int,
    *,
    run: int | None = None,
    view: str | None = None,
) -> str:
    """A neuron's page; `view` is how its examples are laid out."""
    return _with(_path(name, layer_index, neuron_index), run=run, view=view)


def try_text(name: str, layer_index: int, neuron_index: int, *, run: int | None = None) -> str:
    """Where a text for a neuron is sent, and the page that shows what came of it."""
    return _with(_path(name, layer_index, neuron_index, "try"), run=run)


def neurons_of(name: str, layer_index: int, *, run: int | None = None) -> Callable[[int], str]:
    """What gives the pages of a layer's neurons by their number: for thousands at once."""
    before, after = _path(name, layer_index) + "/", _with("", run=run)
    return lambda neuron_index: f"{before}{neuron_index}{after}"


def neuron_ref(
    name: str, ref: NeuronRef, *, run: int | None = None, view: str | None = None
) -> str:
    """A neuron's page, from its address in the model."""
    return neuron(name, ref.layer, ref.neuron, run=run, view=view)


def context(
    name: str,
    layer_index: int,
    neuron_index: int,
    context_id: int,
    *,
    run: int | None = None,
    view: str | None = None,
) -> str:
    """A whole context that is an example of a neuron; `view` is that of the page come from."""
    return contexts(name, layer_index, neuron_index, run=run, view=view)(context_id)


def contexts(
    name: str,
    layer_index: int,
    neuron_index: int,
    *,
    run: int | None = None,
    view: str | None = None,
) -> Callable[[int], str]:
    """All whole contexts of a neuron: what gives the address of one by its id. A page has many."""
    path = _path(name, layer_index, neuron_index, "contexts")
    query = _with("", run=run, view=view)
    return lambda context_id: f"{path}/{context_id}{query}"


def neurons(
    name: str, *, run: int | None = None, view: str | None = None
) -> Callable[[int, int], str]:
    """All neurons of a model: what gives the address of one by layer and index."""
    path, query = _path(name), _with("", run=run, view=view)
    return lambda layer_index, neuron_index: f"{path}/{layer_index}/{neuron_index}{query}"


def sources(
    name: str,
    layer_index: int,
    neuron_index: int,
    *,
    run: int | None = None,
    view: str | None = None,
) -> str:
    """The examples of a neuron within each source of the corpus."""
    return _with(_path(name, layer_index, neuron_index, "sources"), run=run, view=view)


def run(run_id: int) -> str:
    """A run's provenance."""
    return _path("runs", run_id)


def random(
    name: str | None = None,
    layer_index: int | None = None,
    *,
    run: int | None = None,
    view: str | None = None,
) -> str:
    """A random neuron: of everything, of a model, of a layer."""
    parts = [part for part in (name, layer_index) if part is not None]
    return _with(_path(*parts, "random"), run=run, view=view)


def go() -> str:
    """Where the go-to box asks; its fields are `to` and, of the page it is on, `model`, `run`."""
    return "/go"


def help_page() -> str:
    """Keys, colours and words in short."""
    return "/help"


def static(name: str, version: str) -> str:
    """A static file; the version changes when the file does, so that it can be kept for ever."""
    return _with(_path("static", *name.split("/")), v=version)


def docs() -> str:
    """The API's documentation."""
    return "/docs"


def swagger(name: str) -> str:
    """A file of Swagger UI, as its package carries it."""
    return _path("static", "swagger", name)


def openapi() -> str:
    """The API's schema."""
    return "/openapi.json"


def api_models(*, limit: int | None = None, cursor: str | None = None) -> str:
    """JSON: the list of models."""
    return _with("/api/v1/models", limit=limit, cursor=cursor)


def api_model(name: str, *, run: int | None = None) -> str:
    """JSON: a model."""
    return _with("/api/v1" + _path("models", name), run=run)


def api_neurons(
    name: str,
    layer_index: int,
    *,
    run: int | None = None,
    sort: str | None = None,
    order: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> str:
    """JSON: a layer's neurons."""
    path = "/api/v1" + _path("models", name, "layers", layer_index, "neurons")
    return _with(path, sort=sort, order=order, limit=limit, cursor=cursor, run=run)


def api_picture(
    name: str, layer_index: int, stat: str, *, run: int | None = None, first: int | None = None
) -> str:
    """JSON: one statistic of all of a layer's neurons."""
    path = "/api/v1" + _path("models", name, "layers", layer_index, "picture")
    return _with(path, **{"stat": stat, "from": first or None}, run=run)


def api_neuron(name: str, layer_index: int, neuron_index: int, *, run: int | None = None) -> str:
    """JSON: a neuron."""
    return _with(
        "/api/v1" + _path("models", name, "layers", layer_index, "neurons", neuron_index), run=run
    )


def api_context(
    name: str, layer_index: int, neuron_index: int, context_id: int, *, run: int | None = None
) -> str:
    """JSON: a whole context that is an example of a neuron."""
    place = _path("models", name, "layers", layer_index, "neurons", neuron_index)
    return _with(f"/api/v1{place}{_path('contexts', context_id)}", run=run)


def api_run(run_id: int) -> str:
    """JSON: a run."""
    return "/api/v1" + _path("runs", run_id)
