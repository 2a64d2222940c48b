"""Sets units to given activations in some rows of a forward pass."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from indexer.errors import NeurariumError
from indexer.interventions.hooks import changing, looking, replaced
from indexer.models.loaded import LoadedModel
from indexer.models.units import Target, UnitSet, Unknown, present_place


@dataclass(frozen=True)
class Setting:
    """The activation that a unit of a layer is set to."""

    unit: int
    value: float


def why_not(model: LoadedModel, layer: int) -> str:
    """Why a layer's units cannot be set, a full sentence; empty if they can."""
    target = model.units.target(layer)
    return target.reason if isinstance(target, Unknown) else ""


@contextlib.contextmanager
def units_set(
    model: LoadedModel,
    layer: int,
    rows: Mapping[int, Sequence[Setting]],
    positions: Sequence[int],
    shape: tuple[int, int],
) -> Iterator[None]:
    """Set units of one layer at `positions` of some rows of a forward pass over tokens [batch, pos]
    of this shape. Units of a row are set together: none is set by what setting another changed.

    Raises `NeurariumError` where the layer's units cannot be set.
    """
    target = model.units.target(layer)
    if isinstance(target, Unknown):
        raise NeurariumError(target.reason)
    at = torch.tensor(list(positions), dtype=torch.long, device=model.device)
    with contextlib.ExitStack() as hooks:
        if target is None:
            _set_here(hooks, model.units, layer, rows, at, shape)
        else:
            _set_there(hooks, model.units, layer, target, rows, at, shape)
        yield


def _set_here(
    hooks: contextlib.ExitStack,
    units: UnitSet,
    layer: int,
    rows: Mapping[int, Sequence[Setting]],
    at: Tensor,
    shape: tuple[int, int],
) -> None:
    """Set units in the tensor they are read from. `shape` is (batch, pos); `at` are positions
    [k]."""
    place = present_place(units, layer)

    def changed(values: Tensor) -> Tensor:
        def change(own: Tensor) -> Tensor:
            for row, settings in rows.items():
                own[row, at] = _together(units, layer, own[row, at], settings)
            return own

        return replaced(place, values, shape, change)

    hooks.enter_context(changing(place, changed))


def _together(
    units: UnitSet, layer: int, before: Float[Tensor, "at n"], settings: Sequence[Setting]
) -> Float[Tensor, "at n"]:
    """What was read, with all units set."""
    after = before.to(torch.float32, copy=True)
    for setting in settings:
        alone = before.clone()
        units.set_unit(layer, alone, setting.unit, setting.value)
        if len(settings) == 1:
            return alone  # not rounded twice
        after += alone.float() - before.float()
    return after.to(before.dtype)


def _set_there(
    hooks: contextlib.ExitStack,
    units: UnitSet,
    layer: int,
    target: Target,
    rows: Mapping[int, Sequence[Setting]],
    at: Tensor,
    shape: tuple[int, int],
) -> None:
    """Set units at their target, by what was read at their own place earlier in the same pass.
    `shape` is (batch, pos); `at` are positions [k]."""
    place = present_place(units, layer)
    changes: dict[int, Float32[Tensor, "at n"]] = {}

    def read(values: Tensor) -> None:
        own = place.own(values.reshape(*shape, values.shape[-1]))
        for row, settings in rows.items():
            each = [target.change(own[row], one.unit, one.value)[at] for one in settings]
            changes[row] = torch.stack(each).sum(0)

    def changed(values: Tensor) -> Tensor:
        def change(own: Tensor) -> Tensor:
            for row in rows:
                own[row, at] = (own[row, at].float() + changes.pop(row)).to(own.dtype)
            return own

        return replaced(target.place, values, shape, change)

    hooks.enter_context(looking(place, read))
    hooks.enter_context(changing(target.place, changed))
