"""A store written by hand: small enough that every number on its pages is known.

The model `toy` has two layers of four neurons, each awkward in its own way (see `TOY_NEURONS`), and
three runs; `Zebra_2.0` has layers of different widths; `pre-only` has no run at its default hook
point; `wide` has many neurons with few distinct values, for lists.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import Engine

from indexer.store.writing.records import ContextRecord, NeuronBlock, RunRecord
from indexer.store.writing.run import write_run
from tests.helpers.fixture_neurons import (
    ATTRIBUTE,
    BIDI,
    BOS,
    CONSTANT,
    CONTEXTS,
    CONTROLS,
    DEAD,
    FIRST,
    HOSTILE,
    LONG,
    MARKUP_SOURCE,
    PLAIN,
    SCRIPT,
    SOURCES,
    SPARSE,
    TEXTS,
    TIED,
    TOY_NEURONS,
    VOCABULARY,
    ZERO_WIDTH,
    Chosen,
    Neuron,
    Text,
)
from tests.helpers.neuron_records import block_of

__all__ = [
    "ATTRIBUTE",
    "BIDI",
    "BOS",
    "CONTEXTS",
    "CONTROLS",
    "LONG",
    "MARKUP_SOURCE",
    "SCRIPT",
    "SOURCES",
    "TEXTS",
    "TOY_NEURONS",
    "VOCABULARY",
    "ZERO_WIDTH",
    "Chosen",
    "Neuron",
    "Text",
]

TOKEN_COUNTS = np.array([0, 400, 300, 0, 100] + 15 * [29])
"""Of the whole corpus: BOS and “ sat” never occur."""
MADE = datetime(2026, 3, 14, 15, 9, 26, 535898, tzinfo=UTC)
PROVENANCE: dict[str, Any] = {
    "model": {"id": "hand/toy", "revision": None, "weights_hash": "0" * 64, "gated": False},
    "corpus": {"sources": list(SOURCES), "duplicates_skipped": 3},
    "note": "<img src=x onerror=alert(1)>",
    "seconds": {"scan": 1.25},
}


@dataclass(frozen=True)
class RunOf:
    """One run of the fixture; `layers` are its neurons."""

    model: str
    layers: tuple[tuple[Neuron, ...], ...]
    hook_point: str = "mlp.hook_post"
    default: bool = True
    revision: str | None = None
    sources: tuple[str, ...] = SOURCES
    vocabulary: str = "hand"
    minutes: int = 0
    contexts: dict[int, Text] = field(default_factory=lambda: dict(CONTEXTS))

    def record(self) -> RunRecord:
        """The record the store's writer takes."""
        return RunRecord(
            model=self.model,
            model_id=f"hand/{self.model}",
            revision=self.revision,
            hook_point=self.hook_point,
            is_default_hook_point=self.default,
            corpus="corpus & <i>sons</i>",
            dtype="float32",
            ctx_len=8,
            contexts=9,
            tokens=1234,
            sample_contexts=8,
            sample_positions=20,
            sample_identity=f"{self.vocabulary} {sorted(self.contexts)}"[:64],
            widths=tuple(len(layer) for layer in self.layers),
            sources=self.sources,
            vocabulary=VOCABULARY,
            token_counts=TOKEN_COUNTS,
            source_contexts=np.array([5, 3, 1][: len(self.sources)]),
            provenance=PROVENANCE,
            created_at=MADE + timedelta(minutes=self.minutes),
        )

    def blocks(self, size: int = 500) -> Iterator[NeuronBlock]:
        """All neurons in order, up to `size` in a block."""
        for layer, neurons in enumerate(self.layers):
            records = [neuron.record(layer, index) for index, neuron in enumerate(neurons)]
            for first in range(0, len(records), size):
                yield block_of(records[first : first + size])

    def context_records(self) -> Iterator[ContextRecord]:
        """All contexts in order."""
        for context_id, text in sorted(self.contexts.items()):
            yield ContextRecord(
                context_id=context_id,
                document_index=text.document,
                source_index=text.source,
                included_from=text.bos,
                token_ids=np.array(text.token_ids, np.uint32),
            )

    def write(self, engine: Engine) -> int:
        """Put the run in a store; its id."""
        return write_run(engine, self.record(), self.blocks(), self.context_records())


def wide_layer(count: int, seed: int = 0) -> tuple[Neuron, ...]:
    """Neurons of few distinct values, so that every sort ties; some of them never varied."""
    rng, scores = random.Random(seed), random.Random(seed)
    return tuple(
        Neuron(
            top=(FIRST,),
            maximum=rng.choice([-0.5, 0.0, 1.0, 1e-30, 1e30, 0.1, 1 / 3]),
            mean=rng.choice([-0.25, 0.0, 0.125, 2 / 3]),
            density=rng.choice([0.0, 0.5, 1.0, 0.1 + 0.2]),
            kurtosis=rng.choice([-np.inf, -1.2, 0.0, 1e6]),
            lookup=scores.choice([-np.inf, -0.125, 0.5, 0.9]),
            effect_kurtosis=rng.choice([-np.inf, -0.5, 0.0, 33.25]),
        )
        for _ in range(count)
    )


WIDE = (wide_layer(37, 1), wide_layer(5, 2))

FIRST_TOY, ZEBRA, TOY, TOY_PRE, PRE_ONLY, WIDE_RUN = range(1, 7)
"""Ids of the runs, in the order they are written."""

RUNS = (
    RunOf("toy", TOY_NEURONS[::-1], revision="main", minutes=1),
    RunOf("Zebra_2.0", ((PLAIN, TIED, DEAD), (HOSTILE,)), vocabulary="zebra", minutes=2),
    RunOf("toy", TOY_NEURONS, minutes=3),
    RunOf("toy", ((CONSTANT, DEAD), (TIED,)), "mlp.hook_pre", default=False, minutes=4),
    RunOf("pre-only", ((SPARSE,),), "mlp.hook_pre", default=False, minutes=5),
    RunOf("wide", WIDE, minutes=6),
)
MODELS = ["Zebra_2.0", "pre-only", "toy", "wide"]
"""The models' names in the order of their characters' code points."""


def write_all(engine: Engine) -> None:
    """The whole fixture, into an empty store."""
    for number, run in enumerate(RUNS, 1):
        assert run.write(engine) == number
