"""Sources of documents: names of files, whatever their bytes, and the limit on their number."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from indexer.corpus import prepare as corpus_module
from indexer.corpus.prepare import open_corpus, prepare_corpus
from indexer.corpus.prepared import PreparedCorpus, open_prepared
from indexer.corpus.rows import Document
from tests.helpers.small_corpora import document, info, prepare

ROW = json.dumps({"text": "w1 w2 w3"}).encode()


def sources_of(prepared: PreparedCorpus) -> list[str]:
    """The source of each context."""
    return [prepared.sources[i] for i in prepared.source_index.tolist()]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.csv", "a.parquet", "A.TXT"])
@pytest.mark.parametrize("in_folder", [False, True])
def test_without_a_column_the_name_of_the_file_is_the_source(
    tmp_path: Path, name: str, in_folder: bool
) -> None:
    """The source is the file's name without its ending, for every kind of file, alone or in a
    folder."""
    contents = {"a.jsonl": ROW, "a.jsonl.gz": gzip.compress(ROW), "a.csv": b"text\nw1 w2 w3\n"}
    if name == "a.parquet":
        pq.write_table(pa.table({"text": ["w1 w2 w3"]}), tmp_path / name)
    else:
        (tmp_path / name).write_bytes(contents.get(name, b"w1 w2 w3"))
    corpus = open_corpus(str(tmp_path if in_folder else tmp_path / name))
    assert [entry.source for entry in corpus.documents()] == [name[0]]


@pytest.mark.parametrize("in_folder", [False, True])
@pytest.mark.parametrize("ending", ["txt", "jsonl"])
def test_a_file_name_that_is_not_utf8(tmp_path: Path, in_folder: bool, ending: str) -> None:
    """Undecodable bytes become � in source and label, and the corpus can be stored."""
    folder = tmp_path / os.fsdecode(b"d\xe9p\xf4t")
    path = folder / os.fsdecode(b"caf\xe9." + ending.encode())
    try:
        folder.mkdir()
        path.write_bytes(ROW if ending == "jsonl" else b"w1 w2 w3")
    except OSError:
        pytest.skip("this file system takes only names in UTF-8")
    corpus = open_corpus(str(folder if in_folder else path))
    assert corpus.label == ("d�p�t/ (1 file)" if in_folder else f"caf�.{ending}")
    cache = tmp_path / "cache"
    prepared = prepare_corpus(corpus, info(), ctx_len=8, max_tokens=None, cache_dir=cache)
    assert prepared.sources == ("caf�",)
    assert prepared.label.encode().decode() == prepared.label == corpus.label


def test_a_file_name_with_control_characters(tmp_path: Path) -> None:
    """Line breaks and direction marks in a file's name do not reach a page."""
    (tmp_path / "a\n\u202eb.txt").write_text("w1 w2 w3")
    corpus = open_corpus(str(tmp_path / "a\n\u202eb.txt"))
    assert corpus.label == "a��b.txt"
    assert [entry.source for entry in corpus.documents()] == ["a��b"]


def test_past_a_thousand_sources_there_is_one_other(tmp_path: Path) -> None:
    """The first 1,000 names in corpus order remain; all others become `other`."""
    given = [
        document([2 + i % 12, 2 + i // 12 % 12, 2 + i // 144], f"s{i}", True) for i in range(1500)
    ]
    given += [document([5, 5], "s7", True), document([6, 6], None, True)]
    prepared = prepare(given, tmp_path)
    assert prepared.sources[:1000] == tuple(f"s{i}" for i in range(1000))
    assert set(prepared.sources[1000:]) == {"other", ""}
    of_document = dict(zip(prepared.document_index.tolist(), sources_of(prepared), strict=True))
    for number, source in of_document.items():
        expected = given[number].source or ""
        known = not expected or int(expected[1:]) < 1000
        assert source == (expected if known else "other")
    assert len(of_document) == len(given)


def test_other_may_be_a_name_of_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources beyond the limit join an existing source `other`."""
    monkeypatch.setattr(corpus_module, "MAX_SOURCES", 2)
    names = ["other", "a", "b", "a", "c", "other"]
    given = [document([2 + i, 3, 4], name, True) for i, name in enumerate(names)]
    prepared = prepare(given, tmp_path)
    assert prepared.sources == ("other", "a")
    assert sources_of(prepared) == ["other", "a", "other", "a", "other", "other"]


def test_sources_beyond_the_limit_are_not_held(tmp_path: Path) -> None:
    """A column with very many values leaves 1,001 sources."""
    rows = [{"text": f"w{i % 12} w{i // 12 % 12} w{i // 144 % 12}", "url": i} for i in range(1700)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    corpus = open_corpus(str(tmp_path / "a.jsonl"), source_column="url")
    cache = tmp_path / "cache"
    prepared = prepare_corpus(corpus, info(), ctx_len=8, max_tokens=None, cache_dir=cache)
    assert len(prepared.sources) == 1001
    assert prepared.sources[-1] == "other"
    assert open_prepared(prepared.path).sources == prepared.sources


def test_no_source_stays_no_source(tmp_path: Path) -> None:
    """Documents without a source have the source "", never `other`."""
    prepared = prepare([Document("w1 w2", None, None)], tmp_path)
    assert prepared.sources == ("",)
