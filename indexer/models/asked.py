"""Which set of units a run is asked for. Imports no model library, so
that options are checked first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from indexer.models.names import MLP_HOOK_POINTS


@dataclass(frozen=True)
class Asked:
    """A set of units as the user asks for it, or as a run says that it was.

    A kind of unit that needs more than a hook point adds fields here, with defaults that mean that
    it is not asked for. Values are JSON: a run stores those that differ from the default.
    """

    hook_point: str | None = None
    """TransformerLens's name of the place captured; None: the model's or the kind's default."""

    dictionary: str | None = None
    """Files, folders or hub repositories of dictionaries, separated by commas."""
    force: bool = False
    """Whether to go on where a dictionary names another model, or reconstructs worse than it
    declares."""

    def as_dict(self) -> dict[str, Any]:
        """The fields that are not at their defaults."""
        values = ((field, getattr(self, field.name)) for field in fields(self))
        return {field.name: value for field, value in values if value != field.default}

    def units(self) -> dict[str, Any]:
        """What tells the set from a model's neurons at any hook point: empty for those."""
        asked = self.as_dict()
        return {} if set(asked) <= {"hook_point"} and self._at_mlp else asked

    @property
    def _at_mlp(self) -> bool:
        return self.hook_point is None or self.hook_point in MLP_HOOK_POINTS

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Asked:
        """From `as_dict`, among other keys."""
        known = [field.name for field in fields(cls) if field.name in stored]
        return cls(**{name: stored[name] for name in known})


MODELS_OWN = Asked()
"""Nothing is asked for: a model's MLP neurons at its default hook point."""
