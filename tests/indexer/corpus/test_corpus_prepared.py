"""The prepared corpus: the sample against brute force, the cache and its failures."""

from __future__ import annotations

import errno
import hashlib
import json
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.corpus import prepared as corpus_prepared
from indexer.corpus.prepare import prepare_corpus
from indexer.corpus.prepared import PreparedCorpus, open_prepared
from indexer.corpus.rows import Document
from indexer.errors import NeurariumError
from tests.helpers.small_corpora import WORDS, ListCorpus, document, info, prepare

# --- the sample ---


def brute_force_sample(prepared: PreparedCorpus, size: int, seed: int) -> list[int]:
    ids = [i for i in range(prepared.contexts) if prepared.lengths[i] >= 16]
    keyed = []
    for i in ids or range(prepared.contexts):
        data = seed.to_bytes(8, "little") + prepared.context(i).astype("<u4").tobytes()
        keyed.append((hashlib.blake2b(data, digest_size=16).digest(), i))
    return [i for _, i in sorted(keyed)[:size]]


@settings(max_examples=40, deadline=None)
@given(data=st.data(), ctx_len=st.sampled_from([6, 15, 16, 40]), seed=st.integers(0, 2**64 - 1))
def test_the_sample_is_the_lowest_hashes(data: st.DataObject, ctx_len: int, seed: int) -> None:
    """Lowest hashes in order; short contexts only if all are short; all contexts if there are
    fewer."""
    sizes = data.draw(st.lists(st.integers(2, 60), min_size=1, max_size=20))
    rng = np.random.default_rng(0)
    given = [document(rng.integers(2, WORDS, n).tolist(), None, False) for n in sizes]
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare(given, Path(folder), ctx_len=ctx_len)
        for size in (1, 5, 1000):
            sample = prepared.sample(size, seed)
            assert sample.dtype == np.int64
            assert sample.tolist() == brute_force_sample(prepared, size, seed)


def test_the_sample_does_not_depend_on_the_order_of_the_corpus(tmp_path: Path) -> None:
    """A reversed corpus gives the same sample; another seed gives another."""
    rng = np.random.default_rng(1)
    given = [document(rng.integers(2, WORDS, 20).tolist(), None, False) for _ in range(200)]
    forth = prepare(given, tmp_path / "a", ctx_len=32)
    back = prepare(given[::-1], tmp_path / "b", ctx_len=32)
    drawn = [forth.context(i).tolist() for i in forth.sample(20, 7)]
    assert drawn == [back.context(i).tolist() for i in back.sample(20, 7)]
    assert drawn != [forth.context(i).tolist() for i in forth.sample(20, 8)]


# --- the cache ---

GIVEN = [document([2, 3, 4, 5], "sea", True), document([6, 7, 8], "land", True)]


def entries(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if path.suffix != ".lock"]


def test_the_second_time_nothing_is_read(tmp_path: Path) -> None:
    """A prepared corpus comes from the cache, with its current label."""
    first = prepare(GIVEN, tmp_path)
    corpus = ListCorpus([], label="another name")
    second = prepare_corpus(corpus, info(), ctx_len=8, max_tokens=None, cache_dir=tmp_path)
    assert corpus.read == []
    assert (second.fingerprint, second.label) == (first.fingerprint, "another name")
    assert second.sources == ("sea", "land")
    assert open_prepared(second.path).tokens.tolist() == first.tokens.tolist()


def test_the_revision_is_kept(tmp_path: Path) -> None:
    """The commit is recorded with the prepared corpus, also in the cache."""
    for revision in ("c0ffee", None):
        corpus = ListCorpus(GIVEN, identity=f"list at {revision}", revision=revision)
        options: dict[str, Any] = {"ctx_len": 8, "max_tokens": None, "cache_dir": tmp_path}
        prepared = [prepare_corpus(corpus, info(), **options) for _ in range(2)]
        assert [one.revision for one in prepared] == [revision, revision]


def test_only_what_is_read_again_is_written(tmp_path: Path) -> None:
    """A prepared corpus has its metadata and six arrays on disk, and no digests."""
    assert {path.name for path in prepare(GIVEN, tmp_path).path.iterdir()} == {
        "meta.json",
        "tokens.bin",
        "offsets.bin",
        "document_index.bin",
        "source_index.bin",
        "included_from.bin",
        "included.bin",
    }


def test_arrays_are_read_only(tmp_path: Path) -> None:
    """Arrays cannot be changed by accident, and contexts out of range raise IndexError."""
    prepared = prepare(GIVEN, tmp_path)
    with pytest.raises(ValueError, match="read-only"):
        prepared.tokens[0] = 1
    for context_id in (-1, prepared.contexts):
        with pytest.raises(IndexError):
            prepared.context(context_id)


