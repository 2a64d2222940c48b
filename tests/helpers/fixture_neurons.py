"""Neurons written by hand, each awkward in its own way: what `fixture_store` puts into a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from indexer.store.packing.codec import ExampleArrays, quantize
from tests.helpers.neuron_records import NeuronRecord

BOS = "<|bos|>"
EMOJI = "😀"
SCRIPT = "<script>alert(1)</script>"
ATTRIBUTE = "\" onmouseover='alert(1)' x=\""
BIDI = "\u202eevil\u2066"
ZERO_WIDTH = "\u200b\u200d\ufeff"
CONTROLS = "\x00\x1b[31m\x07\x7f"
LONG = "W" * 10_000
MARKUP_SOURCE = "<b>bold</b> & \"quoted\" 'too'"

VOCABULARY: list[bytes] = [
    BOS.encode(),  # 0
    b"the",  # 1
    b" cat",  # 2
    b" sat",  # 3
    b"\n",  # 4
    EMOJI.encode()[:2],  # 5
    EMOJI.encode()[2:],  # 6
    SCRIPT.encode(),  # 7
    ATTRIBUTE.encode(),  # 8
    BIDI.encode(),  # 9
    ZERO_WIDTH.encode(),  # 10
    CONTROLS.encode(),  # 11
    b"\xff",  # 12: no character begins so
    LONG.encode(),  # 13
    b"&amp;</span></p></details>",  # 14
    b"",  # 15
    b"\t",  # 16
    "é".encode(),  # 17
    b"{{ page }}",  # 18
    b"   ",  # 19
]
TEXTS = [text.decode("utf-8", "backslashreplace") for text in VOCABULARY]
"""The tokens as JSON gives them: bytes that are no whole character stand as \\xNN."""

SOURCES = ("plain", MARKUP_SOURCE, "")
"""The last is no source at all."""


@dataclass(frozen=True)
class Text:
    """A context of the corpus; `bos` is how many positions in front are not included."""

    document: int
    source: int
    bos: int
    token_ids: tuple[int, ...]


CONTEXTS: dict[int, Text] = {
    0: Text(0, 0, 1, (0, 1, 2, 3, 4)),
    1: Text(0, 1, 1, (0, 5, 6, 1, 7)),
    2: Text(1, 2, 0, (1, 12, 9, 10, 11, 8)),
    3: Text(2, 0, 1, (0, 13, 2, 5)),
    7: Text(5, 1, 1, (0, 16, 17, 18, 14, 4, 19, 2)),
}
"""By `context_id`. The numbers have gaps: contexts between them are nobody's examples."""

Activations = Sequence[float]


@dataclass(frozen=True)
class Chosen:
    """An example: a context with a neuron's activations at its included positions."""

    context: int
    activations: Activations
    start: int = 0
    length: int | None = None
    gate: float = np.nan
    linear: float = np.nan

    @property
    def bos(self) -> int:
        return CONTEXTS[self.context].bos

    @property
    def peak(self) -> float:
        return max(self.activations)

    @property
    def peak_position(self) -> int:
        return self.bos + list(self.activations).index(self.peak)

    @property
    def trough(self) -> float:
        return min(self.activations)

    @property
    def trough_position(self) -> int:
        return self.bos + list(self.activations).index(self.trough)

    @property
    def window(self) -> list[float | None]:
        """What is stored, before rounding: None where a position is not included."""
        whole = [None] * self.bos + list(self.activations)
        end = len(whole) if self.length is None else self.start + self.length
        return whole[self.start : end]


