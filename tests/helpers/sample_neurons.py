"""Neurons as schema objects that look like a real run's, and some as unkind as a corpus can be."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np

from app.examples.schemas import Band, Example, Examples, PeakToken, SourceExamples
from app.neurons.schemas import (
    ContextPage,
    Histogram,
    InputTokens,
    LogitEffects,
    NeuronLink,
    NeuronPage,
    PeakQuantiles,
    SignCounts,
    SourceCount,
    SourcePeaks,
    Stats,
    TokenValue,
    Weights,
)
from app.schemas import NeuronRef, RunRef, Sample, UnitsRef
from indexer.store.units import Units
from tests.helpers.sample_examples import (
    CTX_LEN,
    HOSTILE,
    TEXTS,
    example,
    examples,
    negative,
    sharp,
    smooth,
    sources,
    tokenise,
)

SAMPLE = Sample(contexts=1024, positions=129_321)


def run_ref(number: int = 3, *, model: str = "demo", hook_point: str = "mlp.hook_post") -> RunRef:
    return RunRef(
        id=number,
        model=model,
        model_id="neurarium/demo",
        revision=None,
        hook_point=hook_point,
        units=UnitsRef(set="neurons", **Units().as_dict()),
        corpus="demo",
        dtype="float32",
        contexts=3_210,
        tokens=401_877,
        ctx_len=CTX_LEN,
        created_at=datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC),
        content_hash="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    )


def histogram(
    fires: Callable[[str, random.Random], float] = sharp, bins: int = 60, positions: int = 129_321
) -> Histogram:
    rng = random.Random(0)
    words = tokenise("".join(TEXTS.values()))
    values = [fires(words[i % len(words)], rng) for i in range(12_000)]
    counts, edges = np.histogram(values, bins=bins)
    scaled = np.round(counts * positions / 12_000).astype(int)
    return Histogram(edges=edges.tolist(), counts=scaled.tolist())


def token_values(texts: Sequence[str], first: float, *, ratio: float = 0.9) -> list[TokenValue]:
    """Tokens with values that shrink from `first` on."""
    return [
        TokenValue(token=token, token_id=100 + i, value=first * ratio**i, corpus_count=i % 4)
        for i, token in enumerate(texts)
    ]


PROMOTED = [" David", " Solomon", "'s", " of", " Israel", "\n", " throne", "dom", " unto", " said",
            "\\xe2\\x80", " Judah", " sat", "   ", " reigned"]  # fmt: skip
SUPPRESSED = ["):", " self", "_", "()", " return", "\t", " import", "<script>", " None", "==", "0",
              " chlor", "ology", " genus", " interdisciplinary"]  # fmt: skip


def bell(low: float, high: float, bins: int, total: int) -> Histogram:
    """A histogram like a bell."""
    middle = (bins - 1) / 2
    shape = [math.exp(-(((i - middle) / bins * 5) ** 2)) for i in range(bins)]
    counts = [round(total * one / sum(shape)) for one in shape]
    return Histogram(edges=np.linspace(low, high, bins + 1).tolist(), counts=counts)


EFFECTS = LogitEffects(
    top=token_values(PROMOTED, 0.912),
    bottom=token_values(SUPPRESSED, -0.61),
    mean=-0.0021,
    std=0.141,
    kurtosis=4.2,
    histogram=bell(-0.61, 0.912, 41, 4096),
)


def links(layer: int, count: int = 5, *, part: str | None = None) -> list[NeuronLink]:
    """Other neurons of a layer, the strongest first."""
    return [
        NeuronLink(layer=layer, neuron=17 * i + 3, value=(-1) ** i * 0.8 / (i + 1), part=part,
                   peak_token=PROMOTED[i])
        for i in range(count)
    ]  # fmt: skip


def weights(**changes: object) -> Weights:
    """What the weights of a plain neuron say; `changes` replace fields."""
    reads = InputTokens(
        part="in",
        top=token_values(PROMOTED[:10], 3.1),
        bottom=token_values(SUPPRESSED[:10], -2.2),
        cosine=-0.263,
    )
    made = Weights(
        logit_effects=EFFECTS,
        inputs=[reads],
        alike=links(0),
        upstream=links(0, part="in"),
        downstream=[],
    )
    return made.model_copy(update=changes)


def peaks_by_source(peaks: Histogram) -> list[SourcePeaks]:
    """A histogram divided among two sources, and a third that has nothing."""
    half = [count // 2 for count in peaks.counts]
    rest = [count - other for count, other in zip(peaks.counts, half, strict=True)]
    return [
        SourcePeaks(source="bible", other=False, counts=half),
        SourcePeaks(source=None, other=False, counts=[0] * len(half)),
        SourcePeaks(source=None, other=True, counts=rest),
    ]


def neuron_page(
    fires: Callable[[str, random.Random], float] = sharp, **changes: object
) -> NeuronPage:
    """A neuron with everything a real one has; `changes` replace fields."""
    top = examples(20, fires)
    bottom = examples(10, fires, lowest=True)
    highest, lowest = top[0].peak, bottom[0].trough
    peaks = bell(highest * 0.02, highest * 0.95, 40, SAMPLE.contexts)
    page = NeuronPage(
        model="demo",
        layer=1,
        neuron=45,
        hook_point="blocks.1.mlp.hook_post",
        n_layers=2,
        run=run_ref(),
        sample=SAMPLE,
        scale=max(abs(highest), abs(lowest)),
        stats=Stats(
            max=highest,
            min=lowest,
            mean=-0.0412,
            std=0.3187,
            skewness=8.31,
            kurtosis=92.44,
            density=0.0731,
            density_over_tenth=0.0204,
            lookup=0.412,
            tenth=highest * 0.098,
            dead=highest <= 0,
            peak_quantiles=PeakQuantiles(
                q01=highest * 0.02,
                q10=highest * 0.05,
                q25=highest * 0.12,
                q50=highest * 0.3,
                q75=highest * 0.41,
                q90=highest * 0.62,
                q99=highest * 0.9,
            ),
        ),
        histogram=histogram(fires),
        peak_histogram=peaks,
        peaks_by_source=peaks_by_source(peaks),
        signs=None,
        examples=Examples(
            top=top,
            bottom=bottom,
            random=[
                one.model_copy(update={"rank": i}) for i, one in enumerate(examples(15, fires), 1)
            ],
            bands=[
                Band(
                    low=low,
                    high=high,
                    nominal_share=nominal,
                    share=fell,
                    examples=examples(n, fires),
                )
                for low, high, nominal, fell, n in (
                    (4.84, None, 0.01, 0.0098, 0),
                    (3.33, 4.84, 0.09, 0.084, 3),
                    (1.61, 3.33, 0.4, 0.41, 3),
                    (None, 1.61, 0.5, 0.496, 3),
                )
            ],
            sources=sources(3),
        ),
        top_token_ids=[0, 17, 4],
        found_in=[
            SourceCount(source=source, examples=count, share=share)
            for source, count, share in (("bible", 12, 0.25), ("<b>austen</b>", 8, None))
        ],
        peak_tokens=[
            PeakToken(token=token, token_id=i, count=9 - i // 2, mean=highest * 0.9**i)
            for i, token in enumerate([" king", " sword", " elders", "Reader", "\n", *PROMOTED])
        ],
        together=links(1),
        weights=weights(),
        previous=NeuronRef(layer=1, neuron=44),
        next=NeuronRef(layer=1, neuron=46),
        layer_before=NeuronRef(layer=0, neuron=45),
        layer_after=None,
        other_runs=[],
    )
    return page.model_copy(update=changes)


def negative_page() -> NeuronPage:
    """The last neuron of the model: dead, negative everywhere, in a run that is not the default."""
    return neuron_page(
        negative,
        neuron=1023,
        next=None,
        other_runs=[run_ref(5), run_ref(2, hook_point="mlp.hook_pre")],
    )


def empty_page() -> NeuronPage:
    """The first neuron of the model, exactly zero everywhere, of which nothing was kept."""
    page = neuron_page()
    zero = dict.fromkeys(("max", "min", "mean", "std", "density", "density_over_tenth"), 0.0)
    quantiles = dict.fromkeys(PeakQuantiles.model_fields, 0.0)
    stats = Stats(
        **zero,
        skewness=None,
        kurtosis=None,
        lookup=None,
        tenth=0.0,
        dead=True,
        peak_quantiles=PeakQuantiles(**quantiles),
    )
    return page.model_copy(
        update={
            "layer": 0,
            "neuron": 0,
            "previous": None,
            "layer_before": None,
            "layer_after": NeuronRef(layer=1, neuron=0),
            "scale": 0.0,
            "stats": stats,
            "histogram": Histogram(edges=[0.0, 0.0], counts=[129_321]),
            "peak_histogram": Histogram(edges=[0.0, 0.0], counts=[1024]),
            "examples": Examples(top=[], bottom=[], random=[], bands=[], sources=[]),
            "peaks_by_source": [],
            "top_token_ids": [],
            "found_in": [],
            "peak_tokens": [],
            "together": [],
            "weights": Weights(
                logit_effects=LogitEffects(
                    top=[],
                    bottom=[],
                    mean=None,
                    std=None,
                    kurtosis=None,
                    histogram=Histogram(edges=[0.0, 0.0], counts=[0]),
                ),
                inputs=[],
                alike=[],
                upstream=[],
                downstream=[],
            ),
        }
    )


def hostile_page() -> NeuronPage:
    """Every kind of token that might become markup or break the layout, strong and weak."""
    words = tokenise(TEXTS["wordnet"])
    lines = [
        example([*words[:30], token, *words[30:50], *HOSTILE, *words[50:60]], rank)
        for rank, token in enumerate(HOSTILE, 1)
    ]
    peaked = []
    for line, token in zip(lines, HOSTILE, strict=True):
        at = 31
        values = list(line.activations)
        values[at] = 6.5
        peaked.append(
            line.model_copy(update={"peak": 6.5, "peak_position": at, "activations": values})
        )
        assert line.tokens[at] == token
    values = [
        TokenValue(token=token, token_id=i, value=1.0, corpus_count=i)
        for i, token in enumerate(HOSTILE)
    ]
    others = [
        NeuronLink(layer=0, neuron=i, value=0.5, part="in", peak_token=token)
        for i, token in enumerate(HOSTILE)
    ]
    page = neuron_page(
        smooth,
        scale=6.5,
        together=others,
        peak_tokens=[
            PeakToken(token=token, token_id=i, count=1, mean=1.0) for i, token in enumerate(HOSTILE)
        ],
        weights=weights(
            logit_effects=EFFECTS.model_copy(update={"top": values, "bottom": values}),
            inputs=[InputTokens(part="in", top=values, bottom=values, cosine=0.02)],
            alike=others,
        ),
    )
    kinds = page.examples.model_copy(
        update={
            "top": peaked,
            "sources": [
                SourceExamples(source=name, other=False, mean_peak=None, examples=[one])
                for name, one in zip(HOSTILE[:4], peaked, strict=False)
            ],
        }
    )
    return page.model_copy(update={"examples": kinds})


def gated_page() -> NeuronPage:
    """A neuron of a gated MLP, early in a deep model, of a corpus with more sources than fit."""
    page = neuron_page(smooth, layer=2, n_layers=30, layer_after=NeuronRef(layer=3, neuron=45))
    kinds = page.examples

    def factored(some: list[Example]) -> list[Example]:
        return [
            one.model_copy(update={"gate": 2.0 + one.rank, "linear": -1.5 / one.rank})
            for one in some
        ]

    reads = page.weights.inputs[0]
    gated = Units(signed=True, gated=True, parts=True, dead_by_magnitude=True)
    units = UnitsRef(set="neurons", **gated.as_dict())
    return page.model_copy(
        update={
            "run": page.run.model_copy(update={"units": units}),
            "signs": SignCounts(both=1200, gate_only=900, linear_only=60_000, neither=67_221),
            "examples": kinds.model_copy(
                update={
                    "top": factored(kinds.top),
                    "bottom": factored(kinds.bottom),
                    "sources": sources(9),
                }
            ),
            "weights": page.weights.model_copy(
                update={
                    "inputs": [reads.model_copy(update={"part": "gate", "cosine": 0.31}), reads],
                    "upstream": [*links(0, 3, part="gate"), *links(1, 2, part="in")],
                    "downstream": links(7, part="gate"),
                }
            ),
        }
    )


def context_page(**changes: object) -> ContextPage:
    """A whole context of that gated neuron."""
    page = gated_page()
    made = ContextPage(
        model=page.model,
        layer=page.layer,
        neuron=page.neuron,
        hook_point=page.hook_point,
        run=page.run,
        scale=page.scale,
        max=page.stats.max,
        min=page.stats.min,
        kinds=["top", "source"],
        text="".join(page.examples.top[0].tokens[1:]),
        length=len(page.examples.top[0].tokens),
        stored_from=0,
        stored_to=len(page.examples.top[0].tokens),
        example=page.examples.top[0],
    )
    return made.model_copy(update=changes)
