"""What a layer's units write and read, asked of the model's set of units."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from indexer.errors import NeurariumError
from indexer.models.loaded import LoadedModel
from indexer.models.units import Reader, Unknown, Writes

_PROBES = 4
"""Tokens in the forward pass that shows how the layers read."""


def writes_of(model: LoadedModel, layer: int) -> Writes:
    """What a layer's units write. Raises `NeurariumError` where that is not known."""
    writes = model.units.writes(layer)
    if isinstance(writes, Unknown):
        raise NeurariumError(writes.reason)
    return writes


def known_writes(model: LoadedModel, layer: int) -> Writes | None:
    """What a layer's units write; None where that is not known."""
    writes = model.units.writes(layer)
    return None if isinstance(writes, Unknown) else writes


def write_vectors(model: LoadedModel, layer: int) -> Float[Tensor, "units d_model"]:
    """The vectors of `writes_of`. Raises `NeurariumError` as it does."""
    return writes_of(model, layer).vectors


def readers(model: LoadedModel) -> tuple[Reader | None, ...]:
    """How each layer reads the residual stream; None where that is not known."""
    places = ask_readers(model)
    return tuple(reader if isinstance(reader, Reader) else None for reader in places)


def ask_readers(model: LoadedModel) -> tuple[Reader | Unknown, ...]:
    """The same, with the reason where it is not known. Runs one forward pass over four tokens."""
    token_ids = torch.linspace(0, model.known_tokens - 1, _PROBES).long()[None]
    return model.units.readers(token_ids)
