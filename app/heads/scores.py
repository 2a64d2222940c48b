"""The scores that heads are sorted, coloured and described by."""

from __future__ import annotations

from dataclasses import dataclass

from app.drawing.numbers import number, share
from app.heads.schemas import HeadRow, HeadScores
from app.reading.statistics import COPYING, HEAD_SCORES, HeadScore


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


def _score(name: str, score: HeadScore, ground: str) -> Score:
    return Score(name, score.title, score.definition, ground, score.signed, score.is_share)


SCORES: dict[str, Score] = {
    name + suffix: _score(name + suffix, score, ground)
    for suffix, ground in (("", "repeated"), ("_text", "text"))
    for name, score in HEAD_SCORES.items()
} | {"copying": _score("copying", COPYING, "")}
"""By name in queries and addresses."""

DEFAULT = "induction"

GROUNDS = {"repeated": "on repeated random tokens", "text": "on text", "": "from the weights"}
