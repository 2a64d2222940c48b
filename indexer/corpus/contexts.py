"""Cuts token ids into contexts and drops duplicates: the exact rules, in numpy, without tokenizer
or files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Int64, Integer, UInt8, UInt32

from indexer.corpus.prepared import Contexts, digest

MIN_INCLUDED = 2
"""Shorter contexts are dropped, since they predict nothing, unless they fill `ctx_len`: with a BOS
and a `ctx_len` of 2, every context has one included token."""


def chunk_documents(
    ids: Integer[np.ndarray, " tokens"],
    document_lengths: Int64[np.ndarray, " documents"],
    document_index: Int64[np.ndarray, " documents"],
    source_index: Int64[np.ndarray, " documents"],
    *,
    ctx_len: int,
    bos_token_id: int | None,
) -> Contexts:
    """Contexts of documents: consecutive chunks, each after a BOS if there is one.

    `ids` is the concatenation of all documents. A chunk has `ctx_len - 1` tokens (`ctx_len` without
    a BOS). A last chunk of fewer than 2 tokens is dropped unless it is full.
    """
    lead = 0 if bos_token_id is None else 1
    step = ctx_len - lead
    chunks = -(-document_lengths // step)
    owner = np.repeat(np.arange(len(chunks)), chunks)
    nth = np.arange(len(owner)) - np.repeat(np.cumsum(chunks) - chunks, chunks)
    sizes = np.minimum(step, document_lengths[owner] - nth * step)
    long_enough = sizes >= min(MIN_INCLUDED, step)
    tokens = ids[np.repeat(long_enough, sizes)]
    owner, sizes = owner[long_enough], sizes[long_enough]
    return Contexts(
        _with_bos(tokens, sizes, bos_token_id),
        sizes + lead,
        document_index[owner],
        source_index[owner].astype(np.int32),
        np.full(len(sizes), lead, np.uint8),
        sizes,
    )


def _with_bos(
    tokens: Integer[np.ndarray, " tokens"],
    sizes: Int64[np.ndarray, " contexts"],
    bos_token_id: int | None,
) -> np.ndarray:
    """All contexts concatenated [positions], each after a BOS if the model has one; `sizes` are
    their lengths without it."""
    if bos_token_id is None:
        return tokens.astype(np.uint32)
    with_bos = np.empty(len(tokens) + len(sizes), np.uint32)
    is_bos: Bool[np.ndarray, " positions"] = np.zeros(len(with_bos), bool)
    is_bos[np.cumsum(sizes + 1) - (sizes + 1)] = True
    with_bos[is_bos] = bos_token_id
    with_bos[~is_bos] = tokens
    return with_bos


def cut_rows(
    rows: Sequence[Int64[np.ndarray, " row"]],
    unpadded: Sequence[bool],
    document_index: Int64[np.ndarray, " documents"],
    source_index: Int64[np.ndarray, " documents"],
    *,
    ctx_len: int,
    bos_token_id: int | None,
    pad_token_id: int | None,
    special_ids: Int64[np.ndarray, " special"],
) -> Contexts:
    """One context for each pre-tokenised row: without padding on either side, cut to `ctx_len`.

    `unpadded` rows have lost their padding already. No BOS is added; a leading BOS and all other
    special tokens are not included. Rows of fewer than 2 included tokens are dropped unless they
    fill `ctx_len`, and rows of none always.
    """
    cut = [
        (row if done else _without_padding(row, pad_token_id, bos_token_id))[:ctx_len]
        for row, done in zip(rows, unpadded, strict=True)
    ]
    lengths = np.array([len(row) for row in cut], np.int64)
    leads = np.array([len(row) > 0 and row[0] == bos_token_id for row in cut], np.uint8)
    tokens = np.concatenate([np.empty(0, np.int64), *cut]).astype(np.uint32)
    special = special_inside(tokens, lengths, leads, special_ids)
    owner = np.repeat(np.arange(len(cut)), lengths)
    included = lengths - leads - np.bincount(owner[special], minlength=len(cut))
    chosen = (included >= MIN_INCLUDED) | ((lengths == ctx_len) & (included > 0))
    contexts = Contexts(
        tokens, lengths, document_index, source_index.astype(np.int32), leads, included
    )
    return _selected(contexts, np.flatnonzero(chosen).tolist())


def special_inside(
    tokens: UInt32[np.ndarray, " positions"],
    lengths: Int64[np.ndarray, " contexts"],
    included_from: UInt8[np.ndarray, " contexts"],
    special_ids: Int64[np.ndarray, " special"],
) -> Bool[np.ndarray, " positions"]:
    """Whether each token of concatenated contexts is special; leading BOS tokens are not
    counted."""
    special: Bool[np.ndarray, " positions"] = np.isin(tokens, special_ids)
    starts = np.cumsum(lengths) - lengths
    special[starts[included_from > 0]] = False
    return special


def _without_padding(
    row: np.ndarray, pad_token_id: int | None, bos_token_id: int | None
) -> np.ndarray:
    """A row [pos] without padding on either side. Of padding that is also the BOS, one token stays
    in front."""
    if pad_token_id is None or not len(row) or pad_token_id not in (row[0], row[-1]):
        return row
    content = np.flatnonzero(row != pad_token_id)
    if not len(content):
        return row[:0]
    keeps_bos = pad_token_id == bos_token_id and content[0] > 0
    return row[content[0] - keeps_bos : content[-1] + 1]


@dataclass
class ContextFilter:
    """Drops duplicate contexts and stops at `max_tokens` included tokens.

    Its memory grows by one digest per context.
    """

    max_tokens: int | None
    special_ids: Int64[np.ndarray, " special"] = field(
        default_factory=lambda: np.empty(0, np.int64)
    )
    included_tokens: int = 0
    duplicates: int = 0
    last_document: int | None = None
    """The document at which `max_tokens` was reached; None before that."""
    _seen: set[bytes] = field(default_factory=set)

    @property
    def remaining(self) -> int | None:
        """Included tokens left before the limit; None without a limit."""
        return None if self.max_tokens is None else self.max_tokens - self.included_tokens

    def filter(self, new: Contexts) -> Contexts:
        """The contexts to write, in order. The corpus's first context is cut to `max_tokens`."""
        if self.max_tokens is not None and not self._seen:
            new = _first_shortened(new, self.max_tokens, self.special_ids)
        chosen: list[int] = []
        content = new.tokens.tobytes()
        start = 0
        ends = (4 * np.cumsum(new.lengths)).tolist()
        for i, (end, size) in enumerate(zip(ends, new.included.tolist(), strict=True)):
            hashed = digest(content[start:end])
            start = end
            if hashed in self._seen:
                self.duplicates += 1
                continue
            if self.remaining is not None and size > self.remaining:
                self.last_document = int(new.document_index[i])
                break
            self._seen.add(hashed)
            self.included_tokens += size
            chosen.append(i)
            if self.remaining == 0:
                self.last_document = int(new.document_index[i])
                break
        return _selected(new, chosen)


def _first_shortened(
    contexts: Contexts, max_tokens: int, special_ids: Int64[np.ndarray, " special"]
) -> Contexts:
    """The contexts, the first cut to `max_tokens` included positions."""
    if not len(contexts.lengths) or contexts.included[0] <= max_tokens:
        return contexts
    length, first = int(contexts.lengths[0]), int(contexts.included_from[0])
    special = np.isin(contexts.tokens[first:length], special_ids)
    shortened = first + int(np.flatnonzero(~special)[max_tokens])
    return contexts._replace(
        tokens=np.concatenate([contexts.tokens[:shortened], contexts.tokens[length:]]),
        lengths=np.concatenate([[shortened], contexts.lengths[1:]]),
        included=np.concatenate([[max_tokens], contexts.included[1:]]),
    )


def _selected(contexts: Contexts, chosen: list[int]) -> Contexts:
    if len(chosen) == len(contexts.lengths):
        return contexts
    mask = np.zeros(len(contexts.lengths), bool)
    mask[chosen] = True
    return Contexts(
        contexts.tokens[np.repeat(mask, contexts.lengths)],
        *(values[mask] for values in contexts[1:]),
    )
