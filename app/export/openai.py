"""Neurons as NeuronRecords, the format of OpenAI's "Language models can explain neurons in language
models" (2023): one file of JSON for each neuron, `LAYER/NEURON.json`.

The format is described by the classes NeuronRecord, NeuronId and ActivationRecord of the
`neuron_explainer` package in the repository openai/automated-interpretability.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from app.examples.schemas import Example
from app.neurons.schemas import NeuronPage


def neuron_record(page: NeuronPage) -> dict[str, Any]:
    """The record of a neuron. Positions that are not included, such as a BOS, are left out."""
    bands = page.examples.bands[::-1]  # from the lowest up
    return {
        "dataclass_name": "NeuronRecord",
        "neuron_id": {
            "dataclass_name": "NeuronId",
            "layer_index": page.layer,
            "neuron_index": page.neuron,
        },
        "random_sample": _records(page.examples.random),
        "random_sample_by_quantile": [_records(band.examples) for band in bands],
        "quantile_boundaries": [band.low for band in bands if band.low is not None],
        "mean": page.stats.mean,
        "variance": page.stats.std**2,
        "skewness": _number(page.stats.skewness),
        "kurtosis": _number(page.stats.kurtosis),
        "most_positive_activation_records": _records(page.examples.top),
    }


def record_bytes(page: NeuronPage) -> bytes:
    """The record as JSON; NaN stands for an unknown moment, as in the format."""
    return json.dumps(neuron_record(page)).encode()


def _records(examples: Sequence[Example]) -> list[dict[str, Any]]:
    return [_record(example) for example in examples]


def _record(example: Example) -> dict[str, Any]:
    included = [
        (token, value)
        for token, value in zip(example.tokens, example.activations, strict=True)
        if value is not None
    ]
    return {
        "dataclass_name": "ActivationRecord",
        "tokens": [token for token, _ in included],
        "activations": [value for _, value in included],
    }


def _number(value: float | None) -> float:
    return math.nan if value is None else value
