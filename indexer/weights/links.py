"""Neurons by other neurons' weights: which write alike, and which write what a later one reads.
Apart from the facts of one layer, because every pair of layers has its part in them.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from indexer.models.capture import LoadedModel
from indexer.weights.rank import NOTHING, best, largest, pack, unpack
from indexer.weights.read import PARTS, Reader
from indexer.weights.write import write_vectors

LINKS = 5
"""Neurons kept in each list."""

_TILE = 2048
"""Neurons of either side compared at once: 16 MiB of products."""

Array = np.ndarray[Any, Any]


class Links:
    """The lists of all neurons, filled a layer at a time as they are asked for.

    Every pair of layers is multiplied once, with the earlier layer: asked for in order, layer after
    layer, nothing is computed before it is needed. Held throughout: 120 bytes a neuron; while a
    layer is computed, two layers' write vectors in float32 and about 100 MiB.
    """

    def __init__(self, model: LoadedModel, readers: tuple[Reader | None, ...]) -> None:
        self._model = model
        self._readers = readers
        self._offsets = list(itertools.accumulate(model.widths, initial=0))
        shape = (self._offsets[-1], LINKS)
        self._lists = {
            name: torch.full(shape, NOTHING, dtype=torch.int64, device=model.device)
            for name in ("alike", "upstream", "downstream")
        }
        self._done = 0

    @torch.inference_mode()
    def of(self, layer: int) -> dict[str, Array]:
        """The lists of a layer's neurons, [neurons, at most 5] each; no list where none can be.

        `alike_neurons`, `alike_values`: highest cosine of write vectors in the whole model, itself
        left out; 0 for a neuron that writes nothing. `upstream_*`, `downstream_*`: what a neuron of
        an earlier layer writes · what one of a later layer reads, per unit of activation and up to
        the scale of the later layer's norm, the strongest by magnitude with their signs; `parts`
        says what is read, 0 `in`, 1 `gate`, and a neuron may be there with both. The norm's weight
        (and its centring) is in the product; attention and the layers between (in a post-norm model
        their norms too) are not. Neurons are flat indices over all layers; ties: the lower first,
        then `in` before `gate`.
        """
        while self._done <= layer:
            self._compare(self._done)
            self._done += 1
        first, end = self._offsets[layer : layer + 2]
        parts = [0 if reader is None else len(reader.matrices) for reader in self._readers]
        later = zip(parts[layer + 1 :], self._model.widths[layer + 1 :], strict=True)
        counts = {
            "alike": self._offsets[-1] - 1,
            "upstream": parts[layer] * first,
            "downstream": sum(part * width for part, width in later),
        }
        lists: dict[str, Array] = {}
        for name, count in counts.items():
            if not count:
                continue
            values, ids = unpack(self._lists[name][first:end, :count])
            if name != "alike":
                values = torch.where(ids & 1 == 1, -values, values)
                lists[f"{name}_parts"] = (ids >> 1 & 1).to(torch.uint8).cpu().numpy()
                ids = ids >> 2
            lists[f"{name}_neurons"] = ids.int().cpu().numpy()
            lists[f"{name}_values"] = values.cpu().numpy()
        return lists

    def _compare(self, layer: int) -> None:
        """A layer with itself and with every later one."""
        writes = write_vectors(self._model, layer)
        units = _units(writes)
        for other in range(layer, self._model.n_layers):
            others = units if other == layer else _units(write_vectors(self._model, other))
            self._compare_writes(layer, other, units, others)
            reader = self._readers[other]
            if other > layer and reader is not None:
                self._compare_reads(layer, other, writes, reader)

    def _compare_writes(
        self, layer: int, other: int, units: Float[Tensor, "n d"], others: Float[Tensor, "m d"]
    ) -> None:
        for i, row in _tiles(units):
            for j, column in _tiles(others):
                start, across = self._offsets[layer] + i, self._offsets[other] + j
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
        for i, row in _tiles(writes):
            written = reader.folded(row)
            for part, matrix in reader.matrices.items():
                for j, column in _tiles(matrix.T):
                    start, across = self._offsets[layer] + i, self._offsets[other] + j
                    products = written @ column.float().T
                    found = _strongest(products, across, part)
                    _add(self._lists["downstream"], start, found)
                    found = _strongest(products.T.contiguous(), start, part)
                    _add(self._lists["upstream"], across, found)


def _units(vectors: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Vectors of length 1, those of length 0 as they are."""
    lengths = vectors.norm(dim=1, keepdim=True)
    return vectors / torch.where(lengths > 0, lengths, 1)


def _tiles(vectors: Tensor) -> list[tuple[int, Tensor]]:
    return [(i * _TILE, some) for i, some in enumerate(torch.split(vectors, _TILE))]


def _strongest(products: Float[Tensor, "n m"], first: int, part: str) -> Int64[Tensor, "n k"]:
    """Keys of magnitude and of (neuron, part, sign), of the strongest products of each row."""
    magnitudes, columns = unpack(largest(products.abs(), LINKS))
    negative = (products.gather(1, columns) < 0).long()
    return pack(magnitudes, ((columns + first) * 2 + PARTS.index(part)) * 2 + negative)


def _add(lists: Int64[Tensor, "all k"], first: int, keys: Int64[Tensor, "n m"]) -> None:
    """Put what was found for the neurons from `first` on into their lists."""
    rows = lists[first : first + len(keys)]
    rows.copy_(best(torch.cat([rows, keys], dim=1), LINKS))
