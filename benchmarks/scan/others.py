"""Other ways to find each neuron's top contexts, each written anew from its published description.

Apart from `indexing.py`, which times them, because they are nobody's measurement: a few plain lines
each. All are given more than they had: sdpa attention where their model is the plain one, padding
left out, and no work where there is none to leave out.
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
    """One way to find the contexts with the highest peaks, and what it has found so far."""

    def add(self, batch: Batch) -> None:
        """One forward pass over a batch, and whatever is done with it."""
        ...

    def best(self, layer: int) -> tuple[Float[Tensor, "k n"], Int64[Tensor, "k n"]]:
        """A layer's highest peaks, the highest first, and their contexts."""
        ...

    @property
    def held(self) -> tuple[Tensor, ...]:
        """All that is kept from batch to batch."""
        ...


def on_device(batch: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
    """A batch's token ids and attention mask where the model is."""
    tokens = torch.from_numpy(batch.tokens).to(device)
    return tokens, torch.from_numpy(batch.attention).to(device, torch.long)


def counted(
    activations: Float[Tensor, "batch pos n"], batch: Batch
) -> Float[Tensor, "batch included n"]:
    """Activations from the first included position on; −inf where a position is not included.

    A batch without padding, as most published code has it, is not copied.
    """
    first = int(batch.included.argmax(axis=1).min())
    activations, included = activations[:, first:], batch.included[:, first:]
    if included.all():
        return activations
    left_out = torch.from_numpy(~included).to(activations.device)
    return activations.masked_fill(left_out[:, :, None], -torch.inf)


@contextmanager
def watched(model: LoadedModel, on_layer: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Hand over what each layer's output projection is given, with a hook on each."""

    def hook(layer: int) -> Any:
        return lambda _, args: on_layer(layer, args[0])

    handles = [
        place.module.register_forward_pre_hook(hook(layer))
        for layer, place in enumerate(model.units.places)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class Neuroscope:
    """Neuroscope's way, as its scanning script has it: the whole model runs with a hook on every
    MLP; each layer's maxima over positions go to a store that sorts the batch, the highest first,
    and puts one context after another in the place of each neuron's smallest, until none enters.

    The plain model with sdpa, where Neuroscope ran TransformerLens's, whose attention is eager.
    """

    def __init__(self, model: LoadedModel, k: int) -> None:
        self.model = model
        self.stores = [_Replacing(width, k, model.device) for width in model.units.widths]

    def add(self, batch: Batch) -> None:
        """One forward pass with logits; each layer's store is brought up to date as it runs."""
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

    @property
    def held(self) -> tuple[Tensor, ...]:
        """Peaks and contexts of every layer."""
        return tuple(part for store in self.stores for part in (store.values, store.ids))


class _Replacing:
    """The k highest values of each column, in no order: a newcomer takes the smallest's place."""

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
    """TransformerLens's own: `run_with_cache` of every layer's activations, then, layer by layer,
    maxima over positions joined to the best so far, and a top-k over contexts.

    The bridge forces eager attention and computes logits.
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
        hook_point = model.units.hook_point
        self.names = [f"blocks.{layer}.{hook_point}" for layer in range(model.layout.n_layers)]
        self.values = [
            torch.empty((0, width), dtype=model.dtype, device=model.device)
            for width in model.units.widths
        ]
        self.ids = [torch.empty((0, width), dtype=torch.long) for width in model.units.widths]
        self.ids = [ids.to(model.device) for ids in self.ids]

    def add(self, batch: Batch) -> None:
        """One forward pass with logits and a cache of all layers, then a top-k of each."""
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

    @property
    def held(self) -> tuple[Tensor, ...]:
        """Peaks and contexts of every layer."""
        return (*self.values, *self.ids)


class Concatenated:
    """Concatenate and gather: whole activations of the k best contexts of each neuron are kept, a
    batch's are put behind them, and a top-k of the maxima over positions says which are gathered.
    """

    def __init__(self, model: LoadedModel, k: int, positions: int) -> None:
        """`positions` are the included ones of the longest context."""
        self.model, self.k, self.positions = model, k, positions
        self.kept = [
            torch.empty((0, positions, width), dtype=model.dtype, device=model.device)
            for width in model.units.widths
        ]
        self.ids = [torch.empty((0, width), dtype=torch.long) for width in model.units.widths]
        self.ids = [ids.to(model.device) for ids in self.ids]

    def add(self, batch: Batch) -> None:
        """One forward pass with logits; each layer's best are chosen anew as it runs."""
        tokens, attention = on_device(batch, self.model.device)
        contexts = torch.from_numpy(batch.context_ids).to(self.model.device)

        def choose(layer: int, activations: Tensor) -> None:
            new = counted(activations, batch)
            if new.shape[1] < self.positions:
                more = self.positions - new.shape[1]
                new = torch.nn.functional.pad(new, (0, 0, 0, more), value=-torch.inf)
            joined = torch.cat([self.kept[layer], new])
            ids = torch.cat([self.ids[layer], contexts[:, None].expand(-1, new.shape[2])])
            best = joined.amax(dim=1).topk(min(self.k, len(joined)), dim=0).indices
            places = best[:, None, :].expand(-1, self.positions, -1)
            self.kept[layer] = joined.gather(0, places)
            self.ids[layer] = ids.gather(0, best)

        with torch.inference_mode(), watched(self.model, choose):
            self.model.root(input_ids=tokens, attention_mask=attention)

    def best(self, layer: int) -> tuple[Float[Tensor, "k n"], Int64[Tensor, "k n"]]:
        """A layer's highest peaks, the highest first, and their contexts."""
        return self.kept[layer].amax(dim=1), self.ids[layer]

    @property
    def held(self) -> tuple[Tensor, ...]:
        """Activations and contexts of every layer."""
        return (*self.kept, *self.ids)
