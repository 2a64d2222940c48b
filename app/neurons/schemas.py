"""A neuron and its whole contexts as JSON."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.examples.schemas import Example, Examples, PeakToken
from app.reading.statistics import STATISTICS
from app.schemas import NeuronRef, Note, RunRef, Sample, Schema, UnitName

Part = Literal["in", "gate"]
"""The part of a neuron that reads: its gate, or its linear part (all of it if not gated)."""


class PeakQuantiles(Schema):
    """Quantiles of a neuron's peaks over the sample's contexts; of sparse units, over sampled
    contexts in which they fire."""

    q01: float
    q10: float
    q25: float
    q50: float
    q75: float
    q90: float
    q99: float


class Stats(Schema):
    """A neuron in numbers. Maximum and minimum are over the whole corpus, the rest over the
    sample."""

    max: float
    min: float
    mean: float
    std: float
    skewness: float | None = Field(
        description=STATISTICS["skewness"].described("; null if the neuron is constant")
    )
    kurtosis: float | None = Field(
        description=STATISTICS["kurtosis"].described("; null if the neuron is constant")
    )
    density: float = Field(
        description=STATISTICS["density"].described(
            ": of the sample, or, for sparse units, of the corpus"
        )
    )
    density_over_tenth: float = Field(
        description="Share of the same positions at or above `tenth`."
    )
    lookup: float | None = Field(
        description=f"{STATISTICS['lookup'].explanation} It is null if unknown."
    )
    tenth: float = Field(
        description="10% of the maximum, rounded up to an edge of the fine histogram."
    )
    dead: bool
    peak_quantiles: PeakQuantiles


class Histogram(Schema):
    """Counts in bins of equal width. `len(edges) == len(counts) + 1`; the last bin includes its
    upper edge."""

    edges: list[float]
    counts: list[int]


class SignCounts(Schema):
    """Positions of the sample, by the signs of a gated neuron's gate and linear part (0 is not
    positive)."""

    both: int = Field(description="Gate and linear part are positive.")
    gate_only: int = Field(description="The gate is positive, the linear part is not.")
    linear_only: int
    neither: int


class TokenValue(Schema):
    """A token with a value from a neuron's weights."""

    token: str
    token_id: int
    value: float
    corpus_count: int | None = Field(
        description="Occurrences in the corpus, special tokens not counted; null if unknown."
    )


class SourceCount(Schema):
    """A source of top examples."""

    source: str
    examples: int = Field(description="Top examples from it.")
    share: float | None = Field(description="Its share of the corpus's contexts; null if unknown.")


class SourcePeaks(Schema):
    """The part of the histogram of peaks that is of one source."""

    source: str | None = Field(description="null: documents without a source, or see `other`.")
    other: bool = Field(description="Whether it combines all sources from the ninth on.")
    counts: list[int] = Field(description="In the bins of `peak_histogram`.")


class LogitEffects(Schema):
    """What one unit of activation adds directly to each token's logit, from the weights alone."""

    top: list[TokenValue] = Field(description="The most promoted, strongest first.")
    bottom: list[TokenValue] = Field(description="The most suppressed, strongest first.")
    mean: float | None = Field(description="Over the vocabulary.")
    std: float | None
    kurtosis: float | None = Field(description=STATISTICS["effect_kurtosis"].described())
    histogram: Histogram


class InputTokens(Schema):
    """The tokens whose embedding alone, after the layer's norm, drives a part of a neuron most."""

    part: Part = Field(description="`gate` only in gated models.")
    top: list[TokenValue] = Field(description="The most activating, strongest first.")
    bottom: list[TokenValue] = Field(description="The most inhibiting, strongest first.")
    cosine: float | None = Field(
        description="Between what this part reads and what the neuron writes."
    )


class NeuronLink(Schema):
    """A related neuron of the same model."""

    layer: int
    neuron: int
    name: UnitName = None
    value: float
    part: Part | None = Field(description="The part that reads, if one does.")
    peak_token: str = Field(description="The token it peaks on.")


class Weights(Schema):
    """What the weights say, without any text."""

    logit_effects: LogitEffects
    inputs: list[InputTokens]
    alike: list[NeuronLink] = Field(description="Neurons with similar output weights, by cosine.")
    upstream: list[NeuronLink] = Field(
        description="Neurons of earlier layers, by what they write times what this neuron reads."
    )
    downstream: list[NeuronLink] = Field(
        description="Neurons of later layers, by what this neuron writes times what they read."
    )
    not_available: str | None = Field(
        default=None, description="What the weights do not tell, and why; null if nothing."
    )


class AlignedUnit(Schema):
    """A unit of another set of the same model that writes in nearly the same direction."""

    set: str = Field(description="The set's name; `neurons` for the default set.")
    noun: str = Field(description="What one unit of it is called.")
    layer: int
    neuron: int
    name: UnitName = None
    value: float = Field(description="The cosine of what both write.")
    peak_token: str = Field(description="The token it peaks on.")


