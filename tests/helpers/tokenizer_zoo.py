"""A tokenizer of every kind, made on the spot: how each marks spaces and writes bytes differs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)

TEXT = "the old house stood on a hill and the wind blew\nif x:\n    return 1, naïve café"
MARK = "\u2581"
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def _fast(core: Tokenizer, **roles: str) -> Any:
    return transformers.PreTrainedTokenizerFast(tokenizer_object=core, **roles)


def byte_level(decoder: bool = True) -> Any:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if decoder:
        core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=310, special_tokens=["<bos>"], initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator([TEXT] * 5, trainer)
    return _fast(core, bos_token="<bos>")


def _pieces(normalizer: Any, decoder: Any) -> Any:
    """BPE over marked spaces, with bytes for unknown characters."""
    core = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    core.normalizer, core.decoder = normalizer, decoder
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=["<unk>", "<s>", *_BYTES], show_progress=False
    )
    core.train_from_iterator([TEXT] * 5, trainer)
    facts = json.loads(core.to_str())
    facts["added_tokens"] = facts["added_tokens"][:2]  # byte tokens are not added tokens
    core = Tokenizer.from_str(json.dumps(facts))
    return _fast(core, bos_token="<s>", unk_token="<unk>")


def llama() -> Any:
    """SentencePiece as Llama has it: a space in front of the text, which decoding drops."""
    before = [normalizers.Prepend(MARK), normalizers.Replace(" ", MARK)]
    back = [decoders.Replace(MARK, " "), decoders.ByteFallback(), decoders.Fuse()]
    return _pieces(
        normalizers.Sequence(before), decoders.Sequence([*back, decoders.Strip(" ", 1, 0)])
    )


def gemma() -> Any:
    """SentencePiece as Gemma has it: no space in front, and added tokens of several spaces."""
    back = [decoders.Replace(MARK, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer = _pieces(normalizers.Replace(" ", MARK), decoders.Sequence(back))
    spaces = [AddedToken(MARK * n, normalized=True) for n in range(2, 9)]
    tokenizer.add_tokens([*spaces, AddedToken("\n", normalized=False)])
    return tokenizer


def marked(mark: str) -> Any:
    """Pieces whose spaces have another mark than SentencePiece's."""
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Metaspace(replacement=mark, prepend_scheme="always")
    core.decoder = decoders.Metaspace(replacement=mark, prepend_scheme="always")
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=["<unk>"], show_progress=False)
    core.train_from_iterator([TEXT] * 5, trainer)
    return _fast(core, unk_token="<unk>")


def unsplit() -> Any:
    """Pieces that reach over spaces, so that some of them end with one."""
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    core.decoder = decoders.Metaspace(prepend_scheme="first", split=False)
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=["<unk>"], show_progress=False)
    core.train_from_iterator([TEXT] * 5, trainer)
    return _fast(core, unk_token="<unk>")


def unigram() -> Any:
    """Unigram with bytes for unknown characters, control tokens like T5's, and lines as tokens."""
    core = Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=90, unk_token="<unk>", special_tokens=["<unk>", "</s>"], show_progress=False
    )
    core.train_from_iterator([TEXT] * 5, trainer)
    facts = json.loads(core.to_str())
    facts["model"]["vocab"] += [[byte, -20.0] for byte in _BYTES]
    facts["model"]["byte_fallback"] = True
    core = Tokenizer.from_str(json.dumps(facts))
    parts = [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="always")]
    core.decoder = decoders.Sequence(parts)
    tokenizer = _fast(core, eos_token="</s>", unk_token="<unk>")
    tokenizer.add_tokens([AddedToken("<extra_id_0>", special=True)])
    tokenizer.add_tokens([AddedToken("\n", normalized=False), AddedToken("{", normalized=False)])
    return tokenizer


