"""From contexts and tokens to neurons: the store's rows turned round while they are written.

A context names the neurons it is an example of, and where they peak; a token those that peak on
it, promote or suppress it, or are excited by it. What is between lies in a `Spool`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from indexer.store import schema
from indexer.store.codec import Packer
from indexer.store.posting_codec import PLACE, pack_places, pack_token
from indexer.store.records import NeuronBlock
from indexer.store.spool import Spool

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
        self._open = np.empty(0, _EXAMPLE)
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
        mine = [self._of(context_id) for context_id in ids]
        places = np.concatenate([np.empty(0, PLACE), *mine])
        tokens = np.concatenate(
            [
                np.empty(0, np.uint32),
                *(some[at["position"]] for some, at in zip(token_ids, mine, strict=True)),
            ]
        )
        top = places["kind"] == _TOP
        self.add_tokens("peak", tokens[top], places["neuron"][top], places["value"][top])
        return [pack_places(some, self._packer) for some in mine]

    def _of(self, context_id: int) -> Array:
        at = self._places.range_of(context_id)
        if at != self._range:
            some = self._places.take(at)
            places = some["place"]
            order = np.lexsort((_ORDER[places["kind"]], places["neuron"], some["context"]))
            some = some[order]
            again = np.diff(some["context"], prepend=-1) == 0
            again &= np.diff(some["place"]["neuron"], prepend=-1) == 0
            some = some[~again | (some["place"]["kind"] == _BOTTOM)]
            self._range, self._open = at, some
            self._ids = np.ascontiguousarray(some["context"])
        begin, end = np.searchsorted(self._ids, [context_id, context_id + 1])
        found: Array = self._open["place"][begin:end]
        return found

    def tokens(self) -> Iterator[TokenRow]:
        """All tokens that any neuron has to do with, by id and role; when all contexts are in.

        A peak's neurons: by how many of their top examples peak on the token, then by the mean of
        those peaks. The others': by the size of their values. Ties: in the order of neurons.
        """
        for index in range(len(self._entries)):
            yield from _token_rows(self._entries.take(index))


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


def _token_rows(rows: Array) -> Iterator[TokenRow]:
    """The rows of some tokens: all arrays at once, since most tokens have few neurons."""
    by = (rows["neuron"], rows["role"], rows["token"])
    rows = rows[np.lexsort((-rows["value"], *by))]
    key = rows["token"].astype(np.int64) * len(schema.ROLES) + rows["role"]
    # Of a peak's entries those of one neuron become one; others have one a neuron as they are.
    new = np.diff(key, prepend=-1) != 0
    new |= np.diff(rows["neuron"], prepend=-1) != 0
    new |= rows["role"] != _PEAK
    starts = np.flatnonzero(new)
    if not len(starts):
        return
    counts = np.diff(starts, append=len(rows))
    sums = np.add.reduceat(rows["value"].astype(np.float64), starts)
    key, neurons, values = key[starts], rows["neuron"][starts], (sums / counts).astype("<f4")
    peak = rows["role"][starts] == _PEAK
    size = np.where(peak, values, np.abs(values))
    order = np.lexsort((neurons, -size, np.where(peak, -counts, 0), key))
    key, neurons, values = key[order], neurons[order].astype("<i4"), values[order]
    peak, counts = peak[order], counts[order].astype("<i4")
    ends = np.flatnonzero(np.diff(key, append=-1)) + 1
    for begin, end in pairwise([0, *ends.tolist()]):
        token_id, role = divmod(int(key[begin]), len(schema.ROLES))
        mine = slice(begin, end)
        packed = pack_token(neurons[mine], values[mine], counts[mine] if peak[begin] else None)
        yield TokenRow(token_id, role, end - begin, packed)
