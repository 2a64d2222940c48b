"""One neuron on a custom text, as JSON: requests and answers."""

from __future__ import annotations

from pydantic import Field

from app.live.schemas import Predictions
from app.schemas import Schema


class LiveText(Schema):
    """A custom text."""

    text: str = Field(description="Up to 64 KiB of UTF-8, and up to the server's limit of tokens.")


class DirectAttribution(Schema):
    """What the neuron adds directly to the most likely token's logit at the last position:
    `value` = `activation` × `logit_effect` ÷ `scale`."""

    token: str = Field(description="The most likely token at baseline.")
    token_id: int
    activation: float = Field(
        description="At the last position, after the activation function, even if the neuron is "
        "captured before it."
    )
    logit_effect: float = Field(
        description="Of one unit of activation on this token, from weights alone."
    )
    scale: float = Field(
        description="What the final norm divides by at that position, times the same of a norm "
        "after the MLP (Gemma 2 and 3, OLMo 2) or inside it (SoLU)."
    )
    value: float = Field(description="In logits.")


class LiveEffects(Schema):
    """The neuron's effects on the next-token predictions."""

    mean: float = Field(description="The neuron's mean activation, which mean ablation sets.")
    as_is: Predictions
    zero_ablated: Predictions | None = Field(
        description="The neuron set to 0 at all included positions; null: it cannot be ablated."
    )
    mean_ablated: Predictions | None = Field(
        description="The neuron set to `mean` at those positions; null: it cannot be ablated."
    )
    no_ablation: str = Field(description="Why the unit cannot be ablated; else empty.")
    attribution: DirectAttribution | None = Field(
        description="null: it is not known what the unit writes."
    )


class LiveAnswer(Schema):
    """A neuron on a custom text."""

    model: str
    layer: int
    neuron: int
    hook_point: str = Field(description="In full, such as `blocks.3.mlp.hook_post`.")
    run: int = Field(description="The run whose model was used.")
    dtype: str
    tokens: list[str] = Field(description="Texts of the tokens; incomplete UTF-8 appears as \\xNN.")
    token_ids: list[int]
    activations: list[float | None] = Field(
        description="One a token; null at positions that are not included (BOS)."
    )
    peak: float = Field(description="The largest activation.")
    peak_position: int = Field(description="Its position, the earliest of equals.")
    gate: float | None = Field(
        description="Gated models: the gate before its nonlinearity, at the peak; else null."
    )
    linear: float | None = Field(description="Gated models: the linear part, at the peak.")
    higher_than: float | None = Field(
        description="At least this share of the sample's contexts, for sparse units of those in "
        "which it fires, have a lower peak (by the histogram of peaks); null if the store has no "
        "such histogram."
    )
    note: str | None = Field(
        description="How far these values may differ from the indexed ones; null: hardly."
    )
    effects: LiveEffects
