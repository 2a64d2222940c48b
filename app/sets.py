"""Which set of units of a model an address means."""

from __future__ import annotations

from dataclasses import dataclass

from indexer.store.units import NEURONS


@dataclass(frozen=True, slots=True)
class ModelSet:
    """A model and one of its sets of units, as an address names them."""

    model: str
    set: str | None = None
    """None: the model's default set, which addresses leave out."""

    @classmethod
    def parse(cls, name: str) -> ModelSet:
        """From what `str` makes of it."""
        model, _, units = name.partition("/")
        return cls(model, units or None)

    def __str__(self) -> str:
        """`demo`, or `demo/resid_post`: the first part of a unit's name in lists and notes."""
        return self.model if self.set is None else f"{self.model}/{self.set}"


def name_of(model: str, set_name: str) -> ModelSet:
    """How addresses name a set: neurons are left out."""
    return ModelSet(model, None if set_name == NEURONS else set_name)
