"""The bytes of tokens, joined, are the text."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, insert
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

from app.reading.vocabulary import Vocabularies, as_decoded
from indexer.models.vocabulary import (
    known_tokens,
    special_token_id,
    token_bytes,
    tokenizer_identity,
)
from indexer.store import schema
from tests.helpers.tiny_models import TEXT, tiny_tokenizer

MARK = "\u2581"


@pytest.mark.parametrize(
    ("tokens", "spaced"),
    [
        ([b"ing", b"a", b" a"], True),
        ([b"!", " к".encode()], True),
        ([b" ", b"  ", b"a", b"\xc3", b"!", b" A", b" 1", b"\na"], False),
        ([b"##ing", b"the"], False),
    ],
)
def test_a_space_in_front_of_words_is_noticed(tokens: list[bytes], spaced: bool) -> None:
    """Only where there is one does its absence tell that a token goes on a word."""
    with create_engine("sqlite://").begin() as connection:
        schema.metadata.create_all(connection)
        for vocabulary_id, spelling in ((1, [b" other"]), (2, tokens)):
            connection.execute(
                insert(schema.vocabularies).values(id=vocabulary_id, identity=str(vocabulary_id))
            )
            connection.execute(
                insert(schema.vocabulary),
                [
                    {"vocabulary_id": vocabulary_id, "token_id": token_id, "bytes": spelled}
                    for token_id, spelled in enumerate(spelling)
                ],
            )
        known = Vocabularies()
        vocabularies = known.in_store(connection)
        found = [known.begin_words_with_space(connection, *each) for each in vocabularies]
    assert found == [True, spaced]


def sentence_piece() -> Any:
    """A tokenizer of Llama's shape: BPE with marked spaces, unknown characters as bytes."""
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    core = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    core.normalizer = normalizers.Sequence(
        [normalizers.Prepend(MARK), normalizers.Replace(" ", MARK)]
    )
    core.decoder = decoders.Sequence(
        [
            decoders.Replace(MARK, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=["<unk>", "<s>", *byte_tokens], show_progress=False
    )
    core.train_from_iterator([TEXT.split("Ü")[0]] * 4, trainer)
    facts = json.loads(core.to_str())
    facts["added_tokens"] = facts["added_tokens"][:2]  # byte tokens are not added tokens
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(facts)),
        bos_token="<s>",
        unk_token="<unk>",
    )


