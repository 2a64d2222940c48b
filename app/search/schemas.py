"""The searches by token and by text, as JSON."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.contexts.schemas import NeuronPeak
from app.schemas import NewestNote, Order, RunRef, Schema, TextPart, UnitName

Role = Literal["peak", "promoted", "suppressed", "in", "gate", "query", "key"]
"""What a token is to a neuron."""


TokenSort = Literal["value", "count", "max", "density", "neuron"]
"""What the neurons of a token are sorted by. `count`: where there are none, as `value`."""


PairRole = Literal["query", "key"]
"""What the match of a text is to attention heads: where their largest pairs look from, or at."""


ContextSort = Literal["specific", "top", "context"]
"""What the contexts of a text are sorted by: how specifically neurons peak on the match, the number
of neurons of which they are a top example, or their place in the corpus."""


class Token(Schema):
    """A token of the vocabulary."""

    token: str
    token_id: int


class TokenList(Schema):
    """Tokens that begin with a text, with or without a leading space."""

    items: list[Token]


class RoleCount(Schema):
    """The number of neurons to which a token has a role."""

    role: Role
    neurons: int


class TokenNeuron(Schema):
    """A neuron to which a token has a role."""

    layer: int
    neuron: int
    name: UnitName = None
    value: float = Field(
        description="`peak`: the mean of its top examples' peaks on the token; `promoted` and "
        "`suppressed`: its logit effect on it; `in` and `gate`: the input of its embedding alone; "
        "`query` and `key`: how many of a head's largest pairs have it."
    )
    count: int | None = Field(description="Top examples that peak on the token; only for `peak`.")
    max: float
    density: float
    dead: bool
    peak_token: str = Field(description="The token it peaks on.")
    promoted_token: str | None = Field(
        description="The token it promotes most; null if what it writes is not known."
    )
    note: NewestNote = None


class TokenSearch(Schema):
    """The neurons to which a token has a role."""

    model: str
    run: RunRef
    token: str
    token_id: int
    role: Role
    roles: list[RoleCount] = Field(description="The roles with any neurons.")
    sort: TokenSort
    order: Order
    alike: list[Token] = Field(description="Tokens that differ only by a leading space or by case.")
    items: list[TokenNeuron] = Field(
        description="As `sort` and `order` say; ties by the number of examples for `peak`, then "
        "by `value`, the strongest first."
    )
    next: str | None


class Snippet(TextPart):
    """A part of a text."""

    found: bool = Field(description="Whether it matches the search.")
    special: bool = Field(
        default=False, description="Whether it is a special token inside a pre-tokenised row."
    )


class FoundContext(Schema):
    """A context that matches a search."""

    context_id: int
    document_index: int
    source: str | None
    text: list[Snippet] = Field(description="The text around the first match, in parts.")
    top: int = Field(description="The number of neurons that have it as a top example.")
    bottom: int
    others: int = Field(
        description="Neurons that have it as an example by source or of a band, and not as a top "
        "example."
    )
    on_match: int = Field(
        description="Neurons that have it as a top example and peak on a match in it."
    )
    neurons: list[NeuronPeak] = Field(
        description="Some of these neurons: by kind, and first those that peak on a match, the "
        "most specific first."
    )


class TextNeuron(Schema):
    """A neuron that peaks on the matches of a search."""

    layer: int
    neuron: int
    name: UnitName = None
    contexts: int = Field(
        description="Of the ranked contexts, those that are its top examples with the peak on a "
        "match."
    )
    peak_token: str = Field(description="The token it peaks on.")
    note: NewestNote = None


class TextSearch(Schema):
    """Contexts that contain all words and phrases of a search."""

    model: str
    run: RunRef
    q: str
    role: PairRole | None = Field(
        default=None,
        exclude_if=lambda role: role is None,
        description="Attention heads by pairs instead of outputs: each peaks where it attends from "
        "(`query`) or to (`key`) in its top examples by what is moved; absent if not asked for.",
    )
    sort: ContextSort = Field(
        description="`specific`: those first in which the most specific neurons peak on a match; "
        "`top`: those that are a top example of the most neurons; `context`: corpus order."
    )
    ranked: int = Field(
        description="Contexts that are ranked: the first 200 of the corpus; further ones follow in "
        "corpus order."
    )
    neurons: list[TextNeuron] = Field(
        description="Neurons that peak on a match in the most of these, at most 12."
    )
    items: list[FoundContext]
    next: str | None


class Splitting(Schema):
    """A way in which a text is split into tokens."""

    text: str = Field(description="The text as typed, or with a space in front.")
    pieces: list[Token]
    contexts: int = Field(
        description="Stored contexts that have the text split so, of those looked at; 0: a guess, "
        "always the longest token that fits."
    )


class TokenSplit(Schema):
    """How a text that is not a token is split into tokens."""

    model: str
    run: RunRef
    text: str
    splits: list[Splitting] = Field(
        description="As found in stored contexts, the most frequent first; a guess if in none."
    )


class SearchPage(Schema):
    """The page of both searches: the requests and the results."""

    model: str
    run: RunRef
    token: str
    text: str
    problem: str | None
    """Why there are no results; None if the search worked."""
    suggestions: list[Token]
    splits: list[Splitting]
    """How the typed text is split into tokens, if it is no token."""
    tokens: TokenSearch | None
    contexts: TextSearch | None
