"""A corpus in memory and two small tokenizers whose every id is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from indexer.corpus.prepare import prepare_corpus
from indexer.corpus.prepared import PreparedCorpus
from indexer.corpus.rows import Document, ReadReport
from indexer.corpus.tokens import TokenizerInfo

WORDS = 12
"""The word tokenizer knows w0 … w11 as ids 2 … 13; 0 is the BOS and 1 the padding."""


@dataclass(frozen=True)
class ListCorpus:
    """A corpus in memory that records which documents were read."""

    given: Sequence[Document]
    label: str = "a list"
    identity: str = "list"
    revision: str | None = None
    notes: tuple[str, ...] = ()
    report: ReadReport = field(default_factory=ReadReport)
    read: list[int] = field(default_factory=list)

    def check_first(self) -> None:
        """Nothing can be wrong."""

    def documents(self) -> Iterator[Document]:
        self.report.reset()
        self.read.clear()
        for number, document in enumerate(self.given):
            self.read.append(number)
            self.report.lines_read += 1
            yield document


def word_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {"<s>": 0, "<pad>": 1, **{f"w{i}": i + 2 for i in range(WORDS)}, "?": WORDS + 2}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", pad_token="<pad>", unk_token="?"
    )


def byte_tokenizer() -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(["the quick brown fox\n  and <|endoftext|> too"] * 9, trainer)
    name = "<|endoftext|>"
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=name, eos_token=name, unk_token=name, model_max_length=4
    )


WORD_TOKENIZER = word_tokenizer()
BYTE_TOKENIZER = byte_tokenizer()


def info(bos: bool = True, tokenizer: Any = WORD_TOKENIZER, pad: int | None = 1) -> TokenizerInfo:
    return TokenizerInfo(tokenizer, 0 if bos else None, pad, "words", len(tokenizer))


def document(ids: Sequence[int], source: str | None, as_text: bool) -> Document:
    if as_text:
        return Document(" ".join(f"w{i - 2}" for i in ids), None, source)
    return Document(None, np.array(ids, np.int64), source)


def prepare(given: Sequence[Document], cache: Path, **options: Any) -> PreparedCorpus:
    tokenizer = options.pop("tokenizer", info())
    settings = {"ctx_len": 8, "max_tokens": None, **options}
    return prepare_corpus(ListCorpus(given), tokenizer, cache_dir=cache, **settings)
