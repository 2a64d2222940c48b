"""Schema objects that look like a real run's, and some that are as unkind as a corpus can be."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np

from app.schemas import (
    Band,
    Error,
    Example,
    Examples,
    Histogram,
    LayerPage,
    LayerSummary,
    LogitEffect,
    LogitEffects,
    ModelList,
    ModelPage,
    ModelSummary,
    NeuronList,
    NeuronPage,
    NeuronRef,
    NeuronRow,
    PeakQuantiles,
    Run,
    RunRef,
    Sample,
    Stats,
)

SAMPLE = Sample(contexts=1024, positions=129_321)
CTX_LEN = 128

TEXTS = {
    "bible": (
        "And the king said unto his servants, Bring me a sword; and they brought a sword before "
        "the king. And it came to pass in the seventh year, in the fifth month, the tenth day of "
        "the month, that certain of the elders came to enquire, and sat before me.\n"
        "Then came the word unto me, saying, Speak unto the elders, and say unto them: Are ye "
        "come to enquire of me? As I live, I will not be enquired of by you.\n"
    ),
    "wordnet": (
        "a small boat propelled by oars or by sails and used on inland waters; a shallow vessel. "
        "the quality of being easily understood, free of ambiguity; lucidity of thought and of "
        "expression.\nthe branch of biology that studies the relation of living things to one "
        "another and to the place in which they live; an interdisciplinary field of study.\n"
    ),
    "python": (
        'def parse_header(line, separator=\':\'):\n    """Split a line into name and value."""\n'
        "    name, found, value = line.partition(separator)\n    if not found:\n"
        "        raise ValueError(f'no {separator!r} in {line!r}')\n"
        "    return name.strip().lower(), value.strip()\n\n\nclass Reader:\n"
        "    def __init__(self, stream, size=4096):\n        self.stream = stream\n"
        "        self.size = size\n\tself.lines = 0\n"
    ),
}

HOSTILE = [
    "<script>alert(1)</script>",
    "\" onmouseover='alert(1)'",
    "</span></p>",
    "&amp;&#x3c;",
    "\u202eright to left\u202c",
    "\u2066\u200b\u200d\ufeff",
    "\x00\x1b[31m\x7f\x85",
    "שלום",
    "مرحبا",
    "\u0301\u0302\u0303",
    "Z" + "\u0335" * 40,
    "\ud800",
    "\u2028\u2029",
    "\r\n\t\n",
    "\\xff\\xfe",
    "\\xf0\\x9f",
    "\\x98",
    "\\x80",
    " \u00a0",
    "",
    "{{ page }}",
    "W" * 10_000,
]


def tokenise(text: str) -> list[str]:
    """Words with their leading space, digits and punctuation apart: near enough to a BPE."""
    return re.findall(r" ?[A-Za-z]{1,7}| ?\d| ?[^\sA-Za-z\d]|\n|[ \t]+", text)


def sharp(token: str, rng: random.Random) -> float:
    """Fires on few words, slightly negative elsewhere, as a GELU neuron."""
    if token.strip() in {"king", "sword", "elders", "Reader"}:
        return rng.uniform(2.0, 5.4)
    if token.strip() in {"the", "his", "my", "of"}:
        return rng.uniform(0.2, 1.9)
    return max(-0.17, rng.gauss(-0.1, 0.09))


def smooth(token: str, rng: random.Random) -> float:
    """Large in both directions, as a neuron before its activation function."""
    return rng.gauss(0.2, 1.1) + (3 if token.isspace() else 0)


def negative(token: str, rng: random.Random) -> float:
    """Never above zero."""
    return -abs(rng.gauss(0.09, 0.05)) - 1e-3


def run_ref(number: int = 3, *, model: str = "demo", hook_point: str = "mlp.hook_post") -> RunRef:
    return RunRef(
        id=number,
        model=model,
        model_id="neurarium/demo",
        revision=None,
        hook_point=hook_point,
        corpus="demo",
        dtype="float32",
        contexts=3_210,
        tokens=401_877,
        ctx_len=CTX_LEN,
        created_at=datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC),
        content_hash="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    )


def example(
    tokens: Sequence[str],
    rank: int = 1,
    *,
    fires: Callable[[str, random.Random], float] = sharp,
    source: str | None = "bible",
    bos: bool = True,
    start: int = 0,
) -> Example:
    """One example whose activations come from `fires`; BOS, if any, is not included."""
    rng = random.Random(f"{rank} {source} {len(tokens)}")
    values: list[float | None] = [float(np.float32(fires(token, rng))) for token in tokens]
    shown = list(tokens)
    if bos:
        shown, values = ["<|endoftext|>", *shown], [None, *values]
    known = [(value, -i) for i, value in enumerate(values) if value is not None]
    peak, at = max(known)
    trough, low_at = min((value, -i) for value, i in known)
    return Example(
        rank=rank,
        peak=peak,
        peak_position=start - at,
        trough=trough,
        trough_position=start + low_at,
        context_id=17 * rank + 4,
        document_index=rank,
        source=source,
        start=start,
        tokens=shown,
        token_ids=[abs(hash_of(token)) % 4096 for token in shown],
        activations=values,
    )


def hash_of(token: str) -> int:
    return sum((i + 1) * ord(character) for i, character in enumerate(token[:50]))


def context(rank: int, *, length: int = CTX_LEN - 1) -> tuple[list[str], str]:
    """The tokens of one context of a mixed corpus, and its source."""
    source = list(TEXTS)[rank % len(TEXTS)]
    tokens = tokenise(TEXTS[source])
    offset = (rank * 37) % len(tokens)
    around = tokens * (2 + length // len(tokens))
    return around[offset : offset + length], source


def examples(
    count: int, fires: Callable[[str, random.Random], float] = sharp, *, lowest: bool = False
) -> list[Example]:
    made = [
        example(tokens, rank, fires=fires, source=source)
        for rank in range(1, count + 1)
        for tokens, source in [context(rank)]
    ]
    made.sort(key=lambda e: e.trough if lowest else -e.peak)
    return [one.model_copy(update={"rank": i}) for i, one in enumerate(made, 1)]


def histogram(
    fires: Callable[[str, random.Random], float] = sharp, bins: int = 60, positions: int = 129_321
) -> Histogram:
    rng = random.Random(0)
    words = tokenise("".join(TEXTS.values()))
    values = [fires(words[i % len(words)], rng) for i in range(12_000)]
    counts, edges = np.histogram(values, bins=bins)
    scaled = np.round(counts * positions / 12_000).astype(int)
    return Histogram(edges=edges.tolist(), counts=scaled.tolist())


EFFECTS = LogitEffects(
    top=[
        LogitEffect(token=token, token_id=100 + i, value=0.912 * math.exp(-0.1 * i))
        for i, token in enumerate(
            [" David", " Solomon", "'s", " of", " Israel", "\n", " throne", "dom", " unto", " said",
             "\\xe2\\x80", " Judah", " sat", "   ", " reigned"]
        )
    ],
    bottom=[
        LogitEffect(token=token, token_id=300 + i, value=-0.61 * math.exp(-0.07 * i))
        for i, token in enumerate(
            ["):", " self", "_", "()", " return", "\t", " import", "<script>", " None", "==", "0",
             " chlor", "ology", " genus", " interdisciplinary"]
        )
    ],
)  # fmt: skip


def neuron_page(
    fires: Callable[[str, random.Random], float] = sharp, **changes: object
) -> NeuronPage:
    """A neuron with everything a real one has; `changes` replace fields."""
    top = examples(20, fires)
    bottom = examples(10, fires, lowest=True)
    highest, lowest = top[0].peak, bottom[0].trough
    page = NeuronPage(
        model="demo",
        layer=1,
        neuron=45,
        hook_point="blocks.1.mlp.hook_post",
        run=run_ref(),
        sample=SAMPLE,
        stats=Stats(
            max=highest,
            min=lowest,
            mean=-0.0412,
            std=0.3187,
            skewness=8.31,
            kurtosis=92.44,
            density=0.0731,
            density_over_tenth=0.0204,
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
        ),
        logit_effects=EFFECTS,
        previous=NeuronRef(layer=1, neuron=44),
        next=NeuronRef(layer=1, neuron=46),
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
        tenth=0.0,
        dead=True,
        peak_quantiles=PeakQuantiles(**quantiles),
    )
    return page.model_copy(
        update={
            "layer": 0,
            "neuron": 0,
            "previous": None,
            "stats": stats,
            "histogram": Histogram(edges=[0.0, 0.0], counts=[129_321]),
            "examples": Examples(top=[], bottom=[], random=[], bands=[]),
            "logit_effects": LogitEffects(top=[], bottom=[]),
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
    effects = [LogitEffect(token=token, token_id=i, value=1.0) for i, token in enumerate(HOSTILE)]
    page = neuron_page(smooth, logit_effects=LogitEffects(top=effects, bottom=effects))
    kinds = page.examples.model_copy(update={"top": peaked})
    return page.model_copy(update={"examples": kinds})


def layer_page(rows: int = 60) -> LayerPage:
    rng = random.Random(1)
    items = [
        NeuronRow(
            layer=1,
            neuron=i,
            max=0.0 if i == 7 else rng.uniform(0.4, 6.0),
            min=-0.17,
            mean=rng.gauss(0, 0.08),
            std=0.3,
            skewness=4.0,
            kurtosis=None if i == 7 else rng.expovariate(0.02),
            density=0.0 if i == 7 else rng.betavariate(1, 8),
            dead=i == 7,
            peak_token=rng.choice(
                [" king", "\n", " the", "self", "\\xf0\\x9f", " sword", *HOSTILE]
            ),
            promoted_token=rng.choice([" David", "()", " of", "ing", "  "]),
        )
        for i in range(rows)
    ]
    items.sort(key=lambda row: -row.max)
    return LayerPage(
        model="demo",
        hook_point="blocks.1.mlp.hook_post",
        run=run_ref(),
        sample=SAMPLE,
        summary=LayerSummary(
            layer=1, neurons=1024, dead=1, max=6.02, mean_max=3.11, mean_density=0.113
        ),
        n_layers=2,
        sort="max",
        order="desc",
        neurons=NeuronList(items=items, next="WzMuMTQsIDQ1XQ" if rows else None),
        other_runs=[run_ref(2, hook_point="mlp.hook_pre")],
    )


def model_page(layers: int = 2) -> ModelPage:
    return ModelPage(
        model="demo",
        n_layers=layers,
        n_neurons=layers * 1024,
        run=run_ref(),
        sample=SAMPLE,
        layers=[
            LayerSummary(
                layer=i,
                neurons=1024,
                dead=i * 3 % 7,
                max=4.2 + i * 0.9,
                mean_max=2.1 + i * 0.3,
                mean_density=0.2 / (1 + i),
            )
            for i in range(layers)
        ],
        other_runs=[run_ref(2, hook_point="mlp.hook_pre"), run_ref(1)],
    )


def model_list() -> ModelList:
    return ModelList(
        items=[
            ModelSummary(model="demo", n_layers=2, n_neurons=2048, runs=2, run=run_ref()),
            ModelSummary(
                model="SmolLM2-135M-Instruct",
                n_layers=30,
                n_neurons=46_080,
                runs=1,
                run=run_ref(7, model="SmolLM2-135M-Instruct").model_copy(
                    update={
                        "model_id": "HuggingFaceTB/SmolLM2-135M-Instruct",
                        "revision": "main",
                        "corpus": "HuggingFaceFW/fineweb-edu:sample-10BT",
                        "dtype": "bfloat16",
                        "tokens": 21_400_377,
                    }
                ),
            ),
        ],
        next=None,
    )


def run_page() -> Run:
    return Run(
        **run_ref().model_dump(),
        n_layers=2,
        n_neurons=2048,
        sample=SAMPLE,
        provenance={
            "seed": 0,
            "device": "cpu",
            "duplicates_skipped": 12,
            "trust_remote_code": False,
            "model": {
                "id": "neurarium/demo",
                "weights_sha256": "4a" * 32,
                "architecture": {"name": "NativeModel", "act_fn": "gelu", "d_mlp": [1024, 1024]},
            },
            "corpus": {
                "name": "demo",
                "fingerprint": "be" * 32,
                "sources": {"bible": 1070, "wordnet": 1068, "python": 1072},
                "split": None,
            },
            "versions": {"python": "3.11.7", "torch": "2.13.0", "transformer-lens": "4.3.0"},
            "times": {"started": "2026-03-14T15:08:01Z", "seconds": 84.2},
        },
    )


def error_page() -> Error:
    return Error(
        error="not_found",
        detail="Layer 1 of demo has neurons 0 to 1023: there is no neuron 4500.",
        status=404,
    )
