"""Reads attention heads: their scores, examples and patterns."""

from __future__ import annotations

import math
from typing import Any

from sqlalchemy import bindparam, select

from app.errors import NotFound
from app.examples.queries import contexts_of
from app.heads.circuits import circuits_of
from app.heads.schemas import (
    HeadContext,
    HeadExamples,
    HeadPage,
    HeadRow,
    HeadScores,
    HeadsFacts,
    HeadsPage,
    PairExample,
    PairTokens,
    Scores,
    TokenCount,
)
from app.reading.columns import columns
from app.reading.heads import facts_of
from app.reading.runs import run_ref, sample_of
from app.reading.store import Reading
from app.schemas import NeuronRef
from indexer.store import schema
from indexer.store.checksums import cover, missing
from indexer.store.packing.pattern import SparsePattern, unpack_pattern
from indexer.store.units import HEADS

BEFORE, AFTER = 16, 20
"""Tokens of a line before the key and after the query."""

_HEAD_PATTERNS = cover(schema.head_patterns)
_PATTERNS = select(*_HEAD_PATTERNS.selected).where(
    schema.head_patterns.c.neuron_id == bindparam("key")
)


def heads(reading: Reading) -> HeadsPage:
    """All heads of a run."""
    run = reading.run
    layers = list(range(len(run.widths)))
    known = columns(reading.connection, run, schema.HEAD_COLUMNS, layers)
    rows = []
    for index in range(sum(run.widths)):
        layer, head = reading.places.of(index)
        values = {name: _finite(column[index]) for name, column in known.items()}
        rows.append(HeadRow(layer=layer, head=head, scores=_scores(values)))
    return HeadsPage(
        model=run.model,
        run=run_ref(run),
        sample=sample_of(run),
        n_layers=len(run.widths),
        facts=_run_facts(reading),
        heads=rows,
    )


def head(reading: Reading, layer: int, head: int) -> HeadPage:
    """One head. Raises NotFound."""
    run = reading.run
    index = _index_of(reading, layer, head)
    facts = facts_of(reading, index)
    widths = run.widths
    scores = facts["scores"]
    return HeadPage(
        model=run.model,
        layer=layer,
        head=head,
        n_layers=len(widths),
        n_heads=widths[layer],
        run=run_ref(run),
        sample=sample_of(run),
        facts=_run_facts(reading),
        scores=Scores(
            repeated=HeadScores(**scores["repeated"]),
            text=HeadScores(**scores["text"]),
            copying=facts["circuits"]["copying"],
        ),
        tokens=_tokens(facts["tokens"], reading.vocabulary),
        examples=_examples(reading, index, facts["examples"]),
        circuits=circuits_of(reading, facts["circuits"]),
        previous=_ref(reading, index - 1),
        next=_ref(reading, index + 1),
    )


def context(reading: Reading, layer: int, head: int, context_id: int) -> HeadContext:
    """A head's pattern over a whole context that is one of its examples. Raises NotFound."""
    run = reading.run
    index = _index_of(reading, layer, head)
    pattern = _patterns(reading, index).get(context_id)
    if pattern is None:
        raise NotFound(
            f"Context {context_id} is not an example of head {head} in layer {layer} of "
            f"{run.model}: its page lists those that are."
        )
    row = contexts_of(reading.connection, run, [context_id])[context_id]
    token_ids = row.token_ids.tolist()
    return HeadContext(
        model=run.model,
        layer=layer,
        head=head,
        run=run_ref(run),
        context_id=context_id,
        document_index=row.document_index,
        source=row.source,
        included_from=row.included_from,
        special=reading.special_inside(token_ids, row.included_from),
        tokens=_texts(reading, token_ids, row.included_from),
        token_ids=token_ids,
        rows=pattern.rows(),
        left_out=pattern.left_out.tolist(),
    )


