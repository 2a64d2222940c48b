"""From a corpus to its contexts: opens what the user named, tokenises it and cuts it into the rows
the model sees. One sequential pass, kept as a cache; everything after it can seek."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock
from jaxtyping import Int64

from indexer.corpus.contexts import Keeper, chunk_documents, cut_rows
from indexer.corpus.files import ENDINGS, KINDS, open_files
from indexer.corpus.hub import open_hub
from indexer.corpus.prepared import (
    FORMAT,
    Contexts,
    ContextWriter,
    PreparedCorpus,
    PreparedFacts,
    open_prepared,
)
from indexer.corpus.rows import Corpus, Document, ReadReport, WantedColumns
from indexer.corpus.tokens import PIECE_CHARS, TextTokenizer, TokenizerInfo, text_pieces
from indexer.errors import NeurariumError

__all__ = [
    "Corpus",
    "Document",
    "PreparedCorpus",
    "ReadReport",
    "TokenizerInfo",
    "open_corpus",
    "open_prepared",
    "prepare_corpus",
]

BATCH_CHARS = 1 << 20
"""About this much text is tokenised at once: enough for all threads, little enough to hold."""
_MIN_BATCH_CHARS = 1 << 14
MAX_SOURCES = 1000
"""So many names of sources are kept, the first in corpus order. A column may hold another for each
document, a URL for instance: those documents' source is then `OTHER_SOURCES`."""
OTHER_SOURCES = "other"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(:[^/]+)?")


def open_corpus(
    spec: str,
    *,
    split: str = "train",
    text_column: str | None = None,
    source_column: str | None = None,
) -> Corpus:
    """The corpus a user named: `demo`, a local file or folder, or a hub data set `name[:config]`.

    Reads nothing yet but names, sizes and, for the hub, the newest commit. Raises `NeurariumError`.
    """
    wanted = WantedColumns(text_column, source_column)
    if spec == "demo":
        from indexer import demo

        return open_files(_existing(demo.CORPUS_FILE), wanted, label="demo")
    path = os.path.expanduser(spec)
    if spec and os.path.exists(path):
        return open_files(Path(path), wanted)
    looks_local = spec.startswith((".", "/", "~")) or spec.lower().endswith(("/", *ENDINGS))
    if looks_local or not _HUB_NAME.fullmatch(spec):
        return open_files(_existing(Path(path)), wanted)
    name, _, config = spec.partition(":")
    return open_hub(name, config or None, split, wanted)


def _existing(path: Path) -> Path:
    if not os.path.exists(path):
        raise NeurariumError(
            f"There is no file or folder {str(path)!r}: give a {KINDS} file, a folder of such, or "
            "a hub data set as name[:config]."
        )
    return path


def prepare_corpus(
    corpus: Corpus,
    tokenizer: TokenizerInfo,
    *,
    ctx_len: int,
    max_tokens: int | None,
    cache_dir: Path,
    on_progress: Callable[[int], None] | None = None,
) -> PreparedCorpus:
    """All contexts of a corpus, from the cache if it is there, else made in one pass.

    At most `max_tokens` included tokens are kept, and nothing is read beyond that.
    `on_progress` is told the included tokens so far. Raises `NeurariumError` for a corpus that
    cannot be read or holds no context, and for a cache that cannot be written.
    """
    key = _cache_key(corpus, tokenizer, ctx_len, max_tokens)
    target, partial = cache_dir / key, cache_dir / f"{key}.partial"
    with _cache_errors(cache_dir, corpus):
        cache_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(cache_dir / f"{key}.lock"):
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


def _cache_key(
    corpus: Corpus, tokenizer: TokenizerInfo, ctx_len: int, max_tokens: int | None
) -> str:
    ids = [tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.vocab_size]
    parts = [FORMAT, corpus.identity, tokenizer.identity, ctx_len, max_tokens, *ids]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def _from_cache(target: Path) -> PreparedCorpus | None:
    """What the cache holds; a damaged or outdated entry is removed."""
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
                "some space (about 5 bytes a token are needed), or set a lower --max-tokens."
            ) from error
        raise NeurariumError(
            f"The folder {cache_dir} for prepared corpora cannot be used "
            f"({error.strerror or error}): make it writable."
        ) from error


class _Piece(NamedTuple):
    """A document, or a part of a long one."""

    document_index: int
    source_index: int
    text: str | None
    token_ids: Int64[np.ndarray, " row"] | None
    last: bool
    """Whether the document ends here."""

    @property
    def size(self) -> int:
        """About how many characters it is to hold and handle."""
        content = 0 if self.text is None else len(self.text)
        return 64 + content + (0 if self.token_ids is None else 4 * len(self.token_ids))


