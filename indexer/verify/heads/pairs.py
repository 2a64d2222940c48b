"""Compares the rankings of heads with recomputed contexts: every example's numbers and pattern, and
whether a context is missing from a list or does not belong there."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from indexer.heads.examples import RANKINGS
from indexer.heads.measure import TOKENS
from indexer.heads.scan import PAIRS_KEPT
from indexer.store.packing.pattern import KEYS_A_ROW, LEAST, UNIT, SparsePattern
from indexer.verify.heads.plain import PlainContext, PlainLayer
from indexer.verify.heads.stored import Facts
from indexer.verify.report import SMALL, Findings
from indexer.verify.stored import StoredRun

_LISTS = "heads: rankings complete, in order"
_OUTSIDE = "heads: contexts outside a ranking"
_VALUES = "heads: value, attention, what is moved, effect"
_PLACES = "heads: query and key are the best ones"
_PATTERNS = "heads: patterns"
_TOKENS = "heads: tokens of the largest pairs"

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Best:
    """The best value of one head in one context by one ranking, larger is better; −inf: none."""

    value: float
    scale: float
    """What differences are relative to."""


@dataclass
class PairTally:
    """What was seen of one head's best pairs, one of each context, by what is moved."""

    values: list[float] = field(default_factory=list)
    tokens: list[tuple[int, int] | None] = field(default_factory=list)
    """Query and key token; None where two pairs are too close to tell which is the best."""


@dataclass(frozen=True)
class Checked:
    """What heads are compared by."""

    run: StoredRun
    facts: dict[int, Facts]
    patterns: dict[int, dict[int, SparsePattern]]
    """Of the chosen heads, by context id."""
    most: int
    """Examples of a ranking."""
    bound: float
    """The allowed difference."""
    findings: Findings
    tallies: dict[int, PairTally]
    """Of the chosen heads."""
    short: set[tuple[int, str]] = field(default_factory=set)
    """Head and ranking of lists that lack examples: named once, not again for each context."""


def check_lists(
    checked: Checked,
    random: Int64[np.ndarray, " r"],
    included: Int64[np.ndarray, " contexts"],
    *,
    effects: bool,
) -> None:
    """The form of all heads' lists.

    Args:
        checked: what heads are compared by.
        random: the contexts that are examples of every head.
        included: included positions of every context of the corpus.
        effects: whether direct effects are known.
    """
    contexts = len(included)
    fewest = min(checked.most, int((included > 1).sum()))
    wrong = []
    for flat, facts in checked.facts.items():
        for kind, examples in facts["examples"].items():
            ids = [example["context_id"] for example in examples]
            problem = None
            if kind == "random":
                if ids != random.tolist():
                    problem = "these are not the first contexts of the sample's second half"
            elif len(ids) > checked.most or (ids and kind in ("helps", "hurts") and not effects):
                problem = f"the list has {len(ids)} examples"
            elif len(ids) < fewest and kind in ("moved", "attention"):
                problem = f"the list has {len(ids)} examples, not {fewest}"
                checked.short.add((flat, kind))
            elif len(set(ids)) != len(ids) or any(not 0 <= i < contexts for i in ids):
                problem = "it has a context twice, or one that is not in the corpus"
            else:
                sign = -1 if kind == "hurts" else 1
                order = [(-sign * example["value"], example["context_id"]) for example in examples]
                problem = None if order == sorted(order) else "it is not in order"
            if problem is not None:
                wrong.append((flat, problem, kind))
        stored = checked.patterns.get(flat)
        wanted = {e["context_id"] for kind in facts["examples"].values() for e in kind}
        if stored is not None and set(stored) != wanted:
            wrong.append((flat, "its patterns are not those of its examples", None))
    compared = len(checked.facts) * (len(RANKINGS) + 1)
    checked.findings.equal(_LISTS, compared, len(wrong))
    for flat, problem, kind in wrong:
        checked.findings.add(checked.run.finding(flat, problem, kind))


def compare_context(
    checked: Checked,
    context_id: int,
    tokens: Int64[np.ndarray, " pos"],
    included: Bool[np.ndarray, " pos"],
    plain: PlainContext,
) -> None:
    """Compare one context with the lists of all heads, and with the chosen heads' examples."""
    flat = 0
    predicting = np.append(included[:-1] & included[1:], False)
    both = np.tril(included[:, None] & included[None, :], -1)
    for layer in plain.layers:
        for head in range(len(layer.pattern)):
            if flat in checked.facts:
                own = _Head(checked, flat, layer, head, both, predicting)
                own.lists(context_id)
                if flat in checked.patterns:
                    own.examples(context_id)
                    own.tally(tokens)
            flat += 1


