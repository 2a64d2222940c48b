"""Facts about a layer's neurons from the weights alone: logit effects, input tokens, links to other
neurons, and cosines between what a neuron reads and what it writes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from indexer.models.loaded import LoadedModel
from indexer.models.units import Reader
from indexer.weights.alignment import alignment, own_facts
from indexer.weights.effects import logit_effects
from indexer.weights.inputs import input_tokens
from indexer.weights.links import Links
from indexer.weights.trial import Available
from indexer.weights.units import readers, write_vectors

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class LayerFacts:
    """Facts about one layer's neurons. Facts that do not apply have no key."""

    scalars: dict[str, Array]
    """[neurons] float64 each: `effect_kurtosis` (NaN: all effects are equal), and the cosine with
    each part they read with, `in_out_cosine` and `gate_out_cosine`."""
    arrays: dict[str, Array]
    """[neurons, m] each, by the names and dtypes the store gives a neuron's arrays."""


def weight_facts(
    model: LoadedModel, available: Available | None = None, *, connections: bool = True
) -> Callable[[int], LayerFacts]:
    """A function from a layer to its facts, computed on each call: call it for the layers in order.

    What the set of units says is not known (`no_writes`, `no_reads`) is left out.
    See `logit_effects`, `input_tokens` and `Links` for what the numbers mean. The cosines are
    between `Reader.directions` and the write vectors, and 0 where either is 0. `connections` False
    leaves out the links, and what is not `available` (default: all is) is left out too. Beyond the
    model, memory is bounded by 256 MiB, 120 bytes per neuron, float32 copies of a few matrices of
    one layer, and the matrices of quantised layers. The same model on the same device gives the
    same facts. Runs the model over a few tokens immediately.
    """
    units, available = model.units.described, available or Available()
    writes = available.writes and not units.no_writes
    reads = (
        readers(model)
        if available.reads and not units.no_reads
        else (None,) * len(model.units.widths)
    )
    links = Links(model, reads) if connections and writes and not units.no_links else None

    aligned = alignment(model) if links is not None else None

    def facts_of(layer: int) -> LayerFacts:
        if not model.units.widths[layer]:
            return LayerFacts({}, {})
        reader = reads[layer]
        scalars: dict[str, Array] = {}
        arrays: dict[str, Array] = {}
        if available.effects and writes:
            effects = logit_effects(model, layer)
            scalars["effect_kurtosis"] = effects.kurtosis
            arrays |= {
                "logit_values": np.concatenate([effects.top_values, effects.bottom_values], axis=1),
                "logit_token_ids": np.concatenate([effects.top_ids, effects.bottom_ids], axis=1),
                "effect_histogram_range": effects.histogram_range,
                "effect_histogram_counts": effects.histogram_counts,
                "effect_moments": np.stack([effects.mean, effects.std], axis=1),
            }
        if reader is not None:
            if writes:
                scalars |= _cosines(model, layer, reader)
            for part, tokens in input_tokens(model, reader).items():
                arrays[f"{part}_values"] = tokens.values
                arrays[f"{part}_token_ids"] = tokens.token_ids
        if links is not None:
            arrays |= links.of(layer)
        arrays |= own_facts(model, layer)
        if aligned is not None:
            arrays |= aligned(layer)
        return LayerFacts(scalars, arrays)

    return facts_of


@torch.inference_mode()
def _cosines(model: LoadedModel, layer: int, reader: Reader) -> dict[str, Array]:
    """The cosine between what each neuron reads and what it writes [neurons], by part, in
    float64."""
    writes = write_vectors(model, layer)
    return {
        f"{part}_out_cosine": torch.cosine_similarity(reader.directions(part), writes, eps=1e-30)
        .double()
        .cpu()
        .numpy()
        for part in reader.matrices
    }