@pytest.fixture(scope="module")
def byte_level() -> Any:
    """A byte-level tokenizer with a token added by hand."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([AddedToken("<|née  ☃|>", normalized=False)])
    return tokenizer


BYTE_LEVEL = tiny_tokenizer()
SENTENCE_PIECE = sentence_piece()


@settings(max_examples=150, deadline=None)
@given(st.text())
def test_byte_level_tokens_are_the_text(text: str) -> None:
    """Whatever is encoded, control characters and halves of emoji too, comes back whole."""
    spelled = token_bytes(BYTE_LEVEL, 320)
    ids = BYTE_LEVEL(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert b"".join(spelled[i] for i in ids) == text.encode()


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(exclude_characters=MARK, exclude_categories=["Cs"]), min_size=1))
def test_sentence_piece_tokens_are_the_text_after_a_space(text: str) -> None:
    """Llama's kind gives the text back with the space it puts in front."""
    spelled = token_bytes(SENTENCE_PIECE, 340)
    ids = SENTENCE_PIECE(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert b"".join(spelled[i] for i in ids) == b" " + text.encode()


def test_a_byte_token_is_its_byte() -> None:
    """`<0x0A>` is a line break, not six characters."""
    spelled = token_bytes(SENTENCE_PIECE, 340)
    i = SENTENCE_PIECE.convert_tokens_to_ids("<0x0A>")
    assert spelled[i] == b"\n"
    assert spelled[SENTENCE_PIECE.bos_token_id] == b"<s>"


def test_added_tokens_are_their_own_text(byte_level: Any) -> None:
    """A token added by hand is literal text, not byte-level spelling."""
    i = byte_level.convert_tokens_to_ids("<|née  ☃|>")
    assert token_bytes(byte_level, i + 1)[i] == "<|née  ☃|>".encode()
    assert token_bytes(byte_level, 2) == [b"<pad>", b"<bos>"]


def test_ids_without_a_token_are_empty(byte_level: Any) -> None:
    """Rows that pad the embedding have no bytes, and a vocabulary can be cut short."""
    size = len(byte_level)
    assert token_bytes(byte_level, size + 3)[size:] == [b"", b"", b""]
    assert len(token_bytes(byte_level, 5)) == 5
    assert known_tokens(byte_level, size + 3) == size
    assert known_tokens(byte_level, 5) == 5


def test_an_emoji_is_split_into_its_bytes() -> None:
    """An emoji over several tokens has bytes that are no text by themselves."""
    spelled = token_bytes(BYTE_LEVEL, 320)
    ids = BYTE_LEVEL("🦉", add_special_tokens=False)["input_ids"]
    assert len(ids) > 1
    assert [spelled[i] for i in ids] != ["🦉".encode()]
    assert b"".join(spelled[i] for i in ids) == "🦉".encode()


def test_word_pieces_and_suffixes_have_spaces() -> None:
    """The older kinds: a continuation after ##, a word's end as </w>."""
    core = Tokenizer(models.WordPiece({"[UNK]": 0, "play": 1, "##ing": 2}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.decoder = decoders.WordPiece()
    pieces = transformers.PreTrainedTokenizerFast(tokenizer_object=core)
    assert token_bytes(pieces, 3)[1:] == [b" play", b"ing"]
    core = Tokenizer(models.BPE({"a": 0, "b</w>": 1, "ab</w>": 2}, [("a", "b</w>")]))
    core.decoder = decoders.BPEDecoder("</w>")
    suffixed = transformers.PreTrainedTokenizerFast(tokenizer_object=core)
    assert token_bytes(suffixed, 3) == [b"a", b"b ", b"ab "]


def test_names_that_are_bytes_are_taken_as_they_are() -> None:
    """Some tokenizers in Python name tokens by their bytes: nothing is left to ask."""

    class Raw:
        added_tokens_decoder: ClassVar[dict[int, str]] = {}

        def get_vocab(self) -> dict[bytes, int]:
            return {b" the\xff": 0, b"\xc3": 1}

    assert token_bytes(Raw(), 3) == [b" the\xff", b"\xc3", b""]


def test_a_special_token_must_be_in_the_vocabulary() -> None:
    """A default BOS nobody put into the vocabulary is none, not the unknown token."""
    assert special_token_id(BYTE_LEVEL, "bos_token") == 1
    assert special_token_id(tiny_tokenizer(bos=None), "bos_token") is None

    class Absent:
        bos_token = "<s>"

        def convert_tokens_to_ids(self, _token: str) -> int:
            return 3

        def convert_ids_to_tokens(self, _i: int) -> str:
            return "<unk>"

    assert special_token_id(Absent(), "bos_token") is None


def test_the_identity_follows_the_ids(tmp_path: Any) -> None:
    """Saved and loaded, padded or not, a tokenizer is the same; another vocabulary is another."""
    first = tokenizer_identity(BYTE_LEVEL)
    BYTE_LEVEL.save_pretrained(tmp_path)
    again = transformers.AutoTokenizer.from_pretrained(tmp_path)
    again(["a", "longer text"], padding=True, truncation=True, max_length=3)
    assert tokenizer_identity(again) == first
    assert tokenizer_identity(tiny_tokenizer(vocab=310)) != first
    assert tokenizer_identity(tiny_tokenizer(bos=None)) != first


def test_spaces_that_decoding_drops_are_dropped_at_the_ends_of_a_context() -> None:
    """Of the first token, of the last, of a token that is both; of bytes as of texts."""
    both = {"first_space": "dropped", "last_space": "dropped"}
    for first, last, expected in (
        (True, True, ["a ", "b", " c"]),
        (False, True, [" a ", "b", " c"]),
        (True, False, ["a ", "b", " c "]),
        (False, False, [" a ", "b", " c "]),
    ):
        assert as_decoded([" a ", "b", " c "], both, first=first, last=last) == expected
        given = [piece.encode() for piece in (" a ", "b", " c ")]
        whole = as_decoded(given, both, first=first, last=last)
        assert whole == [piece.encode() for piece in expected]
    assert as_decoded([" a "], both, first=True, last=True) == ["a"]
    assert as_decoded([" a "], {}, first=True, last=True) == [" a "]
    assert as_decoded([""], both, first=True, last=True) == [""]
