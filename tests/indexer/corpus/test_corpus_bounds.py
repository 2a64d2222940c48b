"""Files made to fill memory or to hang: each is one line at once, or read in little memory."""

from __future__ import annotations

import gzip
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from indexer.corpus import columnar, files, lines
from indexer.corpus.arrow_sizes import batch_sizes
from indexer.corpus.prepare import open_corpus
from tests.indexer.corpus.test_corpus_files import refusal

MORE = 1 << 30
"""Bytes that reading may take beside what the imports take."""
READ = """
import resource, sys
import indexer.corpus.prepare as corpus
from indexer.errors import NeurariumError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    for number, document in zip(range(50), corpus.open_corpus(sys.argv[1]).documents()):
        pass
except NeurariumError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024, file=sys.stderr)
"""


def read_apart(path: Path) -> tuple[str, int]:
    """The error's line, if any, and the bytes it took to read 50 documents in another process."""
    limit = 6 << 30
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    return done.stdout.strip(), int(done.stderr)


def packed_zstd(size: int) -> bytes:
    """One line of JSON of `size` characters."""
    packer = zstandard.ZstdCompressor().compressobj()
    parts = [packer.compress(b'{"text": "')]
    parts += [packer.compress(b"a" * (1 << 20)) for _ in range(size >> 20)]
    return b"".join([*parts, packer.compress(b'"}\n'), packer.flush()])


def packed_gzip(size: int) -> bytes:
    return gzip.compress(b'{"text": "' + b"a" * size + b'"}\n', 1, mtime=0)


@pytest.mark.parametrize("name", ["a.jsonl.zst", "a.jsonl.gz", "a.jsonl", "a.csv"])
def test_a_line_has_a_bound(tmp_path: Path, name: str) -> None:
    """A line of hundreds of megabytes is refused before it is in memory."""
    size = 400 << 20
    path = tmp_path / name
    if name.endswith(".zst"):
        path.write_bytes(packed_zstd(size))
        assert path.stat().st_size < 64_000
    elif name.endswith(".gz"):
        path.write_bytes(packed_gzip(size))
    else:
        with path.open("wb") as file:
            file.write(b"text\n" if name == "a.csv" else b"")
            file.truncate(size)  # a hole, read as zeros
    message, taken = read_apart(path)
    assert "is longer than 32 MiB" in message
    assert message.count("\n") == 0
    assert taken < MORE


def test_a_field_of_many_lines_has_the_same_bound(tmp_path: Path) -> None:
    """A quotation mark that is never closed does not gather the rest of the file."""
    with (tmp_path / "a.csv").open("wb") as file:
        file.write(b'text\n"')
        for _ in range(200):
            file.write((b"a" * 1023 + b"\n") * 1024)
    message, taken = read_apart(tmp_path / "a.csv")
    assert "field larger than field limit" in message
    assert taken < MORE


@pytest.mark.parametrize("line", [b"\n", b'{"text": ""}\n'])
@pytest.mark.parametrize("packing", ["gz", "zst"])
def test_lines_of_nothing_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: bytes, packing: str
) -> None:
    """A file that unpacks to nothing but empty lines is refused long before its end."""
    monkeypatch.setattr(lines, "_CHECKED_BYTES", 1 << 20)
    path = tmp_path / f"a.jsonl.{packing}"
    content = line * ((4 << 20) // len(line))
    path.write_bytes(gzip.compress(content) if packing == "gz" else zstandard.compress(content))
    assert "MB, which is neither text nor token ids" in refusal(path)


@pytest.mark.parametrize(("part", "each"), [(b"{},", 2), (b"[0],", 2), (b'"a,\\"[",', 1)])
def test_a_line_of_too_many_values(tmp_path: Path, part: bytes, each: int) -> None:
    """Each takes up to thirty times its place in the file, so they are counted first."""
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a", "x": [' + part * 2_100_000 + b"0]}\n")
    words = f"{each * 2_100_000 + 3:,} values, of at most 2,000,000"
    assert words in refusal(tmp_path / "a.jsonl")


