"""What the JSON of attention heads says."""

from __future__ import annotations

from pydantic import Field

from app.reading.statistics import HEAD_SCORES
from app.schemas import NeuronRef, NewestNote, Note, RunRef, Sample, Schema


class HeadScores(Schema):
    """What a head attends to, means over rows of its patterns; null where no row counts."""

    previous_token: float | None = Field(description=HEAD_SCORES["previous_token"].described())
    duplicate_token: float | None = Field(description=HEAD_SCORES["duplicate_token"].described())
    induction: float | None = Field(description=HEAD_SCORES["induction"].described())
    self_token: float | None = Field(description=HEAD_SCORES["self_token"].described())
    bos: float | None = Field(description=HEAD_SCORES["bos"].described())
    sink: float | None = Field(
        default=None,
        description=HEAD_SCORES["sink"].described("; null also in runs of older versions"),
    )
    entropy: float | None = Field(description=HEAD_SCORES["entropy"].described())
    distance: float | None = Field(
        description=HEAD_SCORES["distance"].described(", special tokens left out")
    )
    distance_spread: float | None = Field(description=HEAD_SCORES["distance_spread"].described())
    effect: float | None = Field(
        description=HEAD_SCORES["effect"].described(
            ": of all positions of text, of the second copy on repeated tokens"
        )
    )


class Scores(Schema):
    """A head's scores on both grounds."""

    repeated: HeadScores = Field(description="On random tokens that repeat once.")
    text: HeadScores = Field(description="On the sample of the corpus.")
    copying: float | None = Field(
        description="Σ Re λ ÷ Σ |λ| over the eigenvalues of the full OV circuit."
    )


class HeadRow(Schema):
    """A head in the list of a model's heads."""

    layer: int
    head: int
    scores: Scores
    note: NewestNote = None


class RepeatedTokens(Schema):
    """The random tokens that repeat once, the same for all models that share a vocabulary."""

    sequences: int
    length: int = Field(description="Random tokens in a sequence, before they repeat.")
    seed: int
    first_loss: float = Field(description="Mean loss on the first copy, in nats.")
    second_loss: float = Field(description="Mean loss on the second copy, in nats.")


class InContext(Schema):
    """How much better a model predicts late tokens than early ones."""

    contexts: int
    early: float = Field(description="Mean loss at `early_positions`, in nats.")
    late: float
    early_positions: tuple[int, int]
    late_positions: tuple[int, int]
    score: float = Field(description="Late minus early: negative if it learns from context.")


class HeadCheckpoint(Schema):
    """A checkpoint of a model's training, as its makers measured it."""

    step: int
    stage: str = Field(description="What it was trained on.")
    loss: float = Field(description="Mean loss on text, in nats.")
    in_context: float = Field(description="In-context-learning score, in nats.")
    first_loss: float = Field(description="On repeated random tokens, as in `repeated`.")
    second_loss: float
    induction: list[list[float]] = Field(description="Induction score of every head, by layer.")
    previous_token: list[list[float]] = Field(description="Previous-token score, likewise.")


class HeadsFacts(Schema):
    """What is known of a model's heads together."""

    pairs: int = Field(description="Pairs of positions that were ranked, in all contexts.")
    repeated: RepeatedTokens
    in_context: InContext | None
    frequent_tokens: int = Field(description="Most frequent tokens that circuits were asked about.")
    left_out: list[str] = Field(description="What the circuits do not take into account.")
    training: list[HeadCheckpoint] | None = Field(
        default=None,
        description="Checkpoints of the model's training, if its folder has `checkpoints.json`.",
    )


class HeadsPage(Schema):
    """All heads of a run."""

    model: str
    run: RunRef
    sample: Sample
    n_layers: int
    facts: HeadsFacts
    heads: list[HeadRow]


class TokenCount(Schema):
    """A token and how often it occurs."""

    token: str
    token_id: int
    count: int


class PairTokens(Schema):
    """The tokens of a head's largest pairs, one pair a context."""

    pairs: int
    queries: list[TokenCount]
    keys: list[TokenCount]


