"""Reads what a run stores of attention heads besides what it stores of any unit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from sqlalchemy import bindparam, select

from app.reading.store import Reading
from indexer.store import schema
from indexer.store.checksums import cover, missing
from indexer.store.packing.postings import PLACE
from indexer.store.units import HEADS

PAIR_ROLES = ("query", "key")
"""What a token can be in a head's pairs."""
_HEADS = cover(schema.heads)
_FACTS = select(*_HEADS.selected).where(schema.heads.c.neuron_id == bindparam("key"))


def facts_of(reading: Reading, index: int) -> dict[str, Any]:
    """What is stored of the head at an index over all layers. Raises Damaged."""
    key = schema.neuron_key(reading.run.id, index)
    row = reading.connection.execute(_FACTS, {"key": key}).one_or_none()
    if row is None:
        raise missing(schema.heads, neuron_id=key)
    _HEADS.check([row])
    facts: dict[str, Any] = json.loads(row.facts)
    return facts


def pair_tokens(reading: Reading) -> Mapping[tuple[int, str], list[tuple[int, int]]]:
    """By token id and role in pairs: the heads (indices over all layers) among whose most frequent
    tokens of the largest pairs it is, each with the number of these pairs, the most first. Empty
    for other units; kept in memory."""
    if reading.run.set_name != HEADS:
        return {}

    def compute() -> dict[tuple[int, str], list[tuple[int, int]]]:
        by_token: dict[tuple[int, str], list[tuple[int, int]]] = {}
        for index in range(len(reading.places)):
            tokens = facts_of(reading, index)["tokens"]
            for role, stored in zip(PAIR_ROLES, ("queries", "keys"), strict=True):
                for token_id, count in tokens[stored]:
                    by_token.setdefault((token_id, role), []).append((index, count))
        for heads in by_token.values():
            heads.sort(key=lambda head: (-head[1], head[0]))
        return by_token

    return reading.derived.of("pair_tokens", reading.run, compute=compute)


def pair_places(reading: Reading, role: str) -> Mapping[int, Any]:
    """By context id: the heads that have it as a top example by what is moved, as
    `packing.postings.PLACE`, each at the query or the key of its largest pair there; kept in
    memory."""

    def compute() -> dict[int, Any]:
        places: dict[int, list[tuple[int, int, int, float]]] = {}
        for index in range(len(reading.places)):
            for example in facts_of(reading, index)["examples"]["moved"]:
                place = (index, 0, example[role], example["value"])
                places.setdefault(example["context_id"], []).append(place)
        return {context_id: np.array(found, PLACE) for context_id, found in places.items()}

    return reading.derived.of(f"pair_places.{role}", reading.run, compute=compute)
