"""The statistics of a neuron, in one table: queries, columns, sorting and definitions read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from app.drawing.numbers import MISSING, number, share


@dataclass(frozen=True, slots=True)
class Statistic:
    """A scalar statistic; `name` is its column in the table `neurons`, its field in JSON and its
    word in queries."""

    name: str
    definition: str
    """In a few words."""
    is_share: bool = False
    """Whether it is a share of something, shown in percent."""
    in_lists: bool = True
    """Whether each row of a list of neurons has it."""
    sorts_layers: bool = False
    """Whether a layer's table can be sorted by it, by a database index."""
    can_be_unknown: bool = False
    """Whether some neurons have no value: stored as NULL or −∞, null in JSON."""
    of_all: bool = False
    """Whether it is of the whole corpus or of the weights, and not of the sample."""

    @property
    def label(self) -> str:
        """Its name in words."""
        return self.name.replace("_", " ").replace("in out", "in–out")

    def text(self, value: float | None) -> str:
        """A value as pages show it."""
        if value is None:
            return MISSING
        words: Callable[[float], str] = share if self.is_share else number
        return words(value)


STATISTICS: dict[str, Statistic] = {
    statistic.name: statistic
    for statistic in (
        Statistic(
            "max", "largest activation over the whole corpus", sorts_layers=True, of_all=True
        ),
        Statistic("min", "smallest activation over the whole corpus", of_all=True),
        Statistic("mean", "mean activation over the sample’s positions", sorts_layers=True),
        Statistic("std", "standard deviation, of the sample"),
        Statistic("skewness", "third standardised moment, of the sample", can_be_unknown=True),
        Statistic(
            "kurtosis",
            "excess kurtosis, of the sample: high where few positions hold the variance",
            sorts_layers=True,
            can_be_unknown=True,
        ),
        Statistic(
            "density",
            "share of the sample’s positions above zero",
            is_share=True,
            sorts_layers=True,
        ),
        Statistic(
            "density_over_tenth",
            "share at or above a tenth of the maximum",
            is_share=True,
            in_lists=False,
        ),
        Statistic(
            "effect_kurtosis",
            "excess kurtosis of its logit effects: high where they are about few tokens",
            sorts_layers=True,
            can_be_unknown=True,
            of_all=True,
        ),
        Statistic(
            "in_out_cosine",
            "cosine of what it reads and what it writes",
            in_lists=False,
            can_be_unknown=True,
            of_all=True,
        ),
        Statistic(
            "gate_out_cosine",
            "the same of the gate’s weights, in gated MLPs",
            in_lists=False,
            can_be_unknown=True,
            of_all=True,
        ),
    )
}
"""By name, in the order in which they are listed."""
