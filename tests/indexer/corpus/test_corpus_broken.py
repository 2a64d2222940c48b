"""Broken lines and files of a corpus: few lines are skipped, all else is one line of error."""

from __future__ import annotations

import gzip
import io
import os
import random
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from indexer.corpus.prepare import open_corpus
from indexer.errors import NeurariumError
from tests.indexer.corpus.test_corpus_files import (
    ROWS,
    WRITERS,
    json_lines,
    pairs,
    refusal,
)


def test_few_broken_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    """Up to 1% of lines may be broken, in any way."""
    good = json_lines([{"text": "x"}])
    bad = [b"{oops\n", b"[1, 2]\n", b'{"text": 3}\n', b'{"text": "\xff"}\n', b"[" * 99_999 + b"\n"]
    lines = [good, *bad, *[good] * 494]
    (tmp_path / "a.jsonl").write_bytes(b"".join(lines))
    corpus = open_corpus(str(tmp_path / "a.jsonl"))
    assert len(pairs(corpus)) == 495
    assert (corpus.report.lines_read, corpus.report.broken_lines) == (500, 5)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{oops\n", "not JSON (Expecting property name"),
        (b"[1]\n", "not a JSON object"),
        (b'{"text": {}}\n', "'text' is an object, not text"),
        (b'{"text": true}\n', "'text' is true or false, not text"),
        (b'{"text": "\xff"}\n', "not UTF-8 (byte 10 of the line)"),
    ],
)
def test_more_than_one_percent_broken_lines_are_fatal(
    tmp_path: Path, line: bytes, words: str
) -> None:
    """Above 1% the corpus is refused; the message names the first broken line and its problem."""
    good = json_lines([{"text": "x"}])
    path = tmp_path / "a.jsonl"
    path.write_bytes(good * 7 + line + good * 50 + line + good * 140)
    message = refusal(path)
    assert message.startswith(f"2 of 199 lines of the corpus are broken; the first is {path}")
    assert f"line 8: {words}" in message


def test_broken_token_rows_are_broken_lines(tmp_path: Path) -> None:
    """Token ids that are not integers, or too large, count as broken."""
    rows: list[Any] = [{"tokens": [1]}, {"tokens": [1.5]}, {"tokens": "x"}, {"tokens": [2**70]}]
    (tmp_path / "a.jsonl").write_bytes(json_lines(rows))
    message = refusal(tmp_path / "a.jsonl")
    assert "3 of 4 lines" in message
    assert "'tokens' is a list, not a list of token ids" in message


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'[{"text": "a"}, {"text": "b"}]', "line 1: a list of objects: write each on a line"),
        (b'{"text": "a", "n": ' + b"9" * 5000 + b"}", "line 1: a whole number of thousands"),
        (b'{"text": ' + b"[" * 99_999, "line 1: lists or objects inside each other without end"),
    ],
    ids=["list", "digits", "brackets"],
)
def test_what_is_wrong_with_a_line_is_not_said_in_the_librarys_words(
    tmp_path: Path, line: bytes, words: str
) -> None:
    """Its advice is for programmers."""
    (tmp_path / "a.jsonl").write_bytes(line)
    message = refusal(tmp_path / "a.jsonl")
    assert words in message
    assert "sys." not in message


def test_reading_stops_after_a_hundred_broken_lines(tmp_path: Path) -> None:
    """If the first hundred lines are all broken, reading stops."""
    (tmp_path / "a.jsonl").write_bytes(b"plain text\n" * 5000)
    assert refusal(tmp_path / "a.jsonl").startswith("100 of 100 lines")


def test_csv_rows_of_another_width_are_broken(tmp_path: Path) -> None:
    """A CSV row with more or fewer fields than the header is broken."""
    (tmp_path / "a.csv").write_text("text,source\nx,y\n\nx,y,z\n")
    message = refusal(tmp_path / "a.csv")
    assert "line 4: 3 fields, the header has 2" in message


def test_a_missing_file(tmp_path: Path) -> None:
    """A name that looks like a path is not searched on the hub."""
    for spec in (tmp_path / "no.txt", tmp_path / "nothing"):
        assert "There is no file or folder" in refusal(spec)
    with pytest.raises(NeurariumError, match=r"There is no file or folder 'data/no\.jsonl'"):
        open_corpus("data/no.jsonl")
    with pytest.raises(NeurariumError, match="There is no file or folder"):
        open_corpus("a/b/c")


def test_an_unknown_kind_of_file(tmp_path: Path) -> None:
    """An unsupported file is refused; the message lists the supported kinds."""
    (tmp_path / "a.docx").write_text("x")
    assert "is not a supported file" in refusal(tmp_path / "a.docx")
    assert ".jsonl (also .gz, .zst)" in refusal(tmp_path / "a.docx")


