"""Recomputes the scores of heads and the losses of their model, row by row of whole patterns."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from indexer.heads.repeated import Repeated
from indexer.heads.scores import SCORES
from indexer.verify.heads.plain import PlainContext
from indexer.verify.heads.stored import Facts, StoredHeads
from indexer.verify.report import SMALL, Finding, Findings
from indexer.verify.stored import StoredRun

_SCORES = {
    "text": "heads: scores on the sample",
    "repeated": "heads: scores on repeated tokens",
}
_LOSSES = "heads: losses, in-context score"

Array = np.ndarray[Any, Any]


@dataclass
class PlainScores:
    """Weighted sums of every score of chosen heads, by flat index."""

    flats: list[int]
    sums: dict[str, Array] = field(init=False)
    """By score [chosen heads]; a score is its sum ÷ its weight."""
    weights: dict[str, Array] = field(init=False)
    sizes: Array = field(init=False)
    """Sums of the effects' magnitudes."""

    def __post_init__(self) -> None:
        names = (*SCORES, "squared")
        self.sums = {name: np.zeros(len(self.flats)) for name in names}
        self.weights = {name: np.zeros(len(self.flats)) for name in names}
        self.sizes = np.zeros(len(self.flats))

    def add(
        self,
        plain: PlainContext,
        tokens: Int64[np.ndarray, " pos"],
        included: Bool[np.ndarray, " pos"],
        predicting: Bool[np.ndarray, " pos"],
    ) -> None:
        """Add one context; effects count at the positions `predicting`."""
        places = [(layer, head) for layer in plain.layers for head in range(len(layer.pattern))]
        rows = _Rows.of(tokens, included)
        for place, flat in enumerate(self.flats):
            layer, head = places[flat]
            pattern = layer.pattern[head].astype(np.float64)
            for name, total, weight in rows.scores(pattern):
                self.sums[name][place] += total
                self.weights[name][place] += weight
            if layer.effects is not None:
                effects = layer.effects[predicting, head]
                self.sums["effect"][place] += effects.sum()
                self.weights["effect"][place] += len(effects)
                self.sizes[place] += np.abs(effects).sum()

    def of(self, place: int) -> dict[str, tuple[float, float]]:
        """Each score of a head, NaN where no row counts, and what differences are relative to."""
        means = {
            name: self.sums[name][place] / self.weights[name][place]
            if self.weights[name][place]
            else math.nan
            for name in self.sums
        }
        squared = means.pop("squared")
        variance = max(squared - means["distance"] ** 2, 0.0)
        means["distance_spread"] = math.sqrt(variance) if variance == variance else math.nan
        scales = {name: max(abs(value), 1.0) for name, value in means.items()}
        count = self.weights["effect"][place]
        scales["effect"] = max(self.sizes[place] / count, SMALL) if count else 1.0
        return {name: (float(value), scales[name]) for name, value in means.items()}


