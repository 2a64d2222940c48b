"""Reading local files, and the one-line error for each kind of bad file."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from indexer.corpus.in_memory import open_in_memory
from indexer.corpus.prepare import open_corpus
from indexer.corpus.rows import Corpus, Document, RequestedColumns
from indexer.errors import NeurariumError

ROWS = [
    {"text": "one fine day", "source": "sea"},
    {"text": "two\nlines, “quoted” \U0001f600", "source": "land"},
    {"text": "three", "source": "sea"},
]


def json_lines(rows: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    import csv

    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


WRITERS: dict[str, Callable[[Path], object]] = {
    "a.jsonl": lambda path: path.write_bytes(json_lines(ROWS)),
    "a.jsonl.gz": lambda path: path.write_bytes(gzip.compress(json_lines(ROWS))),
    "a.jsonl.zst": lambda path: path.write_bytes(
        zstandard.ZstdCompressor().compress(json_lines(ROWS))
    ),
    "a.parquet": lambda path: pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=2),
    "a.csv": lambda path: write_csv(path, ROWS),
}


def pairs(corpus: Corpus) -> list[tuple[str | None, str | None]]:
    return [(document.text, document.source) for document in corpus.documents()]


def token_rows(corpus: Corpus) -> list[list[int]]:
    rows = []
    for document in corpus.documents():
        assert document.text is None
        assert document.token_ids is not None
        assert document.token_ids.ndim == 1
        rows.append(document.token_ids.tolist())
    return rows


def refusal(path: Path, **options: Any) -> str:
    """The message with which a corpus is refused."""
    with pytest.raises(NeurariumError) as caught:
        for _ in open_corpus(str(path), **options).documents():
            pass
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_documents(tmp_path: Path, name: str) -> None:
    """Every kind of file gives the same texts and sources, on every reading."""
    WRITERS[name](tmp_path / name)
    corpus = open_corpus(str(tmp_path / name))
    assert corpus.label == name
    expected = [(row["text"], row["source"]) for row in ROWS]
    assert pairs(corpus) == expected
    assert pairs(corpus) == expected


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    """A .txt file is one document with its line ends, and its name as source."""
    path = tmp_path / "moby.txt"
    path.write_bytes(b"\xef\xbb\xbfCall me\r\nIshmael.\n")
    assert pairs(open_corpus(str(path))) == [("Call me\r\nIshmael.\n", "moby")]


def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    """Subfolders are included, hidden and unsupported files skipped; file names are sources."""
    (tmp_path / "notes" / "b").mkdir(parents=True)
    (tmp_path / "notes" / ".git").mkdir()
    for name in ("c.txt", "b/x.txt", ".hidden.txt", ".git/y.txt", "picture.png"):
        (tmp_path / "notes" / name).write_text(name)
    (tmp_path / "notes" / "a.jsonl.gz").write_bytes(gzip.compress(json_lines([{"text": "a"}])))
    corpus = open_corpus(str(tmp_path / "notes"))
    assert pairs(corpus) == [("a", "a"), ("b/x.txt", "x"), ("c.txt", "c")]
    assert corpus.label == "notes/ (3 files)"
    assert corpus.revision is None


def test_demo_is_the_bundled_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`demo` is the bundled corpus, labelled `demo`."""
    monkeypatch.setattr("indexer.demo.CORPUS_FILE", tmp_path / "a.jsonl.gz")
    WRITERS["a.jsonl.gz"](tmp_path / "a.jsonl.gz")
    corpus = open_corpus("demo")
    assert corpus.label == "demo"
    assert len(pairs(corpus)) == 3


@pytest.mark.parametrize(
    ("row", "options", "expected"),
    [
        ({"content": "t", "title": "x"}, {}, ("t", "a")),
        ({"content": "t", "text": "u"}, {}, ("u", "a")),
        ({"body": "t", "id": 3}, {}, ("t", "a")),
        ({"text": "t", "body": "u"}, {"text_column": "body"}, ("u", "a")),
        ({"text": "t", "meta": {"pile_set_name": "ArXiv"}}, {}, ("t", "ArXiv")),
        ({"text": "t", "meta": '{"pile_set_name": "ArXiv"}'}, {}, ("t", "ArXiv")),
        ({"text": "t", "meta": "not JSON"}, {}, ("t", "a")),
        ({"text": "t", "meta": "[" * 100_000}, {}, ("t", "a")),
        ({"text": "t", "source": "s", "meta": {"pile_set_name": "A"}}, {}, ("t", "s")),
        ({"text": "t", "source": "s", "lang": "en"}, {"source_column": "lang"}, ("t", "en")),
        ({"text": "t", "year": 1999}, {"source_column": "year"}, ("t", "1999")),
        ({"text": "t", "a": {"b": {"c": "d"}}}, {"source_column": "a.b.c"}, ("t", "d")),
        ({"text": "t", "a.b": "c"}, {"source_column": "a.b"}, ("t", "c")),
    ],
)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_columns_are_found(
    tmp_path: Path, kind: str, row: dict[str, Any], options: dict[str, str], expected: object
) -> None:
    """Text and source columns are chosen by name, as the only candidate, or by the user."""
    path = tmp_path / f"a.{kind}"
    if kind == "jsonl":
        path.write_bytes(json_lines([row]))
    else:
        pq.write_table(pa.Table.from_pylist([row]), path)
    assert pairs(open_corpus(str(path), **options)) == [expected]


