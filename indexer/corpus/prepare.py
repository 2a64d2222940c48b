"""Opens a corpus, tokenises it and cuts it into contexts, in one sequential pass into a cache on
disk that later steps read in any order."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from jaxtyping import Int64

from indexer.corpus.contexts import ContextFilter, chunk_documents, cut_rows, special_inside
from indexer.corpus.files import open_files
from indexer.corpus.hub import open_hub
from indexer.corpus.kinds import local_corpus
from indexer.corpus.prepared import (
    FORMAT,
    Contexts,
    ContextWriter,
    PreparedCorpus,
    PreparedFacts,
    open_prepared,
)
from indexer.corpus.rows import Corpus, RequestedColumns
from indexer.corpus.special_tokens import control_tokens
from indexer.corpus.tokens import PART_CHARS, TextTokenizer, TokenizerInfo, text_parts
from indexer.errors import NeurariumError

BATCH_CHARS = 1 << 20
"""Characters tokenised at once: enough to keep all threads busy, few enough to hold in memory."""
_MIN_BATCH_CHARS = 1 << 14
MAX_SOURCES = 1000
"""Most source names stored, the first in corpus order. Later ones become `OTHER_SOURCES`: a source
column may differ in every document, such as a URL."""
OTHER_SOURCES = "other"


def open_corpus(
    spec: str,
    *,
    split: str = "train",
    text_column: str | None = None,
    source_column: str | None = None,
) -> Corpus:
    """The corpus a user named: `demo`, a local file or folder, or a hub data set `name[:config]`.

    Reads only file names, file sizes and, for the hub, the newest commit. Raises NeurariumError if
    there is no such corpus.
    """
    wanted = RequestedColumns(text_column, source_column)
    if spec == "demo":
        from indexer import demo

        return open_files(demo.CORPUS_FILE, wanted, label="demo")
    path = local_corpus(spec)
    if path is not None:
        return open_files(path, wanted, split=split)
    name, _, config = spec.partition(":")
    return open_hub(name, config or None, split, wanted)


def prepare_corpus(
    corpus: Corpus,
    tokenizer: TokenizerInfo,
    *,
    ctx_len: int,
    max_tokens: int | None,
    cache_dir: Path,
    on_progress: Callable[[int], None] | None = None,
    on_wait: Callable[[], None] | None = None,
) -> PreparedCorpus:
    """All contexts of a corpus, from the cache if possible.

    Reading stops at `max_tokens` included tokens. `on_progress` is called with the included tokens
    so far, `on_wait` if another process is preparing the same corpus. Raises NeurariumError if the
    corpus cannot be read or gives no context, or if the cache cannot be written.
    """
    key = _cache_key(corpus, tokenizer, ctx_len, max_tokens)
    target, partial = cache_dir / key, cache_dir / f"{key}.partial"
    with _cache_errors(cache_dir, corpus):
        cache_dir.mkdir(parents=True, exist_ok=True)
        with _locked(cache_dir / f"{key}.lock", on_wait):
            prepared = _from_cache(target)
            if prepared is None:
                shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
                try:
                    _Preparation(corpus, tokenizer, ctx_len, max_tokens, partial).run(on_progress)
                    partial.rename(target)
                finally:
                    shutil.rmtree(partial, ignore_errors=True)
                prepared = open_prepared(target)
    if on_progress:
        on_progress(prepared.included_tokens)
    return replace(prepared, label=corpus.label)


def preparing(corpus: Corpus, cache_dir: Path) -> str:
    """A line that says what `on_wait` waits for."""
    return f"Waiting for another process that prepares {corpus.label} in {cache_dir}"


@contextmanager
def _locked(path: Path, on_wait: Callable[[], None] | None) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if on_wait:
            on_wait()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _cache_key(
    corpus: Corpus, tokenizer: TokenizerInfo, ctx_len: int, max_tokens: int | None
) -> str:
    ids = [tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.vocab_size]
    settings = [ctx_len, max_tokens, tokenizer.bos]
    parts = [FORMAT, corpus.identity, tokenizer.identity, *settings, *ids]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def _from_cache(target: Path) -> PreparedCorpus | None:
    """The cached corpus, if any. Removes a damaged or outdated one."""
    if not target.exists():
        return None
    try:
        return open_prepared(target)
    except NeurariumError:
        shutil.rmtree(target)
        return None


@contextmanager
def _cache_errors(cache_dir: Path, corpus: Corpus) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NeurariumError(
                f"The disk is full: {corpus.label} could not be prepared in {cache_dir}. Free "
                "some space (about 5 bytes per token), or set a lower --max-tokens."
            ) from error
        raise NeurariumError(
            f"The folder {cache_dir} for prepared corpora cannot be used "
            f"({error.strerror or error}): make it writable."
        ) from error


class _Part(NamedTuple):
    """A document, or a part of a long one."""

    document_index: int
    source_index: int
    text: str | None
    token_ids: Int64[np.ndarray, " row"] | None
    unpadded: bool
    """Whether `token_ids` have lost their padding."""
    last: bool
    """Whether this part ends the document."""

    @property
    def size(self) -> int:
        """Approximate cost to hold and process, in characters."""
        content = 0 if self.text is None else len(self.text)
        return 64 + content + (0 if self.token_ids is None else 4 * len(self.token_ids))


class _Preparation:
    """One sequential pass over a corpus: documents → parts → batches → contexts → files."""

    def __init__(
        self,
        corpus: Corpus,
        tokenizer: TokenizerInfo,
        ctx_len: int,
        max_tokens: int | None,
        path: Path,
    ) -> None:
        self.corpus = corpus
        self.info = tokenizer
        self.ctx_len = ctx_len
        self.path = path
        self.special_ids = np.array(list(control_tokens(tokenizer.tokenizer)), np.int64)
        self.filter = ContextFilter(max_tokens, self.special_ids)
        self.sources: dict[str, int] = {}
        self.documents = 0
        self.pretokenized = False
        self.special_inside: set[int] = set()
        """Special tokens inside pre-tokenised rows."""
        self.text_tokenizer = TextTokenizer(tokenizer.tokenizer)
        self.unfinished = np.empty(0, np.int64)
        """Tokens at the end of an unfinished document, too few for a context."""

    def run(self, on_progress: Callable[[int], None] | None) -> None:
        """Write the prepared corpus to `path`. Raises NeurariumError or OSError."""
        writer = ContextWriter(self.path)
        try:
            for batch in self._batches(self._parts()):
                contexts = self.filter.filter(self._contexts(batch))
                writer.append(contexts)
                from_ids = batch[0].token_ids is not None  # the same in all of a batch
                self.pretokenized |= from_ids and len(contexts.lengths) > 0
                if from_ids:
                    self.special_inside |= self._special_inside(contexts)
                if on_progress:
                    on_progress(self.filter.included_tokens)
                if self.filter.last_document is not None:
                    self.documents = self.filter.last_document + 1
                    break
            self.corpus.report.check()
            writer.finish(self._facts(writer))
        finally:
            writer.close()

    def _facts(self, writer: ContextWriter) -> PreparedFacts:
        if not writer.contexts:
            documents = "1 document" if self.documents == 1 else f"{self.documents:,} documents"
            raise NeurariumError(
                f"The corpus {self.corpus.label} is empty: {documents}, but no context of 2 "
                "tokens. Choose another corpus or, if it has columns, another --text-column."
            )
        sources = tuple(self.sources)[: writer.sources]  # without those only read ahead
        special = tuple(sorted(self.special_inside))
        return PreparedFacts(
            label=self.corpus.label,
            revision=self.corpus.revision,
            fingerprint=writer.fingerprint(sources, special),
            ctx_len=self.ctx_len,
            bos_token_id=self.bos,
            sources=sources,
            contexts=writer.contexts,
            contexts_with_bos=writer.contexts_with_bos,
            included_tokens=writer.included_tokens,
            duplicates=self.filter.duplicates,
            documents=self.documents,
            pretokenized=self.pretokenized,
            lines=self.corpus.report.lines_read,
            broken_lines=self.corpus.report.broken_lines,
            special_token_ids=special,
        )

    def _special_inside(self, contexts: Contexts) -> set[int]:
        inside = special_inside(
            contexts.tokens, contexts.lengths, contexts.included_from, self.special_ids
        )
        return set(np.unique(contexts.tokens[inside]).tolist())

    @property
    def bos(self) -> int | None:
        """The token put in front of each context of text."""
        return self.info.bos_token_id if self.info.bos else None

    def _parts(self) -> Iterator[_Part]:
        for index, document in enumerate(self.corpus.documents()):
            self.documents = index + 1
            source = self._source_index(document.source or "")
            if document.text is None:
                yield _Part(index, source, None, document.token_ids, document.unpadded, True)
            else:
                for text, last in text_parts(document.text, PART_CHARS):
                    yield _Part(index, source, text, None, False, last)

    def _source_index(self, name: str) -> int:
        if name and name not in self.sources and len(self.sources) >= MAX_SOURCES:
            name = OTHER_SOURCES
        return self.sources.setdefault(name, len(self.sources))

    def _batches(self, parts: Iterable[_Part]) -> Iterator[list[_Part]]:
        """Parts in batches of about `_batch_size`, each batch all text or all token ids."""
        batch: list[_Part] = []
        size = 0
        for part in parts:
            if batch and (batch[0].text is None) != (part.text is None):
                yield batch
                batch, size = [], 0
            batch.append(part)
            size += part.size
            if size >= self._batch_size():
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _batch_size(self) -> int:
        """Characters in a batch: fewer near `max_tokens`, so that little is read in vain."""
        remaining = self.filter.remaining
        if remaining is None:
            return BATCH_CHARS
        return min(BATCH_CHARS, max(_MIN_BATCH_CHARS, 4 * remaining))

    def _contexts(self, batch: list[_Part]) -> Contexts:
        documents = np.array([part.document_index for part in batch], np.int64)
        sources = np.array([part.source_index for part in batch], np.int64)
        rows = [part.token_ids for part in batch if part.token_ids is not None]
        if rows:
            self._check_ids(np.concatenate(rows))
            return cut_rows(
                rows,
                [part.unpadded for part in batch],
                documents,
                sources,
                ctx_len=self.ctx_len,
                bos_token_id=self.info.bos_token_id,
                pad_token_id=self.info.pad_token_id,
                special_ids=self.special_ids,
            )
        ids, lengths = self.text_tokenizer.tokenise([part.text or "" for part in batch])
        self._check_ids(ids)
        starts = np.flatnonzero(np.diff(documents, prepend=-1))
        ids, lengths = self._with_unfinished(ids, np.add.reduceat(lengths, starts), batch[-1].last)
        return chunk_documents(
            ids,
            lengths,
            documents[starts],
            sources[starts],
            ctx_len=self.ctx_len,
            bos_token_id=self.bos,
        )

    def _with_unfinished(
        self,
        ids: Int64[np.ndarray, " tokens"],
        lengths: Int64[np.ndarray, " documents"],
        finished: bool,
    ) -> tuple[Int64[np.ndarray, " tokens"], Int64[np.ndarray, " documents"]]:
        """Tokens and document lengths with the unfinished tokens in front. If the last document
        continues, its surplus becomes the new unfinished tokens."""
        ids = np.concatenate([self.unfinished, ids])
        lengths[0] += len(self.unfinished)
        step = self.ctx_len - (self.bos is not None)
        surplus = 0 if finished else int(lengths[-1]) % step
        lengths[-1] -= surplus
        self.unfinished = ids[len(ids) - surplus :]
        return ids[: len(ids) - surplus], lengths

    def _check_ids(self, ids: Int64[np.ndarray, " tokens"]) -> None:
        vocab_size = self.info.vocab_size
        if len(ids) and (ids.min() < 0 or ids.max() >= vocab_size):
            wrong = int(ids.min() if ids.min() < 0 else ids.max())
            raise NeurariumError(
                f"The corpus {self.corpus.label} has the token id {wrong}, but the model knows ids "
                f"from 0 to {vocab_size - 1}: use a corpus tokenised for this model."
            )
