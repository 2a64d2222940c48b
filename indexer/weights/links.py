"""Links between neurons from their weights: which write alike, and which write what a neuron of a
later layer reads. Every pair of layers is compared.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from indexer.models.loaded import LoadedModel
from indexer.models.units import READ_PARTS, Reader
from indexer.store.places import Places
from indexer.weights.rank import NOTHING, best, largest, pack, unpack
from indexer.weights.units import write_vectors

LINKS = 5
"""Neurons in each list, at most."""

_TILE = 2048
"""Neurons of either side compared at once: 16 MiB of products."""

Array = np.ndarray[Any, Any]


class Links:
    """The lists of all neurons, computed a layer at a time when asked for.

    Every pair of layers is multiplied once, when the earlier layer is computed. Memory: 120 bytes
    per neuron throughout; while a layer is computed, two layers' write vectors in float32 and about
    100 MiB.
    """

    def __init__(self, model: LoadedModel, readers: tuple[Reader | None, ...]) -> None:
        self._model = model
        self._readers = readers
        self._places = Places(model.units.widths)
        shape = (len(self._places), LINKS)
        self._lists = {
            name: torch.full(shape, NOTHING, dtype=torch.int64, device=model.device)
            for name in ("alike", "upstream", "downstream")
        }
        self._done = 0

    @torch.inference_mode()
    def of(self, layer: int) -> dict[str, Array]:
        """The lists of a layer's neurons, [neurons, at most 5] each. Lists that are always empty,
        such as `upstream_*` in layer 0, have no key.

        `alike_neurons`, `alike_values`: highest cosine of write vectors in the whole model, without
        the neuron itself; 0 for a neuron that writes nothing. `upstream_*`, `downstream_*`: what a
        neuron of an earlier layer writes · what a neuron of a later layer reads, per unit of
        activation and up to the scale of the later layer's norm, the largest magnitudes with their
        signs; `parts` is the number in `READ_PARTS` of what is read (0 `in`, 1 `gate`), and a
        neuron may be listed with both. The norm's weight
        (and its centring) is in the product; attention and the layers between (in a post-norm model
        their norms too) are not. Neurons are flat indices over all layers; ties: the lower first,
        then `in` before `gate`.
        """
        while self._done <= layer:
            self._done += 1  # first, so that a layer that fails is not compared twice
            self._compare(self._done - 1)
        mine = self._places.layer(layer)
        parts = [0 if reader is None else len(reader.matrices) for reader in self._readers]
        later = zip(parts[layer + 1 :], self._model.units.widths[layer + 1 :], strict=True)
        counts = {
            "alike": len(self._places) - 1,
            "upstream": parts[layer] * mine.start,
            "downstream": sum(part * width for part, width in later),
        }
        lists: dict[str, Array] = {}
        for name, count in counts.items():
            if not count:
                continue
            values, ids = unpack(self._lists[name][mine, :count])
            if name != "alike":
                values = torch.where(ids & 1 == 1, -values, values)
                lists[f"{name}_parts"] = (ids >> 1 & 1).to(torch.uint8).cpu().numpy()
                ids = ids >> 2
            lists[f"{name}_neurons"] = ids.int().cpu().numpy()
            lists[f"{name}_values"] = values.cpu().numpy()
        return lists

    def _compare(self, layer: int) -> None:
        """Compare a layer with itself and with every later layer."""
        widths = self._model.units.widths
        if not widths[layer]:
            return
        writes = write_vectors(self._model, layer)
        units = unit_vectors(writes)
        for other in range(layer, len(widths)):
            if not widths[other]:
                continue
            others = units if other == layer else unit_vectors(write_vectors(self._model, other))
            self._compare_writes(layer, other, units, others)
            reader = self._readers[other]
            if other > layer and reader is not None:
                self._compare_reads(layer, other, writes, reader)

    def _compare_writes(
        self, layer: int, other: int, units: Float[Tensor, "n d"], others: Float[Tensor, "m d"]
    ) -> None:
        for i, row in tiles(units):
            for j, column in tiles(others):
                start, across = self._places.index(layer, i), self._places.index(other, j)
                cosines = (row @ column.T).clamp_(-1, 1)
                if start == across:
                    cosines.fill_diagonal_(-torch.inf)
                _add(self._lists["alike"], start, largest(cosines, LINKS) - across)
                if other > layer:
                    _add(
                        self._lists["alike"], across, largest(cosines.T.contiguous(), LINKS) - start
                    )

    def _compare_reads(
        self, layer: int, other: int, writes: Float[Tensor, "n d"], reader: Reader
    ) -> None:
        for i, row in tiles(writes):
            written = reader.folded(row)
            for part, matrix in reader.matrices.items():
                for j, column in tiles(matrix.T):
                    start, across = self._places.index(layer, i), self._places.index(other, j)
                    products = written @ column.float().T
                    keys = _strongest(products, across, part)
                    _add(self._lists["downstream"], start, keys)
                    keys = _strongest(products.T.contiguous(), start, part)
                    _add(self._lists["upstream"], across, keys)


def unit_vectors(vectors: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """The vectors scaled to length 1; zero vectors stay."""
    lengths = vectors.norm(dim=1, keepdim=True)
    return vectors / torch.where(lengths > 0, lengths, 1)


def tiles(vectors: Tensor) -> list[tuple[int, Tensor]]:
    """Vectors [n, d] in parts of at most `_TILE` rows, each with the index of its first row."""
    return [(i * _TILE, tile) for i, tile in enumerate(torch.split(vectors, _TILE))]


def _strongest(products: Float[Tensor, "n m"], first: int, part: str) -> Int64[Tensor, "n k"]:
    """Keys of each row's largest products: the magnitude, and (neuron, part, sign) as the id."""
    magnitudes, columns = unpack(largest(products.abs(), LINKS))
    negative = (products.gather(1, columns) < 0).long()
    return pack(magnitudes, ((columns + first) * 2 + READ_PARTS.index(part)) * 2 + negative)


def _add(lists: Int64[Tensor, "all k"], first: int, keys: Int64[Tensor, "n m"]) -> None:
    """Merge keys into the lists of the neurons from `first` on."""
    rows = lists[first : first + len(keys)]
    rows.copy_(best(torch.cat([rows, keys], dim=1), LINKS))
