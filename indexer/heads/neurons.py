"""How heads compose with the model's MLP neurons, from the weights alone.

A neuron is composed with as a head is (Elhage et al. 2021, "A Mathematical Framework for
Transformer Circuits"): ‖A B‖ ÷ (‖A‖ · ‖B‖) in Frobenius norms, where one of the matrices is the
neuron's vector. Scores are between 0 and 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from indexer.errors import NeurariumError
from indexer.heads.folded import FoldedLayer, factor, norms
from indexer.models.asked import MODELS_OWN
from indexer.models.kinds import choose, find
from indexer.models.loaded import LoadedModel
from indexer.models.units import READ_PARTS, Reader, UnitSet, Unknown
from indexer.store.places import Places
from indexer.weights.rank import NOTHING, best, largest, pack, unpack

TOP_NEURONS = 5
"""Neurons of each list, at most."""
_TILE = 1024
"""Neurons compared with a layer's heads at once."""
_PROBES = 4
"""Tokens in the forward pass that shows how the neurons read."""


@dataclass(frozen=True)
class NeuronComposition:
    """A neuron that a head composes with, and how strongly."""

    layer: int
    neuron: int
    part: str | None
    """What a gated neuron reads the head with, `in` or `gate`; None for all others."""
    score: float


@dataclass(frozen=True)
class NeuronLists:
    """The neurons that one head composes with most, the strongest first; None where not known."""

    queries: list[NeuronComposition] | None
    """Neurons of earlier layers whose output the head's queries read: ‖u M‖ ÷ (‖u‖ · ‖M‖), u the
    neuron's write vector, M = W_Q W_Kᵀ."""
    keys: list[NeuronComposition] | None
    """By its keys: M = W_K W_Qᵀ."""
    values: list[NeuronComposition] | None
    """By its values: M = W_V W_O."""
    readers: list[NeuronComposition] | None
    """Neurons that read the head's output: ‖W_V W_O w‖ ÷ (‖W_V W_O‖ · ‖w‖), w the neuron's read
    vector (a column of W_in, or of W_gate) with the norm before it folded in."""


@dataclass(frozen=True, eq=False)
class ModelNeurons:
    """A model's MLP neurons as heads meet them."""

    units: UnitSet
    readers: tuple[Reader | Unknown, ...]
    same_layer: bool
    """Whether neurons read the output of the heads in their own layer: not if attention and MLP
    read the same input."""

    def written(self, layer: int) -> Float[Tensor, "neurons d_model"] | Unknown:
        """What a layer's neurons write."""
        writes = self.units.writes(layer)
        return writes if isinstance(writes, Unknown) else writes.vectors

    def unknown(self) -> str | None:
        """Why neurons are left out, a sentence; None if all are known."""
        layers = range(len(self.readers))
        unknown = [u for u in (*self.readers, *map(self.written, layers)) if isinstance(u, Unknown)]
        return unknown[0].reason if unknown else None


def model_neurons(model: LoadedModel) -> ModelNeurons | Unknown:
    """A model's neurons, or why it has none that are known. Runs the model over a few tokens."""
    layout = model.layout
    try:
        neurons = find(model.trunk, layout, model.root, choose(layout, MODELS_OWN))
    except NeurariumError as error:
        return Unknown(str(error))
    token_ids = torch.linspace(0, model.known_tokens - 1, _PROBES).long()[None]
    parallel = bool(getattr(layout.adapter.cfg, "parallel_attn_mlp", False))
    return ModelNeurons(neurons, neurons.readers(token_ids), not parallel)


