"""What one unit does to the prediction of one text: the unit left alone, ablated, attributed.

This needs the whole model with its unembedding, which the scan does not run. Nothing in this module
may be called by several threads at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from indexer.interventions.attribute import Attribution, LastPosition, attribution
from indexer.interventions.hooks import removed
from indexer.interventions.predict import AS_IS, Predicted, last_log_probabilities, predicted
from indexer.interventions.set_units import Setting, units_set, why_not
from indexer.models.loaded import LoadedModel
from indexer.models.modules import first_tensor
from indexer.models.units import Place, first_of, present_place
from indexer.weights.units import known_writes

ZERO, MEAN = 1, 2
"""Rows of the one forward pass in which a unit is set to 0 and to its mean; in the row `AS_IS` it
is left alone."""


@dataclass(frozen=True)
class Effects:
    """What one unit does to the prediction at the end of one text."""

    as_is: Predicted
    zero_ablated: Predicted | None
    """None where the unit cannot be ablated."""
    mean_ablated: Predicted | None
    no_ablation: str
    """Why the unit cannot be ablated, a full sentence; else empty."""
    attribution: Attribution | None
    """None where it is not known what the unit writes."""


@torch.inference_mode()
def effects(
    model: LoadedModel,
    layer: int,
    unit: int,
    token_ids: list[int],
    *,
    first: int,
    mean: float,
    k: int = 10,
) -> Effects:
    """The next token predicted after `token_ids`, with a unit left alone, set to 0 and set to
    `mean` at every position from `first` (the first included one) on; and the unit's direct logit
    attribution to the most likely token.

    The three predictions are rows of one forward pass. Each names the `k` most likely tokens. In a
    model that normalises after each addition (GPT-1, OPT 350m) the attribution is exact for the
    last layer; for earlier layers it leaves out the norms between. Raises `NeurariumError` when
    memory runs out, or where the unembedding is not known.
    """
    tokens = torch.tensor([token_ids] * 3, device=model.device)
    writes = known_writes(model, layer)
    source = None if writes is None else writes.source
    inner_norm = None if writes is None else writes.inner_norm
    outer_norm = None if writes is None else writes.outer_norm
    seen: dict[str, Tensor] = {}
    rows = {ZERO: [Setting(unit, 0.0)], MEAN: [Setting(unit, mean)]}
    no_ablation = why_not(model, layer)
    after = range(first, tokens.shape[1])
    with (
        contextlib.nullcontext()
        if no_ablation
        else units_set(model, layer, rows, after, (3, tokens.shape[1])),
        _seeing_place(source, tokens.shape, seen),
        _seeing_units(
            model, layer, tokens.shape, seen, wanted=writes is not None and source is None
        ),
        _seeing(inner_norm, "inner_norm", tokens.shape, seen),
        _seeing(outer_norm, "outer_norm", tokens.shape, seen),
        _seeing(model.layout.final_norm(model.root), "final_norm", tokens.shape, seen),
    ):
        log_p = last_log_probabilities(model, tokens)
    as_is = predicted(log_p, AS_IS, k)
    zero, mean_ablated = (None if no_ablation else predicted(log_p, row, k) for row in rows)
    direct = None
    if writes is not None:
        last = LastPosition(
            seen["source"],
            seen.get("inner_norm"),
            seen.get("outer_norm"),
            seen.get("final_norm"),
            float(writes.scale_at(seen["place"])) if writes.scale_at else 1.0,
        )
        direct = attribution(model, writes, unit, as_is.token_ids[0], last)
    return Effects(as_is, zero, mean_ablated, no_ablation, direct)


@contextlib.contextmanager
def _seeing(
    module: nn.Module | None, name: str, shape: tuple[int, ...], seen: dict[str, Tensor]
) -> Iterator[None]:
    """Keep a module's input at the last position of row `AS_IS`, in float32, as `seen[name]`."""
    if module is None:
        yield
        return

    def keep(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = args[0] if args else next(iter(kwargs.values()))
        seen[name] = x.reshape(*shape, x.shape[-1])[AS_IS, -1].float()

    with removed(module.register_forward_pre_hook(keep, with_kwargs=True)):
        yield


@contextlib.contextmanager
def _seeing_place(
    place: Place | None, shape: tuple[int, ...], seen: dict[str, Tensor]
) -> Iterator[None]:
    """As `_seeing`, of a place: `seen["source"]` [n] is what the units' vectors are multiplied by
    at the last position."""
    if place is None:
        yield
        return

    def keep(_module: Any, args: Any, kwargs: Any, output: Any = None) -> None:
        x = first_of(output) if place.side == "output" else first_tensor(args, kwargs)
        assert x is not None
        seen["source"] = place.own(x.reshape(*shape, x.shape[-1]))[AS_IS, -1].float()

    module = place.module
    if place.side == "output":
        handle = module.register_forward_hook(keep, with_kwargs=True)
    else:
        handle = module.register_forward_pre_hook(keep, with_kwargs=True)
    with removed(handle):
        yield


@contextlib.contextmanager
def _seeing_units(
    model: LoadedModel, layer: int, shape: tuple[int, ...], seen: dict[str, Tensor], *, wanted: bool
) -> Iterator[None]:
    """As `_seeing` of a layer's units, as `seen["source"]`: their own activations; and of their
    place, as `seen["place"]`."""
    if not wanted:
        yield
        return
    held: dict[str, Tensor] = {}
    place = present_place(model.units, layer)
    with _seeing_place(place, shape, held):
        yield
    # Twice, unless it is the text's first: at a context's first position, latents may all be 0.
    seen["place"] = held["source"]
    given = held["source"].expand(1, min(2, shape[1]), -1)
    seen["source"] = model.units.captured(layer, given, ()).activations[0, -1].float()
