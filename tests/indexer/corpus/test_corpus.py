"""Preparing a corpus: its contexts against a plain loop, whatever the text and the batches."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.corpus import prepare as corpus_module
from indexer.corpus.prepare import open_corpus, prepare_corpus
from indexer.corpus.prepared import PreparedCorpus, open_prepared
from indexer.corpus.rows import Document
from indexer.corpus.tokens import TextTokenizer, TokenizerInfo, text_parts
from indexer.errors import NeurariumError
from tests.helpers.small_corpora import (
    BYTE_TOKENIZER,
    WORD_TOKENIZER,
    WORDS,
    ListCorpus,
    document,
    info,
    prepare,
)


@dataclass
class Expected:
    """The contexts of a plain loop: rows of (ids, document, source, first included position)."""

    rows: list[tuple[list[int], int, str, int]] = field(default_factory=list)
    duplicates: int = 0
    included: int = 0
    stopped_at: int | None = None


def candidates(
    documents: Sequence[Document], ctx_len: int, bos: int | None, pad: int | None
) -> Iterator[tuple[list[int], int, str, int]]:
    """All contexts before duplicates and limits, built token by token."""
    for number, item in enumerate(documents):
        source = item.source or ""
        if item.token_ids is not None:
            row = item.token_ids.tolist()
            while pad is not None and row and row[-1] == pad:
                row.pop()
            while pad is not None and row and row[0] == pad and (pad != bos or row[1:2] == [pad]):
                row.pop(0)
            row = row[:ctx_len]
            lead = int(bool(row) and row[0] == bos)
            size = counted(row, lead, item)
            if size >= 2 or (len(row) == ctx_len and size):
                yield row, number, source, lead
            continue
        ids = [int(word[1:]) + 2 for word in (item.text or "").split()]
        front = [] if bos is None else [bos]
        room = ctx_len - len(front)
        while ids:
            chunk, ids = ids[:room], ids[room:]
            if ids or len(chunk) >= 2 or len(chunk) == room:
                yield front + chunk, number, source, len(front)


def counted(row: Sequence[int], lead: int, item: Document) -> int:
    """Included positions: in rows of ids, special tokens are left out wherever they are."""
    special = [] if item.token_ids is None else [0, 1]
    return sum(token not in special for token in row[lead:])


def brute_force(
    documents: Sequence[Document],
    ctx_len: int,
    bos: int | None,
    pad: int | None,
    max_tokens: int | None,
) -> Expected:
    expected = Expected()
    for row, number, source, lead in candidates(documents, ctx_len, bos, pad):
        while (
            max_tokens is not None
            and not expected.rows
            and (counted(row, lead, documents[number]) > max_tokens)
        ):
            row = row[:-1]
        if row in [earlier for earlier, *_ in expected.rows]:
            expected.duplicates += 1
            continue
        size = counted(row, lead, documents[number])
        if max_tokens is not None and expected.included + size > max_tokens:
            expected.stopped_at = number
            break
        expected.rows.append((row, number, source, lead))
        expected.included += size
        if expected.included == max_tokens:
            expected.stopped_at = number
            break
    return expected


def check(prepared: PreparedCorpus, expected: Expected, documents: Sequence[Document]) -> None:
    actual = [
        (
            prepared.context(i).tolist(),
            int(prepared.document_index[i]),
            prepared.sources[int(prepared.source_index[i])],
            int(prepared.included_from[i]),
        )
        for i in range(prepared.contexts)
    ]
    assert actual == expected.rows
    assert prepared.duplicates == expected.duplicates
    assert prepared.included_tokens == expected.included == prepared.included.sum()
    assert prepared.included.tolist() == [
        counted(row, lead, documents[number]) for row, number, _, lead in expected.rows
    ]
    assert prepared.lengths.tolist() == [len(row) for row, *_ in expected.rows]
    assert prepared.contexts_with_bos == sum(lead for *_, lead in expected.rows)
    stop = expected.stopped_at
    assert prepared.documents == (len(documents) if stop is None else stop + 1)


DOCUMENTS = st.lists(
    st.builds(
        document,
        st.lists(st.integers(2, WORDS + 1) | st.just(2), max_size=30),
        st.sampled_from([None, "sea", "land"]),
        st.booleans(),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(
    documents=DOCUMENTS,
    ctx_len=st.integers(2, 9),
    bos=st.booleans(),
    max_tokens=st.none() | st.integers(2, 60),
    batch=st.sampled_from([1, 100, 1 << 20]),
    part=st.sampled_from([16, 40, 1 << 20]),
)
def test_contexts_equal_a_plain_loop(
    documents: list[Document],
    ctx_len: int,
    bos: bool,
    max_tokens: int | None,
    batch: int,
    part: int,
) -> None:
    """Chunks, BOS, duplicates, limits, documents and sources, for any batching."""
    expected = brute_force(documents, ctx_len, 0 if bos else None, 1, max_tokens)
    options = {"ctx_len": ctx_len, "max_tokens": max_tokens, "tokenizer": info(bos)}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus_module, "BATCH_CHARS", batch)
        patch.setattr(corpus_module, "PART_CHARS", part)
        if not expected.rows:
            with pytest.raises(NeurariumError, match="is empty"):
                prepare(documents, Path(folder), **options)
            return
        check(prepare(documents, Path(folder), **options), expected, documents)


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(0, 4), max_size=12), min_size=1, max_size=12),
    ctx_len=st.integers(2, 9),
    bos=st.sampled_from([None, 0]),
    pad=st.sampled_from([None, 0, 1]),
    max_tokens=st.none() | st.integers(2, 30),
)
def test_rows_of_ids_equal_a_plain_loop(
    rows: list[list[int]], ctx_len: int, bos: int | None, pad: int | None, max_tokens: int | None
) -> None:
    """Pre-tokenised rows lose padding, are cut, and have a BOS recognised, even if both share an
    id."""
    documents = [document(row, None, as_text=False) for row in rows]
    expected = brute_force(documents, ctx_len, bos, pad, max_tokens)
    tokenizer = TokenizerInfo(WORD_TOKENIZER, bos, pad, "words", 5)
    options = {"ctx_len": ctx_len, "max_tokens": max_tokens, "tokenizer": tokenizer}
    with tempfile.TemporaryDirectory() as folder:
        if not expected.rows:
            with pytest.raises(NeurariumError, match="is empty"):
                prepare(documents, Path(folder), **options)
            return
        check(prepare(documents, Path(folder), **options), expected, documents)


TEXT = st.text(
    st.sampled_from("the quick brown fox,.\n\t éß漢\U0001f600") | st.characters(), max_size=300
)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(TEXT, min_size=1, max_size=5), bos=st.booleans())
def test_contexts_of_a_byte_level_tokenizer(texts: list[str], bos: bool) -> None:
    """Any text, including emoji and lone surrogates, gives the tokenizer's own ids in order."""
    texts = [*texts, "the quick brown fox"]
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare(
            [Document(text, None, None) for text in texts],
            Path(folder),
            tokenizer=info(bos, BYTE_TOKENIZER),
            ctx_len=500,
        )
    lead = int(bos)
    seen: list[list[int]] = []
    for text in texts:
        clean = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)
        ids = BYTE_TOKENIZER(clean, add_special_tokens=False, verbose=False)["input_ids"]
        chunks = [ids[i : i + 500 - lead] for i in range(0, len(ids), 500 - lead)]
        seen += [chunk for chunk in chunks if len(chunk) >= 2 and chunk not in seen]
    actual = [prepared.context(i)[lead:].tolist() for i in range(prepared.contexts)]
    assert actual == seen


