"""Inverts the neurons' lists while a run is written: from contexts and from tokens to neurons.

A context lists the neurons it is an example of. A token lists the neurons that peak on it, promote
or suppress it, or are activated by its embedding. Intermediate rows are on disk, in a `Spool`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from indexer.store import schema
from indexer.store.packing.codec import Packer
from indexer.store.packing.layout import ranges
from indexer.store.packing.postings import PLACE, pack_places, pack_tokens
from indexer.store.writing.ahead import mapped_ahead
from indexer.store.writing.records import NeuronBlock
from indexer.store.writing.spool import Spool, rows_at

Array = np.ndarray[Any, Any]

_EXAMPLE = np.dtype([("context", "<i8"), ("place", PLACE)])
_ENTRY = np.dtype([("token", "<i4"), ("role", "u1"), ("neuron", "<i4"), ("value", "<f4")])

_TOP, _BOTTOM, _RANDOM, _BAND, _SOURCE = range(len(schema.KINDS))
_ORDER = np.argsort([_TOP, _SOURCE, _BAND, _BOTTOM, _RANDOM]).astype(np.uint8)
"""Precedence of each kind: a context lists a neuron's peak once, under the first of its kinds."""
_PEAK = schema.ROLES.index("peak")
_LISTS = {
    "promoted": ("logit", 0),
    "suppressed": ("logit", 1),
    "in": ("in", 0),
    "gate": ("gate", 0),
}
"""For roles that come from the weights: the list of tokens, and which half of it."""


class TokenRow(NamedTuple):
    """One row of `token_neurons`, without its run."""

    token_id: int
    role: int
    neurons: int
    packed: bytes


