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
FLOOR = 1e-4
"""Troughs whose relative difference is at most this are all at the nonlinearity's minimum."""


@dataclass(frozen=True, slots=True)
class Statistic:
    """A scalar statistic of a neuron."""

    name: str
    """Its column in the table `neurons`, its field in JSON and its word in queries."""
    definition: str
    """What it is, in a clause."""
    explanation: str = ""
    """What it is, in sentences, for pages with room for them; empty where the clause says all."""
    is_share: bool = False
    """Whether it is a fraction, shown in percent."""
    in_lists: bool = True
    """Whether lists of neurons include it."""
    counts: bool = False
    """Whether it counts positions: `UnitsRef.counted`."""
    sorts_layers: bool = False
    """Whether a database index sorts a layer's neurons by it."""

    def described(self, more: str = "") -> str:
        """Its definition for the API's documentation, as `sentence` makes it."""
        return sentence(self.definition, more)

    @property
    def label(self) -> str:
        """Its name for readers."""
        name = self.name.removesuffix("_text").replace("_", " ").replace("in out", "in–out")
        ground = ", on the sample" if self.name.endswith("_text") else ""
        return name.replace("bos", "BOS") + ground

    @property
    def title(self) -> str:
        """The head of its column."""
        return self.label[:1].upper() + self.label[1:]

    def text(self, value: float | None) -> str:
        """A value as pages show it."""
        if value is None:
            return MISSING
        spell: Callable[[float], str] = share if self.is_share else number
        return spell(value)


@dataclass(frozen=True, slots=True)
class HeadScore:
    """A score of attention heads, measured on repeated random tokens and on the sample."""

    title: str
    definition: str
    signed: bool = False
    is_share: bool = True
    """Whether it is a share of attention."""

    def described(self, more: str = "") -> str:
        """Its definition for the API's documentation, as `sentence` makes it."""
        return sentence(self.definition, more)


def sentence(clause: str, more: str = "") -> str:
    """A clause and what follows it as a sentence, with the apostrophes of JSON's descriptions."""
    return f"{clause[:1].upper()}{clause[1:]}{more}.".replace("’", "'")


HEAD_SCORES = {
    "induction": HeadScore(
        "Induction", "mean attention to tokens right after an earlier copy of the token"
    ),
    "previous_token": HeadScore("Previous token", "mean attention to the token before"),
    "duplicate_token": HeadScore(
        "Duplicate token", "mean attention to earlier copies of the token"
    ),
    "self_token": HeadScore("Self", "mean attention to the token itself"),
    "bos": HeadScore("BOS", "mean attention to the BOS"),
    "sink": HeadScore("Sink", "mean attention to the context’s first position, a BOS or not"),
    "effect": HeadScore(
        "Direct effect", "mean direct effect on the right next token’s logit", True, False
    ),
    "entropy": HeadScore("Entropy", "mean entropy of a row of the pattern, in nats", False, False),
    "distance": HeadScore(
        "Distance", "mean distance looked back, weighted by attention", False, False
    ),
    "distance_spread": HeadScore(
        "Distance, spread", "standard deviation of that distance", False, False
    ),
}
"""The scores by name, in the order of a head's page."""
COPYING = HeadScore(
    "Copying",
    "eigenvalues of the full OV circuit: 1 where every token raises itself",
    True,
    False,
)
"""The copying score, which weights alone give."""


def _head_statistics() -> dict[str, Statistic]:
    order = "previous_token duplicate_token induction self_token bos sink entropy distance"
    names = (*order.split(), "distance_spread", "effect")
    defined = [
        Statistic(name + suffix, f"{HEAD_SCORES[name].definition}, {ground}", in_lists=False)
        for suffix, ground in (("", "on repeated random tokens"), ("_text", "on the sample"))
        for name in names
    ]
    defined.append(Statistic("copying", COPYING.definition, in_lists=False))
    return {statistic.name: statistic for statistic in defined}


HEADS_SHOWN = ("induction", "previous_token", "effect", "copying")
"""The scores that lists of heads always show."""
HEAD_STATISTICS = _head_statistics()
"""The scores of attention heads by name: columns of `schema.HEAD_COLUMNS`."""
STATISTICS: dict[str, Statistic] = {
    statistic.name: statistic
    for statistic in (
        Statistic(
            "max",
            "largest activation over the whole corpus",
            "Largest activation over the whole corpus: exact.",
            sorts_layers=True,
        ),
        Statistic(
            "min",
            "smallest activation over the whole corpus",
            "Smallest activation over the whole corpus: exact.",
        ),
        Statistic(
            "mean",
            "mean activation over the sample’s positions",
            "Mean activation over the sample's positions.",
            sorts_layers=True,
        ),
        Statistic(
            "std",
            "standard deviation, of the sample",
            "Standard deviation over the sample's positions.",
        ),
        Statistic(
            "skewness",
            "third standardised moment, of the sample",
            "Third standardised moment: 0 for a symmetric distribution, positive where the long "
            "tail is above the mean.",
        ),
        Statistic(
            "kurtosis",
            "excess kurtosis, of the sample: high when few positions hold the variance",
            "Excess kurtosis: 0 for a normal distribution; high if few positions hold most of "
            "the variance.",
            sorts_layers=True,
        ),
        Statistic(
            "density",
            "share of positions above zero",
            "Share of positions where the activation is above zero.",
            counts=True,
            is_share=True,
            sorts_layers=True,
        ),
        Statistic(
            "density_over_tenth",
            "share at or above a tenth of the maximum",
            "Share of positions at or above 10% of the maximum (rounded up to an edge of the "
            "fine histogram): how often it fires by more than a little. Not given where the "
            "maximum is not above zero.",
            counts=True,
            is_share=True,
            in_lists=False,
        ),
        Statistic(
            "lookup",
            "token-lookup score: share of the variance that the current token alone explains",
            "Token-lookup score: the share of the variance that the current token alone explains. "
            "R² of the mean activation per token, taken from the sample's first half and measured "
            "on its second: near 1 for a token detector, near 0 for a unit that reads context.",
            sorts_layers=True,
        ),
        Statistic(
            "effect_kurtosis",
            "excess kurtosis of its logit effects: high when few tokens are affected",
            "Excess kurtosis of a unit's logit effects: high if few tokens are affected.",
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
