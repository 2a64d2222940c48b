"""One attention head on a custom text, as JSON: requests and answers."""

from __future__ import annotations

from pydantic import Field

from app.live.schemas import Predictions
from app.schemas import Schema


class HeadText(Schema):
    """A custom text, and another to patch from."""

    text: str = Field(description="Up to 64 KiB of UTF-8, and up to the server's limit of tokens.")
    patch: str | None = Field(
        default=None,
        description="Another text with as many tokens: the head's pattern and output on it are "
        "patched into the first.",
    )


class HeadPattern(Schema):
    """A head's pattern over the text."""

    head: int
    rows: list[list[tuple[int, float]]] = Field(
        description="Of each token, the keys it attends to most, at most 8 with 0.005 or more."
    )
    left_out: list[float] = Field(description="The share of each token's attention not stored.")


class HeadEffects(Schema):
    """Next-token predictions at the end of the text, with the head left alone and changed."""

    as_is: Predictions
    zero_ablated: Predictions = Field(description="Its output is 0 at all included positions.")
    mean_ablated: Predictions = Field(
        description="Its output is its mean over the run's random contexts."
    )
    pattern_patched: Predictions | None = Field(
        description="It attends as on the other text, over this text's values; null without "
        "another text."
    )
    output_patched: Predictions | None = Field(
        description="Its output is that on the other text; null without another text."
    )


class LogitParts(Schema):
    """The logit of `predicted` at the end of the text, before a softcap, as the sum of what every
    part of the model adds to it directly, with the final norm's scale as it is there."""

    embedding: float
    positions: float | None = Field(
        description="Positional embeddings; null: the model adds none to its tokens' embeddings."
    )
    heads: list[list[float]] = Field(description="Of each layer, every head.")
    attention_biases: list[float] = Field(
        description="Of each layer: the output projection's bias, which belongs to no head, and "
        "that of a norm after the attention."
    )
    mlps: list[float] = Field(description="Of each layer, 0 where there is none.")
    biases: float = Field(description="Of the final norm and the unembedding.")
    sum: float = Field(description="Of all parts.")
    logit: float = Field(description="The model's own.")
    remainder: float = Field(description="`logit` minus `sum`: rounding.")


class HeadAnswer(Schema):
    """An attention head, and the other heads of its layer, on a custom text."""

    model: str
    layer: int
    head: int
    run: int = Field(description="The run whose model was used.")
    dtype: str
    tokens: list[str] = Field(description="Texts of the tokens; incomplete UTF-8 appears as \\xNN.")
    token_ids: list[int]
    included_from: int = Field(description="The first included position: 1 after a BOS, else 0.")
    patched_from: list[str] | None = Field(description="Tokens of the other text, if any.")
    heads: list[HeadPattern] = Field(description="All heads of the layer, in order.")
    direct_effects: list[float] | None = Field(
        description="The head's direct effect at each position on the logit of the token that "
        "comes next; at the last position, of `predicted`. null: not known."
    )
    logit: LogitParts | None = Field(description="null: not known, as `direct_effects`.")
    predicted: str = Field(description="The most likely next token at the end of the text.")
    predicted_id: int
    mean_contexts: int = Field(description="Contexts of the run that the mean output is over.")
    effects: HeadEffects
    note: str | None = Field(
        description="How far these values may differ from the indexed ones; null: hardly."
    )
