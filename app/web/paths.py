"""The parts that addresses are made of: paths and queries."""

from __future__ import annotations

from functools import lru_cache
from typing import TypedDict
from urllib.parse import quote, urlencode

from app.sets import ModelSet

Name = str | ModelSet
"""A model, or one of its sets of units: addresses name the set after the model."""


class Sorting(TypedDict, total=False):
    """The order and the page of a table."""

    sort: str | None
    order: str | None
    cursor: str | None


class TokenQuery(Sorting, total=False):
    """What the search for a token asks for; `sort` and `order` are of the token's neurons."""

    token: str | None
    token_id: int | None
    role: str | None
    """`peak` or `context`; the address calls it `as`."""


class TextQuery(TokenQuery, total=False):
    """What the search for a token or a text asks for."""

    text: str | None


class DifferencesQuery(Sorting, total=False):
    """What of the differences between two runs is shown."""

    layer: int | None


class LayerQuery(Sorting, total=False):
    """What a layer's page shows: its table, and the statistics of its plot or (`picture`) grid."""

    limit: int | None
    picture: str | None
    x: str | None
    y: str | None
    first: int | None
    """The first neuron of the plot or grid; the address calls it `from`."""


_ORDER = """token token_id as a b layer by stat picture x y from n q to sort order text title
limit at cursor run view titles v""".split()
"""Parameters always stand in this order, so that one page has one address."""

_NAMES = {"role": "as", "first": "from"}
"""Parameters whose names in addresses are words of Python's, or say less in code."""


@lru_cache(maxsize=1 << 12)
def path_of(*parts: Name | int) -> str:
    """The path of a page, each part quoted."""
    words: list[str | int] = []
    for part in parts:
        if isinstance(part, ModelSet):
            words += [part.model] if part.set is None else [part.model, part.set]
        else:
            words.append(part)
    return "/" + "/".join(quote(str(word), safe="") for word in words)


@lru_cache(maxsize=1 << 12)
def api_path(name: Name, *parts: str | int) -> str:
    """The JSON of a model or set, or of what `parts` name in it."""
    if isinstance(name, str):
        name = ModelSet(name)
    place = [name.model] if name.set is None else [name.model, "sets", name.set]
    return "/api/v1" + path_of("models", *place, *parts)


def with_query(path: str, *, safe: str = "", **query: object) -> str:
    """A path with the parameters that are not None; `safe` characters are left readable."""
    given = {_NAMES.get(key, key): value for key, value in query.items() if value is not None}
    ordered = sorted(given.items(), key=lambda item: _ORDER.index(item[0]))
    return f"{path}?{urlencode(ordered, safe=safe)}" if given else path