def test_a_folder_without_supported_files(tmp_path: Path) -> None:
    """A folder without supported files is refused."""
    (tmp_path / "a.docx").write_text("x")
    assert "has no supported files" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl.gz", b'{"text": "x"}\n', "is not a gzip file"),
        ("a.jsonl.zst", b'{"text": "x"}\n', "is not a zstandard file"),
        ("a.parquet", b'{"text": "x"}\n', "is not a Parquet file"),
        ("a.parquet", b"", "is empty"),
        ("a.parquet", b"PAR1 and no more", "is not a complete Parquet file"),
        ("a.jsonl", gzip.compress(b"x", mtime=0), "is a gzip file despite its name"),
        ("a.txt", zstandard.ZstdCompressor().compress(b"x"), "is a zstandard file"),
        ("a.csv", b"PAR1\x15\x04\x15\x00", "is a Parquet file"),
        ("a.txt", b"caf\xe9", "is not UTF-8 text (byte 3)"),
        ("a.txt", b"\xef\xbb\xbfcaf\xe9", "is not UTF-8 text (byte 6)"),
        ("a.csv", b"text\nx\ncaf\xe9\n", "is not UTF-8 text (byte 10)"),
        ("a.csv", b"", "has no header row"),
        ("a.csv", b"text\nx\ry\n", "(line 2: new-line character seen in unquoted field): repair"),
    ],
)
def test_a_file_that_is_not_what_its_name_says(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    """The message names the file and the problem."""
    (tmp_path / name).write_bytes(content)
    message = refusal(tmp_path / name)
    assert message.startswith(str(tmp_path / name))
    assert words in message


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
def test_a_file_that_was_cut_off(tmp_path: Path, name: str) -> None:
    """A truncated file is an error, not a short corpus."""
    WRITERS[name](tmp_path / name)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) - 9])
    message = refusal(tmp_path / name)
    assert "is damaged" in message or "is not a complete Parquet file" in message


def columnar(ending: str) -> bytes:
    """A file of texts with their sources."""
    texts = [f"text {number}" for number in range(60)]
    table = pa.table({"text": texts, "meta": [{"pile_set_name": "news"}] * len(texts)})
    out = io.BytesIO()
    if ending == ".parquet":
        pq.write_table(table, out, compression="none")
    else:
        with pa.ipc.new_stream(out, table.schema) as writer:
            writer.write_table(table)
    return out.getvalue()


@pytest.mark.parametrize("ending", [".arrow", ".parquet"])
def test_a_damaged_byte_anywhere_is_one_line(tmp_path: Path, ending: str) -> None:
    """Whatever libraries make of it, also where they would end the process or speak in lines."""
    whole = columnar(ending)
    numbers = random.Random(18)
    path = tmp_path / f"a{ending}"
    said = []
    for _ in range(150):
        at = numbers.randrange(len(whole))
        path.write_bytes(whole[:at] + numbers.choice([b"\xff", b"\x80", b"\0"]) + whole[at + 1 :])
        try:
            list(open_corpus(str(path)).documents())
        except NeurariumError as error:
            said.append(str(error))
    assert len(said) > 20
    assert "\n" not in "".join(said)


def test_an_arrow_file_that_points_outside_itself(tmp_path: Path) -> None:
    """The place where a text ends is far behind the file's own end."""
    whole = columnar(".arrow")
    third = struct.pack("<3i", 0, 6, 12)
    assert third in whole
    path = tmp_path / "a.arrow"
    path.write_bytes(whole.replace(third, struct.pack("<3i", 0, 6, 2**31 - 1)))
    assert "is not a complete Arrow file" in refusal(path)


@pytest.mark.parametrize("name", ["text", "meta"])
@pytest.mark.parametrize("ending", [".arrow", ".parquet"])
def test_a_column_whose_name_is_no_text(tmp_path: Path, ending: str, name: str) -> None:
    """Names of columns that are not UTF-8."""
    path = tmp_path / f"a{ending}"
    path.write_bytes(columnar(ending).replace(name.encode(), b"\xff" + name[1:].encode()))
    assert "is not a complete" in refusal(path)


def test_a_parquet_file_with_nulls_among_ids(tmp_path: Path) -> None:
    """A null in the middle of a row of token ids is an error."""
    table = pa.table({"tokens": pa.array([[1, None]], pa.list_(pa.int32()))})
    pq.write_table(table, tmp_path / "a.parquet")
    assert "a null in it" in refusal(tmp_path / "a.parquet")


def test_a_csv_header_may_begin_like_a_parquet_file(tmp_path: Path) -> None:
    """The text PAR1 does not make a file Parquet."""
    (tmp_path / "a.csv").write_text("PAR1,text\n1,x\n")
    assert pairs(open_corpus(str(tmp_path / "a.csv"))) == [("x", "a")]


def test_an_unreadable_file(tmp_path: Path) -> None:
    """A file that vanishes between listing and reading is a clear error."""
    (tmp_path / "a.txt").write_text("x")
    corpus = open_corpus(str(tmp_path))
    (tmp_path / "a.txt").unlink()
    with pytest.raises(NeurariumError, match=r"a\.txt cannot be read: No such file"):
        list(corpus.documents())


def test_identity_changes_with_the_files(tmp_path: Path) -> None:
    """Content, time, name and chosen columns each change the identity; nothing else does."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(json_lines(ROWS))
    os.utime(path, ns=(0, 10))
    seen = [open_corpus(str(path)).identity]
    assert open_corpus(str(path)).identity == seen[0]
    seen.append(open_corpus(str(path), text_column="text").identity)
    seen.append(open_corpus(str(path), source_column="text").identity)
    seen.append(open_corpus(str(tmp_path)).identity)
    os.utime(path, ns=(0, 11))
    seen.append(open_corpus(str(path)).identity)
    path.write_bytes(json_lines(ROWS[:1]))
    os.utime(path, ns=(0, 10))
    seen.append(open_corpus(str(path)).identity)
    assert len(set(seen)) == len(seen)
