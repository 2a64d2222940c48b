"""The search by token and by text, as JSON."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.contexts.schemas import NeuronPeak
from app.schemas import RunRef, Schema

Role = Literal["peak", "promoted", "suppressed", "in", "gate"]


class Token(Schema):
    """One token of the vocabulary."""

    token: str
    token_id: int


class TokenList(Schema):
    """Tokens that begin with what was asked, without and with a leading space."""

    items: list[Token]


class RoleCount(Schema):
    """How many neurons have to do with a token in one way."""

    role: Role
    neurons: int


class TokenNeuron(Schema):
    """A neuron that a token has to do with."""

    layer: int
    neuron: int
    value: float = Field(
        description="`peak`: the mean of its top examples' peaks on the token; `promoted` and "
        "`suppressed`: its logit effect on it; `in` and `gate`: what its embedding alone puts in."
    )
    count: int | None = Field(description="Top examples that peak on the token; for `peak` alone.")
    max: float
    density: float
    dead: bool
    peak_token: str = Field(description="The token its highest peak is on.")
    promoted_token: str = Field(description="The token it promotes most.")


class TokenSearch(Schema):
    """The neurons of a model that have to do with a token, in one way."""

    model: str
    run: RunRef
    token: str
    token_id: int
    role: Role
    roles: list[RoleCount] = Field(description="In which ways there are any neurons.")
    alike: list[Token] = Field(
        description="The same without or with a leading space, capital or small: other tokens."
    )
    items: list[TokenNeuron] = Field(
        description="`peak`: most examples first, then the highest mean; else the largest value."
    )
    next: str | None


class Snippet(Schema):
    """A piece of a text."""

    text: str
    found: bool = Field(description="Whether it is what was searched for.")


class FoundContext(Schema):
    """A context that has what was searched for."""

    context_id: int
    document_index: int
    source: str | None
    text: list[Snippet] = Field(description="Round the first find; the pieces follow one another.")
    top: int = Field(description="Neurons of which it is a top example.")
    bottom: int
    others: int = Field(
        description="Neurons of which it is an example by source or of a band, and no top example."
    )
    neurons: list[NeuronPeak] = Field(
        description="Some of them: by kind, of each those that peak on what was found first."
    )


class TextSearch(Schema):
    """Contexts that have all the words and phrases asked for, in corpus order."""

    model: str
    run: RunRef
    q: str
    items: list[FoundContext]
    next: str | None


class SearchPage(Schema):
    """The page of both searches: what was asked, and the results."""

    model: str
    run: RunRef
    layers: int
    token: str
    text: str
    problem: str | None
    """Why there are no results; None if the search worked."""
    suggestions: list[Token]
    tokens: TokenSearch | None
    contexts: TextSearch | None
