"""Builds the addresses of the JSON that the pages show."""

from __future__ import annotations

from typing import Unpack

from app.web.paths import DifferencesQuery, Name, Sorting, TokenQuery, api_path, path_of, with_query


def heads(model_name: str, *, run: int | None = None) -> str:
    """All attention heads of a model."""
    return with_query(api_path(model_name, "heads"), run=run)


def head(model_name: str, layer_index: int, head: int, *, run: int | None = None) -> str:
    """An attention head."""
    return with_query(api_path(model_name, "heads", layer_index, head), run=run)


def head_context(
    model_name: str, layer_index: int, head: int, context_id: int, *, run: int | None = None
) -> str:
    """A head's pattern over a whole context."""
    path = api_path(model_name, "heads", layer_index, head, "contexts", context_id)
    return with_query(path, run=run)


def models(*, limit: int | None = None, cursor: str | None = None) -> str:
    """The list of models."""
    return with_query("/api/v1/models", limit=limit, cursor=cursor)


def model(name: Name, *, run: int | None = None) -> str:
    """A model."""
    return with_query(api_path(name), run=run)


def gallery(name: Name, *, run: int | None = None) -> str:
    """A model's gallery."""
    return with_query(api_path(name, "gallery"), run=run)


def neurons(
    name: Name,
    layer_index: int,
    *,
    run: int | None = None,
    limit: int | None = None,
    **query: Unpack[Sorting],
) -> str:
    """A layer's neurons."""
    path = api_path(name, "layers", layer_index, "neurons")
    return with_query(path, **query, limit=limit, run=run)


def picture(
    name: Name, layer_index: int, stat: str, *, run: int | None = None, first: int | None = None
) -> str:
    """One statistic of all of a layer's neurons."""
    path = api_path(name, "layers", layer_index, "picture")
    return with_query(path, stat=stat, first=first or None, run=run)


def scatter(
    name: Name,
    layer_index: int,
    x: str,
    y: str,
    *,
    run: int | None = None,
    first: int | None = None,
) -> str:
    """Two statistics of a layer's neurons."""
    path = api_path(name, "layers", layer_index, "scatter")
    return with_query(path, x=x, y=y, first=first or None, run=run)


def search_numbers(
    name: Name,
    *,
    q: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
    run: int | None = None,
) -> str:
    """The search by statistics."""
    path = api_path(name, "neurons")
    return with_query(path, q=q or None, limit=limit, cursor=cursor, run=run)


def neuron(name: Name, layer_index: int, neuron_index: int, *, run: int | None = None) -> str:
    """A neuron."""
    return with_query(api_path(name, "layers", layer_index, "neurons", neuron_index), run=run)


def activations(name: Name, layer_index: int, neuron_index: int, *, run: int | None = None) -> str:
    """By POST: a neuron on a text."""
    place = api_path(name, "layers", layer_index, "neurons", neuron_index, "activations")
    return with_query(place, run=run)


def context(
    name: Name, layer_index: int, neuron_index: int, context_id: int, *, run: int | None = None
) -> str:
    """A whole context that is an example of a neuron."""
    place = api_path(name, "layers", layer_index, "neurons", neuron_index)
    return with_query(f"{place}/contexts/{context_id}", run=run)


def notes(name: Name, layer_index: int, neuron_index: int, *, cursor: str | None = None) -> str:
    """The notes on a neuron."""
    place = api_path(name, "layers", layer_index, "neurons", neuron_index, "notes")
    return with_query(place, cursor=cursor)


def model_notes(name: Name, *, cursor: str | None = None) -> str:
    """The notes on all neurons of a model."""
    return with_query(api_path(name, "notes"), cursor=cursor)


def all_notes(*, cursor: str | None = None) -> str:
    """The notes on all neurons of all models."""
    return with_query("/api/v1/notes", cursor=cursor)


def differences(name: Name, a: int | None, b: int | None, **query: Unpack[DifferencesQuery]) -> str:
    """What changed of each neuron between two runs."""
    return with_query(api_path(name, "differences"), a=a, b=b, **query)


def compare(a: str, b: str) -> str:
    """Two neurons."""
    return with_query("/api/v1/compare", a=a, b=b, safe="/,")


def list(n: str | None = None, *, title: str | None = None) -> str:
    """A list of neurons."""
    return with_query("/api/v1/list", n=n or None, title=title or None, safe="/,")


def run(run_id: int) -> str:
    """A run."""
    return "/api/v1" + path_of("runs", run_id)


def tokens(name: Name, *, run: int | None = None) -> str:
    """Tokens that begin with `prefix`, a parameter that a script adds."""
    return with_query(api_path(name, "tokens"), run=run)


def token_neurons(name: Name, *, run: int | None = None, **query: Unpack[TokenQuery]) -> str:
    """The neurons of a token."""
    return with_query(api_path(name, "search", "token"), **query, run=run)


def split(name: Name, text: str, *, run: int | None = None) -> str:
    """How a text is split into tokens."""
    return with_query(api_path(name, "search", "split"), text=text, run=run)


def text(
    name: Name,
    q: str,
    *,
    role: str | None = None,
    sort: str | None = None,
    cursor: str | None = None,
    run: int | None = None,
) -> str:
    """The contexts that contain a text."""
    path = api_path(name, "search", "text")
    return with_query(path, q=q, role=role, sort=sort, cursor=cursor, run=run)


def context_neurons(
    name: Name,
    context_id: int,
    *,
    at: int | None = None,
    cursor: str | None = None,
    run: int | None = None,
) -> str:
    """A context with the neurons that peak in it."""
    path = api_path(name, "contexts", context_id)
    return with_query(path, at=at, cursor=cursor, run=run)
