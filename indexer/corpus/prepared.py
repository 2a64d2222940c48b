"""The prepared corpus: all contexts of a corpus in memory-mapped arrays, numbered in corpus
order."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from jaxtyping import Int32, Int64, UInt8, UInt16, UInt32

from indexer.errors import NeurariumError

FORMAT = 4
"""Increased whenever the meaning of the files changes, so that older caches are rebuilt."""
SAMPLE_MIN_TOKENS = 16
"""Shorter contexts (including BOS) are sampled only if all are shorter."""
DIGEST_BYTES = 16

_DTYPES: dict[str, np.dtype[Any]] = {
    "tokens": np.dtype("<u4"),
    "offsets": np.dtype("<i8"),
    "document_index": np.dtype("<i8"),
    "source_index": np.dtype("<i4"),
    "included_from": np.dtype("u1"),
    "included": np.dtype("<u2"),
}
_DERIVED = ("included",)  # follows from the others


def digest(ids: bytes | memoryview) -> bytes:
    """blake2b of a context's ids as little-endian uint32, to recognise duplicates."""
    return hashlib.blake2b(ids, digest_size=DIGEST_BYTES).digest()


@dataclass(frozen=True)
class PreparedFacts:
    """The metadata of a prepared corpus, stored as `meta.json`."""

    label: str
    revision: str | None
    """The commit of a hub data set; None for files."""
    fingerprint: str
    """blake2b of the contexts with their documents and sources."""
    ctx_len: int
    bos_token_id: int | None
    sources: tuple[str, ...]
    """At most about `MAX_SOURCES` names in corpus order; "" for documents without a source."""
    contexts: int
    contexts_with_bos: int
    """Contexts that begin with a BOS."""
    included_tokens: int
    """Included positions in all contexts."""
    duplicates: int
    """Contexts skipped because their ids were already seen."""
    documents: int
    """Documents read, including those without a context."""
    pretokenized: bool
    """Whether any context came from token ids instead of text."""
    lines: int
    broken_lines: int
    special_token_ids: tuple[int, ...]
    """Special tokens inside pre-tokenised rows. Their positions are not included."""


