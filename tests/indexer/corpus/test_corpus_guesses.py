"""What is guessed about a corpus's format: the separator and header of a CSV file, the text column,
the kind of a file. A guess is right, mentioned, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from indexer.corpus.files import FilesCorpus
from indexer.corpus.prepare import open_corpus
from tests.indexer.corpus.test_corpus_files import json_lines, pairs, refusal

TEXTS = ["The old house stood on a hill", "and the wind blew", "def f(x): return x"]


def texts(corpus: Any) -> list[str]:
    return [document.text for document in corpus.documents()]


# --- CSV ---


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_any_usual_separator(tmp_path: Path, separator: str, name: str) -> None:
    """The header's own separator is used, and mentioned unless it is a comma."""
    rows = "".join(f"{i}{separator}{text}\n" for i, text in enumerate(TEXTS))
    (tmp_path / name).write_text(f"id{separator}text\n{rows}")
    corpus = open_corpus(str(tmp_path / name))
    assert texts(corpus) == TEXTS
    assert bool(corpus.report.notes) == (separator != ",")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('id;text\n1;"a; b, c"\n2;d, e\n3;f\n', ["a; b, c", "d, e", "f"]),
        ("text,source\na; b,x\nc; d,y\n", ["a; b", "c; d"]),
        ("text\na; b\nc\td\n", ["a; b", "c\td"]),
        ('text;n\n"two\nlines";1\nb;2\n', ["two\nlines", "b"]),
        ("n\ttext, raw\ttext\n1\tx\ty\n2\tx\ty\n", ["y", "y"]),
        ("\ufeffn;text\r\n1;x\r\n", ["x"]),
        ("id, text\n1,x\n", ["x"]),
        ("sep=;\nid;text\n1;a, b\n", ["a, b"]),
        ('id,text\n1,5" disk\n2,"a ""b"" c"\n3,a "b" c', ['5" disk', 'a "b" c', 'a "b" c']),
    ],
)
def test_separators_inside_a_text_do_not_count(
    tmp_path: Path, content: str, expected: list[str]
) -> None:
    """The separator is the one that makes the rows as wide as the header."""
    (tmp_path / "a.csv").write_text(content)
    assert texts(open_corpus(str(tmp_path / "a.csv"))) == expected


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("".join(f"{text}\n" for text in TEXTS), "'The old house stood on a hill', does not look"),
        ("".join(f"{i};{text}\n" for i, text in enumerate(TEXTS)), "columns: 0, The old house"),
        ("".join(f"{i},{text}\n" for i, text in enumerate(TEXTS)), "columns: 0, The old house"),
        ("word " * 99 + "\nmore\n", "has no header row"),
        ("17\n18\n", "has no header row"),
        ("3,4\n5,6\n", "has no header row"),
        ("The old house stood.,3\nIt was raining.,4\n", "'The old house stood.'"),
        ("a;" + "word " * 20 + "\nb;more\n", "has no header row"),
    ],
)
def test_a_file_without_a_header_is_refused(tmp_path: Path, content: str, words: str) -> None:
    """Its first document is not lost as a header; the message shows what was taken for columns."""
    (tmp_path / "a.csv").write_text(content)
    message = refusal(tmp_path / "a.csv")
    assert words in message
    assert len(message) < 400


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('id,text\n1,a\n2,"b\n3,c\n4,d\n', "(line 3: a quotation mark is never closed"),
        ('sep=;\nid;text\n1;"a ""b"" c\n3;c', "(line 3: a quotation mark is never closed"),
        ("text,id,text\na,1,b\n", "has 2 columns named 'text'"),
        ("text" + "," * 200_000 + "\n", "has 200,001 columns"),
    ],
)
def test_what_a_csv_file_does_not_say_is_not_guessed(
    tmp_path: Path, content: str, words: str
) -> None:
    """A quotation mark that takes the rest of the file, and two columns of one name."""
    (tmp_path / "a.csv").write_text(content)
    assert words in refusal(tmp_path / "a.csv")


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.py"])
@pytest.mark.parametrize(
    "content", ["id,text".encode("utf-16-le"), "id,text".encode("utf-16"), b"SQLite format 3\0"]
)
def test_a_byte_0_is_no_text(tmp_path: Path, name: str, content: bytes) -> None:
    """English in UTF-16 is UTF-8 too, with a zero after each letter."""
    (tmp_path / name).write_bytes(content * 3)
    assert "is not UTF-8 text (byte" in refusal(tmp_path / name)


