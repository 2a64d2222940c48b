"""What trying a text returns: apart from the schemas of pages, which come out of the store."""

from __future__ import annotations

from pydantic import Field

from app.schemas import Schema


class LiveText(Schema):
    """A text to try."""

    text: str = Field(description="Up to 64 KiB of UTF-8, and up to the server's limit of tokens.")


class Prediction(Schema):
    """One token the model may go on with."""

    token: str
    token_id: int
    probability: float
    as_is: float = Field(description="Its probability with the neuron left alone.")


class Predictions(Schema):
    """What the model expects after the text."""

    tokens: list[Prediction] = Field(description="The ten likeliest, the likeliest first.")
    divergence: float = Field(
        description="Kullback–Leibler divergence, in nats, from the prediction with the neuron "
        "left alone: how much was changed."
    )


class DirectAttribution(Schema):
    """What the neuron itself adds to the likeliest token's logit at the last position:
    `value` = `activation` × `logit_effect` ÷ `scale`."""

    token: str = Field(description="The likeliest token with the neuron left alone.")
    token_id: int
    activation: float = Field(
        description="At the last position; where the neuron is captured before its activation "
        "function, its value after it."
    )
    logit_effect: float = Field(description="Of one unit on this token, by the weights alone.")
    scale: float = Field(
        description="What the final norm divides by there, times that of a norm after the MLP "
        "(Gemma 2 and 3, OLMo 2) or inside it (SoLU)."
    )
    value: float = Field(description="In logits.")


class LiveEffects(Schema):
    """What the neuron does to the prediction after the text."""

    mean: float = Field(description="The run's mean activation, which mean-ablation sets.")
    as_is: Predictions
    zero_ablated: Predictions = Field(description="The neuron set to 0 at all included positions.")
    mean_ablated: Predictions = Field(description="The neuron set to `mean` there.")
    attribution: DirectAttribution


class LiveAnswer(Schema):
    """A neuron on a text that is not in the store."""

    model: str
    layer: int
    neuron: int
    hook_point: str = Field(description="In full, such as `blocks.3.mlp.hook_post`.")
    run: int = Field(description="The run whose model read the text.")
    dtype: str
    tokens: list[str] = Field(
        description="Texts of the tokens; bytes that are no whole character as \\xNN."
    )
    token_ids: list[int]
    activations: list[float | None] = Field(
        description="One a token; null where the position is not included (BOS)."
    )
    peak: float = Field(description="The largest activation.")
    peak_position: int = Field(description="Its position, the earliest if it is there twice.")
    gate: float | None = Field(
        description="Gated models: the gate before its nonlinearity, at the peak; else null."
    )
    linear: float | None = Field(description="Gated models: the linear part, at the peak.")
    higher_than: float | None = Field(
        description="At least this share of the sample's contexts peak below this peak (by the "
        "histogram of peaks); null where the store has no such histogram."
    )
    note: str | None = Field(
        description="How far these values may be from the indexed ones, where they may be far."
    )
    effects: LiveEffects