def test_every_setting_has_its_own_cache_entry(tmp_path: Path) -> None:
    """Every setting that affects contexts is part of the key."""
    words = info()
    variants: list[dict[str, Any]] = [
        {},
        {"ctx_len": 9},
        {"max_tokens": 4},
        {"tokenizer": info(bos=False)},
        {"tokenizer": replace(words, identity="others")},
        {"tokenizer": replace(words, pad_token_id=None)},
        {"tokenizer": replace(words, vocab_size=99)},
        {"tokenizer": replace(words, bos=False)},
    ]
    paths = {prepare(GIVEN, tmp_path, **options).path for options in variants}
    assert len(paths) == len(variants)


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    """Equal content has equal fingerprints; ids and sources change it."""
    fingerprints = [
        prepare(given, tmp_path / str(i)).fingerprint
        for i, given in enumerate(
            [
                GIVEN,
                [replace(one, text=f"{one.text} ") for one in GIVEN],
                GIVEN[:1],
                GIVEN[::-1],
                [replace(one, source=None) for one in GIVEN],
                [GIVEN[0], Document("", None, "sea"), GIVEN[1]],
            ]
        )
    ]
    assert fingerprints[0] == fingerprints[1]
    assert len(set(fingerprints)) == 5


@pytest.mark.parametrize(
    "damage",
    ["tokens.bin", "offsets.bin", "source_index.bin", "meta.json", "version", "junk", "count"],
)
def test_a_damaged_cache_is_made_again(tmp_path: Path, damage: str) -> None:
    """Short, missing, foreign and outdated files are noticed, and the corpus is prepared again."""
    first = prepare(GIVEN, tmp_path)
    meta = json.loads((first.path / "meta.json").read_text())
    if damage == "version":
        (first.path / "meta.json").write_text(json.dumps({**meta, "format": -1}))
    elif damage == "count":
        (first.path / "meta.json").write_text(json.dumps({**meta, "contexts": 1}))
    elif damage == "junk":
        (first.path / "meta.json").write_text("[]")
    elif damage == "meta.json":
        (first.path / damage).unlink()
    else:
        data = (first.path / damage).read_bytes()
        (first.path / damage).write_bytes(data[:-8])
    with pytest.raises(NeurariumError, match="cannot be used"):
        open_prepared(first.path)
    again = prepare(GIVEN, tmp_path)
    assert again.fingerprint == first.fingerprint
    assert again.context(0).tolist() == [0, 2, 3, 4, 5]


def test_files_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    """Partial files of an earlier attempt do no harm and are removed."""
    path = prepare(GIVEN, tmp_path).path
    path.rename(path.with_name(path.name + ".partial"))
    assert prepare(GIVEN, tmp_path).path == path
    assert entries(tmp_path) == [path]


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "The disk is full: a list"), (errno.EACCES, "cannot be used .*make it wr")],
)
def test_a_full_disk_is_a_clear_error_and_leaves_nothing(
    tmp_path: Path, number: int, words: str
) -> None:
    """An error while writing says what to do and leaves no partial files."""

    def fail(self: corpus_prepared.ContextWriter, name: str, values: object) -> None:
        raise OSError(number, "what the system says")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus_prepared.ContextWriter, "_write", fail)
        with pytest.raises(NeurariumError, match=words):
            prepare(GIVEN, tmp_path)
    assert entries(tmp_path) == []


def test_a_cache_folder_that_cannot_be(tmp_path: Path) -> None:
    """A file in place of the cache folder is a clear error."""
    (tmp_path / "cache").write_text("")
    with pytest.raises(NeurariumError, match=r"cache for prepared corpora cannot be used \("):
        prepare(GIVEN, tmp_path / "cache")


def test_two_at_once_do_the_work_once(tmp_path: Path) -> None:
    """A second process waits for the first and uses its result."""
    begun, go_on = threading.Event(), threading.Event()

    class SlowCorpus(ListCorpus):
        def documents(self) -> Iterator[Document]:
            begun.set()
            assert go_on.wait(20)
            yield from super().documents()

    results: list[PreparedCorpus] = []
    slow, fast = SlowCorpus(GIVEN), ListCorpus(GIVEN)

    def work(corpus: ListCorpus) -> None:
        options: dict[str, Any] = {"ctx_len": 8, "max_tokens": None, "cache_dir": tmp_path}
        results.append(prepare_corpus(corpus, info(), **options))

    threads = [threading.Thread(target=work, args=(corpus,)) for corpus in (slow, fast)]
    threads[0].start()
    assert begun.wait(20)
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert fast.read == []
    assert [prepared.contexts for prepared in results] == [2, 2]
