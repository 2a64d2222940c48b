"""Neurons ablated at chosen positions of a custom text, as JSON: requests and answers."""

from __future__ import annotations

from pydantic import Field

from app.schemas import MOST_ABLATED, NeuronRef, Schema, UnitName


class AblationText(Schema):
    """A custom text, and which neurons to ablate where."""

    text: str = Field(description="Up to 64 KiB of UTF-8, and up to the server's limit of tokens.")
    neurons: list[NeuronRef] = Field(
        min_length=1, max_length=MOST_ABLATED, description="They are ablated together."
    )
    positions: list[int] | None = Field(
        None,
        description="Positions to ablate them at, as in `tokens`; null: all that are included.",
    )


class AblatedNeuron(Schema):
    """A neuron that was ablated."""

    layer: int
    neuron: int
    name: UnitName = None
    mean: float = Field(description="Its mean activation, which mean ablation sets.")


class NextToken(Schema):
    """The most likely next token after a position."""

    token: str
    token_id: int
    probability: float


class PositionPredictions(Schema):
    """The model's predictions at every position of a text. Lists have an item a token."""

    loss: float | None = Field(
        description="Mean of `losses`, in nats; null if no token of the text is predicted."
    )
    losses: list[float | None] = Field(
        description="−log of each token's probability, in nats; null: nothing predicts it (the "
        "first), or it is not included."
    )
    divergences: list[float] = Field(
        description="Kullback–Leibler divergence of the next-token prediction after each token "
        "from the baseline, in nats."
    )
    likeliest: list[NextToken] = Field(description="The most likely next token after each token.")


class AblationAnswer(Schema):
    """What ablating neurons changes at every position of a text."""

    model: str
    run: int = Field(description="The run whose model and means were used.")
    dtype: str
    hook_point: str
    neurons: list[AblatedNeuron]
    tokens: list[str] = Field(description="Texts of the tokens; incomplete UTF-8 appears as \\xNN.")
    token_ids: list[int]
    included_from: int = Field(description="The first included position: 1 after a BOS, else 0.")
    positions: list[int] = Field(description="Where the neurons were ablated.")
    baseline: PositionPredictions
    zero_ablated: PositionPredictions = Field(description="All of them set to 0 there.")
    mean_ablated: PositionPredictions = Field(description="Each set to its `mean` there.")
    note: str | None = Field(
        description="How far values depend on what is computed together; null: hardly."
    )