class DictionaryQuality(Schema):
    """How well a layer's dictionary reconstructs, measured on the sample before the scan."""

    positions: int
    fvu: float = Field(description="Fraction of variance unexplained.")
    l0: float = Field(description="Latents active at a position, on average.")
    declared_l0: float | None = Field(description="The same as its file declares; else null.")
    silent_share: float = Field(description="Share of latents active at none of the positions.")
    loss: float = Field(description="The model's own loss, in nats a token.")
    loss_with_reconstruction: float = Field(description="With the reconstruction spliced in.")
    loss_with_zeros: float = Field(description="With zeros spliced in.")


class DictionaryFacts(Schema):
    """What a latent or direction has of the dictionary it belongs to."""

    file: str = Field(description="Its file, folder or hub repository.")
    on_hub: bool = Field(description="Whether it is a hub repository.")
    hook_point: str = Field(description="Where it reads, as it was read.")
    name: str | None = Field(description="The unit's name in the dictionary's file.")
    threshold: float | None = Field(description="It fires above it; null: no threshold.")
    activation: str = Field(description="The activation function, such as `jumprelu`.")
    k: int | None = Field(description="Most latents active at a position (`topk`).")
    target: str | None = Field(description="The hook point it writes to; null: where it reads.")
    encoders: list[NeuronLink] = Field(description="Nearest in the layer by encoder cosine.")
    quality: DictionaryQuality | None = Field(description="null: it reconstructs nothing.")


class NeuronPage(Schema):
    """Everything known about a neuron."""

    model: str
    layer: int
    neuron: int
    hook_point: str = Field(description="In full, such as `blocks.3.mlp.hook_post`.")
    n_layers: int = Field(description="Layers of the model.")
    run: RunRef
    sample: Sample
    scale: float = Field(
        description="The neuron's largest |activation| in the whole run: the end of its colour "
        "scale."
    )
    stats: Stats
    histogram: Histogram = Field(
        description="Activations by position, over the sample; of sparse units, the positions of "
        "the corpus at which they fire."
    )
    peak_histogram: Histogram = Field(
        description="Peaks by context, over the sample; of sparse units, over sampled contexts in "
        "which they fire."
    )
    peaks_by_source: list[SourcePeaks] = Field(
        description="`peak_histogram` by source, in corpus order; empty unless the corpus has two "
        "or more sources."
    )
    signs: SignCounts | None = Field(description="Gated models only.")
    examples: Examples
    top_token_ids: list[int] = Field(
        description="Token ids of the first top example's context, up to its peak: a model run on "
        "them gives the peak at the last position. Empty without a top example."
    )
    found_in: list[SourceCount] = Field(
        description="The sources of the top examples, most frequent first."
    )
    peak_tokens: list[PeakToken] = Field(
        description="Over the examples of all kinds, each context once; most frequent first."
    )
    together: list[NeuronLink] = Field(
        description="Neurons of the layer, by the correlation of peaks over the sample."
    )
    weights: Weights
    dictionary: DictionaryFacts | None = Field(None, description="null: no unit of a dictionary.")
    aligned: list[AlignedUnit] = Field(
        default_factory=list,
        description="Of a latent: the neurons whose output weights have the highest cosine with "
        "its decoder direction, if they are indexed; of a neuron: the latents that list it.",
    )
    previous: NeuronRef | None = Field(description="The previous neuron, across layers.")
    next: NeuronRef | None = Field(description="The next neuron, across layers.")
    layer_before: NeuronRef | None = Field(
        description="The neuron with the same index in the previous layer (its last neuron, if it "
        "has fewer); null in the first layer."
    )
    layer_after: NeuronRef | None = Field(description="The same in the next layer.")
    other_runs: list[RunRef] = Field(
        description="Other runs of the model that have this neuron, newest first."
    )
    notes: list[Note] | None = Field(
        None, description="Its newest notes, at most 20; null: the server runs without --notes."
    )

    @property
    def name(self) -> str | None:
        """The unit's name in its dictionary's file; None if it has none."""
        return None if self.dictionary is None else self.dictionary.name


class ContextPage(Schema):
    """A whole context with a neuron's activations."""

    model: str
    layer: int
    neuron: int
    name: UnitName = None
    hook_point: str = Field(description="In full, such as `blocks.3.mlp.hook_post`.")
    run: RunRef
    scale: float = Field(description="As on the neuron's page.")
    max: float = Field(description="The neuron's maximum in the whole run; so `min`.")
    min: float
    kinds: list[str] = Field(description="The kinds of example it is for this neuron.")
    text: str = Field(description="The text of the included tokens.")
    length: int = Field(description="Tokens of the context, including BOS.")
    stored_from: int = Field(description="The first position whose activation is stored.")
    stored_to: int = Field(description="The position after the last whose activation is stored.")
    example: Example = Field(
        description="With all tokens; `activations` are null where they are not stored."
    )
