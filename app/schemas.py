"""The objects that more than one wing answers with."""

from __future__ import annotations

from datetime import datetime
from reprlib import Repr
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.sets import ModelSet, name_of
from indexer.store.units import activation_of

Order = Literal["asc", "desc"]
View = Literal["peak", "window", "context"]
"""The layouts of examples: lines aligned on the peak, the text around it, the whole context."""
DEFAULT_VIEW: View = "peak"
MOST_ABLATED = 50
"""The most neurons ablated together."""
_LINE = 200
"""The most characters of an answer's `repr`."""
_VALUES = Repr()
_VALUES.maxlevel = 1


class Schema(BaseModel):
    """The base of all answers: immutable, without undeclared fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __repr__(self) -> str:
        """A line that a notebook has room for: some answers hold thousands of values."""
        fields = (f"{name}={_VALUES.repr(value)}" for name, value in self.__dict__.items())
        line = f"{type(self).__name__}({', '.join(fields)})"
        return line if len(line) <= _LINE else f"{line[: _LINE - 2]}…)"


class Error(Schema):
    """The answer to every failed request."""

    error: str = Field(description="The kind of failure, such as `not_found`.")
    detail: str = Field(description="What was wrong and what to do, in one sentence.")
    status: int = Field(description="The HTTP status.")


UnitName = Annotated[
    str | None,
    Field(
        exclude_if=lambda name: name is None,
        description="Its name in the file of its dictionary; absent if it has none.",
    ),
]
"""What a unit is called, where its dictionary's file says so."""


NewestNote = Annotated[
    str | None,
    Field(
        exclude_if=lambda note: note is None,
        description="The text of its newest note; absent if it has none, and on a server without "
        "--notes.",
    ),
]
"""What somebody wrote on a unit last, in lists."""


class NeuronRef(Schema):
    """A neuron of a model."""

    layer: int
    neuron: int


NEWEST_NOTES = 20
"""The most notes with a neuron."""


class Note(Schema):
    """A note that someone wrote on a neuron."""

    id: int = Field(description="Its number, which is never reused.")
    model: str
    layer: int
    neuron: int
    name: UnitName = None
    time: datetime = Field(description="When it was written, in UTC.")
    author: str
    text: str


class TextPart(Schema):
    """A part of a text; in CSV, a list of parts is the text."""

    text: str


class UnitsRef(Schema):
    """What a run has units of: a set of units of its model."""

    set: str = Field(description="The set's name in URLs; `neurons` for the default set.")
    noun: str = Field(description="What one unit is called, such as `neuron`.")
    signed: bool = Field(description="Whether values below 0 count as much as values above it.")
    sparse: bool = Field(description="Whether most activations are exactly 0.")
    gated: bool = Field(description="Whether a unit reads with a gate and a linear part.")
    parts: bool = Field(description="Whether examples have the gate and the linear part.")
    dead_by_magnitude: bool = Field(
        description="Whether a dead unit has no magnitude above 1e-6, rather than no value above 0."
    )
    group: int | None = Field(
        description="Units of one group, such as a head's: unit 70 of groups of 64 is named 1.6."
    )
    blocks: int | None = Field(
        description="Blocks that read what layer 0 writes; null: all but its own."
    )
    two_sided: bool = Field(
        description="Whether the lowest activations say as much as the highest."
    )
    no_writes: str = Field(description="Why it is not known what units write; else empty.")
    no_reads: str = Field(description="Why it is not known what units read; else empty.")
    no_links: str = Field(description="Why weights do not link units; else empty.")

    @property
    def activation(self) -> str:
        """What an activation is and why units are ranked by it; empty where the word says
        enough."""
        return activation_of(self.set)

    @property
    def dead_means(self) -> str:
        """When a unit is dead, as the end of a sentence."""
        if self.dead_by_magnitude:
            return "no activation in the whole run is beyond ±1e−6"
        return "no activation in the whole run is above zero"

    @property
    def peaked(self) -> str:
        """The contexts whose peaks are kept."""
        return "sampled contexts in which it fires" if self.sparse else "sample's contexts"

    @property
    def counted(self) -> str:
        """The positions that density and the histogram of activations are of, as the end of a
        sentence."""
        return "all positions of the corpus" if self.sparse else "the sample’s positions"

    @property
    def ranked_among(self) -> str:
        """The positions that percentiles of an activation are among: of sparse units, which are 0
        at most positions, those at which they fire."""
        if self.sparse:
            return f"positions of the corpus at which the {self.noun} fires"
        return "sample’s positions"

    def label(self, unit: int, name: str | None = None) -> str:
        """A unit's noun and index, where it is in its group, and its name if it has one."""
        inside = f" ({unit // self.group}.{unit % self.group})" if self.group else ""
        return f"{self.noun} {unit}{inside}{f' “{name}”' if name else ''}"


class RunRef(Schema):
    """One run in short: what was indexed, and how."""

    id: int
    model: str = Field(description="The model's name in URLs.")
    model_id: str = Field(description="The model's Hub id or label.")
    revision: str | None
    hook_point: str = Field(description="The hook point captured, such as `mlp.hook_post`.")
    units: UnitsRef
    corpus: str
    dtype: str
    contexts: int = Field(description="Contexts scanned.")
    tokens: int = Field(description="Included positions scanned: no BOS, no padding.")
    ctx_len: int
    created_at: datetime
    content_hash: str = Field(description="SHA-256 over everything in the run.")

    @property
    def name(self) -> ModelSet:
        """The model and set of units, as addresses name them."""
        return name_of(self.model, self.units.set)


class Run(RunRef):
    """A run with its provenance."""

    n_layers: int
    n_neurons: int
    sample: Sample
    provenance: dict[str, Any] = Field(
        description="Model, weights hash, tokenizer, corpus fingerprint, policies, versions, times."
    )


class Sample(Schema):
    """The sample that all statistics but the extremes come from; of sparse units, also not their
    densities, histograms, quantiles, and random and intermediate examples."""

    contexts: int
    positions: int = Field(description="Included positions in those contexts.")


class Health(Schema):
    """The state of the server and its database."""

    status: Literal["ok"]
    version: str
    runs: int


class WholeRun(Schema):
    """A run with its size, for searches over all its neurons."""

    model: str
    run: RunRef
    sample: Sample
    n_layers: int
    n_neurons: int
    sources: list[str] = Field(description="The values that `source:` can have.")
