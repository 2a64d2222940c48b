"""The gallery of a run: twelve neurons worth a first look, chosen by stated rules.

The rules read whole columns first, and then the top examples of a bounded number of candidates.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from app.examples.lines import REACH
from app.examples.queries import NeuronExamples, contexts_of, read_kinds
from app.examples.schemas import Example
from app.models.rules import CANDIDATES, RULES, Rule, peak_token
from app.models.schemas import Gallery, GalleryNeuron, GalleryRule
from app.reading.columns import columns
from app.reading.neurons import neuron_row, promoted_token, rows_of
from app.reading.runs import run_ref
from app.reading.store import Reading
from indexer.store import schema

SIZE = 12
"""Neurons of a gallery."""


def gallery(reading: Reading, size: int = SIZE) -> Gallery:
    """At most `size` neurons, as many of each rule as there is room for; none twice, no two of a
    rule with the same peak token."""
    known = [rule for rule in RULES if rule.column in schema.COLUMNS]
    candidates = {rule.name: _candidates(reading, rule) for rule in known}
    tops = _TopExamples(reading)
    chosen: dict[int, str] = {}
    tokens: set[tuple[str, str]] = set()
    waiting = {rule.name: _matching(rule, candidates[rule.name], tops) for rule in known}
    # In turn, so that a rule that few neurons meet leaves its room to the others.
    while waiting and len(chosen) < size:
        for name in list(waiting):
            for index, token in waiting[name]:
                if index not in chosen and (name, token) not in tokens:
                    chosen[index] = name
                    tokens.add((name, token))
                    break
            else:
                del waiting[name]
            if len(chosen) >= size:
                break
    rows = rows_of(reading, list(chosen))
    items = []
    for index, name in chosen.items():
        row, top = rows[index], tops.of(index)
        items.append(
            GalleryNeuron(
                rule=name,
                neuron=neuron_row(row, reading),
                scale=max(abs(row.max), abs(row.min)),
                example=top[0] if top else None,
            )
        )
    order = {rule.name: place for place, rule in enumerate(RULES)}
    items.sort(key=lambda item: order[item.rule])
    return Gallery(
        model=reading.run.model,
        run=run_ref(reading.run),
        rules=[GalleryRule(rule=rule.name, definition=rule.definition) for rule in known],
        items=items,
    )


def cut(whole: Gallery, size: int) -> Gallery:
    """The gallery with `size` neurons at most, of as many rules as possible."""
    seen: dict[str, int] = {}
    ranked: list[tuple[int, int, GalleryNeuron]] = []
    for item in whole.items:
        seen[item.rule] = seen.get(item.rule, 0) + 1
        ranked.append((seen[item.rule], len(ranked), item))
    kept = sorted(sorted(ranked, key=lambda entry: entry[:2])[:size], key=lambda entry: entry[1])
    return whole.model_copy(update={"items": [item for _, _, item in kept]})


def _candidates(reading: Reading, rule: Rule) -> list[int]:
    """The indices over all layers of the live neurons that a rule looks at, best first."""
    layers = range(len(reading.run.widths))
    names = {rule.column, "dead", "top_source"}
    statistics = columns(reading.connection, reading.run, names, layers)
    values = rule.sign * statistics[rule.column]
    usable = np.isfinite(values) & (statistics["dead"] == 0)
    if rule.name == "source":
        usable &= statistics["top_source"] >= 0
    indices = np.flatnonzero(usable)
    if len(indices) > CANDIDATES:
        cut = np.partition(-values[indices], CANDIDATES - 1)[CANDIDATES - 1]
        indices = indices[-values[indices] <= cut]
    ranked: list[int] = indices[np.argsort(-values[indices], kind="stable")].tolist()[:CANDIDATES]
    if rule.name == "output":  # a fragment of a character says nothing to a reader
        rows = rows_of(reading, ranked)
        promoted = {at: promoted_token(rows[at], reading.vocabulary) or "" for at in ranked}
        ranked = [at for at in ranked if "\\x" not in promoted[at]]
    return ranked


def _matching(
    rule: Rule, candidates: Iterable[int], tops: _TopExamples
) -> Iterable[tuple[int, str]]:
    """The candidates that meet a rule, with the token of their first example, one by one."""
    for index in candidates:
        top = tops.of(index)
        if rule.holds(top):
            yield index, peak_token(top[0]) if top else ""


class _TopExamples:
    """The top examples of neurons, each read once."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._known: dict[int, list[Example]] = {}

    def of(self, index: int) -> list[Example]:
        """The top examples of the neuron at an index over all layers, as lines need them. Raises
        Damaged."""
        if index not in self._known:
            reading = self._reading
            kinds = read_kinds(reading, schema.neuron_key(reading.run.id, index))
            top = {0: kinds[0]} if 0 in kinds else {}
            ids = {number for arrays in top.values() for number in arrays.context_ids.tolist()}
            contexts = contexts_of(reading.connection, reading.run, ids)
            examples = NeuronExamples(top, contexts, reading)
            self._known[index] = examples.of_kind("top", reach=REACH["peak"])
        return self._known[index]
