"""The activations of one text, by the capture the scan uses."""

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
from indexer.models.loaded import LoadedModel


@dataclass(frozen=True)
class Reading:
    """One unit on one text: a value per position, in float32."""

    activations: Float32[np.ndarray, " pos"]
    gate: Float32[np.ndarray, " pos"] | None
    """The gate before its nonlinearity; None where there is none (see `Captured`)."""
    linear: Float32[np.ndarray, " pos"] | None
    """The linear part; None as `gate`."""


def read_text(model: LoadedModel, text: str, bos: int | None) -> list[int]:
    """Token ids of one context, exactly as a corpus of text is tokenised: text never becomes a
    control token; `bos` is put in front."""
    ids, _ = TextTokenizer(model.tokens.tokenizer).tokenise([text])
    return [*([] if bos is None else [bos]), *ids.tolist()]


def read_unit(model: LoadedModel, layer: int, unit: int, token_ids: list[int]) -> Reading:
    """One unit's activation at every position. Raises `NeurariumError` when memory runs out."""
    tokens = torch.tensor([token_ids])
    readings: list[Reading] = []

    def of_unit(values: Tensor | None) -> Any:
        return None if values is None else values[0, :, unit].float().cpu().numpy()

    def read(_layer: int, captured: Captured) -> None:
        parts = (captured.activations, captured.gate, captured.linear)
        readings.append(Reading(*map(of_unit, parts)))

    model.capture(tokens, torch.ones_like(tokens), read, range(layer, layer + 1))
    return readings[0]


def read_layers(
    model: LoadedModel,
    token_ids: list[int],
    first: int,
    on_layer: Callable[[int, Float32[np.ndarray, "pos n"]], None],
) -> None:
    """All units' activations from position `first` on, by one forward pass.

    `on_layer(layer, activations)` is called once per layer, in order, with arrays of its own; one
    it does not keep is freed before the next layer comes. Raises `NeurariumError` when memory runs
    out.
    """
    tokens = torch.tensor([token_ids])

    def give(layer: int, captured: Captured) -> None:
        on_layer(layer, captured.activations[0, first:].float().cpu().numpy())

    model.capture(tokens, torch.ones_like(tokens), give)
