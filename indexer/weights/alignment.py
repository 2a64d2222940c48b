"""How units of a set with encoders of its own relate to each other by what they read, and to the
model's MLP neurons by what they write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from indexer.errors import NeurariumError
from indexer.models.asked import MODELS_OWN
from indexer.models.kinds import choose, find
from indexer.models.loaded import LoadedModel
from indexer.models.units import Unknown
from indexer.store.places import Places
from indexer.weights.links import LINKS, tiles, unit_vectors
from indexer.weights.rank import NOTHING, best, largest, unpack
from indexer.weights.units import write_vectors

Array = np.ndarray[Any, Any]


@torch.inference_mode()
def own_facts(model: LoadedModel, layer: int) -> dict[str, Array]:
    """Facts about each of a layer's units, if the set has encoders, by name: `encoder_neurons`
    [units, k], the units of the layer whose encoders have the highest cosine with its own (flat
    indices over all layers), and `encoder_values` [units, k]; `threshold` [units, 1], NaN without
    one; and, if any unit has a name, `name` [units, bytes] in UTF-8, padded with zeros."""
    units = model.units
    encoders = units.encoders(layer)
    if encoders is None:
        return {}
    first = Places(units.widths).layer(layer).start
    keys = _nearest(encoders.float(), encoders.float(), itself=True)
    values, columns = unpack(keys)
    thresholds = units.thresholds(layer)
    facts: dict[str, Array] = {
        "encoder_neurons": (columns + first).int().cpu().numpy(),
        "encoder_values": values.cpu().numpy(),
        "threshold": np.full((len(encoders), 1), np.nan)
        if thresholds is None
        else thresholds.double().cpu().numpy()[:, None],
    }
    if names := units.names(layer):
        encoded = [np.frombuffer(name.encode(), np.uint8) for name in names]
        rows = np.zeros((len(names), max(map(len, encoded))), np.uint8)  # ends in zeros
        for row, letters in zip(rows, encoded, strict=True):
            row[: len(letters)] = letters
        facts["name"] = rows
    return facts


def alignment(model: LoadedModel) -> Callable[[int], dict[str, Array]] | None:
    """A function from a layer to the MLP neurons of the model that write most like each unit:
    `aligned_neurons` [units, k], flat indices over all MLP neurons, and `aligned_values` [units,
    k], the cosines of the write vectors. None for sets without encoders, and for models without MLP
    neurons that can be indexed."""
    widths = model.units.widths
    present = next(layer for layer, width in enumerate(widths) if width)
    if model.units.encoders(present) is None:
        return None
    try:
        neurons = find(model.trunk, model.layout, model.root, choose(model.layout, MODELS_OWN))
    except NeurariumError:
        return None
    places = Places(neurons.widths)

    @torch.inference_mode()
    def of(layer: int) -> dict[str, Array]:
        mine = write_vectors(model, layer)
        shape = (len(mine), LINKS)
        keys = torch.full(shape, NOTHING, dtype=torch.int64, device=model.device)
        for other, width in enumerate(neurons.widths):
            writes = neurons.writes(other) if width else Unknown("")
            if not isinstance(writes, Unknown):
                nearest = _nearest(mine, writes.vectors, itself=False) - places.index(other, 0)
                keys = best(torch.cat([keys, nearest], dim=1), LINKS)
        count = min(LINKS, int((keys[0] != NOTHING).sum()) if len(keys) else 0)
        values, ids = unpack(keys[:, :count])
        return {
            "aligned_neurons": ids.int().cpu().numpy(),
            "aligned_values": values.cpu().numpy(),
        }

    return of


def _nearest(
    rows: Float[Tensor, "n d"], others: Float[Tensor, "m d"], *, itself: bool
) -> Int64[Tensor, "n k"]:
    """Keys of the columns with each row's highest cosines; `itself`: without the row's own."""
    rows, others = unit_vectors(rows), unit_vectors(others)
    count = min(LINKS, len(others) - itself)
    keys = torch.full((len(rows), count), NOTHING, dtype=torch.int64, device=rows.device)
    for i, row in tiles(rows):
        for j, column in tiles(others):
            cosines = (row @ column.T).clamp_(-1, 1)
            if itself and i == j:
                cosines.fill_diagonal_(-torch.inf)
            nearest = torch.cat(
                [keys[i : i + len(row)], largest(cosines, count + itself) - j], dim=1
            )
            keys[i : i + len(row)] = best(nearest, count)
    return keys