@pytest.mark.parametrize(
    ("row", "options", "words"),
    [
        ({"text": "t"}, {"text_column": "body"}, ["no column 'body'", "--text-column", "text"]),
        ({"text": "t", "n": 1}, {"text_column": "n"}, ["'n'", "is not text"]),
        ({"text": 1, "id": "t"}, {}, ["'text'", "is not text", "text, id"]),
        ({"text": "t"}, {"source_column": "a.b"}, ["no column 'a.b'", "--source-column"]),
        ({"a": "t", "b": "u"}, {}, ["several columns", "--text-column", "a, b"]),
        ({"n": 1}, {}, ["no column looks like the text", "columns: n"]),
    ],
)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_missing_column_is_named(
    tmp_path: Path, kind: str, row: dict[str, Any], options: dict[str, str], words: list[str]
) -> None:
    """For missing or ambiguous columns, the message names the option and lists the columns."""
    path = tmp_path / f"a.{kind}"
    if kind == "jsonl":
        path.write_bytes(json_lines([row]))
    else:
        pq.write_table(pa.Table.from_pylist([row]), path)
    message = refusal(path, **options)
    assert str(path) in message
    for word in words:
        assert word in message


def test_null_and_missing_texts_are_empty_documents(tmp_path: Path) -> None:
    """A row without text is still a document, so that document_index counts rows."""
    (tmp_path / "a.jsonl").write_bytes(json_lines([{"text": None}, {"id": 1}, {"text": "x"}]))
    assert pairs(open_corpus(str(tmp_path / "a.jsonl"))) == [("", "a"), ("", "a"), ("x", "a")]
    pq.write_table(pa.table({"text": pa.array([None, "x"], pa.string())}), tmp_path / "a.parquet")
    assert pairs(open_corpus(str(tmp_path / "a.parquet"))) == [("", "a"), ("x", "a")]


@pytest.mark.parametrize("column", ["tokens", "input_ids"])
def test_token_columns_in_json_lines(tmp_path: Path, column: str) -> None:
    """Lists of numbers in the usual columns are token ids, even next to a text."""
    rows = [{column: [1, 2, 3], "text": "x"}, {column: [], "text": "y"}, {column: None}]
    (tmp_path / "a.jsonl").write_bytes(json_lines(rows))
    assert token_rows(open_corpus(str(tmp_path / "a.jsonl"))) == [[1, 2, 3], [], []]


def test_masks_in_json_lines(tmp_path: Path) -> None:
    """An attention mask takes padding away, on either side; a row without one stays as it is."""
    rows: list[dict[str, Any]] = [
        {"input_ids": [9, 1, 2, 9], "attention_mask": [0, 1, 1, 0]},
        {"input_ids": [9, 3], "attention_mask": [False, True]},
        {"input_ids": [4, 9], "attention_mask": None},
        {"input_ids": [5, 9]},
        {"input_ids": [9, 6, 7], "attention_mask": [0.0, 1.0, 1.0]},
        {"input_ids": [9, 8, 8], "attention_mask": [0, 1, 2]},  # two packed texts
    ]
    (tmp_path / "a.jsonl").write_bytes(json_lines(rows))
    corpus = open_corpus(str(tmp_path / "a.jsonl"))
    assert token_rows(corpus) == [[1, 2], [3], [4, 9], [5, 9], [6, 7], [8, 8]]
    assert [row.unpadded for row in corpus.documents()] == [True, True, False, False, True, True]


@pytest.mark.parametrize("without", [1, 250])
def test_a_mask_counts_in_whichever_row_it_stands(tmp_path: Path, without: int) -> None:
    """The first rows may have no mask, and no source: a later row's counts all the same."""
    rows: list[dict[str, Any]] = [{"input_ids": [4, 9]}] * without
    rows.append({"input_ids": [9, 3], "attention_mask": [0, 1], "source": "news"})
    (tmp_path / "a.jsonl").write_bytes(json_lines(rows))
    for corpus in (
        open_corpus(str(tmp_path / "a.jsonl")),
        open_in_memory(rows, RequestedColumns()),
    ):
        last = list(corpus.documents())[-1]
        assert last.token_ids is not None
        assert (last.token_ids.tolist(), last.unpadded) == ([3], True)
        assert (last.source == "news") == (without == 1)