@pytest.mark.parametrize("tokenizer", [WORD_TOKENIZER, BYTE_TOKENIZER], ids=["words", "bytes"])
def test_text_never_becomes_a_control_token(tokenizer: Any) -> None:
    """The name of a control token is plain text, even if the vocabulary has that word."""
    text = "w1 <|endoftext|> w2 <s> <pad>\n<s>"
    ids, lengths = TextTokenizer(tokenizer).tokenise([text, "w3", text])
    controls = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    if tokenizer is BYTE_TOKENIZER:
        controls.add(tokenizer.bos_token_id)
        assert tokenizer.decode(ids[: lengths[0]]) == text
    assert not controls & set(ids.tolist())
    assert lengths[0] == lengths[2] > lengths[1]


@pytest.mark.parametrize(
    "line",
    ["the quick brown fox\n\n  and then\nsome more  words\n", "the quick\n\n\nbrown  fox\n\n"],
)
def test_parts_of_a_long_text_give_the_same_tokens(tmp_path: Path, line: str) -> None:
    """Tokenising a long document in parts does not change its contexts."""
    text = line * (40_000 // len(line))
    all_ids = BYTE_TOKENIZER(text, add_special_tokens=False, verbose=False)["input_ids"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus_module, "PART_CHARS", 1000)
        patch.setattr(corpus_module, "BATCH_CHARS", 3000)
        options = {"tokenizer": info(False, BYTE_TOKENIZER), "ctx_len": len(all_ids) - 1}
        prepared = prepare([Document(text + "tail", None, None)], tmp_path, **options)
    tokens = BYTE_TOKENIZER(text + "tail", add_special_tokens=False, verbose=False)["input_ids"]
    assert prepared.tokens.tolist() == tokens


@given(text=st.text(st.sampled_from("ab \n"), max_size=200), size=st.integers(1, 50))
def test_parts_add_up(text: str, size: int) -> None:
    """Parts join to the text, respect the size, and only the last is marked as last."""
    parts = list(text_parts(text, size))
    assert "".join(part for part, _ in parts) == text
    assert all(0 < len(part) <= size for part, last in parts if not last)
    assert [last for _, last in parts] == [False] * (len(parts) - 1) + [True]


def test_reading_stops_at_the_limit(tmp_path: Path) -> None:
    """Reading stops soon after the limit, and documents read ahead are not counted."""
    given = [
        document([2 + i % 9, 3 + i % 7, 4 + i % 5], f"s{i // 200}", True) for i in range(50_000)
    ]
    corpus = ListCorpus(given)
    prepared = prepare_corpus(corpus, info(), ctx_len=8, max_tokens=300, cache_dir=tmp_path)
    assert prepared.included_tokens == 300
    assert prepared.documents <= len(corpus.read) < 1000
    assert prepared.documents == int(prepared.document_index[-1]) + 1
    assert prepared.sources == ("s0",)


def test_a_limit_below_the_first_context_cuts_it(tmp_path: Path) -> None:
    """Even a tiny limit gives one context with exactly that many included tokens."""
    prepared = prepare([document(range(2, 9), None, True)], tmp_path, max_tokens=3)
    assert [prepared.context(i).tolist() for i in range(prepared.contexts)] == [[0, 2, 3, 4]]


def test_the_shortest_contexts_with_a_bos(tmp_path: Path) -> None:
    """With ctx_len 2, a BOS leaves room for one token, which is a full chunk."""
    given = [document([2, 3, 4], None, True), document([0, 5, 6], None, False)]
    given += [document([7], None, False), document([0], None, False)]
    prepared = prepare(given, tmp_path, ctx_len=2)
    actual = [prepared.context(i).tolist() for i in range(prepared.contexts)]
    assert actual == [[0, 2], [0, 3], [0, 4], [0, 5]]
    assert (prepared.included_tokens, prepared.contexts_with_bos) == (4, 4)


def test_a_short_last_chunk_is_dropped(tmp_path: Path) -> None:
    """A single token at a document's end is no context, with or without a BOS."""
    for bos, ctx_len, expected in ((True, 3, [0, 2, 3]), (False, 2, [2, 3])):
        options = {"ctx_len": ctx_len, "tokenizer": info(bos)}
        prepared = prepare([document([2, 3, 4], None, True)], tmp_path, **options)
        assert prepared.tokens.tolist() == expected


def test_the_kind_of_rows_is_recorded(tmp_path: Path) -> None:
    """The corpus records whether contexts came as ids, and how many begin with a BOS."""
    text, with_bos = document([2, 3], None, True), document([0, 4, 5], None, False)
    bare, short = document([6, 7], None, False), document([8], None, False)
    for documents, expected in (
        ([text], (False, 1)),
        ([text, short], (False, 1)),
        ([text, with_bos, bare], (True, 2)),
        ([bare], (True, 0)),
    ):
        prepared = prepare(documents, tmp_path / str(len(list(tmp_path.iterdir()))))
        again = open_prepared(prepared.path)
        for item in (prepared, again):
            assert (item.pretokenized, item.contexts_with_bos) == expected


def test_rows_beyond_the_limit_do_not_count_as_read(tmp_path: Path) -> None:
    """Rows after `max_tokens` are not part of the corpus."""
    given = [document([2, 3, 4], None, True), document([5, 6], None, False)]
    assert not prepare(given, tmp_path, max_tokens=3).pretokenized


def test_progress_is_reported(tmp_path: Path) -> None:
    """Progress grows to all included tokens, also from the cache."""
    given = [document([2, 3, 4 + i], None, True) for i in range(8)]
    for _ in range(2):
        heard: list[int] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(corpus_module, "BATCH_CHARS", 100)
            prepared = prepare(given, tmp_path, on_progress=heard.append)
        assert heard == sorted(heard)
        assert heard[-1] == prepared.included_tokens == 24


def test_an_empty_corpus(tmp_path: Path) -> None:
    """A corpus without a context of 2 tokens is a clear error and leaves no files."""
    empty = "The corpus a list is empty: 2 documents, but no context of 2 tokens"
    with pytest.raises(NeurariumError, match=empty):
        prepare([Document("", None, None), Document("w1", None, None)], tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] in ([], [".lock"])


@pytest.mark.parametrize("wrong", [-1, 40])
def test_ids_the_model_does_not_know(tmp_path: Path, wrong: int) -> None:
    """Ids outside the model's embedding are refused."""
    with pytest.raises(NeurariumError, match=f"token id {wrong}, but the model knows ids from 0"):
        prepare([Document(None, np.array([2, 3, wrong]), None)], tmp_path)


def test_broken_lines_are_fatal_although_reading_stopped(tmp_path: Path) -> None:
    """The share of broken lines also counts when the limit ends reading early."""
    lines = ['{"text": "w1 w2 w3"}', *["{oops"] * 9, *['{"text": "w4 w5 w6"}'] * 5000]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    corpus = open_corpus(str(tmp_path / "a.jsonl"))
    options = {"ctx_len": 8, "cache_dir": tmp_path / "cache"}
    with pytest.raises(NeurariumError, match="lines of the corpus are broken"):
        prepare_corpus(corpus, info(), max_tokens=3, **options)
    prepared = prepare_corpus(corpus, info(), max_tokens=None, **options)
    assert (prepared.lines, prepared.broken_lines) == (5010, 9)
    assert (prepared.contexts, prepared.duplicates) == (2, 4999)