def test_the_name_of_an_only_column_is_mentioned(tmp_path: Path) -> None:
    """A single word may be a header or a document, so the choice is mentioned."""
    (tmp_path / "a.csv").write_text("review\ngood\nbad\n")
    corpus = open_corpus(str(tmp_path / "a.csv"))
    assert texts(corpus) == ["good", "bad"]
    assert "'review', is taken as the name of the only column" in corpus.report.notes[0]
    assert texts(open_corpus(str(tmp_path / "a.csv"), text_column="review")) == ["good", "bad"]


# --- Columns ---


@pytest.mark.parametrize(
    "first", [[{"id": 1}], [{"id": "x1"}], [{"text": 5}], [{"id": "x"}] * 40, [{"text": None}]]
)
def test_a_first_row_without_text_does_not_decide(
    tmp_path: Path, first: list[dict[str, Any]]
) -> None:
    """A column that appears later is the text; earlier rows are empty documents or broken."""
    good = [{"id": "x", "text": f"hill {i}"} for i in range(300)]
    (tmp_path / "a.jsonl").write_bytes(json_lines([*first, *good]))
    corpus = open_corpus(str(tmp_path / "a.jsonl"))
    assert [text for text in texts(corpus) if text] == [row["text"] for row in good]


def test_a_source_may_be_missing_from_the_first_row(tmp_path: Path) -> None:
    """A source column asked for may appear later."""
    (tmp_path / "a.jsonl").write_bytes(json_lines([{"text": "a"}, {"text": "b", "lang": "en"}]))
    corpus = open_corpus(str(tmp_path / "a.jsonl"), source_column="lang")
    assert pairs(corpus) == [("a", None), ("b", "en")]


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv"])
@pytest.mark.parametrize("named", [True, False])
def test_the_column_left_beside_the_source_is_the_text(
    tmp_path: Path, kind: str, named: bool
) -> None:
    """Two columns of text, of which one is the source: the other is the text."""
    source = "lang" if named else "source"
    path = tmp_path / f"a.{kind}"
    row = {source: "en", "body": "a text"}
    if kind == "jsonl":
        path.write_bytes(json_lines([row]))
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist([row]), path)
    else:
        path.write_text(f"{source},body\nen,a text\n")
    options = {"source_column": "lang"} if named else {}
    assert pairs(open_corpus(str(path), **options)) == [("a text", "en")]


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_two_columns_of_one_name(tmp_path: Path, kind: str) -> None:
    """Are refused if that is the text, and do no harm beside it."""
    path = tmp_path / f"a.{kind}"

    def write(*names: str) -> None:
        table = pa.Table.from_arrays([pa.array([name]) for name in "abc"], names=list(names))
        if kind == "parquet":
            pq.write_table(table, path)
            return
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)

    write("text", "text", "x")
    assert "has 2 columns named 'text'" in refusal(path)
    write("x", "x", "text")
    assert texts(open_corpus(str(path))) == ["c"]


@pytest.mark.parametrize(
    "type_", [pa.list_(pa.int32()), pa.large_list(pa.int64()), pa.list_(pa.uint16(), 3)], ids=str
)
def test_token_ids_in_any_list_of_arrow(tmp_path: Path, type_: pa.DataType) -> None:
    """With holes in the mask, without a mask, and no row at all."""
    mask = pa.array([[0, 1, 1], [1, 0, 1], None, [1, 1, 1]], pa.large_list(pa.int8()))
    ids = pa.array([[7, 8, 9], [4, 5, 6], None, [1, 2, 3]], type_)
    table = pa.table({"input_ids": ids, "attention_mask": mask})[1:]
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table)
    rows = [document.token_ids for document in open_corpus(str(tmp_path / "a.arrow")).documents()]
    assert [row.tolist() for row in rows if row is not None] == [[4, 6], [], [1, 2, 3]]


