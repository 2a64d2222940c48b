"""The kinds of unit a model can be indexed by: the only importer of their files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from indexer.errors import NeurariumError
from indexer.models import heads, hook_points, latents, tensors
from indexer.models.asked import Asked
from indexer.models.capture import Trunk
from indexer.models.layout import Layout
from indexer.models.units import UnitSet


@dataclass(frozen=True)
class Kind:
    """A kind of unit, such as MLP neurons."""

    takes: Callable[[Asked], bool]
    """Whether it is units of this kind that are asked for."""
    problem: Callable[[Layout], str | None]
    """Why a model has no such units that can be indexed, a full message; None if it has."""
    choose: Callable[[Layout, Asked], Asked]
    """What is asked for, complete and checked as far as it can be without weights; where nothing
    is asked for, the model's default. Raises `NeurariumError`."""
    find: Callable[[Trunk, Layout, nn.Module, Asked], UnitSet]
    """The units that were chosen, in a loaded model. Raises `NeurariumError`."""


MLP = Kind(
    hook_points.takes,
    hook_points.mlp_problem,
    hook_points.choose_hook_point,
    hook_points.find_neurons,
)
HEADS = Kind(heads.takes, heads.attention_problem, heads.choose_pattern, heads.find_heads)
TENSORS = Kind(tensors.takes, tensors.no_problem, tensors.choose_tensor, tensors.find_tensor)
LATENTS = Kind(latents.takes, latents.no_problem, latents.choose_dictionary, latents.find_latents)
KINDS = (HEADS, LATENTS, TENSORS, MLP)
"""The first kind that accepts the request is used. Without a request, MLP neurons are indexed."""


def choose(layout: Layout, asked: Asked) -> Asked:
    """What is asked for, checked and complete. Raises `NeurariumError` if the model lacks it."""
    kind = _kind_of(asked)
    if problem := kind.problem(layout):
        raise NeurariumError(problem)
    return kind.choose(layout, asked)


def find(trunk: Trunk, layout: Layout, root: nn.Module, asked: Asked) -> UnitSet:
    """The units that were chosen. Raises `NeurariumError` where they cannot be found."""
    return _kind_of(asked).find(trunk, layout, root, asked)


def _kind_of(asked: Asked) -> Kind:
    """The kind that takes what is asked for; MLP neurons where none does, which refuse it."""
    return next((kind for kind in KINDS if kind.takes(asked)), MLP)
