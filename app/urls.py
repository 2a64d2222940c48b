"""Every path of the site is built here, never joined in a template."""

from __future__ import annotations

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
) -> str:
    """A layer's page, with the order of its table."""
    return _with(
        _path(name, layer_index), sort=sort, order=order, limit=limit, cursor=cursor, run=run
    )


def neuron(name: str, layer_index: int, neuron_index: int, *, run: int | None = None) -> str:
    """A neuron's page."""
    return _with(_path(name, layer_index, neuron_index), run=run)


def neuron_ref(name: str, ref: NeuronRef, *, run: int | None = None) -> str:
    """A neuron's page, from its address in the model."""
    return neuron(name, ref.layer, ref.neuron, run=run)


def run(run_id: int) -> str:
    """A run's provenance."""
    return _path("runs", run_id)


def random(
    name: str | None = None, layer_index: int | None = None, *, run: int | None = None
) -> str:
    """A random neuron: of everything, of a model, of a layer."""
    parts = [part for part in (name, layer_index) if part is not None]
    return _with(_path(*parts, "random"), run=run)


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


def api_neuron(name: str, layer_index: int, neuron_index: int, *, run: int | None = None) -> str:
    """JSON: a neuron."""
    return _with(
        "/api/v1" + _path("models", name, "layers", layer_index, "neurons", neuron_index), run=run
    )


def api_run(run_id: int) -> str:
    """JSON: a run."""
    return "/api/v1" + _path("runs", run_id)
