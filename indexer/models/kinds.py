"""The kinds of unit a model can be indexed by: the only importer of their files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from indexer.models.capture import Trunk
from indexer.models.hook_points import choose_hook_point, find_neurons
from indexer.models.layout import Layout
from indexer.models.names import MLP_HOOK_POINTS
from indexer.models.units import UnitSet


@dataclass(frozen=True)
class Kind:
    """A kind of unit, such as MLP neurons."""

    hook_points: tuple[str, ...]
    """Where its units may be captured, in models that have them."""
    choose: Callable[[Layout, str | None], str]
    """The hook point asked for, or the model's default. Raises `NeurariumError`."""
    find: Callable[[Trunk, Layout, nn.Module, str], UnitSet]
    """The units at a hook point that was chosen. Raises `NeurariumError`."""


KINDS = (Kind(MLP_HOOK_POINTS, choose_hook_point, find_neurons),)
"""The first is the default."""


def choose(layout: Layout, asked: str | None) -> str:
    """The hook point asked for, or the default. Raises `NeurariumError` if the model lacks it."""
    return _kind_at(asked).choose(layout, asked)


def find(trunk: Trunk, layout: Layout, root: nn.Module, hook_point: str) -> UnitSet:
    """A model's units at a hook point. Raises `NeurariumError` where they cannot be found."""
    return _kind_at(hook_point).find(trunk, layout, root, hook_point)


def _kind_at(hook_point: str | None) -> Kind:
    """The kind with this hook point; the default kind for None and for unknown names, which it
    refuses."""
    return next((kind for kind in KINDS if hook_point in kind.hook_points), KINDS[0])
