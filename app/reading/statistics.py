"""The table of a neuron's statistics: names, definitions, formats, and where each is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from app.drawing.numbers import MISSING, number, share

DEAD = (
    "Never above zero in the whole run; where both signs count (gated MLPs, the residual stream), "
    "never beyond ±1e−6."
)
"""When a unit is dead, in general; `UnitsRef.dead_means` says it of one run."""


@dataclass(frozen=True, slots=True)
class Statistic:
    """A scalar statistic of a neuron."""

    name: str
    """Its column in the table `neurons`, its field in JSON and its word in queries."""
    definition: str
    is_share: bool = False
    """Whether it is a fraction, shown in percent."""
    in_lists: bool = True
    """Whether lists of neurons include it."""
    sorts_layers: bool = False
    """Whether a database index sorts a layer's neurons by it."""

    @property
    def label(self) -> str:
        """Its name for readers."""
        name = self.name.removesuffix("_text").replace("_", " ").replace("in out", "in–out")
        ground = ", on the sample" if self.name.endswith("_text") else ""
        return name.replace("bos", "BOS") + ground

    def text(self, value: float | None) -> str:
        """A value as pages show it."""
        if value is None:
            return MISSING
        spell: Callable[[float], str] = share if self.is_share else number
        return spell(value)


def _head_statistics() -> dict[str, Statistic]:
    words = {
        "previous_token": "mean attention to the token before",
        "duplicate_token": "mean attention to earlier copies of the token",
        "induction": "mean attention to tokens right after an earlier copy of the token",
        "self_token": "mean attention to the token itself",
        "bos": "mean attention to the BOS",
        "sink": "mean attention to the context’s first position",
        "entropy": "mean entropy of a row of the pattern, in nats",
        "distance": "mean distance looked back",
        "distance_spread": "standard deviation of that distance",
        "effect": "mean direct effect on the right next token’s logit",
    }
    defined = [
        Statistic(name + suffix, f"{definition}, {ground}", in_lists=False)
        for suffix, ground in (("", "on repeated random tokens"), ("_text", "on the sample"))
        for name, definition in words.items()
    ]
    defined.append(Statistic("copying", "copying score of the OV circuit", in_lists=False))
    return {statistic.name: statistic for statistic in defined}


HEADS_SHOWN = ("induction", "previous_token", "effect", "copying")
"""The scores that lists of heads show beside those asked for."""
HEAD_STATISTICS = _head_statistics()
"""The scores of attention heads by name: columns of `schema.HEAD_COLUMNS`."""
STATISTICS: dict[str, Statistic] = {
    statistic.name: statistic
    for statistic in (
        Statistic("max", "largest activation over the whole corpus", sorts_layers=True),
        Statistic("min", "smallest activation over the whole corpus"),
        Statistic("mean", "mean activation over the sample’s positions", sorts_layers=True),
        Statistic("std", "standard deviation, of the sample"),
        Statistic("skewness", "third standardised moment, of the sample"),
        Statistic(
            "kurtosis",
            "excess kurtosis, of the sample: high when few positions hold the variance",
            sorts_layers=True,
        ),
        Statistic(
            "density",
            "share of positions above zero",
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
            "lookup",
            "token-lookup score: share of the variance that the current token alone explains",
            sorts_layers=True,
        ),
        Statistic(
            "effect_kurtosis",
            "excess kurtosis of its logit effects: high when few tokens are affected",
            sorts_layers=True,
        ),
        Statistic(
            "in_out_cosine",
            "cosine of what it reads and what it writes",
            in_lists=False,
        ),
        Statistic(
            "gate_out_cosine",
            "the same of the gate’s weights, in gated MLPs",
            in_lists=False,
        ),
    )
}
"""All statistics by name, in the order of lists."""