def test_commas_of_a_text_are_no_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many it has."""
    monkeypatch.setattr(lines, "_MAX_VALUES", 1000)
    text = 'a, "b" [c], \\' * 1000
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": text}) + "\n")
    (document,) = open_corpus(str(tmp_path / "a.jsonl")).documents()
    assert document.text == text


def test_a_column_whose_name_has_dots_has_a_bound(tmp_path: Path) -> None:
    """As any other."""
    pq.write_table(pa.table({"my.text": ["a"], "other": [1]}), tmp_path / "a.parquet")
    with pq.ParquetFile(tmp_path / "a.parquet") as file:
        (chunks,) = columnar._chunks(file, ["my.text"])
    assert [chunk.path_in_schema for chunk in chunks] == ["my.text"]


def test_one_text_repeated_is_in_memory_once(tmp_path: Path) -> None:
    """A Parquet file whose dictionary holds one large text, used thousands of times."""
    path = tmp_path / "a.parquet"
    same = pa.array(np.zeros(1500, np.int32))
    table = {
        name: pa.DictionaryArray.from_arrays(same, pa.array([value]))
        for name, value in (("text", "a" * 1_000_000), ("source", "b" * 100_000))
    }
    options = {"compression": "zstd", "write_statistics": False, "store_schema": False}
    pq.write_table(pa.table(table), path, **options)
    assert path.stat().st_size < 10_000
    message, taken = read_apart(path)
    assert message == ""
    assert taken < MORE


@pytest.mark.parametrize("column", ["tokens", "source", "text"])
def test_a_row_group_has_a_bound(tmp_path: Path, column: str) -> None:
    """Some hundred bytes that unpack to half a gigabyte are refused, in whichever column."""
    path = tmp_path / "a.parquet"
    if column == "tokens":
        ids = pa.array(np.zeros(60_000_000, np.int32))
        big = pa.ListArray.from_arrays(pa.array([0, 59_999_998, 60_000_000]), ids)
    else:
        big = pa.array(["a" * (300 << 20), "b"])
    columns = {column: big} if column != "source" else {column: big, "text": ["a", "b"]}
    pq.write_table(pa.table(columns), path, compression="zstd", write_statistics=False)
    assert path.stat().st_size < 100_000
    message, taken = read_apart(path)
    assert f"of its column '{column}" in message
    assert "unpack to" in message
    assert taken < MORE


@pytest.mark.parametrize("packing", ["lz4", "zstd"])
@pytest.mark.parametrize("form", ["file", "stream"])
def test_a_batch_of_an_arrow_file_has_a_bound(tmp_path: Path, packing: str, form: str) -> None:
    """A few bytes that unpack to hundreds of megabytes are refused before they are; dictionaries
    count too, and ordinary texts are read."""
    path = tmp_path / "a.arrow"
    options = pa.ipc.IpcWriteOptions(compression=packing)
    new = pa.ipc.new_file if form == "file" else pa.ipc.new_stream
    bomb = pa.array(["x" * 280_000_000])
    for column in (bomb, bomb.dictionary_encode()):
        table = pa.table({"text": column})
        with new(path, table.schema, options=options) as writer:
            writer.write_table(table)
        assert "unpack to 0.3 GB" in refusal(path)
    table = pa.table({"text": [f"text {i}" for i in range(3000)]})
    with new(path, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=1000)
    with pa.memory_map(str(path)) as mapped:
        sizes = list(batch_sizes(mapped))
    assert len(sizes) == 3
    assert all(size.unpacked >= size.packed > 1000 for size in sizes)
    assert sum(1 for _ in open_corpus(str(path)).documents()) == 3000


def test_a_bomb_in_a_column_that_is_not_read_does_no_harm(tmp_path: Path) -> None:
    """Only the text and the source are unpacked, also to choose the columns."""
    table = pa.table({"text": ["a", "b"], "other": ["a" * (300 << 20), "b"]})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd", write_statistics=False)
    message, taken = read_apart(tmp_path / "a.parquet")
    assert message == ""
    assert taken < MORE


def test_a_plain_text_file_has_a_bound(tmp_path: Path) -> None:
    """It is one document, so it is refused by its size."""
    with (tmp_path / "a.txt").open("wb") as file:
        file.truncate(files.MAX_TEXT_BYTES + 1)
    assert "is 1.1 GB, and a file of plain text is one document" in refusal(tmp_path / "a.txt")


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.parquet", "a.jsonl.gz", "a.csv"])
@pytest.mark.parametrize("kind", ["pipe", "device", "system", "link to a pipe", "nothing"])
def test_only_regular_files_are_read(tmp_path: Path, name: str, kind: str) -> None:
    """A pipe or a device is refused, where it is named; in a folder it is passed over by name."""
    odd = tmp_path / "odd" / name
    odd.parent.mkdir()
    if kind == "device":
        odd.symlink_to("/dev/zero")
    elif kind == "system":
        odd.symlink_to("/proc/self/maps")  # regular by its mode
    elif kind == "nothing":
        odd.symlink_to(tmp_path / "gone")
    else:
        pipe = odd if kind == "pipe" else tmp_path / "pipe"
        os.mkfifo(pipe)
        if kind != "pipe":
            odd.symlink_to(pipe)
    assert "name a regular file" in refusal(odd)
    assert "no supported files" in refusal(odd.parent)
    (odd.parent / "b.txt").write_text("x")
    corpus = open_corpus(str(odd.parent))
    assert [document.text for document in corpus.documents()] == ["x"]
    assert f"passed over {name} (" in corpus.notes[0]


def test_a_file_that_becomes_a_pipe(tmp_path: Path) -> None:
    """Its kind is looked at again before it is opened."""
    (tmp_path / "a.txt").write_text("x")
    corpus = open_corpus(str(tmp_path))
    (tmp_path / "a.txt").unlink()
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(Exception, match="is a pipe"):
        list(corpus.documents())