def chat() -> Any:
    """Byte-level BPE with a chat's control tokens, and added tokens that are text."""
    tokenizer = byte_level()
    turns = ["<|im_start|>", AddedToken("<|user|>", special=True, rstrip=True, normalized=False)]
    tokenizer.add_special_tokens({"extra_special_tokens": turns})
    tokenizer.add_tokens([AddedToken("<tool>"), AddedToken("    ", normalized=False)])
    return tokenizer


def ended() -> Any:
    """A space after each word, the last of which decoding strips."""
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.normalizer = normalizers.Replace(" ", "~")
    parts = [decoders.Replace("~", " "), decoders.Fuse(), decoders.Strip(" ", 0, 1)]
    core.decoder = decoders.Sequence(parts)
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=["<unk>"], show_progress=False)
    core.train_from_iterator([TEXT] * 5, trainer)
    return _fast(core, unk_token="<unk>")


def collapsing() -> Any:
    """A character a token, whose decoder drops one that is repeated."""
    names = ["<pad>", "<unk>", *sorted(set(TEXT) - {" ", "\n"})]
    core = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, "<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.decoder = decoders.CTC(pad_token="<pad>", word_delimiter_token="|", cleanup=False)
    return _fast(core, pad_token="<pad>", unk_token="<unk>")


def words() -> Any:
    """Whole words without a decoder, as in the quicktour of `tokenizers`."""
    core = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(special_tokens=["[PAD]", "[UNK]"], show_progress=False)
    core.train_from_iterator([TEXT] * 5, trainer)
    return _fast(core, unk_token="[UNK]", pad_token="[PAD]")


def plain_bpe() -> Any:
    """BPE over words, without a decoder."""
    core = Tokenizer(models.BPE(unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=90, special_tokens=["[UNK]"], show_progress=False)
    core.train_from_iterator([TEXT] * 5, trainer)
    return _fast(core, unk_token="[UNK]")


def word_pieces() -> Any:
    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=70, special_tokens=["[UNK]"], show_progress=False
    )
    core.train_from_iterator([TEXT] * 5, trainer)
    return _fast(core, unk_token="[UNK]")


def suffixed() -> Any:
    """BPE as the first GPT had it: `</w>` ends a word."""
    core = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.decoder = decoders.BPEDecoder("</w>")
    trainer = trainers.BpeTrainer(
        vocab_size=100, special_tokens=["<unk>"], end_of_word_suffix="</w>", show_progress=False
    )
    core.train_from_iterator([TEXT] * 5, trainer)
    return _fast(core, unk_token="<unk>")


def continued() -> Any:
    """BPE as CTRL has it, in Python: `@@` goes on."""
    characters = sorted(set(TEXT) - {" ", "\n"})
    names = ["<unk>", *characters, *(f"{c}@@" for c in characters), "the", "ho@@", "use", "st@@"]
    merges = "#version: 0.2\nt h\nth e</w>\nh o\nu s\nus e</w>\ns t\n"
    with tempfile.TemporaryDirectory() as folder:
        vocabulary, rules = Path(folder, "vocab.json"), Path(folder, "merges.txt")
        vocabulary.write_text(json.dumps({name: i for i, name in enumerate(names)}))
        rules.write_text(merges)
        return transformers.CTRLTokenizer(str(vocabulary), str(rules), unk_token="<unk>")


def raw_bytes() -> Any:
    """A token a byte, in Python."""
    return transformers.ByT5Tokenizer(extra_ids=3)


ZOO: dict[str, Callable[[], Any]] = {
    "byte level": byte_level,
    "byte level without decoder": lambda: byte_level(decoder=False),
    "llama": llama,
    "gemma": gemma,
    "low line": lambda: marked("_"),
    "Ġ without byte level": lambda: marked("Ġ"),
    "unigram": unigram,
    "chat": chat,
    "ended": ended,
    "words": words,
    "plain bpe": plain_bpe,
    "word pieces": word_pieces,
    "suffixed": suffixed,
    "continued": continued,
    "raw bytes": raw_bytes,
}
"""Makers of tokenizers by what is special about each."""