@dataclass(frozen=True)
class Neuron:
    """A neuron by hand; what is not said is ordinary."""

    top: Sequence[Chosen]
    bottom: Sequence[Chosen] = ()
    random: Sequence[Chosen] = ()
    band: Sequence[Chosen] = ()
    source: Sequence[Chosen] = ()
    maximum: float = 2.5
    minimum: float = -0.5
    mean: float = 0.25
    std: float = 0.5
    skewness: float | None = 1.5
    kurtosis: float = 3.0
    density: float = 0.5
    density_over_tenth: float = 0.375
    tenth: float = 0.25
    dead: bool = False
    peak_quantiles: Sequence[float] = (-0.5, 0.0, 0.25, 0.5, 1.0, 2.0, 2.5)
    edges: Sequence[float] = (-0.5, 0.5, 1.5, 2.5)
    counts: Sequence[int] = (7, 12, 1)
    band_cuts: Sequence[float] = (0.3125, 1.0, 2.0)
    band_counts: Sequence[int] = (1, 2, 1, 0)
    promotes: Sequence[tuple[int, float]] = ((2, 1.5), (3, 0.75))
    suppresses: Sequence[tuple[int, float]] = ((1, -2.0), (4, -0.25))
    lookup: float = 0.625
    effect_kurtosis: float = 4.5
    in_out_cosine: float | None = None
    gate_out_cosine: float | None = None
    facts: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """More small arrays, by the names of codec.NEURON_ARRAYS."""

    def top_source(self) -> int:
        """The source of more than half of the top examples, else −1."""
        sources = [CONTEXTS[example.context].source for example in self.top]
        best = max(set(sources), key=sources.count)
        return best if 2 * sources.count(best) > len(sources) else -1

    def record(self, layer: int, neuron: int) -> NeuronRecord:
        """The neuron as a record."""
        best = self.top[0]
        place = best.peak_position
        effects = [list(self.promotes), list(self.suppresses)]
        return NeuronRecord(
            layer=layer,
            neuron=neuron,
            scalars={
                "max": self.maximum,
                "min": self.minimum,
                "mean": self.mean,
                "std": self.std,
                "skewness": self.skewness,
                "kurtosis": self.kurtosis,
                "density": self.density,
                "density_over_tenth": self.density_over_tenth,
                "tenth": self.tenth,
                "dead": self.dead,
                "lookup": self.lookup,
                "effect_kurtosis": self.effect_kurtosis,
                "in_out_cosine": self.in_out_cosine,
                "gate_out_cosine": self.gate_out_cosine,
                "peak_token_id": CONTEXTS[best.context].token_ids[place],
                "promoted_token_id": effects[0][0][0],
                "top_source": self.top_source(),
            },
            arrays={
                "peak_quantiles": np.array(self.peak_quantiles, np.float64),
                "histogram_range": np.array([self.edges[0], self.edges[1] - self.edges[0]]),
                "histogram_counts": np.array(self.counts, np.int32),
                "band_cuts": np.array(self.band_cuts, np.float64),
                "band_counts": np.array(self.band_counts, np.int64),
                "logit_values": np.array([v for way in effects for _, v in way], np.float32),
                "logit_token_ids": np.array([i for way in effects for i, _ in way], np.int32),
                **{name: np.array(values) for name, values in self.facts.items()},
            },
            examples=tuple(
                arrays(kind)
                for kind in (self.top, self.bottom, self.random, self.band, self.source)
            ),
        )


def arrays(chosen: Sequence[Chosen]) -> ExampleArrays:
    """Examples as the store packs them."""
    rows, scales = [np.empty(0, np.int8)], []
    for example in chosen:
        window = example.window
        values = np.array([[0.0 if value is None else value for value in window]], np.float32)
        included = np.array([[value is not None for value in window]])
        row, scale = quantize(values, included)
        rows.append(row[0])
        scales.append(scale[0])
    return ExampleArrays(
        peaks=np.array([example.peak for example in chosen], np.float32),
        peak_positions=np.array([example.peak_position for example in chosen], np.uint16),
        troughs=np.array([example.trough for example in chosen], np.float32),
        trough_positions=np.array([example.trough_position for example in chosen], np.uint16),
        context_ids=np.array([example.context for example in chosen], np.int64),
        starts=np.array([example.start for example in chosen], np.uint16),
        lengths=np.array([len(example.window) for example in chosen], np.uint16),
        scales=np.array(scales, np.float32),
        gates=np.array([example.gate for example in chosen], np.float32),
        linears=np.array([example.linear for example in chosen], np.float32),
        quantized=np.concatenate(rows),
    )


FIRST = Chosen(0, (0.25, 2.5, -0.125, 1.0))
SECOND = Chosen(1, (0.0, 1.5, 2.5, -0.5))
NO_BOS = Chosen(2, (0.5, 1.25, -0.25, 0.0, 0.75, 1.25))
WINDOWED = Chosen(7, (0.125, 0.0, 0.375, 0.25, 0.0, -0.125, 0.0), start=2, length=4)

