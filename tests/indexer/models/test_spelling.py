"""Spelling is asked of the decoder: a zoo of tokenizers gives back what each of them decodes."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

from indexer.corpus.special_tokens import control_tokens
from indexer.corpus.tokens import TextTokenizer
from indexer.models.spelling import drops_first_space, drops_last_space
from indexer.models.vocabulary import token_bytes
from tests.helpers.tokenizer_zoo import MARK, ZOO, byte_level, collapsing, gemma, unsplit, words

TEXTS = st.lists(
    st.sampled_from(
        ["the", "old", "house", "naïve", "x1", " ", "  ", "    ", "\n", "\t", ",", ".", "🦉", "é"]
    ),
    min_size=1,
    max_size=12,
).map("".join)
DECODERLESS = "byte level without decoder"


@cache
def of(kind: str) -> tuple[Any, list[bytes]]:
    """A tokenizer and the bytes of its tokens."""
    tokenizer = ZOO[kind]()
    return tokenizer, token_bytes(tokenizer, len(tokenizer))


def ids_of(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
    return ids


@pytest.mark.parametrize("kind", [kind for kind in ZOO if kind != DECODERLESS])
@settings(max_examples=40, deadline=None)
@given(text=TEXTS)
def test_pieces_joined_are_what_the_tokenizer_decodes(kind: str, text: str) -> None:
    """Exactly, once the first and the last space are dropped by the tokenizers that drop them."""
    tokenizer, spelled = of(kind)
    ids = ids_of(tokenizer, text)
    joined = b"".join(spelled[i] for i in ids).decode()
    if drops_first_space(tokenizer, spelled):
        joined = joined.removeprefix(" ")
    if drops_last_space(tokenizer, spelled):
        joined = joined.removesuffix(" ")
    assert joined == tokenizer.decode(ids)


@pytest.mark.parametrize("kind", [kind for kind in ZOO if kind != DECODERLESS])
def test_a_token_is_the_difference_it_makes(kind: str) -> None:
    """Between two words, each token adds exactly its spelling."""
    tokenizer, spelled = of(kind)
    controls = control_tokens(tokenizer)
    before, after = ids_of(tokenizer, "the the")[0], ids_of(tokenizer, "the the")[-1]
    around = tokenizer.decode([before, after])
    for i, content in enumerate(spelled):
        if i in controls:
            continue
        inserted = tokenizer.decode([before, i, after])
        text = content.decode(errors="ignore" if kind == "raw bytes" else "replace")
        places = [around[:at] + text + around[at:] for at in range(len(around) + 1)]
        assert inserted in places, (i, inserted, text)


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
@pytest.mark.parametrize("kind", ["byte level", DECODERLESS, "raw bytes"])
def test_bytes_are_the_text(kind: str, text: str) -> None:
    """Tokenizers of bytes give any text back, also one that has lost its decoder."""
    tokenizer, spelled = of(kind)
    assert b"".join(spelled[i] for i in ids_of(tokenizer, text)) == text.encode()


def test_who_drops_the_first_space() -> None:
    """SentencePiece's tokenizers that put one in front, and those that join words with spaces."""
    dropping = {kind for kind in ZOO if drops_first_space(*of(kind))}
    assert dropping == {
        *("llama", "low line", "Ġ without byte level", "unigram"),
        *("words", "plain bpe", "word pieces"),
    }


def test_who_drops_the_last_space() -> None:
    """Those that mark the end of a word, or that a word goes on."""
    dropping = {kind for kind in ZOO if drops_last_space(*of(kind))}
    assert dropping == {"suffixed", "continued", "ended"}


def test_spaces_at_the_end_of_a_token_that_is_first_do_not_count() -> None:
    """A decoder that drops all spaces of the first token keeps those of the last."""
    tokenizer = unsplit()
    spelled = token_bytes(tokenizer, len(tokenizer))
    assert any(content.endswith(b"d ") for content in spelled)
    assert not drops_last_space(tokenizer, spelled)
    text = "the wind blew on a hill "
    ids = ids_of(tokenizer, text)
    assert tokenizer.decode(ids).startswith("thewind")  # so the decoder is not what is asked here
    assert b"".join(spelled[i] for i in ids).decode() == f" {text}"


def test_a_decoder_that_drops_repeated_tokens() -> None:
    """Each token adds its own letter, also the two that the others are decoded between."""
    tokenizer = collapsing()
    spelled = token_bytes(tokenizer, len(tokenizer))
    names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    assert [content.decode() for content in spelled] == names


def test_tokens_of_several_spaces_are_spaces() -> None:
    """Gemma's tokens of spaces were added by hand, and are named with SentencePiece's mark."""
    tokenizer, spelled = of("gemma")
    assert spelled[tokenizer.convert_tokens_to_ids(MARK * 4)] == b"    "
    code = "def f(x):\n    if x:\n        return 1\n"
    ids, _ = TextTokenizer(tokenizer).tokenise([code])
    assert b"".join(spelled[i] for i in ids.tolist()).decode() == code


def test_a_byte_of_a_split_character_is_that_byte() -> None:
    """What no decoder can show by itself is read from the token's name."""
    for kind in ("byte level", "llama", "gemma", "raw bytes"):
        tokenizer, spelled = of(kind)
        pieces = [spelled[i] for i in ids_of(tokenizer, "🦉")]
        assert b"".join(pieces).strip(b" ") == "🦉".encode()
        assert len([piece for piece in pieces if piece.strip(b" ")]) == 4


def test_a_vocabulary_without_letters() -> None:
    """Where no token is a word, the nearest thing to one shows what is added."""
    from tokenizers import Tokenizer, models

    core = Tokenizer(models.WordLevel({"+": 0, "-": 1, "?": 2}, unk_token="?"))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=core)
    assert token_bytes(tokenizer, 3) == [b" +", b" -", b" ?"]


def test_text_listed_as_special_is_text(tmp_path: Any) -> None:
    """A tokenizer that lists line breaks and spaces among its special tokens loses none of them."""
    tokenizer = gemma()
    names = ["\n", *(MARK * n for n in range(2, 9))]
    tokenizer.add_tokens([AddedToken(name, special=False) for name in names])
    tokenizer._extra_special_tokens = names  # as the conversion of a tokenizer.model leaves it
    assert set(names) <= set(tokenizer.all_special_tokens)
    assert set(control_tokens(tokenizer).values()) == {"<s>"}
    code = "if x:\n    return 1\n"
    ids, _ = TextTokenizer(tokenizer).tokenise([code])
    assert tokenizer.decode(ids) == code


def test_control_tokens_are_flagged_or_have_a_role() -> None:
    """Words of the vocabulary that are BOS or padding count; the unknown token stands for text."""
    assert control_tokens(words()) == {0: "[PAD]"}
    tokenizer = byte_level()
    tokenizer.unk_token = "<bos>"
    assert control_tokens(tokenizer) == {0: "<bos>"}
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|turn|>"]})
    assert set(control_tokens(tokenizer).values()) == {"<bos>", "<|turn|>"}
