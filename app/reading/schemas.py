"""The objects with a neuron's statistics that more than one wing answers with."""

from __future__ import annotations

from pydantic import Field

from app.reading.statistics import STATISTICS
from app.schemas import NewestNote, Schema, UnitName


class NeuronRow(Schema):
    """One neuron in a list."""

    layer: int
    neuron: int
    name: UnitName = None
    max: float
    min: float
    mean: float
    std: float
    skewness: float | None
    kurtosis: float | None
    density: float
    lookup: float | None = Field(description=STATISTICS["lookup"].described("; null if unknown"))
    effect_kurtosis: float | None = Field(description=STATISTICS["effect_kurtosis"].described())
    dead: bool
    peak_token: str = Field(description="The token it peaks on.")
    promoted_token: str | None = Field(
        description="The token it promotes most; null if what it writes is not known."
    )
    note: NewestNote = None