class Postings:
    """Takes a run's neurons, then its contexts by id, and gives the neurons of each context and of
    each token."""

    def __init__(self, contexts: int, tokens: int) -> None:
        """`contexts` and `tokens`: the number of contexts in the run and of tokens in its
        vocabulary."""
        self._places = Spool(_EXAMPLE, contexts)
        self._entries = Spool(_ENTRY, tokens)
        self._range = -1
        self._open = np.empty(0, PLACE)
        self._ids = np.empty(0, np.int64)
        self._packer = Packer()

    def close(self) -> None:
        """Delete the files."""
        self._places.close()
        self._entries.close()

    def add_neurons(self, block: NeuronBlock, first: int) -> None:
        """Add a block; `first` is the flat index of its first neuron."""
        flat = np.arange(first, first + len(block), dtype=np.int64)
        kinds = block.counts.shape[1]
        owner = np.repeat(np.repeat(flat, kinds), block.counts.ravel())
        kind = np.repeat(np.tile(np.arange(kinds), len(block)), block.counts.ravel())
        # Random examples are the same contexts for all neurons: those would list every neuron.
        chosen = np.flatnonzero(kind != _RANDOM)
        owner, kind, examples = owner[chosen], kind[chosen], block.examples
        low = kind == _BOTTOM
        self.add_places(
            examples.context_ids[chosen],
            neuron=owner,
            kind=kind,
            position=np.where(
                low, examples.trough_positions[chosen], examples.peak_positions[chosen]
            ),
            value=np.where(low, examples.troughs[chosen], examples.peaks[chosen]),
        )
        for role, (name, half) in _LISTS.items():
            if f"{name}_token_ids" not in block.arrays:
                continue
            token_ids, values = block.arrays[f"{name}_token_ids"], block.arrays[f"{name}_values"]
            column = np.arange(token_ids.values.shape[1])
            middle = (token_ids.lengths // 2)[:, None]
            inside = (column >= middle) & (column < 2 * middle) if half else column < middle
            neurons = np.broadcast_to(flat[:, None], inside.shape)[inside]
            self.add_tokens(role, token_ids.values[inside], neurons, values.values[inside])

    def add_places(self, context_ids: Array, **columns: Array) -> None:
        """Add examples. `context_ids` and the columns `neuron` (flat index), `kind`, `position` and
        `value` (the activation there) are [examples]."""
        places = _rows(PLACE, **columns)
        self._places.put(context_ids, _rows(_EXAMPLE, context=context_ids, place=places))

    def add_tokens(self, role: str, token_ids: Array, neurons: Array, values: Array) -> None:
        """Add pairs of token and neuron (flat index) in one role, with values: [pairs] each."""
        number = np.full(len(token_ids), schema.ROLES.index(role))
        rows = _rows(_ENTRY, token=token_ids, role=number, neuron=neurons, value=values)
        self._entries.put(rows["token"], rows)

    def contexts(self, ids: Sequence[int], token_ids: Sequence[Array]) -> list[bytes]:
        """The packed neurons of contexts, given their tokens. Contexts come by id, after all
        neurons."""
        chunks, sizes = [np.empty(0, PLACE)], []
        for _, group in groupby(ids, self._places.range_of):
            wanted = np.fromiter(group, np.int64)
            rows, keys = self._of(self._places.range_of(int(wanted[0])))
            begins, ends = np.searchsorted(keys, wanted), np.searchsorted(keys, wanted + 1)
            sizes += (ends - begins).tolist()
            chunks.append(rows_at(rows, ranges(begins, ends - begins)))
        places = np.concatenate(chunks)
        ends = np.cumsum([0, *(len(row) for row in token_ids)])
        flat = np.concatenate([np.empty(0, np.uint32), *token_ids])
        top = places["kind"] == _TOP
        tokens = flat[(np.repeat(ends[:-1], sizes) + places["position"])[top]]
        self.add_tokens("peak", tokens, places["neuron"][top], places["value"][top])
        return pack_places(places, sizes, self._packer)

    def _of(self, index: int) -> tuple[Array, Array]:
        """The `PLACE` rows of a range of contexts, by context, and the context id of each."""
        if index != self._range:
            rows = self._places.take(index)
            places = rows["place"]
            order = np.lexsort((_ORDER[places["kind"]], places["neuron"], rows["context"]))
            rows = rows_at(rows, order)
            again = np.diff(rows["context"], prepend=-1) == 0
            again &= np.diff(rows["place"]["neuron"], prepend=-1) == 0
            rows = rows_at(rows, ~again | (rows["place"]["kind"] == _BOTTOM))
            self._range = index
            self._open = np.ascontiguousarray(rows["place"])
            self._ids = np.ascontiguousarray(rows["context"])
        return self._open, self._ids

    def tokens(self) -> Iterator[TokenRow]:
        """All rows of `token_neurons` by token id and role, after all contexts.

        Neurons of the role `peak` are ordered by how many of their top examples peak on the token,
        then by the mean of those peaks; other roles by |value|. Ties: in the order of neurons.
        """
        for rows in mapped_ahead(
            _token_rows, map(self._entries.take, range(len(self._entries))), 2
        ):
            yield from rows


def listed_tokens(arrays: Mapping[str, Array]) -> dict[str, tuple[Array, Array]]:
    """The tokens that list one neuron, by role: token ids and values [k], from the neuron's small
    arrays."""
    tokens = {}
    for role, (name, half) in _LISTS.items():
        token_ids, values = arrays[f"{name}_token_ids"], arrays[f"{name}_values"]
        middle = len(token_ids) // 2
        part = slice(middle, 2 * middle) if half else slice(0, middle)
        tokens[role] = (token_ids[part], values[part])
    return tokens


def _rows(dtype: np.dtype[Any], **columns: Array) -> Array:
    rows = np.empty(len(next(iter(columns.values()))), dtype)
    for name, values in columns.items():
        rows[name] = values
    return rows


def _token_rows(rows: Array) -> list[TokenRow]:
    """The rows of a range of tokens, computed together since most tokens have few neurons."""
    key = rows["token"].astype(np.int64) * len(schema.ROLES) + rows["role"]
    neurons, values = rows["neuron"].astype(np.int64), rows["value"].copy()
    counts = np.ones(len(rows), np.int64)
    # Entries of the role `peak` are merged per neuron; other roles have one per neuron already.
    peak = rows["role"] == _PEAK
    peaks, rest = _means(key[peak], neurons[peak], values[peak]), ~peak
    key, neurons, values, counts = (
        np.concatenate([merged, column[rest]])
        for merged, column in zip(peaks, (key, neurons, values, counts), strict=True)
    )
    peak = np.arange(len(key)) < len(peaks[0])
    # Four sort keys packed into two: each key costs a full sort.
    first = (key << 32) - np.where(peak, counts, 0)
    second = (_falling(np.where(peak, values, np.abs(values))) << 32) | neurons
    order = np.lexsort((second, first))
    key, values = key[order], values[order]
    ends = np.flatnonzero(np.diff(key, append=-1)) + 1
    sizes = np.diff(ends, prepend=0)
    token_ids, roles = np.divmod(key[ends - 1], len(schema.ROLES))
    numbers = (neurons[order].astype("<i4"), values, counts[order].astype("<i4"))
    packed = pack_tokens(*numbers, sizes, roles == _PEAK)
    columns = (token_ids.tolist(), roles.tolist(), sizes.tolist(), packed)
    return list(map(TokenRow._make, zip(*columns, strict=True)))


def _means(key: Array, neurons: Array, values: Array) -> tuple[Array, Array, Array, Array]:
    """The mean and the number of values for each pair of key and neuron: keys, neurons, means,
    counts [pairs]. Inputs are [values]."""
    order = np.lexsort((-values, (key << 32) | neurons))
    key, neurons, values = key[order], neurons[order], values[order]
    new = (np.diff(key, prepend=-1) != 0) | (np.diff(neurons, prepend=-1) != 0)
    starts = np.flatnonzero(new)
    counts = np.diff(starts, append=len(key))
    sums = np.add.reduceat(values, starts, dtype=np.float64) if len(starts) else np.empty(0)
    return key[starts], neurons[starts], (sums / counts).astype("<f4"), counts


def _falling(values: Array) -> Array:
    """Keys that sort values in falling order: float32 → int64 that fits 32 bits with its sign."""
    bits = (values + np.float32(0)).view(np.int32)  # −0 is 0
    falling: Array = ~(bits ^ ((bits >> 31) & 0x7FFFFFFF)).astype(np.int64)
    return falling