class PairExample(Schema):
    """A context with a pair of positions: the query looks at the key."""

    context_id: int
    document_index: int
    source: str | None
    start: int = Field(description="The position of the first of `tokens` in the context.")
    tokens: list[str]
    token_ids: list[int]
    query: int = Field(description="Position in the context.")
    key: int
    value: float = Field(description="What the example was ranked by.")
    attention: float
    moved: float = Field(description="Attention × the length of what is moved.")
    effect: float | None = Field(description="Direct effect on the next token's logit.")
    row: list[float] = Field(
        description="The query's attention to each token of `tokens`; 0 where nothing is stored."
    )
    left_out: float = Field(description="The share of the query's attention not stored.")


class HeadExamples(Schema):
    """A head's examples by ranking, and the common random sample."""

    moved: list[PairExample]
    attention: list[PairExample]
    helps: list[PairExample]
    hurts: list[PairExample]
    random: list[PairExample]


class TokenPair(Schema):
    """Two tokens and a value from the weights."""

    first: str
    first_id: int
    second: str
    second_id: int
    value: float


class Composition(Schema):
    """An earlier head whose output this head may read."""

    layer: int
    head: int
    score: float


class NeuronComposition(Schema):
    """An MLP neuron that a head reads, or that reads the head."""

    layer: int
    neuron: int
    part: str | None = Field(
        description="What a gated neuron reads the head with, `in` or `gate`; null for all others."
    )
    score: float
    peak_token: str | None = Field(
        description="The token at the neuron's highest peak; null if the model's neurons are not "
        "indexed."
    )


class NeuronLists(Schema):
    """The MLP neurons a head composes with most: ‖A B‖ ÷ (‖A‖ · ‖B‖) of the head's matrix and the
    neuron's vector; null where not known."""

    queries: list[NeuronComposition] | None = Field(
        description="Neurons of earlier layers that the head's queries read most."
    )
    keys: list[NeuronComposition] | None
    values: list[NeuronComposition] | None
    readers: list[NeuronComposition] | None = Field(
        description="Neurons of this layer (not with parallel attention) and later ones that read "
        "the head's output most."
    )


class Circuits(Schema):
    """What follows from a head's weights; null where not known."""

    copying: float | None
    promoted: list[TokenPair] | None = Field(
        description="Attending to the first token raises the second's logit most."
    )
    self_share: float | None = Field(description="Share of tokens that raise themselves most.")
    matched: list[TokenPair] | None = Field(
        description="The query token and the key token with the largest query · key; with rotary "
        "positions at relative distance 0."
    )
    matched_previous: list[TokenPair] | None = Field(
        default=None,
        description="With rotary positions, the same at relative distance 1: the key right before "
        "the query; null for other models, and in runs of older versions.",
    )
    queries: list[Composition] | None
    keys: list[Composition] | None
    values: list[Composition]
    neurons: NeuronLists | None = Field(
        default=None,
        description="Null if the model's MLP neurons are not known, and in runs of older versions.",
    )


class HeadPage(Schema):
    """One attention head."""

    model: str
    layer: int
    head: int
    n_layers: int
    n_heads: int = Field(description="Heads in this layer.")
    run: RunRef
    sample: Sample
    facts: HeadsFacts
    scores: Scores
    tokens: PairTokens
    examples: HeadExamples
    circuits: Circuits
    previous: NeuronRef | None
    next: NeuronRef | None
    notes: list[Note] | None = Field(
        None, description="Its newest notes, at most 20; null: the server runs without --notes."
    )


class HeadContext(Schema):
    """A head's pattern over a whole context."""

    model: str
    layer: int
    head: int
    run: RunRef
    context_id: int
    document_index: int
    source: str | None
    included_from: int = Field(description="The first included position: 1 after a BOS, else 0.")
    special: list[int] = Field(
        default=[],
        description="Positions of special tokens inside a pre-tokenised row: no pair has them.",
    )
    tokens: list[str]
    token_ids: list[int]
    rows: list[list[tuple[int, float]]] = Field(
        description="Of each token, the keys it attends to most, at most 8 with 0.005 or more."
    )
    left_out: list[float] = Field(description="The share of each token's attention not stored.")
