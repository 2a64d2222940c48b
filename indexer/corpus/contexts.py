"""Cuts token ids into contexts and decides which are kept. Pure numpy: no tokenizer and no files,
so that the exact rules can be tested against a plain loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Int64, Integer

from indexer.corpus.prepared import Contexts, digest

MIN_INCLUDED = 2
"""A context of fewer included tokens is dropped, since nothing is predicted from it, unless it is
full: with a BOS and a `ctx_len` of 2 all are of one token."""


def chunk_documents(
    ids: Integer[np.ndarray, " tokens"],
    document_lengths: Int64[np.ndarray, " documents"],
    document_index: Int64[np.ndarray, " documents"],
    source_index: Int64[np.ndarray, " documents"],
    *,
    ctx_len: int,
    bos_token_id: int | None,
) -> Contexts:
    """Cut documents into consecutive chunks, a BOS in front of each if there is one.

    `ids` holds the documents one after the other. A chunk has `ctx_len - 1` tokens (`ctx_len`
    without a BOS); a document's last one is dropped if it has fewer than 2 and is not full.
    """
    lead = 0 if bos_token_id is None else 1
    step = ctx_len - lead
    chunks = -(-document_lengths // step)
    owner = np.repeat(np.arange(len(chunks)), chunks)
    nth = np.arange(len(owner)) - np.repeat(np.cumsum(chunks) - chunks, chunks)
    sizes = np.minimum(step, document_lengths[owner] - nth * step)
    kept = sizes >= min(MIN_INCLUDED, step)
    tokens = ids[np.repeat(kept, sizes)]
    owner, sizes = owner[kept], sizes[kept]
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
    whole = np.empty(len(tokens) + len(sizes), np.uint32)
    is_bos: Bool[np.ndarray, " positions"] = np.zeros(len(whole), bool)
    is_bos[np.cumsum(sizes + 1) - (sizes + 1)] = True
    whole[is_bos] = bos_token_id
    whole[~is_bos] = tokens
    return whole


def cut_rows(
    rows: Sequence[Int64[np.ndarray, " row"]],
    document_index: Int64[np.ndarray, " documents"],
    source_index: Int64[np.ndarray, " documents"],
    *,
    ctx_len: int,
    bos_token_id: int | None,
    pad_token_id: int | None,
) -> Contexts:
    """Make one context of each pre-tokenised row: trailing padding off, then cut to `ctx_len`.

    No BOS is added; one that is there is not an included position. Rows of fewer than 2 included
    tokens are dropped, unless they fill `ctx_len`.
    """
    cut = [_without_padding(row, pad_token_id)[:ctx_len] for row in rows]
    lengths = np.array([len(row) for row in cut], np.int64)
    leads = np.array([len(row) > 0 and row[0] == bos_token_id for row in cut], np.uint8)
    kept = np.flatnonzero((lengths - leads >= MIN_INCLUDED) | (lengths == ctx_len))
    tokens = np.concatenate([np.empty(0, np.int64), *(cut[i] for i in kept)])
    return Contexts(
        tokens.astype(np.uint32),
        lengths[kept],
        document_index[kept],
        source_index[kept].astype(np.int32),
        leads[kept],
    )


def _without_padding(row: np.ndarray, pad_token_id: int | None) -> np.ndarray:
    if pad_token_id is None or not len(row) or row[-1] != pad_token_id:
        return row
    content = np.flatnonzero(row != pad_token_id)
    return row[: content[-1] + 1] if len(content) else row[:0]


@dataclass
class Keeper:
    """Drops contexts already seen and stops before `max_tokens` included tokens are passed.

    The digests of what was kept are all that grows while a corpus is prepared; they stay in memory.
    """

    max_tokens: int | None
    included_tokens: int = 0
    duplicates: int = 0
    last_document: int | None = None
    """The document at which `max_tokens` was reached; None: not yet."""
    _seen: set[bytes] = field(default_factory=set)

    @property
    def remaining(self) -> int | None:
        """Included tokens that may still be kept; None: no limit."""
        return None if self.max_tokens is None else self.max_tokens - self.included_tokens

    def keep(self, new: Contexts) -> Contexts:
        """The contexts to keep, in order.

        If the very first context is longer than `max_tokens`, it is cut to that.
        """
        if self.max_tokens is not None and not self._seen:
            new = _first_shortened(new, self.max_tokens)
        kept: list[int] = []
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
            kept.append(i)
            if self.remaining == 0:
                self.last_document = int(new.document_index[i])
                break
        return _selected(new, kept)


def _first_shortened(contexts: Contexts, max_tokens: int) -> Contexts:
    if not len(contexts.lengths):
        return contexts
    length = int(contexts.lengths[0])
    keep = min(length, int(contexts.included_from[0]) + max_tokens)
    return contexts._replace(
        tokens=np.concatenate([contexts.tokens[:keep], contexts.tokens[length:]]),
        lengths=np.concatenate([[keep], contexts.lengths[1:]]),
    )


def _selected(contexts: Contexts, kept: list[int]) -> Contexts:
    if len(kept) == len(contexts.lengths):
        return contexts
    mask = np.zeros(len(contexts.lengths), bool)
    mask[kept] = True
    return Contexts(
        contexts.tokens[np.repeat(mask, contexts.lengths)],
        *(values[mask] for values in contexts[1:]),
    )
