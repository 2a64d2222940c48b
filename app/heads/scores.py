"""The scores that heads are sorted, coloured and described by."""

from __future__ import annotations

from dataclasses import dataclass

from app.drawing.numbers import number, share
from app.heads.schemas import HeadRow, HeadScores


@dataclass(frozen=True, slots=True)
class Score:
    """A score that heads can be sorted and coloured by."""

    name: str
    label: str
    definition: str
    ground: str
    """`repeated`, `text`, or empty where text plays no part."""
    signed: bool = False
    is_share: bool = True

    def of(self, head: HeadRow) -> float | None:
        """A head's value."""
        if not self.ground:
            return head.scores.copying
        scores: HeadScores = getattr(head.scores, self.ground)
        value: float | None = getattr(scores, self.name.removesuffix("_text"))
        return value

    def words(self, value: float | None) -> str:
        """A value as pages show it."""
        return share(value) if self.is_share and value is not None else number(value)


ATTENTION = {
    "induction": ("Induction", "attention to tokens right after an earlier copy of the token"),
    "previous_token": ("Previous token", "attention to the token before"),
    "duplicate_token": ("Duplicate token", "attention to earlier copies of the token"),
    "self_token": ("Self", "attention to the token itself"),
    "bos": ("BOS", "attention to the BOS"),
    "sink": ("Sink", "attention to the context’s first position, a BOS or not"),
}
"""Label and definition of the scores that are shares of attention."""

OTHER = {
    "effect": ("Direct effect", "mean direct effect on the right next token’s logit", True),
    "entropy": ("Entropy", "entropy of a row of the pattern, in nats", False),
    "distance": ("Distance", "mean distance looked back, weighted by attention", False),
    "distance_spread": ("Distance, spread", "standard deviation of that distance", False),
}


def _both() -> dict[str, Score]:
    by_name = {}
    for suffix, ground in (("", "repeated"), ("_text", "text")):
        for name, (label, words) in ATTENTION.items():
            by_name[name + suffix] = Score(name + suffix, label, words, ground)
        for name, (label, words, signed) in OTHER.items():
            by_name[name + suffix] = Score(name + suffix, label, words, ground, signed, False)
    return by_name


SCORES: dict[str, Score] = _both() | {
    "copying": Score(
        "copying",
        "Copying",
        "eigenvalues of the full OV circuit: 1 where every token raises itself",
        "",
        True,
        False,
    )
}
"""By name in queries and addresses."""

DEFAULT = "induction"

GROUNDS = {"repeated": "on repeated random tokens", "text": "on text", "": "from the weights"}