@pytest.mark.parametrize("type_", [pa.binary(), pa.large_binary()], ids=str)
def test_utf8_in_a_binary_column_is_text(tmp_path: Path, type_: pa.DataType) -> None:
    """Parquet writers that know no strings store text as bytes."""
    path = tmp_path / "a.parquet"
    for name in ("text", "body"):
        table = {name: pa.array(["naïve".encode(), None], type_), "n": [1, 2]}
        pq.write_table(pa.table(table | {"source": pa.array([b"sea", b"x"], type_)}), path)
        assert pairs(open_corpus(str(path))) == [("naïve", "sea"), ("", "x")]
    pq.write_table(pa.table({"text": pa.array([b"caf\xe9"], type_)}), path)
    assert "text that is not UTF-8" in refusal(path)


def test_a_column_of_text_is_preferred_to_one_of_bytes(tmp_path: Path) -> None:
    """An image beside a text is not a candidate."""
    table = pa.table({"image": pa.array([b"\x89PNG"]), "body": ["a text"]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert texts(open_corpus(str(tmp_path / "a.parquet"))) == ["a text"]


# --- Kinds of file ---


@pytest.mark.parametrize("name", ["a.md", "a.py", "a.rst", "a.tex", "A.MD", "a.rs", "a.html"])
def test_plain_text_by_any_name_is_one_document(tmp_path: Path, name: str) -> None:
    """Prose and source code are text, and the name without its ending is the source."""
    (tmp_path / name).write_text("def f(x):\n    return x\n")
    assert pairs(open_corpus(str(tmp_path / name))) == [("def f(x):\n    return x\n", name[0])]


def test_what_a_folder_has_beside_is_named(tmp_path: Path) -> None:
    """Files that are not read are named, some by name and the rest by number."""
    for name in ("a.txt", "b.docx", ".c.txt", "c.pdf", "data.json", "x/d.png", "x/e.gif", "f.zip"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    corpus = open_corpus(str(tmp_path))
    assert isinstance(corpus, FilesCorpus)
    assert [path.name for path in corpus.files] == ["a.txt"]
    (note,) = corpus.notes
    assert "passed over .c.txt (hidden), b.docx, c.pdf, data.json, f.zip and 2 more" in note


def save_split(folder: Path, rows: list[str], **more: Any) -> None:
    datasets.Dataset.from_dict({"text": rows}).save_to_disk(str(folder), **more)


def test_a_folder_of_save_to_disk(tmp_path: Path) -> None:
    """All shards in order; caches beside them are not read; nothing is passed over."""
    rows = [f"text {i}" for i in range(50)]
    save_split(tmp_path / "saved", rows, num_shards=3)
    (tmp_path / "saved" / "cache-1.arrow").write_bytes(b"junk")
    corpus = open_corpus(str(tmp_path / "saved"))
    assert texts(corpus) == rows
    assert (corpus.label, corpus.notes) == ("saved/", ())


def test_a_split_of_a_folder_of_save_to_disk(tmp_path: Path) -> None:
    """`--split` chooses among the splits; an unknown one is refused with their names."""
    splits = {name: datasets.Dataset.from_dict({"text": [name]}) for name in ("train", "test")}
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "saved"))
    assert texts(open_corpus(str(tmp_path / "saved"))) == ["train"]
    assert texts(open_corpus(str(tmp_path / "saved"), split="test")) == ["test"]
    message = refusal(tmp_path / "saved", split="dev")
    assert "no split 'dev'" in message
    assert "(train, test)" in message


def test_a_damaged_folder_of_save_to_disk(tmp_path: Path) -> None:
    """A missing shard and a list of another form are one line each."""
    save_split(tmp_path / "saved", ["a"])
    data = next((tmp_path / "saved").glob("*.arrow"))
    data.rename(tmp_path / "gone.arrow")
    assert "is not complete" in refusal(tmp_path / "saved")
    for content in ("{}", "[1", '{"_data_files": [3]}', '{"_data_files": {}}'):
        (tmp_path / "saved" / "state.json").write_text(content)
        refusal(tmp_path / "saved")
    data.write_bytes((tmp_path / "gone.arrow").read_bytes()[:100])
    (tmp_path / "saved" / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": data.name}]})
    )
    assert "is not a complete Arrow file" in refusal(tmp_path / "saved")


@pytest.mark.parametrize("make", [pa.ipc.new_file, pa.ipc.new_stream])
def test_an_arrow_file(tmp_path: Path, make: Any) -> None:
    """Both forms of Arrow's format, in several batches."""
    table = pa.table({"text": [f"t{i}" for i in range(10)]})
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, make(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    assert texts(open_corpus(str(tmp_path / "a.arrow"))) == [f"t{i}" for i in range(10)]
