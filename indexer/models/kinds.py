"""The kinds of unit a model can be indexed by: the only importer of their files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from indexer.errors import NeurariumError
from indexer.models.capture import Trunk
from indexer.models.heads import attention_problem, choose_pattern, find_heads
from indexer.models.hook_points import choose_hook_point, find_neurons, mlp_problem
from indexer.models.layout import Layout
from indexer.models.names import HOOK_PATTERN, MLP_HOOK_POINTS
from indexer.models.units import UnitSet


@dataclass(frozen=True)
class Kind:
    """A kind of unit, such as MLP neurons."""

    hook_points: tuple[str, ...]
    """Where its units may be captured, in models that have them."""
    problem: Callable[[Layout], str | None]
    """Why a model has no such units that can be indexed, a full message; None if it has."""
    choose: Callable[[Layout, str | None], str]
    """The hook point asked for, or the model's default. Raises `NeurariumError`."""
    find: Callable[[Trunk, Layout, nn.Module, str], UnitSet]
    """The units at a hook point that was chosen. Raises `NeurariumError`."""
    by_default: bool = True
    """Whether a model may be indexed by them without being asked to."""


KINDS = (
    Kind(MLP_HOOK_POINTS, mlp_problem, choose_hook_point, find_neurons),
    Kind((HOOK_PATTERN,), attention_problem, choose_pattern, find_heads, by_default=False),
)
"""A model is indexed by the first that it has and that is a default, unless the user chooses."""


def check(layout: Layout) -> None:
    """Refuse a model that has no kind of unit. Raises `NeurariumError`."""
    problems = [kind.problem(layout) for kind in KINDS]
    if None not in problems:
        raise NeurariumError(str(problems[0]))


def choose(layout: Layout, asked: str | None) -> str:
    """The hook point asked for, or the default. Raises `NeurariumError` if the model lacks it."""
    check(layout)
    present = [kind for kind in KINDS if kind.by_default and kind.problem(layout) is None]
    kind = next(iter(present), KINDS[0]) if asked is None else _kind_at(asked)
    if problem := kind.problem(layout):
        raise NeurariumError(problem)
    return kind.choose(layout, asked)


def find(trunk: Trunk, layout: Layout, root: nn.Module, hook_point: str) -> UnitSet:
    """A model's units at a hook point. Raises `NeurariumError` where they cannot be found."""
    return _kind_at(hook_point).find(trunk, layout, root, hook_point)


def _kind_at(hook_point: str) -> Kind:
    """The kind with this hook point; for unknown names the first kind, which refuses them."""
    return next((kind for kind in KINDS if hook_point in kind.hook_points), KINDS[0])
