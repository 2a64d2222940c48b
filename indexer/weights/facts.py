"""The facts about neurons that need the weights alone: no text is read for them, so they stand
apart from the scan. What a neuron writes (`weights_write`, `weights_effects`), what it reads
(`weights_read`, `weights_input`) and whom it meets (`weights_links`) come together here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from indexer.models.capture import LoadedModel
from indexer.weights.effects import LogitEffects, logit_effects
from indexer.weights.inputs import input_tokens
from indexer.weights.links import Links
from indexer.weights.read import Reader, readers
from indexer.weights.write import norm_gain, write_vectors

__all__ = [
    "LayerFacts",
    "LogitEffects",
    "logit_effects",
    "norm_gain",
    "weight_facts",
    "write_vectors",
]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class LayerFacts:
    """What the weights say of one layer's neurons. What does not apply has no key."""

    scalars: dict[str, Array]
    """[neurons] float64 each: `effect_kurtosis` (NaN: all effects are equal), `in_out_cosine` and,
    in gated models, `gate_out_cosine`."""
    arrays: dict[str, Array]
    """[neurons, m] each, by the names and dtypes the store gives a neuron's arrays."""


def weight_facts(model: LoadedModel, *, connections: bool = True) -> Callable[[int], LayerFacts]:
    """A function from a layer to its facts, computed when asked: ask for the layers in order.

    See `logit_effects`, `input_tokens` and `Links` for what the numbers mean; the cosines are those
    of what a neuron reads, the norm's weight folded in and centred for a LayerNorm, with what it
    writes (`write_vectors`), and 0 where either is 0. `connections` False leaves out the lists of
    other neurons. Beyond the model, memory is bounded by 256 MiB, 120 bytes a neuron and float32
    copies of a few matrices of one layer. The same model on the same device gives the same facts.
    Runs a pass over a few tokens at once; the function raises `NeurariumError` where the
    unembedding cannot be found.
    """
    ways = readers(model)
    links = Links(model, ways) if connections else None

    def facts_of(layer: int) -> LayerFacts:
        effects, reader = logit_effects(model, layer), ways[layer]
        scalars = {"effect_kurtosis": effects.kurtosis}
        arrays = {
            "logit_values": np.concatenate([effects.top_values, effects.bottom_values], axis=1),
            "logit_token_ids": np.concatenate([effects.top_ids, effects.bottom_ids], axis=1),
            "effect_histogram_range": effects.histogram_range,
            "effect_histogram_counts": effects.histogram_counts,
            "effect_moments": np.stack([effects.mean, effects.std], axis=1),
        }
        if reader is not None:
            scalars |= _cosines(model, layer, reader)
            for part, tokens in input_tokens(model, reader).items():
                arrays[f"{part}_values"] = tokens.values
                arrays[f"{part}_token_ids"] = tokens.token_ids
        if links is not None:
            arrays |= links.of(layer)
        return LayerFacts(scalars, arrays)

    return facts_of


@torch.inference_mode()
def _cosines(model: LoadedModel, layer: int, reader: Reader) -> dict[str, Array]:
    """The cosine of what each neuron reads with what it writes, by part."""
    writes = write_vectors(model, layer)
    return {
        f"{part}_out_cosine": torch.cosine_similarity(reader.directions(part), writes, eps=1e-30)
        .double()
        .cpu()
        .numpy()
        for part in reader.matrices
    }
