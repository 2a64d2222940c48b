"""What a run says of its set of units, so that pages never have to guess it from numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from indexer.errors import NeurariumError, quoted

NEURONS = "neurons"
"""The set whose units have addresses without a set: `/{model}/{layer}/{neuron}`."""
HEADS = "heads"
"""The set of attention heads, which have pages of their own."""
_ACTIVATIONS = {
    HEADS: "A head's activation is the length of what it adds to the residual stream at a "
    "position: unlike its pairs, it is known in every context. Its own page ranks pairs by what is "
    "moved and by attention alone."
}
MAX_SET_NAME = 40
SET_NAME = re.compile(rf"[a-z][a-z0-9_-]{{0,{MAX_SET_NAME - 1}}}")
"""What the name of a set looks like in an address: never a number, which is a layer."""
RESERVED_SET_NAMES = frozenset(
    "behaviour compare contexts heads layers lists neurons notes random runs search sets".split()
)
"""Words that stand in a set's place in addresses of the server, or may one day, and the sets that
have pages of their own: nobody may give another set these names."""


@dataclass(frozen=True)
class Units:
    """A set of units, as its run describes it. Everything that is stored of it but its name."""

    noun: str = "neuron"
    """What one unit is called."""
    signed: bool = False
    """Whether values below 0 count as much as values above it."""
    sparse: bool = False
    """Whether most activations are exactly 0."""
    gated: bool = False
    """Whether a unit reads with a gate and a linear part."""
    parts: bool = False
    """Whether each example is stored with its gate and linear part."""
    dead_by_magnitude: bool = False
    """Whether a dead unit is small in magnitude (1e-6), rather than never above 0."""
    group: int | None = None
    """Units of one group, such as d_head: unit `g · group + i` is named `g.i`. None: no groups."""
    blocks: int | None = None
    """Blocks between what the first layer's units write and the final norm. None: all but its
    own."""
    two_sided: bool = False
    """Whether the lowest activations say as much as the highest: pages show them side by side."""
    no_writes: str = ""
    """Why it is not known what units add to the residual stream, a full sentence; else empty."""
    no_reads: str = ""
    """Why it is not known what units read from the residual stream, a full sentence; else empty."""
    no_links: str = ""
    """Why weights do not link units, a full sentence; else empty."""

    def as_dict(self) -> dict[str, Any]:
        """As the column `runs.units` has it."""
        return asdict(self)

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Units:
        """From the column `runs.units`; a newer version's other keys are left out."""
        return cls(
            **{field.name: stored[field.name] for field in fields(cls) if field.name in stored}
        )

    def name(self, unit: int) -> str:
        """A unit's name on pages: its index, or `group.index`."""
        return str(unit) if not self.group else ".".join(map(str, divmod(unit, self.group)))


def activation_of(set_name: str) -> str:
    """What the activation of a set's units is and why they are ranked by it, in full sentences;
    empty where the word says enough."""
    return _ACTIVATIONS.get(set_name, "")


def check_set_name(name: str) -> None:
    """Refuse a name that cannot be part of an address. Raises `NeurariumError`."""
    if name in RESERVED_SET_NAMES:
        raise NeurariumError(
            f"The set name {quoted(name)} is reserved by the server: choose another with "
            "--set-name."
        )
    if not SET_NAME.fullmatch(name) or re.match("l(ayer)?[0-9]", name):
        raise NeurariumError(
            f"The set name {quoted(name)} cannot be used in URLs: use up to {MAX_SET_NAME} "
            "lower-case letters, digits, '_' and '-', starting with a letter, that do not look "
            "like a layer such as l3 (--set-name)."
        )
