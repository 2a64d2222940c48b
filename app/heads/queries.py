"""Reads attention heads: their scores, examples and patterns."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Row, bindparam, select

from app.errors import NotFound
from app.heads.schemas import (
    Circuits,
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
    TokenPair,
)
from app.reading.columns import columns, deleted
from app.reading.runs import run_ref, sample_of
from app.reading.store import Reading
from app.schemas import NeuronRef
from indexer.store import schema
from indexer.store.packing.codec import unpack_token_ids
from indexer.store.packing.pattern import SparsePattern, unpack_pattern
from indexer.store.units import HEADS

BEFORE, AFTER = 16, 20
"""Tokens shown before the key and after the query."""
FARTHEST = 60
"""Tokens shown in one piece; of longer pairs the middle is left out."""

_FACTS = select(schema.heads.c.facts).where(schema.heads.c.neuron_id == bindparam("key"))
_PATTERNS = select(schema.head_patterns.c.context_id, schema.head_patterns.c.packed).where(
    schema.head_patterns.c.neuron_id == bindparam("key")
)
_PROVENANCE = select(schema.runs.c.provenance).where(schema.runs.c.id == bindparam("run_id"))
_CONTEXTS = select(schema.contexts).where(
    schema.contexts.c.run_id == bindparam("run_id"),
    schema.contexts.c.context_id.in_(bindparam("ids", expanding=True)),
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
    facts = _facts(reading, index)
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
        circuits=_circuits(facts["circuits"], reading.vocabulary),
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
    row = _contexts(reading, [context_id])[context_id]
    token_ids = unpack_token_ids(bytes(row.token_ids)).tolist()
    return HeadContext(
        model=run.model,
        layer=layer,
        head=head,
        run=run_ref(run),
        context_id=context_id,
        document_index=row.document_index,
        source=run.sources[row.source_index] or None,
        included_from=row.included_from,
        tokens=_texts(reading, token_ids, row.included_from),
        token_ids=token_ids,
        rows=pattern.rows(),
        left_out=pattern.left_out.tolist(),
    )


def _index_of(reading: Reading, layer: int, head: int) -> int:
    """A head's index over all layers. Raises NotFound, also for a run of other units."""
    if reading.run.set_name != HEADS:
        raise NotFound(f"Run {reading.run.id} of {reading.run.model} is not of attention heads.")
    return reading.index_of(layer, head)


def _facts(reading: Reading, index: int) -> dict[str, Any]:
    key = schema.neuron_key(reading.run.id, index)
    stored = reading.connection.execute(_FACTS, {"key": key}).scalar_one_or_none()
    if stored is None:
        raise deleted(reading.run)
    facts: dict[str, Any] = json.loads(stored)
    return facts


def _run_facts(reading: Reading) -> HeadsFacts:
    provenance = reading.connection.execute(
        _PROVENANCE, {"run_id": reading.run.id}
    ).scalar_one_or_none()
    if provenance is None:
        raise deleted(reading.run)
    return HeadsFacts(**provenance["heads"])


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


def _circuits(stored: dict[str, Any], vocabulary: list[str]) -> Circuits:
    def pairs(name: str) -> list[TokenPair] | None:
        if stored[name] is None:
            return None
        return [
            TokenPair(
                first=vocabulary[first],
                first_id=first,
                second=vocabulary[second],
                second_id=second,
                value=value,
            )
            for first, second, value in stored[name]
        ]

    return Circuits(**stored | {"promoted": pairs("promoted"), "matched": pairs("matched")})


def _patterns(reading: Reading, index: int) -> dict[int, SparsePattern]:
    key = schema.neuron_key(reading.run.id, index)
    rows = reading.connection.execute(_PATTERNS, {"key": key})
    return {row.context_id: unpack_pattern(bytes(row.packed)) for row in rows}


def _contexts(reading: Reading, ids: Iterable[int]) -> dict[int, Row[Any]]:
    parameters = {"run_id": reading.run.id, "ids": sorted(set(ids))}
    return {row.context_id: row for row in reading.connection.execute(_CONTEXTS, parameters)}


def _texts(reading: Reading, token_ids: list[int], included_from: int) -> list[str]:
    vocabulary = reading.vocabulary
    return reading.in_context([vocabulary[token_id] for token_id in token_ids], included_from)


def _examples(
    reading: Reading, index: int, stored: dict[str, list[dict[str, Any]]]
) -> HeadExamples:
    patterns = _patterns(reading, index)
    contexts = _contexts(reading, (e["context_id"] for kind in stored.values() for e in kind))
    if len(contexts) < len(patterns):
        raise deleted(reading.run)

    def example(entry: dict[str, Any]) -> PairExample:
        row = contexts[entry["context_id"]]
        token_ids = unpack_token_ids(bytes(row.token_ids)).tolist()
        texts = _texts(reading, token_ids, row.included_from)
        start = max(row.included_from, entry["key"] - BEFORE)
        end = min(len(token_ids), entry["query"] + AFTER + 1)
        pattern = patterns[entry["context_id"]]
        kept = dict(pattern.rows()[entry["query"]])
        return PairExample(
            **entry,
            document_index=row.document_index,
            source=reading.run.sources[row.source_index] or None,
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
