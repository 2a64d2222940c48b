"""One text through the model, and the activations of some layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from indexer.captured import Captured
from indexer.corpus.tokens import TextTokenizer
from indexer.models.load import LoadedModel


@dataclass(frozen=True)
class Reading:
    """One neuron on one text, a value a position, in float32."""

    activations: Float32[np.ndarray, " pos"]
    gate: Float32[np.ndarray, " pos"] | None
    """A gated neuron's gate before its nonlinearity, where it is known (see `Captured`)."""
    linear: Float32[np.ndarray, " pos"] | None
    """A gated neuron's linear part."""


def read_text(model: LoadedModel, text: str, bos: int | None) -> list[int]:
    """Token ids of one context, exactly as a corpus of text is tokenised: text never becomes a
    control token; `bos` is put in front."""
    ids, _ = TextTokenizer(model.tokenizer).tokenise([text])
    return [*([] if bos is None else [bos]), *ids.tolist()]


def read_neuron(model: LoadedModel, layer: int, neuron: int, token_ids: list[int]) -> Reading:
    """One neuron's activation at every position, by the capture the scan uses.

    Raises `NeurariumError` when memory runs out.
    """
    tokens = torch.tensor([token_ids])
    kept: list[Reading] = []

    def of_neuron(values: Tensor | None) -> Any:
        return None if values is None else values[0, :, neuron].float().cpu().numpy()

    def keep(at: int, seen: Captured) -> None:
        if at == layer:
            parts = (seen.activations, seen.gate, seen.linear)
            kept.append(Reading(*map(of_neuron, parts)))

    model.capture(tokens, torch.ones_like(tokens), keep)
    return kept[0]


def read_layers(
    model: LoadedModel,
    token_ids: list[int],
    first: int,
    on_layer: Callable[[int, Float32[np.ndarray, "pos n"]], None],
) -> None:
    """All neurons' activations from position `first` on, by one forward pass and the capture the
    scan uses. `on_layer(layer, activations)` is called once a layer, in order: what it does not
    keep is gone before the next layer is there.

    Raises `NeurariumError` when memory runs out.
    """
    tokens = torch.tensor([token_ids])

    def give(layer: int, seen: Captured) -> None:
        on_layer(layer, seen.activations[0, first:].float().cpu().numpy())

    model.capture(tokens, torch.ones_like(tokens), give)