@torch.inference_mode()
def compositions(layer: int, own: FoldedLayer, neurons: ModelNeurons) -> list[NeuronLists]:
    """The neurons that each head of a layer composes with most, scores as in `NeuronLists`.

    As between heads, norms are folded in up to their scales, and biases, positions, attention and
    what lies in between are left out. Of equal scores the neuron of the lower layer and index comes
    first; neurons that read or write nothing are not listed. Costs neurons × d_model × d_head
    multiplications for each head and list.
    """
    places = Places(neurons.units.widths)
    lists = {
        name: _read(own, name, range(layer), neurons, places) for name in ("query", "key", "value")
    }
    readers = _readers(
        own, range(layer + (not neurons.same_layer), len(neurons.readers)), neurons, places
    )
    heads = range(len(own.write))
    gated = any(isinstance(r, Reader) and len(r.matrices) > 1 for r in neurons.readers)

    def of(
        keys: Int64[Tensor, "head k"] | None, head: int, *, with_parts: bool = False
    ) -> list[NeuronComposition] | None:
        return None if keys is None else _listed(keys[head], places, with_parts=with_parts)

    return [
        NeuronLists(
            queries=of(lists["query"], head),
            keys=of(lists["key"], head),
            values=of(lists["value"], head),
            readers=of(readers, head, with_parts=gated),
        )
        for head in heads
    ]


def _read(
    own: FoldedLayer, name: str, layers: range, neurons: ModelNeurons, places: Places
) -> Int64[Tensor, "head k"] | None:
    """Keys of the neurons of earlier layers that `read[name]` composes with most."""
    through, rest = own.read.get(name), own.rest(name)
    if through is None or rest is None:
        return None
    after = factor(rest).mT
    size = norms(factor(through) @ after)
    keys = _nothing(own)
    for layer in layers:
        vectors = neurons.written(layer)
        if isinstance(vectors, Unknown):
            continue
        for first, tile in _tiles(vectors):
            reached = torch.einsum("nd,hdr->hnr", tile, through) @ after
            scores = _scores(reached, tile, size)
            values, columns = unpack(largest(scores, TOP_NEURONS))
            found = pack(values, (columns + places.index(layer, first)) * 2)
            keys = best(torch.cat([keys, found], dim=1), TOP_NEURONS)
    return keys


def _readers(
    own: FoldedLayer, layers: range, neurons: ModelNeurons, places: Places
) -> Int64[Tensor, "head k"] | None:
    """Keys of the neurons that read the heads' output most."""
    if all(isinstance(neurons.readers[layer], Unknown) for layer in layers) and len(layers):
        return None
    written = factor(own.read["value"]) @ own.write
    size, keys = norms(written), _nothing(own)
    for layer in layers:
        reader = neurons.readers[layer]
        if isinstance(reader, Unknown):
            continue
        for part in reader.matrices:
            for first, tile in _tiles(reader.directions(part)):
                reached = torch.einsum("hrd,nd->hnr", written, tile)
                values, columns = unpack(largest(_scores(reached, tile, size), TOP_NEURONS))
                ids = (columns + places.index(layer, first)) * 2 + READ_PARTS.index(part)
                keys = best(torch.cat([keys, pack(values, ids)], dim=1), TOP_NEURONS)
    return keys


def _tiles(vectors: Float[Tensor, "n d_model"]) -> list[tuple[int, Tensor]]:
    return [(i * _TILE, tile) for i, tile in enumerate(torch.split(vectors.float(), _TILE))]


def _scores(
    reached: Float[Tensor, "head n r"], vectors: Float[Tensor, "n d"], size: Float[Tensor, " head"]
) -> Float[Tensor, "head n"]:
    """Lengths divided by both norms, ‖v M‖ ÷ (‖v‖ · ‖M‖); 0 where a norm is 0."""
    lengths = vectors.norm(dim=1)[None] * size[:, None]
    return torch.where(lengths > 0, reached.norm(dim=2) / lengths, 0.0)


def _nothing(own: FoldedLayer) -> Int64[Tensor, "head k"]:
    shape = (len(own.write), TOP_NEURONS)
    return torch.full(shape, NOTHING, dtype=torch.int64, device=own.write.device)


def _listed(
    keys: Int64[Tensor, " k"], places: Places, *, with_parts: bool
) -> list[NeuronComposition]:
    values, ids = unpack(keys[keys != NOTHING])
    found = []
    for score, packed in zip(values.tolist(), ids.tolist(), strict=True):
        if score > 0:
            layer, neuron = places.of(packed // 2)
            part = READ_PARTS[packed % 2] if with_parts else None
            found.append(NeuronComposition(layer, neuron, part, score))
    return found