@dataclass(frozen=True, eq=False)
class PreparedCorpus(PreparedFacts):
    """A corpus as contexts, in read-only memory-mapped arrays."""

    path: Path
    tokens: UInt32[np.ndarray, " positions"]
    """The concatenated ids of all contexts, including BOS, without padding."""
    offsets: Int64[np.ndarray, " contexts+1"]
    document_index: Int64[np.ndarray, " contexts"]
    source_index: Int32[np.ndarray, " contexts"]
    included_from: UInt8[np.ndarray, " contexts"]
    """The first position that may be included: 1 after a BOS, else 0."""
    included: UInt16[np.ndarray, " contexts"]
    """Included positions in each context."""

    @cached_property
    def lengths(self) -> Int64[np.ndarray, " contexts"]:
        """Tokens in each context, including BOS."""
        return np.diff(self.offsets)

    def context(self, context_id: int) -> UInt32[np.ndarray, " pos"]:
        """The ids of one context, including BOS. Raises IndexError if there is no such context."""
        if not 0 <= context_id < self.contexts:
            raise IndexError(f"there is no context {context_id} among {self.contexts}")
        start, end = self.offsets[context_id : context_id + 2]
        return self.tokens[start:end]

    def token_counts(self, vocabulary: int) -> Int64[np.ndarray, " vocabulary"]:
        """Included positions of each token in the whole corpus."""
        counts = np.zeros(vocabulary, np.int64)
        for start in range(0, len(self.tokens), 1 << 22):
            counts += np.bincount(self.tokens[start : start + (1 << 22)], minlength=vocabulary)
        in_front = self.tokens[self.offsets[:-1][self.included_from > 0]]
        counts -= np.bincount(in_front, minlength=vocabulary)
        counts[list(self.special_token_ids)] = 0
        return counts

    def source_contexts(self) -> Int64[np.ndarray, " sources"]:
        """The number of contexts of each source."""
        return np.bincount(self.source_index, minlength=len(self.sources)).astype(np.int64)

    def sample(self, size: int, seed: int) -> Int64[np.ndarray, " size"]:
        """The ids of up to `size` contexts with the lowest hash of (seed, token ids), in order of
        the hash.

        The hash is 16 bytes of blake2b over the seed (8 bytes, little-endian) and the ids (uint32,
        little-endian). Contexts under 16 tokens are left out unless there are no others.
        """
        eligible = np.flatnonzero(self.lengths >= SAMPLE_MIN_TOKENS)
        if not len(eligible):
            eligible = np.arange(self.contexts)
        chosen = heapq.nsmallest(size, self._sample_keys(eligible, seed))
        return np.array([context_id for _, context_id in chosen], dtype=np.int64)

    def ranks(self, seed: int) -> Int32[np.ndarray, " contexts"]:
        """Each context's rank in the order of all contexts' hashes, short contexts included.
        `sample` takes the first contexts in this order."""
        keys = sorted(self._sample_keys(np.arange(self.contexts), seed))
        ranks = np.empty(self.contexts, np.int32)
        ranks[[context_id for _, context_id in keys]] = np.arange(self.contexts, dtype=np.int32)
        return ranks

    def _sample_keys(
        self, context_ids: Int64[np.ndarray, " eligible"], seed: int
    ) -> Iterator[tuple[bytes, int]]:
        seeded = hashlib.blake2b((seed % 2**64).to_bytes(8, "little"), digest_size=DIGEST_BYTES)
        content = self.tokens.data.cast("B")
        for block in np.array_split(context_ids, len(context_ids) // 65_536 + 1):
            starts = 4 * self.offsets[block]
            ends = 4 * self.offsets[block + 1]
            for context_id, start, end in zip(
                block.tolist(), starts.tolist(), ends.tolist(), strict=True
            ):
                hashed = seeded.copy()
                hashed.update(content[start:end])
                yield hashed.digest(), context_id


def open_prepared(path: Path) -> PreparedCorpus:
    """The prepared corpus in a folder. Raises NeurariumError if damaged or of another version."""
    try:
        meta = json.loads((path / "meta.json").read_bytes())
        if meta.pop("format") != FORMAT:
            raise ValueError("made by another version")
        lists = {name: tuple(meta[name]) for name in ("sources", "special_token_ids")}
        facts = PreparedFacts(**{**meta, **lists})
        arrays: dict[str, Any] = {name: _map(path, name, facts.contexts) for name in _DTYPES}
        if arrays["offsets"][0] != 0 or arrays["offsets"][-1] != len(arrays["tokens"]):
            raise ValueError("offsets and tokens do not match")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise NeurariumError(
            f"The prepared corpus {path} cannot be used ({error}): delete it and index again."
        ) from error
    metadata: dict[str, Any] = {entry.name: getattr(facts, entry.name) for entry in fields(facts)}
    return PreparedCorpus(path=path, **metadata, **arrays)


def _map(path: Path, name: str, contexts: int) -> np.ndarray:
    file = path / f"{name}.bin"
    array: np.ndarray = np.memmap(file, dtype=_DTYPES[name], mode="r").view(np.ndarray)
    entries = {"tokens": None, "offsets": contexts + 1}
    expected = entries.get(name, contexts)
    if file.stat().st_size % array.itemsize or expected not in (None, len(array)):
        raise ValueError(f"{file.name} is {file.stat().st_size} bytes, not the expected size")
    return array


class Contexts(NamedTuple):
    """Consecutive contexts, before they are written to a prepared corpus."""

    tokens: UInt32[np.ndarray, " positions"]
    lengths: Int64[np.ndarray, " contexts"]
    document_index: Int64[np.ndarray, " contexts"]
    source_index: Int32[np.ndarray, " contexts"]
    included_from: UInt8[np.ndarray, " contexts"]
    included: Int64[np.ndarray, " contexts"]


class ContextWriter:
    """Writes a prepared corpus into a new folder, each array straight to its file."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True)
        self.path = path
        self.contexts = 0
        self.contexts_with_bos = 0
        self.sources = 0
        """Number of sources the contexts refer to."""
        self.included_tokens = 0
        self._positions = 0
        self._hashes = {name: hashlib.blake2b(digest_size=32) for name in _DTYPES}
        self._files: dict[str, BinaryIO] = {}
        with ExitStack() as opened:
            for name in _DTYPES:
                self._files[name] = opened.enter_context((path / f"{name}.bin").open("wb"))
            self._opened = opened.pop_all()

    def append(self, new: Contexts) -> None:
        """Write contexts. Raises OSError if the disk is full."""
        self._write("tokens", new.tokens)
        self._write("offsets", self._positions + np.cumsum(new.lengths) - new.lengths)
        self._write("document_index", new.document_index)
        self._write("source_index", new.source_index)
        self._write("included_from", new.included_from)
        self._write("included", new.included)
        self.contexts += len(new.lengths)
        self.contexts_with_bos += int(new.included_from.sum())
        self.sources = max(self.sources, int(new.source_index.max(initial=-1)) + 1)
        self._positions += int(new.lengths.sum())
        self.included_tokens += int(new.included.sum())

    def fingerprint(self, sources: Iterable[str], special_token_ids: Sequence[int]) -> str:
        """blake2b of all contexts written, the source names and the tokens not included."""
        combined = hashlib.blake2b(digest_size=16)
        for name in _DTYPES:
            if name not in _DERIVED:
                combined.update(self._hashes[name].digest())
        combined.update(json.dumps(list(sources)).encode())
        if special_token_ids:
            combined.update(json.dumps(list(special_token_ids)).encode())
        return combined.hexdigest()

    def finish(self, facts: PreparedFacts) -> None:
        """Write the metadata, last: without it the folder is not a prepared corpus."""
        self._write("offsets", np.array([self._positions]))
        self.close()
        meta = {"format": FORMAT, **asdict(facts)}
        (self.path / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")

    def close(self) -> None:
        """Close the files. Without `finish` they are unusable."""
        self._opened.close()

    def _write(self, name: str, values: np.ndarray) -> None:
        data = np.ascontiguousarray(values, dtype=_DTYPES[name]).data
        self._files[name].write(data)
        self._hashes[name].update(data)
