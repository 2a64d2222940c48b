"""Computes activations by a plain forward pass with plain hooks, independently of the code that the
scan captures with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers
from jaxtyping import Float, Float32
from torch import Tensor

from indexer.corpus.batches import Batch
from indexer.errors import NeurariumError
from indexer.models.failures import out_of_memory
from indexer.models.loaded import LoadedModel
from indexer.models.units import Place


@dataclass(frozen=True)
class LayerActivations:
    """The activations of one layer on one batch."""

    activations: Float32[np.ndarray, "batch pos n"]
    gate: Float[Tensor, "batch pos n"] | None
    linear: Float[Tensor, "batch pos n"] | None
    lowest: Float32[np.ndarray, "batch pos n"]
    """What rounding allows: `activations` themselves, unless units compare sums."""
    highest: Float32[np.ndarray, "batch pos n"]


def forward(
    model: LoadedModel,
    batch: Batch,
    on_layer: Callable[[int, LayerActivations], None],
    rounding: float = 0.0,
) -> None:
    """Run the model on a batch and pass each layer to `on_layer`; `rounding` is the share of
    `UnitSet.between`.

    Raises NeurariumError if memory runs out.
    """
    shape = batch.tokens.shape
    parts: dict[tuple[int, int], Tensor] = {}
    handles = []

    def part_of(place: Place, values: Tensor) -> Tensor:
        values = values.reshape(*shape, values.shape[-1])
        if place.columns is not None:
            return values.index_select(-1, place.columns)
        if place.half is None:
            return values
        width = values.shape[-1] // 2
        return values[..., place.half * width : (place.half + 1) * width]

    def at_part(layer: int, which: int, place: Place) -> Callable[..., None]:
        def hook(_module: Any, _args: Any, output: Tensor) -> None:
            parts[layer, which] = part_of(place, output)

        return hook

    def at_place(layer: int, place: Place) -> Callable[..., None]:
        def hook(_module: Any, args: Any, kwargs: Any, output: Any = None) -> None:
            if place.side == "output":
                values = output[0] if isinstance(output, tuple) else output
            else:
                values = args[0] if args else next(iter(kwargs.values()))
            held = [parts.pop((layer, which), None) for which in range(len(place.parts))]
            known = tuple(part for part in held if part is not None)
            own = part_of(place, values)
            seen = model.units.captured(layer, own, known)
            acts = seen.activations.float().cpu().numpy()
            between = model.units.between(layer, own, rounding) if rounding else None
            limits = [acts, acts]
            if between is not None:
                limits = [limit.float().cpu().numpy() for limit in between]
            on_layer(layer, LayerActivations(acts, seen.gate, seen.linear, *limits))

        return hook

    for layer, place in enumerate(model.units.places):
        if place is None:
            continue
        for which, part in enumerate(place.parts):
            handles.append(part.module.register_forward_hook(at_part(layer, which, part)))
        hook = at_place(layer, place)
        if place.side == "output":
            handle = place.module.register_forward_hook(hook, with_kwargs=True)
        else:
            handle = place.module.register_forward_pre_hook(hook, with_kwargs=True)
        handles.append(handle)
    try:
        with torch.inference_mode():
            _call(model, batch)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise NeurariumError(
            f"There is not enough memory on {model.device} for {shape[0]} × {shape[1]} tokens of "
            f"{model.source.label!r}, the size of the run's own batches."
        ) from error
    finally:
        for handle in handles:
            handle.remove()


def _call(model: LoadedModel, batch: Batch) -> None:
    tokens = torch.from_numpy(batch.tokens).to(model.device)
    attention = torch.from_numpy(batch.attention.astype(np.int64)).to(model.device)
    if isinstance(model.root, transformers.PreTrainedModel):
        # Without the unembedding: logits would take most of the memory.
        model.root.base_model(input_ids=tokens, attention_mask=attention, use_cache=False)
    else:
        model.root(input_ids=tokens, attention_mask=attention)