class _Preparation:
    """One sequential pass over a corpus: documents → pieces → batches → contexts → files."""

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
        self.keeper = Keeper(max_tokens)
        self.sources: dict[str, int] = {}
        self.documents = 0
        self.pretokenized = False
        self.text_tokenizer = TextTokenizer(tokenizer.tokenizer)
        self.carried = np.empty(0, np.int64)
        """Tokens of an unfinished document that do not fill a context yet."""

    def run(self, on_progress: Callable[[int], None] | None) -> None:
        """Write the whole prepared corpus to `path`. Raises `NeurariumError`, OSError."""
        writer = ContextWriter(self.path)
        try:
            for batch in self._batches(self._pieces()):
                contexts = self.keeper.keep(self._contexts(batch))
                writer.append(contexts)
                from_ids = batch[0].token_ids is not None  # as in the whole batch
                self.pretokenized |= from_ids and len(contexts.lengths) > 0
                if on_progress:
                    on_progress(self.keeper.included_tokens)
                if self.keeper.last_document is not None:
                    self.documents = self.keeper.last_document + 1
                    break
            self.corpus.report.check()
            writer.finish(self._facts(writer))
        finally:
            writer.close()

    def _facts(self, writer: ContextWriter) -> PreparedFacts:
        if not writer.contexts:
            found = "1 document" if self.documents == 1 else f"{self.documents:,} documents"
            raise NeurariumError(
                f"The corpus {self.corpus.label} is empty: of {found} none gives a context of 2 "
                "tokens. Choose another or, where it has columns, another --text-column."
            )
        sources = tuple(self.sources)[: writer.sources]  # not those only read ahead
        return PreparedFacts(
            label=self.corpus.label,
            revision=self.corpus.revision,
            fingerprint=writer.fingerprint(sources),
            ctx_len=self.ctx_len,
            bos_token_id=self.info.bos_token_id,
            sources=sources,
            contexts=writer.contexts,
            contexts_with_bos=writer.contexts_with_bos,
            included_tokens=writer.included_tokens,
            duplicates=self.keeper.duplicates,
            documents=self.documents,
            pretokenized=self.pretokenized,
            lines=self.corpus.report.lines_read,
            broken_lines=self.corpus.report.broken_lines,
        )

    def _pieces(self) -> Iterator[_Piece]:
        for index, document in enumerate(self.corpus.documents()):
            self.documents = index + 1
            source = self._source_index(document.source or "")
            if document.text is None:
                yield _Piece(index, source, None, document.token_ids, True)
            else:
                for text, last in text_pieces(document.text, PIECE_CHARS):
                    yield _Piece(index, source, text, None, last)

    def _source_index(self, name: str) -> int:
        if name and name not in self.sources and len(self.sources) >= MAX_SOURCES:
            name = OTHER_SOURCES
        return self.sources.setdefault(name, len(self.sources))

    def _batches(self, pieces: Iterable[_Piece]) -> Iterator[list[_Piece]]:
        """Pieces of one sort, text or token ids, up to about the size worth handling at once."""
        batch: list[_Piece] = []
        size = 0
        for piece in pieces:
            if batch and (batch[0].text is None) != (piece.text is None):
                yield batch
                batch, size = [], 0
            batch.append(piece)
            size += piece.size
            if size >= self._batch_size():
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _batch_size(self) -> int:
        """Close to `max_tokens` batches get small, so that little is read in vain."""
        remaining = self.keeper.remaining
        if remaining is None:
            return BATCH_CHARS
        return min(BATCH_CHARS, max(_MIN_BATCH_CHARS, 4 * remaining))

    def _contexts(self, batch: list[_Piece]) -> Contexts:
        documents = np.array([piece.document_index for piece in batch], np.int64)
        sources = np.array([piece.source_index for piece in batch], np.int64)
        bos = self.info.bos_token_id
        rows = [piece.token_ids for piece in batch if piece.token_ids is not None]
        if rows:
            self._check_ids(np.concatenate(rows))
            pad = self.info.pad_token_id
            return cut_rows(
                rows, documents, sources, ctx_len=self.ctx_len, bos_token_id=bos, pad_token_id=pad
            )
        ids, lengths = self.text_tokenizer.tokenise([piece.text or "" for piece in batch])
        self._check_ids(ids)
        starts = np.flatnonzero(np.diff(documents, prepend=-1))
        ids, lengths = self._carry(ids, np.add.reduceat(lengths, starts), batch[-1].last)
        return chunk_documents(
            ids, lengths, documents[starts], sources[starts], ctx_len=self.ctx_len, bos_token_id=bos
        )

    def _carry(
        self,
        ids: Int64[np.ndarray, " tokens"],
        lengths: Int64[np.ndarray, " documents"],
        finished: bool,
    ) -> tuple[Int64[np.ndarray, " tokens"], Int64[np.ndarray, " documents"]]:
        """Put the carried tokens in front; if the last document goes on, carry its surplus over."""
        ids = np.concatenate([self.carried, ids])
        lengths[0] += len(self.carried)
        step = self.ctx_len - (self.info.bos_token_id is not None)
        surplus = 0 if finished else int(lengths[-1]) % step
        lengths[-1] -= surplus
        self.carried = ids[len(ids) - surplus :]
        return ids[: len(ids) - surplus], lengths

    def _check_ids(self, ids: Int64[np.ndarray, " tokens"]) -> None:
        vocab_size = self.info.vocab_size
        if len(ids) and (ids.min() < 0 or ids.max() >= vocab_size):
            wrong = int(ids.min() if ids.min() < 0 else ids.max())
            raise NeurariumError(
                f"The corpus {self.corpus.label} has the token id {wrong}, but the model knows ids "
                f"from 0 to {vocab_size - 1}: take a corpus and tokenizer made for this model."
            )