ORDINARY = Neuron(
    top=(FIRST, SECOND, NO_BOS),
    bottom=(SECOND, NO_BOS, FIRST),
    random=(WINDOWED,),
    band=(WINDOWED, NO_BOS),
    source=(FIRST, SECOND, WINDOWED, NO_BOS),
    in_out_cosine=-0.25,
    facts={
        "peak_histogram_range": (-0.5, 1.5),
        "peak_histogram_counts": (5, 3),
        "source_mean_peaks": (1.0, np.nan, 0.5),
        "together_neurons": (3, 2),
        "together_values": (1.0, 0.5),
        "effect_histogram_range": (-2.0, 1.75),
        "effect_histogram_counts": (18, 2),
        "effect_moments": (0.0, 0.625),
        "in_values": (3.0, 2.0, -4.0, -1.0),
        "in_token_ids": (2, 3, 4, 1),
        "alike_neurons": (5, 3),
        "alike_values": (0.75, 0.5),
        "downstream_neurons": (4, 5),
        "downstream_values": (-2.0, 1.5),
        "downstream_parts": (0, 0),
        "sample_peaks": (0.25, 0.625, -0.125, 0.5, 0.0, 0.0625, 0.375, 0.125),  # × 4
    },
)
"""Everything is known of it."""
PLAIN = replace(ORDINARY, facts={}, source=(), in_out_cosine=None)
"""The same where little is known of the weights: also fit for a smaller model."""
DEAD = Neuron(
    top=(Chosen(0, (-0.125, 0.0, 0.0, -0.25)), Chosen(3, (0.0, -0.125, 0.0))),
    bottom=(Chosen(0, (-0.125, 0.0, 0.0, -0.25)),),
    maximum=0.0,
    minimum=-0.25,
    mean=-0.125,
    density=0.0,
    density_over_tenth=0.0,
    tenth=0.0,
    dead=True,
    peak_quantiles=(0.0,) * 7,
    edges=(-0.25, 0.0),
    counts=(20,),
    band_cuts=(0.0, 0.0, 0.0),
    band_counts=(0, 0, 0, 4),
    band=(Chosen(3, (0.0, -0.125, 0.0)),),
)
NEGATIVE = Neuron(
    top=(Chosen(2, (-0.5, -0.125, -3.0, -1.0, -0.125, -2.0)), Chosen(3, (-0.25, -0.5, -1.0))),
    bottom=(Chosen(2, (-0.5, -0.125, -3.0, -1.0, -0.125, -2.0)),),
    random=(Chosen(3, (-0.25, -0.5, -1.0)),),
    maximum=-0.125,
    minimum=-3.0,
    mean=-1.0,
    skewness=-2.0,
    kurtosis=-1.25,
    density=0.0,
    density_over_tenth=0.0,
    tenth=0.0,
    dead=True,
    peak_quantiles=(-3.0, -2.0, -1.0, -0.5, -0.25, -0.25, -0.125),
    edges=(-3.0, -1.5, 0.0),
    counts=(12, 8),
    band_cuts=(-1.0, -0.5, -0.25),
)
TIED = Neuron(
    top=(replace(SECOND, gate=2.0, linear=1.25), NO_BOS),
    bottom=(replace(SECOND, gate=-0.5, linear=4.0),),
    gate_out_cosine=0.5,
    in_out_cosine=0.0,
    facts={
        "sign_counts": (5, 4, 3, 8),
        "gate_values": (1.0, -1.0),
        "gate_token_ids": (7, 8),
        "in_values": (2.0, -2.0),
        "in_token_ids": (9, 13),
        "upstream_neurons": (1,),
        "upstream_values": (-0.5,),
        "upstream_parts": (1,),
    },
)
"""Ties with ORDINARY in everything a layer is sorted by; its MLP is gated."""
CONSTANT = Neuron(
    top=(Chosen(0, (0.5, 0.5, 0.5, 0.5)), Chosen(1, (0.5, 0.5, 0.5, 0.5))),
    bottom=(Chosen(0, (0.5, 0.5, 0.5, 0.5)),),
    maximum=0.5,
    minimum=0.5,
    mean=0.5,
    std=0.0,
    skewness=None,
    kurtosis=-np.inf,
    lookup=-np.inf,
    density=1.0,
    density_over_tenth=1.0,
    tenth=0.0625,
    peak_quantiles=(0.5,) * 7,
    edges=(0.5, 0.5),
    counts=(20,),
    band_cuts=(0.5, 0.5, 0.5),
    band_counts=(0, 0, 0, 4),
)
HOSTILE = Neuron(
    top=(
        Chosen(1, (0.25, 0.125, -0.5, 4.0)),
        Chosen(2, (-4.0, 3.5, 3.0, 2.5, 2.0, 3.75)),
        Chosen(3, (3.25, 0.0, 1.0)),
        Chosen(7, (0.5, 1.0, 1.5, 2.0, 2.5, 0.125, 3.0)),
    ),
    bottom=(
        Chosen(2, (-4.0, 3.5, 3.0, 2.5, 2.0, 3.75)),
        Chosen(1, (0.25, 0.125, -0.5, 4.0)),
    ),
    random=(Chosen(7, (0.5, 1.0, 1.5, 2.0, 2.5, 0.125, 3.0)),),
    band=(Chosen(3, (3.25, 0.0, 1.0)),),
    maximum=4.0,
    minimum=-4.0,
    band_cuts=(0.25, 0.5, 1.0),
    promotes=((7, 3.0), (8, 2.0), (13, 1.0), (11, 0.5), (12, 0.25), (15, 0.125)),
    suppresses=((9, -3.0), (10, -2.0), (14, -1.0), (16, -0.5), (19, -0.25), (5, -0.125)),
)
CONSTANT_TOO = Neuron(
    top=(Chosen(3, (0.0, 0.0, 0.0)),),
    maximum=0.0,
    minimum=0.0,
    mean=0.0,
    std=0.0,
    skewness=None,
    kurtosis=-np.inf,
    lookup=-np.inf,
    density=0.0,
    density_over_tenth=0.0,
    tenth=0.0,
    dead=True,
    peak_quantiles=(0.0,) * 7,
    edges=(0.0, 0.0),
    counts=(20,),
    band_cuts=(0.0, 0.0, 0.0),
    band_counts=(0, 0, 0, 4),
)
SPARSE = Neuron(
    top=(FIRST,),
    band_cuts=(np.nan, np.nan, np.nan),  # a sample too small to have two halves
    band_counts=(0, 0, 0, 0),
)

TOY_NEURONS: tuple[tuple[Neuron, ...], ...] = (
    (ORDINARY, DEAD, NEGATIVE, TIED),
    (CONSTANT, HOSTILE, CONSTANT_TOO, SPARSE),
)
"""Layer by layer. The last neuron has no bottom examples, no random ones and no bands."""
