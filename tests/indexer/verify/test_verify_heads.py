"""Verifying runs of attention heads: a clean run passes, and a changed value of each kind that a
head's page shows is noticed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select, update

from indexer.store import schema
from indexer.store.packing.pattern import pack_pattern, unpack_pattern
from indexer.verify.report import Findings
from tests.helpers.verify_cases import SmallRun, change, lines_of, make, save_llama, verified

Facts = dict[str, Any]
HEADS = 8
"""Of both layers of a tiny Llama."""


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """A run of the heads of a tiny model with grouped keys and rotary positions."""
    folder = tmp_path_factory.mktemp("heads")
    return make(folder / "run", save_llama(folder / "llama"), heads=True, ctx_len=24)


@dataclass(frozen=True)
class Fault:
    """A change of one head's stored facts, and how its finding begins."""

    head: int
    work: Callable[[Facts], Any]
    finding: str
    kind: str | None = None


def _examples(kind: str, name: str, value: Any) -> Callable[[Facts], Any]:
    return lambda facts: facts["examples"][kind][1].update({name: value})


def _add(*path: str | int, value: float = 0.5) -> Callable[[Facts], Any]:
    """Add to a number at a path of keys."""

    def work(facts: Facts) -> None:
        place: Any = facts
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] += value

    return work


FAULTS = [
    Fault(0, _add("examples", "attention", 1, "attention"), "its attention", "attention"),
    Fault(0, _add("examples", "moved", 2, "moved"), "its moved", "moved"),
    Fault(0, _add("examples", "helps", 0, "effect"), "its effect", "helps"),
    Fault(0, _add("examples", "random", 3, "value"), "its value", "random"),
    Fault(1, _examples("moved", "query", 23), "is not its best pair", "moved"),
    Fault(1, _examples("random", "key", 30), "there is no pair", "random"),
    Fault(2, lambda f: f["examples"]["moved"].pop(0), "the list has 4 examples, not 5", "moved"),
    Fault(2, lambda f: f["examples"]["attention"].pop(0), "a context is missing", "attention"),
    Fault(2, lambda f: f["examples"]["helps"].pop(0), "a context is missing", "helps"),
    Fault(2, lambda f: f["examples"]["hurts"].pop(0), "a context is missing", "hurts"),
    Fault(2, lambda f: f["examples"]["random"].pop(0), "these are not the first", "random"),
    Fault(3, lambda f: f["examples"]["hurts"].reverse(), "it is not in order", "hurts"),
    Fault(3, _add("scores", "text", "induction"), "its score induction (sample)"),
    Fault(3, _add("scores", "repeated", "entropy"), "its score entropy (repeated)"),
    Fault(3, _add("scores", "repeated", "effect"), "its score effect (repeated)"),
    Fault(4, _add("tokens", "pairs", value=1), "tokens of"),
    Fault(5, _add("tokens", "keys", 0, 1, value=100), "among its keys"),
    Fault(5, _add("circuits", "copying"), "its copying score"),
    Fault(5, _add("circuits", "self_share"), "its share of tokens"),
    Fault(5, _add("circuits", "promoted", 0, 2), "its top pairs (promoted)"),
    Fault(5, _add("circuits", "matched", 0, 2), "its top pairs (matched)"),
    Fault(6, _add("circuits", "matched_previous", 0, 2), "its top pairs (matched_previous)"),
    Fault(6, lambda f: f["circuits"]["queries"].pop(0), "its composition (queries)"),
    Fault(6, _add("circuits", "keys", 1, "score"), "its composition (keys)"),
    Fault(6, _add("circuits", "values", 0, "score"), "its composition (values)"),
    Fault(
        7, _add("circuits", "neurons", "values", 0, "neuron", value=1), "its composition (values)"
    ),
    Fault(7, _add("circuits", "neurons", "readers", 0, "score"), "its composition (readers)"),
]
RUN_FAULTS = {
    ("pairs",): "the number of pairs",
    ("frequent_tokens",): "the number of frequent tokens",
    ("repeated", "first_loss"): "repeated tokens: first_loss",
    ("in_context", "late"): "in-context learning: late",
}


def test_a_clean_run_of_heads_passes(clean: SmallRun) -> None:
    """Everything is compared: of all heads, and of a few with a few contexts."""
    findings = verified(clean)
    assert lines_of(findings) == []
    checks = {name: tally for name, tally in findings.tallies.items() if name.startswith("heads")}
    assert len(checks) >= 16
    assert all(tally.compared for tally in checks.values())
    assert checks["heads: scores on the sample"].compared == 10 * HEADS
    assert checks["heads: tokens of the largest pairs"].compared == 3 * HEADS
    few = verified(clean, contexts=3, neurons=2)
    assert lines_of(few) == []
    assert "heads: tokens of the largest pairs" not in few.tallies, "it needs all contexts"


def test_a_changed_value_of_each_kind_is_noticed(
    clean: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One copy of the run with every fault at once; each has a finding of its own."""
    small = clean.copy(tmp_path)
    monkeypatch.setattr("indexer.verify.report.MAX_FINDINGS", 1000)
    keys = {flat: schema.neuron_key(1, flat) for flat in range(HEADS)}

    def plant(connection: Any) -> None:
        heads, patterns, columns = schema.heads, schema.head_patterns, schema.neuron_columns
        for flat, key in keys.items():
            query = select(heads.c.facts).where(heads.c.neuron_id == key)
            facts = json.loads(connection.scalars(query).one())
            for fault in FAULTS:
                if fault.head == flat:
                    fault.work(facts)
            changed = update(heads).where(heads.c.neuron_id == key)
            connection.execute(changed.values(facts=json.dumps(facts)))
        provenance = connection.scalars(select(schema.runs.c.provenance)).one()
        for path in RUN_FAULTS:
            _add(*path, value=1)(provenance["heads"])
        connection.execute(update(schema.runs).values(provenance=provenance))
        query = select(patterns.c.context_id, patterns.c.packed)
        row = connection.execute(query.where(patterns.c.neuron_id == keys[1])).first()
        size = len(unpack_pattern(row.packed).counts)
        place = (patterns.c.neuron_id == keys[1]) & (patterns.c.context_id == row.context_id)
        other = pack_pattern(np.eye(size, dtype=np.float32))
        connection.execute(update(patterns).where(place).values(packed=other))
        connection.execute(
            update(columns)
            .where((columns.c.name == "induction") & (columns.c.layer == 0))
            .values(packed=np.full(HEADS // 2, 0.25).astype("<f8").tobytes())
        )

    change(small, plant)
    findings = verified(small)
    for fault in FAULTS:
        assert _has(findings, fault.finding, fault.head, fault.kind), fault.finding
    for what in RUN_FAULTS.values():
        assert any(finding.what == what for finding in findings.first), what
    assert _has(findings, "its pattern", 1, None)
    assert _has(findings, "searches have its induction as 0.25", 0, None)
    assert not any(
        tally.wrong for name, tally in findings.tallies.items() if not name.startswith("heads")
    )


def _has(findings: Findings, what: str, head: int, kind: str | None) -> bool:
    place = divmod(head, HEADS // 2)
    return any(
        what in finding.what and (finding.layer, finding.neuron) == place and finding.kind == kind
        for finding in findings.first
    )
