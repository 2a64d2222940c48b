"""From contexts and tokens to neurons: the store's rows turned round while they are written.

A context names the neurons it is an example of, and where they peak; a token those that peak on
it, promote or suppress it, or are excited by it. What is between lies in a `Spool`.
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
"""Of each kind: its turn. Of several that have a context for its peak, the first names it."""
_PEAK = schema.ROLES.index("peak")
_LISTS = {
    "promoted": ("logit", 0),
    "suppressed": ("logit", 1),
    "in": ("in", 0),
    "gate": ("gate", 0),
}
"""Of the roles that weights give: the list of tokens, and which half of it."""


class TokenRow(NamedTuple):
    """One row of `token_neurons`, without its run."""

    token_id: int
    role: int
    neurons: int
    packed: bytes


class Postings:
    """Takes a run's neurons, then its contexts by id, and gives what each context and each token
    has to say."""

    def __init__(self, contexts: int, tokens: int) -> None:
        """Of the run: contexts there are, and tokens of its vocabulary."""
        self._places = Spool(_EXAMPLE, contexts)
        self._entries = Spool(_ENTRY, tokens)
        self._range = -1
        self._open = np.empty(0, PLACE)
        self._ids = np.empty(0, np.int64)
        self._packer = Packer()

    def close(self) -> None:
        """Let go of the files."""
        self._places.close()
        self._entries.close()

    def add_neurons(self, block: NeuronBlock, first: int) -> None:
        """Take a block; `first` is the flat index of its first neuron."""
        flat = np.arange(first, first + len(block), dtype=np.int64)
        kinds = block.counts.shape[1]
        owner = np.repeat(np.repeat(flat, kinds), block.counts.ravel())
        kind = np.repeat(np.tile(np.arange(kinds), len(block)), block.counts.ravel())
        mine = np.flatnonzero(kind != _RANDOM)  # the same contexts for all: they would name all
        owner, kind, examples, low = owner[mine], kind[mine], block.examples, kind[mine] == _BOTTOM
        self.add_places(
            examples.context_ids[mine],
            neuron=owner,
            kind=kind,
            position=np.where(low, examples.trough_positions[mine], examples.peak_positions[mine]),
            value=np.where(low, examples.troughs[mine], examples.peaks[mine]),
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
        """Take examples: of each its `neuron`, `kind`, `position` and `value` there."""
        places = _rows(PLACE, **columns)
        self._places.put(context_ids, _rows(_EXAMPLE, context=context_ids, place=places))

    def add_tokens(self, role: str, token_ids: Array, neurons: Array, values: Array) -> None:
        """Take what tokens are to neurons, in one role."""
        number = np.full(len(token_ids), schema.ROLES.index(role))
        rows = _rows(_ENTRY, token=token_ids, role=number, neuron=neurons, value=values)
        self._entries.put(rows["token"], rows)

    def contexts(self, ids: Sequence[int], token_ids: Sequence[Array]) -> list[bytes]:
        """What contexts name, packed, given their tokens; they come by id, after all neurons."""
        found, sizes = [np.empty(0, PLACE)], []
        for _, some in groupby(ids, self._places.range_of):
            wanted = np.fromiter(some, np.int64)
            own, keys = self._of(self._places.range_of(int(wanted[0])))
            begins, ends = np.searchsorted(keys, wanted), np.searchsorted(keys, wanted + 1)
            sizes += (ends - begins).tolist()
            found.append(rows_at(own, ranges(begins, ends - begins)))
        places = np.concatenate(found)
        ends = np.cumsum([0, *(len(some) for some in token_ids)])
        flat = np.concatenate([np.empty(0, np.uint32), *token_ids])
        top = places["kind"] == _TOP
        tokens = flat[(np.repeat(ends[:-1], sizes) + places["position"])[top]]
        self.add_tokens("peak", tokens, places["neuron"][top], places["value"][top])
        return pack_places(places, sizes, self._packer)

    def _of(self, index: int) -> tuple[Array, Array]:
        """The places of a range of contexts, by context, and each one's context."""
        if index != self._range:
            some = self._places.take(index)
            places = some["place"]
            order = np.lexsort((_ORDER[places["kind"]], places["neuron"], some["context"]))
            some = rows_at(some, order)
            again = np.diff(some["context"], prepend=-1) == 0
            again &= np.diff(some["place"]["neuron"], prepend=-1) == 0
            some = rows_at(some, ~again | (some["place"]["kind"] == _BOTTOM))
            self._range = index
            self._open = np.ascontiguousarray(some["place"])
            self._ids = np.ascontiguousarray(some["context"])
        return self._open, self._ids

    def tokens(self) -> Iterator[TokenRow]:
        """All tokens that any neuron has to do with, by id and role; when all contexts are in.

        A peak's neurons: by how many of their top examples peak on the token, then by the mean of
        those peaks. The others': by the size of their values. Ties: in the order of neurons.
        """
        for rows in mapped_ahead(
            _token_rows, map(self._entries.take, range(len(self._entries))), 2
        ):
            yield from rows


def listed_tokens(arrays: Mapping[str, Array]) -> dict[str, tuple[Array, Array]]:
    """Of one neuron's small arrays: by role, the tokens it is named by, and the values."""
    found = {}
    for role, (name, half) in _LISTS.items():
        token_ids, values = arrays[f"{name}_token_ids"], arrays[f"{name}_values"]
        middle = len(token_ids) // 2
        mine = slice(middle, 2 * middle) if half else slice(0, middle)
        found[role] = (token_ids[mine], values[mine])
    return found


def _rows(dtype: np.dtype[Any], **columns: Array) -> Array:
    rows = np.empty(len(next(iter(columns.values()))), dtype)
    for name, values in columns.items():
        rows[name] = values
    return rows


def _token_rows(rows: Array) -> list[TokenRow]:
    """The rows of some tokens: all arrays at once, since most tokens have few neurons."""
    key = rows["token"].astype(np.int64) * len(schema.ROLES) + rows["role"]
    neurons, values = rows["neuron"].astype(np.int64), rows["value"].copy()
    counts = np.ones(len(rows), np.int64)
    # Of a peak's entries those of one neuron become one; others have one a neuron as they are.
    peak = rows["role"] == _PEAK
    peaks, rest = _means(key[peak], neurons[peak], values[peak]), ~peak
    key, neurons, values, counts = (
        np.concatenate([some, column[rest]])
        for some, column in zip(peaks, (key, neurons, values, counts), strict=True)
    )
    peak = np.arange(len(key)) < len(peaks[0])
    # Four things to sort by as two numbers: a sort by each costs as much as any.
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
    """By key and neuron: the mean of the values, and how many they are."""
    order = np.lexsort((-values, (key << 32) | neurons))
    key, neurons, values = key[order], neurons[order], values[order]
    new = (np.diff(key, prepend=-1) != 0) | (np.diff(neurons, prepend=-1) != 0)
    starts = np.flatnonzero(new)
    counts = np.diff(starts, append=len(key))
    sums = np.add.reduceat(values, starts, dtype=np.float64) if len(starts) else np.empty(0)
    return key[starts], neurons[starts], (sums / counts).astype("<f4"), counts


def _falling(values: Array) -> Array:
    """float32 → int64 that rises as the values fall, and fits into 32 bits with its sign."""
    bits = (values + np.float32(0)).view(np.int32)  # −0 is 0
    falling: Array = ~(bits ^ ((bits >> 31) & 0x7FFFFFFF)).astype(np.int64)
    return falling