@dataclass(frozen=True)
class _Rows:
    """Which rows and keys of one context's patterns count for which score."""

    included: Bool[np.ndarray, " pos"]
    both: Bool[np.ndarray, "query key"]
    """Pairs of included positions, the diagonal too."""
    same: Bool[np.ndarray, "query key"]
    """Earlier included positions of the query's token."""
    after: Bool[np.ndarray, "query key"]
    """Earlier included positions right after an included one of the query's token."""
    back: Int64[np.ndarray, "query key"]

    @classmethod
    def of(cls, tokens: Array, included: Array) -> _Rows:
        positions = np.arange(len(tokens))
        both = np.tril(included[:, None] & included[None, :])
        equal = tokens[:, None] == tokens[None, :]
        earlier = np.tril(both, -1)
        after = np.zeros_like(both)
        after[:, 1:] = equal[:, :-1] & included[None, :-1]
        return cls(
            included,
            both,
            earlier & equal,
            earlier & after,
            np.abs(positions[:, None] - positions),
        )

    def scores(self, pattern: Array) -> list[tuple[str, float, float]]:
        """Name, sum and weight of each score in one pattern [query, key]."""
        own = np.flatnonzero(self.included)
        previous = [q for q in own.tolist() if q and self.included[q - 1]]
        rows = pattern[own]
        positive = rows[rows > 0]
        attended, back = pattern[self.both], self.back[self.both]
        total = float(attended.sum())
        bos = 0 if self.included[0] else len(own)
        later = own[own > 0]
        return [
            ("previous_token", sum(pattern[q, q - 1] for q in previous), len(previous)),
            ("duplicate_token", pattern[self.same].sum(), self.same.any(axis=1).sum()),
            ("induction", pattern[self.after].sum(), self.after.any(axis=1).sum()),
            ("self_token", pattern[own, own].sum(), len(own)),
            ("bos", pattern[own, 0].sum() if bos else 0.0, bos),
            ("sink", pattern[later, 0].sum(), len(later)),
            ("entropy", -(positive * np.log(positive)).sum(), len(own)),
            ("distance", (attended * back).sum(), total),
            ("squared", (attended * back.astype(np.float64) ** 2).sum(), total),
        ]


def compare_scores(
    run: StoredRun,
    stored: StoredHeads,
    ground: str,
    scores: PlainScores,
    bound: float,
    findings: Findings,
) -> None:
    """Compare the chosen heads' scores on the sample (`text`) or on repeated tokens."""
    for place, flat in enumerate(scores.flats):
        own = stored.facts[flat]["scores"][ground]
        for name, (truth, scale) in scores.of(place).items():
            if name not in own:
                continue  # a run of an older version lacks it
            value = own[name]
            if value is None and math.isnan(truth):
                findings.is_within(_SCORES[ground], bound, 0.0)
                continue
            difference = math.nan if value is None else abs(value - truth) / scale
            if not findings.is_within(_SCORES[ground], bound, difference):
                what = f"its score {name} ({'sample' if ground == 'text' else ground})"
                findings.add(run.finding(flat, what, stored=value, recomputed=truth))


def compare_repeated_losses(
    facts: Facts, losses: list[Array], repeated: Repeated, bound: float, findings: Findings
) -> None:
    """Compare the mean losses of both copies of the repeated tokens."""
    start = repeated.tokens.shape[1] - 2 * repeated.length
    table = np.stack(losses)
    for name, first in (("first_loss", start), ("second_loss", start + repeated.length)):
        truth = float(table[:, first : first + repeated.length - 1].mean())
        _compare(f"repeated tokens: {name}", facts["repeated"][name], truth, bound, findings)
    if facts["repeated"]["length"] != repeated.length:
        findings.equal(_LOSSES, 1, 1)


def compare_in_context(
    facts: Facts, losses: list[Array], ctx_len: int, bound: float, findings: Findings
) -> None:
    """Compare the in-context-learning score; `losses` are those of the contexts it is over, NaN
    where the token that is predicted is not included."""
    own, tenth = facts["in_context"], ctx_len // 10
    known = None
    if losses and tenth >= 2:
        by_position = np.ma.masked_invalid(np.stack(losses)).mean(axis=0)
        spans = by_position[tenth : 2 * tenth], by_position[-tenth:]
        if all(span.count() for span in spans):
            known = tuple(float(span.mean()) for span in spans)
    if own is None or known is None:
        findings.equal(_LOSSES, 1, int((own is None) != (known is None)))
        return
    early, late = known
    for name, truth in (("early", early), ("late", late), ("score", late - early)):
        _compare(f"in-context learning: {name}", own[name], truth, bound, findings)
    findings.equal(_LOSSES, 1, int(own["contexts"] != len(losses)))


def _compare(what: str, stored: float, truth: float, bound: float, findings: Findings) -> None:
    if not findings.is_within(_LOSSES, bound, abs(stored - truth) / max(abs(truth), 1.0)):
        findings.add(Finding(what, stored=stored, recomputed=truth))
