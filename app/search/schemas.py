"""What searches answer: neurons of a token, contexts of a text, the neurons of one context."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.schemas import RunRef, Schema

Role = Literal["peak", "promoted", "suppressed", "in", "gate"]
ExampleKind = Literal["top", "bottom", "source", "band"]
"""What a token is to a neuron."""


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


class NeuronPeak(Schema):
    """A neuron that has a context among its examples, and where it peaks in it."""

    layer: int
    neuron: int
    kind: ExampleKind = Field(
        description="Of the kinds that have a context for its peak the first of: top, source, band."
    )
    position: int = Field(description="Of the peak; of the trough, for a bottom example.")
    token: str
    value: float = Field(description="The activation there.")


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


class ContextNeuron(NeuronPeak):
    """A neuron of a context, with what it is like elsewhere."""

    max: float = Field(description="Over the whole run; so of `min`.")
    min: float
    peak_token: str = Field(description="The token its highest peak is on.")


class ContextNeurons(Schema):
    """A context, and the neurons of whose examples it is one."""

    model: str
    run: RunRef
    context_id: int
    document_index: int
    source: str | None
    text: str = Field(description="The included tokens put together.")
    tokens: list[str]
    token_ids: list[int]
    included_from: int = Field(description="The first position that is included: after a BOS, 1.")
    top: list[int] = Field(description="Of each position: neurons whose peak is on it.")
    bottom: list[int] = Field(description="Of each position: neurons whose trough is on it.")
    others: list[int] = Field(
        description="Of each position: neurons whose peak is on it, that have the context as an "
        "example by source or of a band, and not as a top example."
    )
    random: bool = Field(
        description="Whether it is one of the random examples, which are the same for every "
        "neuron: `items` leaves those out."
    )
    position: int | None = Field(description="The position whose neurons are listed; null: all.")
    items: list[ContextNeuron] = Field(
        description="By kind (top, bottom, source, band), layer and neuron."
    )
    next: str | None