WRONG_NUMBERS = [([-10000, 0], "has -10000"), ([0.0, 0.5], "has 0.5"), ([float("nan"), 1], "nan")]
"""Masks that are added to scores of attention, or no masks at all, and what is said."""


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        *([([1], "1 numbers for 2"), (["1", "1"], "a list, not"), ("11", "not a list of 0 and 1")]),
        *WRONG_NUMBERS,
    ],
)
def test_a_wrong_mask_is_named(tmp_path: Path, mask: Any, words: str) -> None:
    """A mask of another length, or of something else, is a broken line."""
    row = {"input_ids": [1, 2], "attention_mask": mask}
    (tmp_path / "a.jsonl").write_bytes(json_lines([row]))
    assert words in refusal(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    "type_",
    [
        *(pa.list_(pa.int8()), pa.large_list(pa.int64()), pa.list_(pa.bool_())),
        *(pa.list_(pa.float32()), pa.large_list(pa.float64())),
    ],
)
def test_masks_in_parquet(tmp_path: Path, type_: pa.DataType) -> None:
    """Masks of numbers or of true and false; a null row has none."""
    masks = pa.array([[0, 1, 1], None, [1, 1, 0]]).cast(type_)
    table = pa.table({"tokens": [[1, 2, 3], [4, 5, 6], [7, 8, 9]], "attention_mask": masks})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    corpus = open_corpus(str(tmp_path / "a.parquet"))
    assert token_rows(corpus) == [[2, 3], [4, 5, 6], [7, 8]]
    assert [row.unpadded for row in corpus.documents()] == [True, False, True]


def test_a_wrong_mask_in_parquet_is_named(tmp_path: Path) -> None:
    """Masks of another length or kind are refused in one line."""
    path = tmp_path / "a.parquet"
    wrong = [([mask], words) for mask, words in WRONG_NUMBERS]
    for masks, words in (
        *(([[1]], "2 token ids with 1 numbers"), (["11"], "not lists of 0 and 1")),
        *wrong,
    ):
        pq.write_table(pa.table({"tokens": [[1, 2]], "attention_mask": masks}), path)
        assert words in refusal(path)


def test_a_named_text_column_is_preferred_to_tokens(tmp_path: Path) -> None:
    """The user's choice wins, also for token ids in an unusual column."""
    (tmp_path / "a.jsonl").write_bytes(json_lines([{"tokens": [1, 2], "text": "x", "ids": [3]}]))
    path = str(tmp_path / "a.jsonl")
    assert pairs(open_corpus(path, text_column="text")) == [("x", "a")]
    assert token_rows(open_corpus(path, text_column="ids")) == [[3]]


def test_a_tokens_column_that_is_no_list_is_not_taken(tmp_path: Path) -> None:
    """A column `tokens` with counts does not make a corpus pre-tokenised."""
    (tmp_path / "a.jsonl").write_bytes(json_lines([{"tokens": 12, "text": "x"}]))
    assert pairs(open_corpus(str(tmp_path / "a.jsonl"))) == [("x", "a")]


@pytest.mark.parametrize(
    "type_",
    [pa.list_(pa.int32()), pa.large_list(pa.int64()), pa.list_(pa.uint16(), 3)],
    ids=str,
)
def test_token_columns_in_parquet(tmp_path: Path, type_: pa.DataType) -> None:
    """All Arrow list types work; a null row is empty."""
    table = pa.table({"tokens": pa.array([[1, 2, 3], None, [4, 5, 6]], type_)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=1)
    assert token_rows(open_corpus(str(tmp_path / "a.parquet"))) == [[1, 2, 3], [], [4, 5, 6]]


def test_documents_are_text_or_tokens(tmp_path: Path) -> None:
    """A document of text has no token ids."""
    (tmp_path / "a.txt").write_text("x")
    assert list(open_corpus(str(tmp_path / "a.txt")).documents()) == [Document("x", None, "a")]


def test_many_zstandard_frames_and_odd_line_ends(tmp_path: Path) -> None:
    """Several frames, blank lines, CRLF, a byte order mark, no final newline."""
    frames = [b'\xef\xbb\xbf{"text": "a"}\r\n\r\n{"te', b'xt": "b"}\n\n', b'{"text": "c\\r"}']
    packed = b"".join(zstandard.ZstdCompressor().compress(frame) for frame in frames)
    of_a_program = b"\x53\x2a\x4d\x18\x04\0\0\0note"  # a frame to be skipped
    for content in (packed, of_a_program + packed):
        (tmp_path / "a.jsonl.zst").write_bytes(content)
        corpus = open_corpus(str(tmp_path / "a.jsonl.zst"))
        assert [text for text, _ in pairs(corpus)] == ["a", "b", "c\r"]
        assert corpus.report.lines_read == 3


def test_csv_takes_long_fields(tmp_path: Path) -> None:
    """A CSV field may have line breaks and exceed the csv module's default size."""
    rows = [{"text": "long " * 50_000 + "\n\nend", "source": "x"}]
    write_csv(tmp_path / "a.csv", rows)
    assert pairs(open_corpus(str(tmp_path / "a.csv"))) == [(rows[0]["text"], "x")]