@dataclass(frozen=True)
class _Head:
    """One head on one context."""

    checked: Checked
    flat: int
    layer: PlainLayer
    head: int
    both: Bool[np.ndarray, "query key"]
    """Pairs that count."""
    predicting: Bool[np.ndarray, " pos"]

    @property
    def pattern(self) -> Array:
        pattern: Array = self.layer.pattern[self.head]
        return pattern

    @property
    def moved(self) -> Array:
        moved: Array = self.pattern * self.layer.norms[self.head]
        return moved

    def effects(self) -> Array | None:
        return None if self.layer.effects is None else self.layer.effects[:, self.head]

    def best(self, ranking: str) -> Best:
        if ranking in ("moved", "attention"):
            if not self.both.any():
                return Best(-math.inf, 1.0)
            values = self.moved if ranking == "moved" else self.pattern
            largest = float(values[self.both].max())
            return Best(largest, max(largest, SMALL) if ranking == "moved" else 1.0)
        effects = self.effects()
        if effects is None or not self.predicting.any():
            return Best(-math.inf, 1.0)
        counted = effects[self.predicting]
        largest = float(counted.max() if ranking == "helps" else -counted.min())
        return Best(largest, max(float(np.abs(counted).max()), SMALL))

    def lists(self, context_id: int) -> None:
        """Whether the context belongs in each list that it is in, and in no other."""
        checked = self.checked
        for ranking in RANKINGS:
            examples = checked.facts[self.flat]["examples"][ranking]
            if any(example["context_id"] == context_id for example in examples):
                continue  # its numbers are compared where the head is a chosen one
            best, sign = self.best(ranking), -1 if ranking == "hurts" else 1
            full = len(examples) >= checked.most or (self.flat, ranking) in checked.short
            worst = sign * examples[-1]["value"] if full and examples else -math.inf
            above = best.value - worst if full else math.inf
            above = 0.0 if best.value == -math.inf else max(above, 0.0)
            if not checked.findings.is_within(_OUTSIDE, checked.bound, above / best.scale):
                self.add(
                    "a context is missing from the list",
                    ranking,
                    context_id,
                    worst if full else None,
                    best.value if full else None,
                )

    def examples(self, context_id: int) -> None:
        """Every number of the head's examples in this context, and its pattern there."""
        for kind, examples in self.checked.facts[self.flat]["examples"].items():
            for example in examples:
                if example["context_id"] == context_id:
                    self._example(kind, example)
        stored = self.checked.patterns[self.flat].get(context_id)
        if stored is not None:
            self._pattern(context_id, stored)

    def _example(self, kind: str, example: Facts) -> None:
        query, key, context_id = example["query"], example["key"], example["context_id"]
        size = len(self.pattern)
        if not (0 <= key <= query < size):
            self.checked.findings.equal(_PLACES, 1, 1)
            self.add(f"there is no pair ({query}, {key})", kind, context_id)
            return
        ranking = "moved" if kind == "random" else kind
        best, sign = self.best(ranking), -1 if kind == "hurts" else 1
        effects = self.effects()
        known = effects is not None and bool(self.predicting[query])
        effect = float(effects[query]) if known and effects is not None else None
        truths = {
            "value": (sign * best.value if math.isfinite(best.value) else None, best.scale),
            "attention": (float(self.pattern[query, key]), 1.0),
            "moved": (float(self.moved[query, key]), self.best("moved").scale),
            "effect": (effect, self.best("helps").scale),
        }
        for name, (truth, scale) in truths.items():
            stored = example[name]
            if truth is None and (name == "value" or stored is None):
                continue  # a context without a pair may be a random example
            difference = math.nan
            if truth is not None and stored is not None:
                difference = abs(stored - truth) / scale
            if not self._within(_VALUES, difference):
                self.add(f"its {name}", kind, context_id, stored, truth)
        self._place(kind, ranking, best, example)

    def _place(self, kind: str, ranking: str, best: Best, example: Facts) -> None:
        """Whether another query or key would be better."""
        query, key = example["query"], example["key"]
        if not math.isfinite(best.value):
            return
        if ranking in ("moved", "attention"):
            values = self.moved if ranking == "moved" else self.pattern
            at = float(values[query, key]) if self.both[query, key] else math.nan
            short = (best.value - at) / best.scale
        else:
            effects = self.effects()
            assert effects is not None  # there is a best one
            sign = 1 if ranking == "helps" else -1
            at = sign * float(effects[query]) if self.predicting[query] else math.nan
            short = (best.value - at) / best.scale
            row = np.where(self.both[query], self.pattern[query], -1.0)
            if self.both[query].any():
                attended = float(row.max() - row[key]) if self.both[query, key] else math.nan
                short = max(short, attended) if attended == attended else attended
            elif key != query:
                short = math.nan
        if not self._within(_PLACES, max(short, 0.0) if short == short else short):
            self.add(f"({query}, {key}) is not its best pair", kind, example["context_id"])

    def _pattern(self, context_id: int, stored: SparsePattern) -> None:
        pattern = self.pattern
        if len(stored.counts) != len(pattern):
            self.checked.findings.equal(_PATTERNS, 1, 1)
            self.add(f"its pattern has {len(stored.counts)} rows", None, context_id)
            return
        off = 0.0
        for query, row in enumerate(stored.rows()):
            keys = [key for key, _ in row]
            if len(row) > KEYS_A_ROW or any(key >= len(pattern) for key in keys):
                off = math.nan
                break
            truth = pattern[query]
            for key, attention in row:
                off = max(off, abs(attention - float(truth[key])) - 1 / UNIT)
            rest = np.delete(truth, keys)
            largest = float(rest.max(initial=0.0))
            # A key was left out because it is small, or because eight others are larger.
            least = min((attention for _, attention in row), default=1.0)
            allowed = max(LEAST, least) if len(row) == KEYS_A_ROW else LEAST
            off = max(off, largest - allowed - 1 / UNIT, LEAST - least - 1 / UNIT)
        if not self._within(_PATTERNS, max(off, 0.0) if off == off else off):
            self.add("its pattern is another one", None, context_id)

    def tally(self, tokens: Int64[np.ndarray, " pos"]) -> None:
        """Remember the tokens of the largest pair."""
        best = self.best("moved")
        if not math.isfinite(best.value):
            return
        near = self.both & (self.moved >= best.value - self.checked.bound * best.scale)
        queries, keys = np.nonzero(near)
        own = set(zip(tokens[queries].tolist(), tokens[keys].tolist(), strict=True))
        tally = self.checked.tallies[self.flat]
        tally.values.append(best.value)
        tally.tokens.append(own.pop() if len(own) == 1 else None)

    def _within(self, check: str, difference: float) -> bool:
        return self.checked.findings.is_within(check, self.checked.bound, difference)

    def add(
        self,
        what: str,
        kind: str | None,
        context_id: int,
        stored: float | None = None,
        truth: float | None = None,
    ) -> None:
        """Add a finding."""
        finding = self.checked.run.finding(
            self.flat, what, kind, context_id=context_id, stored=stored, recomputed=truth
        )
        self.checked.findings.add(finding)