def random_contexts(reading: Reading, page: HeadPage) -> list[tuple[list[int], list[int]]]:
    """The random contexts of a head's page: token ids and included positions of each. Raises
    Damaged."""
    ids = [example.context_id for example in page.examples.random]
    rows = contexts_of(reading.connection, reading.run, ids)
    found = []
    for row in map(rows.__getitem__, ids):
        token_ids = row.token_ids.tolist()
        special = set(reading.special_inside(token_ids, row.included_from))
        positions = range(row.included_from, len(token_ids))
        found.append((token_ids, [at for at in positions if at not in special]))
    return found


def _index_of(reading: Reading, layer: int, head: int) -> int:
    """A head's index over all layers. Raises NotFound, also for a run of other units."""
    if reading.run.set_name != HEADS:
        raise NotFound(f"Run {reading.run.id} of {reading.run.model} is not of attention heads.")
    return reading.index_of(layer, head)


def _run_facts(reading: Reading) -> HeadsFacts:
    return HeadsFacts(**reading.run.provenance["heads"])


def _scores(values: dict[str, float | None]) -> Scores:
    """From columns by name."""
    names = HeadScores.model_fields
    return Scores(
        repeated=HeadScores(**{name: values[name] for name in names}),
        text=HeadScores(**{name: values[f"{name}_text"] for name in names}),
        copying=values["copying"],
    )


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _tokens(stored: dict[str, Any], vocabulary: list[str]) -> PairTokens:
    def counted(name: str) -> list[TokenCount]:
        return [
            TokenCount(token=vocabulary[token_id], token_id=token_id, count=count)
            for token_id, count in stored[name]
        ]

    return PairTokens(pairs=stored["pairs"], queries=counted("queries"), keys=counted("keys"))


def _patterns(reading: Reading, index: int) -> dict[int, SparsePattern]:
    """The patterns of a head over its examples, by context id. Raises Damaged."""
    key = schema.neuron_key(reading.run.id, index)
    rows = _HEAD_PATTERNS.check(reading.connection.execute(_PATTERNS, {"key": key}).all())
    patterns = {row.context_id: unpack_pattern(bytes(row.packed)) for row in rows}
    examples = facts_of(reading, index)["examples"]
    wanted = {example["context_id"] for kind in examples.values() for example in kind}
    for context_id in sorted(wanted):
        if context_id not in patterns:
            raise missing(schema.head_patterns, neuron_id=key, context_id=context_id)
    return patterns


def _texts(reading: Reading, token_ids: list[int], included_from: int) -> list[str]:
    vocabulary = reading.vocabulary
    return reading.in_context([vocabulary[token_id] for token_id in token_ids], included_from)


def _examples(
    reading: Reading, index: int, stored: dict[str, list[dict[str, Any]]]
) -> HeadExamples:
    patterns = _patterns(reading, index)
    ids = {example["context_id"] for kind in stored.values() for example in kind}
    contexts = contexts_of(reading.connection, reading.run, ids)

    def example(entry: dict[str, Any]) -> PairExample:
        row = contexts[entry["context_id"]]
        token_ids = row.token_ids.tolist()
        texts = _texts(reading, token_ids, row.included_from)
        start = max(row.included_from, entry["key"] - BEFORE)
        end = min(len(token_ids), entry["query"] + AFTER + 1)
        pattern = patterns[entry["context_id"]]
        kept = dict(pattern.rows()[entry["query"]])
        return PairExample(
            **entry,
            document_index=row.document_index,
            source=row.source,
            start=start,
            tokens=texts[start:end],
            token_ids=token_ids[start:end],
            row=[kept.get(position, 0.0) for position in range(start, end)],
            left_out=float(pattern.left_out[entry["query"]]),
        )

    return HeadExamples(**{name: list(map(example, kind)) for name, kind in stored.items()})


def _ref(reading: Reading, index: int) -> NeuronRef | None:
    """The head at an index over all layers; None before the first and after the last."""
    if not 0 <= index < len(reading.places):
        return None
    layer, head = reading.places.of(index)
    return NeuronRef(layer=layer, neuron=head)
