"""Reading one neuron: its rows, its examples and what its weights say, put together."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, bindparam, select

from app.examples.queries import examples_of, read_kept
from app.examples.schemas import Examples, PeakToken
from app.neurons.schemas import (
    Histogram,
    InputTokens,
    LogitEffects,
    NeuronLink,
    Part,
    PeakQuantiles,
    SignCounts,
    Stats,
    TokenValue,
    Weights,
)
from app.reading.columns import finite
from app.schemas import NeuronRef
from indexer.store import schema
from indexer.store.packing.codec import unpack_arrays

Array = np.ndarray[Any, Any]
_LISTS = ("together", "alike", "upstream", "downstream")

# Built once: SQLAlchemy takes longer to put a statement together than SQLite to answer it.
_NEURON = (
    select(schema.neurons, schema.neuron_arrays.c.packed)
    .join(schema.neuron_arrays)
    .where(schema.neurons.c.id == bindparam("key"))
)
_PEAK_TOKENS = select(schema.neurons.c.id, schema.neurons.c.peak_token_id).where(
    schema.neurons.c.id.in_(bindparam("keys", expanding=True))
)


@dataclass(frozen=True)
class NeuronFacts:
    """What the store knows of one neuron."""

    scale: float
    stats: Stats
    histogram: Histogram
    peak_histogram: Histogram
    signs: SignCounts | None
    examples: Examples
    peak_tokens: list[PeakToken]
    together: list[NeuronLink]
    weights: Weights


def neuron_facts(
    connection: Connection,
    vocabulary: list[str],
    run: Row[Any],
    flat: int,
    reach: int | None = None,
) -> NeuronFacts:
    """Read a neuron by its index counted over all layers; `reach` as in `Kept.shown`."""
    key = schema.neuron_key(run.id, flat)
    row = connection.execute(_NEURON, {"key": key}).one()
    facts = unpack_arrays(bytes(row.packed))
    kept = read_kept(connection, run, key, vocabulary)
    links = _links(connection, run, facts, vocabulary)
    return NeuronFacts(
        scale=max(abs(row.max), abs(row.min)),
        stats=_stats(row, facts),
        histogram=_histogram(facts, "histogram"),
        peak_histogram=_histogram(facts, "peak_histogram"),
        signs=_signs(facts["sign_counts"]),
        examples=examples_of(kept, run, facts, reach),
        peak_tokens=kept.peak_tokens(),
        together=links["together"],
        weights=Weights(
            logit_effects=_logit_effects(row, facts, vocabulary),
            inputs=_inputs(row, facts, vocabulary),
            alike=links["alike"],
            upstream=links["upstream"],
            downstream=links["downstream"],
        ),
    )


def _links(
    connection: Connection, run: Row[Any], facts: dict[str, Array], vocabulary: list[str]
) -> dict[str, list[NeuronLink]]:
    """The lists of other neurons, each with the token it peaks on: one read for all of them."""
    wanted = sorted({int(flat) for name in _LISTS for flat in facts[f"{name}_neurons"]})
    peak_tokens: dict[int, int] = {}
    if wanted:
        keys = [schema.neuron_key(run.id, flat) for flat in wanted]
        rows = connection.execute(_PEAK_TOKENS, {"keys": keys}).all()
        peak_tokens = {row.id: row.peak_token_id for row in rows}
    offsets = list(accumulate(run.widths, initial=0))

    def link(flat: int, value: float, part: int | None) -> NeuronLink:
        layer = bisect_right(offsets, flat) - 1
        reading: Part | None = None if part is None else "gate" if part else "in"
        return NeuronLink(
            layer=layer,
            neuron=flat - offsets[layer],
            value=value,
            part=reading,
            peak_token=vocabulary[peak_tokens[schema.neuron_key(run.id, flat)]],
        )

    def links(name: str) -> list[NeuronLink]:
        flats, values = facts[f"{name}_neurons"].tolist(), facts[f"{name}_values"].tolist()
        parts = facts[f"{name}_parts"].tolist() if f"{name}_parts" in facts else [None] * len(flats)
        return [link(*one) for one in zip(flats, values, parts, strict=True)]

    return {name: links(name) for name in _LISTS}


def _histogram(facts: dict[str, Array], name: str) -> Histogram:
    counts = facts[f"{name}_counts"]
    if not len(counts):
        return Histogram(edges=[0.0, 0.0], counts=[0])
    start, width = facts[f"{name}_range"]
    edges = start + width * np.arange(len(counts) + 1)
    return Histogram(edges=edges.tolist(), counts=counts.tolist())


def _stats(row: Row[Any], facts: dict[str, Array]) -> Stats:
    quantiles = facts["peak_quantiles"].tolist()
    return Stats(
        max=row.max,
        min=row.min,
        mean=row.mean,
        std=row.std,
        skewness=row.skewness,
        kurtosis=finite(row.kurtosis),
        density=row.density,
        density_over_tenth=row.density_over_tenth,
        tenth=row.tenth,
        dead=row.dead,
        peak_quantiles=PeakQuantiles(
            **dict(zip(PeakQuantiles.model_fields, quantiles, strict=True))
        ),
    )


def _signs(counts: Array) -> SignCounts | None:
    if not len(counts):
        return None
    return SignCounts(**dict(zip(SignCounts.model_fields, counts.tolist(), strict=True)))


def _tokens(
    facts: dict[str, Array], name: str, vocabulary: list[str]
) -> tuple[list[TokenValue], list[TokenValue]]:
    """Both halves of a list of tokens: the highest, the lowest."""
    ids, values = facts[f"{name}_token_ids"].tolist(), facts[f"{name}_values"].tolist()
    both = [
        TokenValue(token=vocabulary[token_id], token_id=token_id, value=value)
        for token_id, value in zip(ids, values, strict=True)
    ]
    return both[: len(both) // 2], both[len(both) // 2 :]


def _logit_effects(row: Row[Any], facts: dict[str, Array], vocabulary: list[str]) -> LogitEffects:
    top, bottom = _tokens(facts, "logit", vocabulary)
    mean, std = facts["effect_moments"].tolist() or (None, None)
    return LogitEffects(
        top=top,
        bottom=bottom,
        mean=mean,
        std=std,
        kurtosis=finite(row.effect_kurtosis),
        histogram=_histogram(facts, "effect_histogram"),
    )


def _inputs(row: Row[Any], facts: dict[str, Array], vocabulary: list[str]) -> list[InputTokens]:
    parts: tuple[tuple[Part, float | None], ...] = (
        ("gate", row.gate_out_cosine),
        ("in", row.in_out_cosine),
    )
    found = []
    for part, cosine in parts:
        top, bottom = _tokens(facts, part, vocabulary)
        if top or cosine is not None:
            found.append(InputTokens(part=part, top=top, bottom=bottom, cosine=cosine))
    return found


def beside(widths: list[int], layer: int, neuron: int) -> NeuronRef | None:
    """The neuron of the same number in another layer, or its last one."""
    if not 0 <= layer < len(widths):
        return None
    return NeuronRef(layer=layer, neuron=min(neuron, widths[layer] - 1))