def compare_tokens(checked: Checked) -> None:
    """The counted tokens of the chosen heads' largest pairs, after all contexts of the corpus.

    Where rounding decides which pair is a context's best, or which contexts are among the best,
    any count between is accepted.
    """
    wrong, compared = [], 0
    for flat, tally in checked.tallies.items():
        stored = checked.facts[flat]["tokens"]
        kept = min(PAIRS_KEPT, len(tally.values))
        compared += 1
        if stored["pairs"] != kept:
            wrong.append((flat, f"tokens of {stored['pairs']} pairs are counted, not of {kept}"))
            continue
        values = np.array(tally.values)
        least = np.sort(values)[-kept] if kept else 0.0
        margin = checked.bound * max(abs(float(least)), SMALL)
        certain, possible = values > least + margin, values >= least - margin
        if kept == len(values):
            certain = possible
        for row, name in enumerate(("queries", "keys")):
            sure, maybe, unclear = Counter[int](), Counter[int](), 0
            for index in np.flatnonzero(possible).tolist():
                pair = tally.tokens[index]
                if pair is None:
                    unclear += 1
                else:
                    maybe[pair[row]] += 1
                    sure[pair[row]] += bool(certain[index])
            listed = dict(stored[name])
            off = [
                token
                for token, count in listed.items()
                if not sure[token] <= count <= maybe[token] + unclear
            ]
            fewest = min(listed.values()) if len(listed) >= TOKENS else 0
            off += [token for token, n in sure.items() if token not in listed and n > fewest]
            compared += 1
            if off:
                what = f"token {off[0]} among its {name} is not counted as often as it occurs"
                wrong.append((flat, what))
    checked.findings.equal(_TOKENS, compared, len(wrong))
    for flat, what in wrong:
        checked.findings.add(checked.run.finding(flat, what))
