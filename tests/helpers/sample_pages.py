"""Schema objects of lists and layers that look like a real run's; neurons are in sample_neurons."""

from __future__ import annotations

import random

from app.models.schemas import (
    LayerPage,
    LayerPicture,
    LayerSummary,
    ModelList,
    ModelPage,
    ModelSummary,
    NeuronList,
)
from app.reading.schemas import NeuronRow
from app.schemas import Error, Run
from tests.helpers.sample_examples import HOSTILE
from tests.helpers.sample_neurons import SAMPLE, run_ref


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
            lookup=None if i == 7 else rng.uniform(-0.1, 1.0),
            effect_kurtosis=None if i == 7 else rng.expovariate(0.5),
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
        summary=summary(1),
        n_layers=2,
        sort="max",
        order="desc",
        neurons=NeuronList(items=items, next="WzMuMTQsIDQ1XQ" if rows else None),
        other_runs=[run_ref(2, hook_point="mlp.hook_pre")],
    )


def summary(layer: int) -> LayerSummary:
    """One layer in numbers, its quantiles evenly apart."""
    highest = 4.2 + layer * 0.9
    return LayerSummary(
        layer=layer,
        neurons=1024,
        dead=layer * 3 % 7,
        max=highest,
        mean_max=2.1 + layer * 0.3,
        mean_density=0.2 / (1 + layer),
        max_quantiles=[highest * i / 20 for i in range(21)],
        density_quantiles=[i / 40 for i in range(21)],
    )


def picture(page: LayerPage) -> LayerPicture:
    """The picture of a layer that has the neurons of `page` alone."""
    rows = sorted(page.neurons.items, key=lambda row: row.neuron)
    living = sorted(row.max for row in rows if not row.dead)
    shares = (0.1, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
    return LayerPicture(
        model=page.model,
        layer=page.summary.layer,
        hook_point=page.hook_point,
        run=page.run,
        sample=page.sample,
        stat="max",
        neurons=len(rows),
        first=0,
        values=[row.max for row in rows],
        dead=[row.dead for row in rows],
        peak_tokens=[row.peak_token for row in rows],
        n_dead=len(rows) - len(living),
        counted=len(living),
        lowest=living[0] if living else None,
        highest=living[-1] if living else None,
        highest_neuron=max(rows, key=lambda row: row.max).neuron if rows else None,
        cuts=[living[int(share * len(living))] if living else 0.0 for share in shares],
    )


def model_page(layers: int = 2) -> ModelPage:
    return ModelPage(
        model="demo",
        n_layers=layers,
        n_neurons=layers * 1024,
        run=run_ref(),
        sample=SAMPLE,
        layers=[summary(i) for i in range(layers)],
        sets=[],
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
