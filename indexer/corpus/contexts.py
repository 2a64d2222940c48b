"""Cuts token ids into contexts and drops duplicates: the exact rules, in numpy, without tokenizer
or files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Int64, Integer

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
    )


def _with_bos(
    tokens: Integer[np.ndarray, " tokens"],
    sizes: Int64[np.ndarray, " contexts"],
    bos_token_id: int | None,
) -> np.ndarray:
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
    document_index: Int64[np.ndarray, " documents"],
    source_index: Int64[np.ndarray, " documents"],
    *,
    ctx_len: int,
    bos_token_id: int | None,
    pad_token_id: int | None,
) -> Contexts:
    """One context for each pre-tokenised row: without trailing padding, cut to `ctx_len`.

    No BOS is added, and a leading BOS is not included. Rows of fewer than 2 included tokens are
    dropped unless they fill `ctx_len`.
    """
    cut = [_without_padding(row, pad_token_id)[:ctx_len] for row in rows]
    lengths = np.array([len(row) for row in cut], np.int64)
    leads = np.array([len(row) > 0 and row[0] == bos_token_id for row in cut], np.uint8)
    long_enough = np.flatnonzero((lengths - leads >= MIN_INCLUDED) | (lengths == ctx_len))
    tokens = np.concatenate([np.empty(0, np.int64), *(cut[i] for i in long_enough)])
    return Contexts(
        tokens.astype(np.uint32),
        lengths[long_enough],
        document_index[long_enough],
        source_index[long_enough].astype(np.int32),
        leads[long_enough],
    )


def _without_padding(row: np.ndarray, pad_token_id: int | None) -> np.ndarray:
    if pad_token_id is None or not len(row) or row[-1] != pad_token_id:
        return row
    content = np.flatnonzero(row != pad_token_id)
    return row[: content[-1] + 1] if len(content) else row[:0]


@dataclass
class ContextFilter:
    """Drops duplicate contexts and stops at `max_tokens` included tokens.

    Its memory grows by one digest per context.
    """

    max_tokens: int | None
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
            new = _first_shortened(new, self.max_tokens)
        chosen: list[int] = []
        content = new.tokens.tobytes()
        start = 0
        ends = (4 * np.cumsum(new.lengths)).tolist()
        included = (new.lengths - new.included_from).tolist()
        for i, (end, size) in enumerate(zip(ends, included, strict=True)):
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


def _first_shortened(contexts: Contexts, max_tokens: int) -> Contexts:
    if not len(contexts.lengths):
        return contexts
    length = int(contexts.lengths[0])
    shortened = min(length, int(contexts.included_from[0]) + max_tokens)
    return contexts._replace(
        tokens=np.concatenate([contexts.tokens[:shortened], contexts.tokens[length:]]),
        lengths=np.concatenate([[shortened], contexts.lengths[1:]]),
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
