"""Other people's ways of finding each neuron's top contexts, written from their published
descriptions, in a few plain lines each.

Each is given more than the original had: sdpa attention where it runs the plain model, padding that
is left out, and no masking where there is no padding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from transformer_lens.model_bridge import TransformerBridge

from indexer.corpus.batches import Batch
from indexer.models.failures import quiet
from indexer.models.loaded import LoadedModel


class Way(Protocol):
    """A way to find the contexts with the highest peaks, with its state so far."""

    def add(self, batch: Batch) -> None:
        """A forward pass over a batch, and an update of the state."""
        ...

    def best(self, layer: int) -> tuple[Float[Tensor, "k n"], Int64[Tensor, "k n"]]:
        """A layer's highest peaks, the highest first, and their contexts."""
        ...


def on_device(batch: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
    """A batch's token ids and attention mask, on the model's device."""
    tokens = torch.from_numpy(batch.tokens).to(device)
    return tokens, torch.from_numpy(batch.attention).to(device, torch.long)


def counted(
    activations: Float[Tensor, "batch pos n"], batch: Batch
) -> Float[Tensor, "batch included n"]:
    """Activations from the first included position on; −inf where a position is not included.
    A batch without padding is not copied."""
    first = int(batch.included.argmax(axis=1).min())
    activations, included = activations[:, first:], batch.included[:, first:]
    if included.all():
        return activations
    left_out = torch.from_numpy(~included).to(activations.device)
    return activations.masked_fill(left_out[:, :, None], -torch.inf)


@contextmanager
def watched(model: LoadedModel, on_layer: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Call `on_layer` with the input of each layer's output projection."""

    def hook(layer: int) -> Any:
        return lambda _, args: on_layer(layer, args[0])

    handles = [
        place.module.register_forward_pre_hook(hook(layer))
        for layer, place in enumerate(model.units.places)
        if place is not None
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class Neuroscope:
    """Neuroscope's scanning script: the whole model runs with a hook on every MLP. Each layer's
    maxima over positions are sorted, highest first; context after context replaces each neuron's
    smallest, until none is large enough.

    It runs the plain model with sdpa; Neuroscope ran TransformerLens's, with eager attention.
    """

    def __init__(self, model: LoadedModel, k: int) -> None:
        self.model = model
        self.stores = [_Replacing(width, k, model.device) for width in model.units.widths]

    def add(self, batch: Batch) -> None:
        """A forward pass with logits; each layer's store is updated as it runs."""
        tokens, attention = on_device(batch, self.model.device)
        ids = torch.from_numpy(batch.context_ids).to(self.model.device)

        def update(layer: int, activations: Tensor) -> None:
            self.stores[layer].add(counted(activations, batch).amax(dim=1).float(), ids)

        with torch.inference_mode(), watched(self.model, update):
            self.model.root(input_ids=tokens, attention_mask=attention)

    def best(self, layer: int) -> tuple[Float[Tensor, "k n"], Int64[Tensor, "k n"]]:
        """A layer's highest peaks, the highest first, and their contexts."""
        store = self.stores[layer]
        values, order = store.values.sort(dim=0, descending=True)
        return values, store.ids.gather(0, order)


class _Replacing:
    """The k highest values of each column, unordered: a new value replaces the smallest."""

    def __init__(self, columns: int, k: int, device: torch.device) -> None:
        self.values = torch.full((k, columns), -torch.inf, device=device)
        self.ids = torch.full((k, columns), -1, device=device)

    def add(self, peaks: Float32[Tensor, "batch n"], ids: Int64[Tensor, " batch"]) -> None:
        ranked, order = peaks.sort(dim=0, descending=True)
        for values, contexts in zip(ranked, ids[order], strict=True):
            smallest, places = self.values.min(dim=0)
            higher = smallest < values
            if higher.sum().item() == 0:
                break
            self.values[places[higher], higher] = values[higher]
            self.ids[places[higher], higher] = contexts[higher]


class RunWithCache:
    """TransformerLens: `run_with_cache` of all layers, then for each layer maxima over positions,
    joined to the best so far, and a top-k over contexts. The bridge forces eager attention.
    """

    def __init__(self, model: LoadedModel, k: int) -> None:
        self.device, self.k = model.device, k
        with quiet():
            self.bridge = TransformerBridge.boot_transformers(
                model.source.location,
                device=str(model.device),
                dtype=model.dtype,
                hf_model=copy.deepcopy(model.root),  # booting changes it, and its tokenizer
                tokenizer=copy.deepcopy(model.tokens.tokenizer),
            )
        self.names = [
            f"blocks.{layer}.{model.units.hook_point}" for layer in range(model.layout.n_layers)
        ]
        self.values = [
            torch.empty((0, width), dtype=model.dtype, device=model.device)
            for width in model.units.widths
        ]
        self.ids = [torch.empty((0, width), dtype=torch.long) for width in model.units.widths]
        self.ids = [ids.to(model.device) for ids in self.ids]

    def add(self, batch: Batch) -> None:
        """A forward pass with logits and a cache of all layers, then a top-k of each."""
        tokens, attention = on_device(batch, self.device)
        contexts = torch.from_numpy(batch.context_ids).to(self.device)
        with torch.inference_mode():
            _, cache = self.bridge.run_with_cache(
                tokens, attention_mask=attention, names_filter=self.names
            )
            for layer, name in enumerate(self.names):
                peaks = counted(cache[name], batch).amax(dim=1)
                values = torch.cat([self.values[layer], peaks])
                ids = torch.cat([self.ids[layer], contexts[:, None].expand_as(peaks)])
                best = values.topk(min(self.k, len(values)), dim=0)
                self.values[layer] = best.values
                self.ids[layer] = ids.gather(0, best.indices)

    def best(self, layer: int) -> tuple[Float[Tensor, "k n"], Int64[Tensor, "k n"]]:
        """A layer's highest peaks, the highest first, and their contexts."""
        return self.values[layer], self.ids[layer]
