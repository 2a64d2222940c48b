"""Neurons as Neuronpedia's data sets have them (version v1): for each layer a source with batches
of features, of activations and of explanations, as compressed lines of JSON.

The fields are those of the records Model, SourceSet, Source, Neuron, Activation and Explanation of
the database schema in the repository hijohnnylin/neuronpedia, where a unit's index is text. What a
store does not know is empty.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from app.examples.schemas import Example
from app.neurons.schemas import Histogram, NeuronPage
from app.schemas import Note

CREATOR = "neurarium"
BATCH = 128
"""Features in a batch."""


def source_id(layer: int, units: str) -> str:
    """A layer's source; `units` is the name of the set of units."""
    return f"{layer}-{units}"


def model(name: str, widths: Sequence[int], created: str) -> dict[str, Any]:
    """The model; `widths` are the numbers of units of its layers."""
    return {
        "id": name,
        "displayNameShort": name,
        "displayName": name,
        "creatorId": CREATOR,
        "visibility": "PUBLIC",
        "layers": len(widths),
        "neuronsPerLayer": max(widths),
        "owner": CREATOR,
        "createdAt": created,
    }


def source_set(model: str, units: str, created: str, description: str) -> dict[str, Any]:
    """The set of all layers."""
    return {
        "modelId": model,
        "name": units,
        "creatorId": CREATOR,
        "createdAt": created,
        "creatorName": CREATOR,
        "releaseName": None,
        "description": description,
        "urls": [],
        "visibility": "PUBLIC",
    }


def source(
    model: str, units: str, layer: int, corpus: str, contexts: int, ctx_len: int
) -> dict[str, Any]:
    """A layer."""
    return {
        "modelId": model,
        "setName": units,
        "visibility": "PUBLIC",
        "dataset": corpus,
        "id": source_id(layer, units),
        "num_prompts": contexts,
        "num_tokens_in_prompt": ctx_len,
        "hfRepoId": None,
        "hfFolderId": None,
        "creatorId": CREATOR,
    }


def feature(page: NeuronPage) -> dict[str, Any]:
    """A neuron."""
    effects = page.weights.logit_effects
    together = page.together
    frequencies, effect_bins = _bars(page.histogram), _bars(effects.histogram)
    return {
        "modelId": page.model,
        "layer": source_id(page.layer, page.run.units.set),
        "index": str(page.neuron),
        "sourceSetName": page.run.units.set,
        "creatorId": CREATOR,
        "createdAt": page.run.created_at.isoformat(),
        "maxActApprox": page.stats.max,
        "hasVector": False,
        "vector": [],
        "vectorLabel": None,
        "hookName": page.hook_point,
        "topkCosSimIndices": [],
        "topkCosSimValues": [],
        "neuron_alignment_indices": [],
        "neuron_alignment_values": [],
        "neuron_alignment_l1": [],
        "correlated_neurons_indices": [link.neuron for link in together],
        "correlated_neurons_pearson": [link.value for link in together],
        "correlated_neurons_l1": [],
        "correlated_features_indices": [],
        "correlated_features_pearson": [],
        "correlated_features_l1": [],
        "neg_str": [token.token for token in effects.bottom],
        "neg_values": [token.value for token in effects.bottom],
        "pos_str": [token.token for token in effects.top],
        "pos_values": [token.value for token in effects.top],
        "frac_nonzero": page.stats.density,
        "freq_hist_data_bar_heights": frequencies[1],
        "freq_hist_data_bar_values": frequencies[0],
        "logits_hist_data_bar_heights": effect_bins[1],
        "logits_hist_data_bar_values": effect_bins[0],
        "decoder_weights_dist": [],
    }


def activations(page: NeuronPage) -> list[dict[str, Any]]:
    """The top and intermediate examples of a neuron, without positions that are not included."""
    rows = [_activation(page, example, None) for example in page.examples.top]
    for band in page.examples.bands:
        bounds = (
            page.stats.min if band.low is None else band.low,
            page.stats.max if band.high is None else band.high,
            band.share,
        )
        rows += [_activation(page, example, bounds) for example in band.examples]
    return rows


def explanations(page: NeuronPage, notes: Sequence[Note]) -> list[dict[str, Any]]:
    """A unit's name in its dictionary's file, if it has one, and the notes on a neuron."""
    made = page.run.created_at.isoformat()
    texts = [("name", page.name, "its name in the dictionary's file", made)] if page.name else []
    for note in notes:
        time = note.time.isoformat()
        texts.append(
            (f"{time}{note.author}{note.text}", note.text, f"written by {note.author}", time)
        )
    return [
        {
            "id": _id(page, key),
            "modelId": page.model,
            "layer": source_id(page.layer, page.run.units.set),
            "index": str(page.neuron),
            "description": text,
            # Author and type are references to users and types there, which has neither.
            "authorId": CREATOR,
            "notes": by,
            "typeName": None,
            "explanationModelName": None,
            "createdAt": time,
        }
        for key, text, by, time in texts
    ]


def _activation(
    page: NeuronPage, example: Example, bounds: tuple[float, float, float] | None
) -> dict[str, Any]:
    included = [
        (token, value)
        for token, value in zip(example.tokens, example.activations, strict=True)
        if value is not None
    ]
    values = [value for _, value in included]
    low, high, share = bounds or (None, None, None)
    kind = "top" if bounds is None else "band"
    return {
        "id": _id(page, f"{kind} {example.rank} {example.context_id}"),
        "tokens": [token for token, _ in included],
        "modelId": page.model,
        "layer": source_id(page.layer, page.run.units.set),
        "index": str(page.neuron),
        "maxValue": max(values),
        "maxValueTokenIndex": values.index(max(values)),
        "minValue": min(values),
        "values": values,
        "creatorId": CREATOR,
        "createdAt": page.run.created_at.isoformat(),
        "dfaValues": [],
        "dfaTargetIndex": None,
        "dfaMaxValue": None,
        "lossValues": [],
        "logitContributions": None,
        "binMin": low,
        "binMax": high,
        "binContains": share,
        "qualifyingTokenIndex": None,
        "dataIndex": str(example.context_id),
        "dataSource": example.source,
    }


def _bars(histogram: Histogram) -> tuple[list[float], list[int]]:
    """The middle of each bin, and its count."""
    edges = histogram.edges
    middles = [(low + high) / 2 for low, high in pairwise(edges)]
    return middles, histogram.counts


def _id(page: NeuronPage, what: str) -> str:
    """An id that is the same for every export of the run."""
    text = f"{page.run.content_hash} {page.layer} {page.neuron} {what}"
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=12).hexdigest()
