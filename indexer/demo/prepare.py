"""Prepares documents for training: split, tokenizer, contexts, held-out corpus.

The same documents and seed always give the same files.
"""

import gzip
import json
import random
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from itertools import accumulate, zip_longest
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from indexer.demo.sources import Document

BOS = "<|bos|>"


@dataclass(frozen=True)
class Prepared:
    """The tokenizer and the training and held-out documents of each source."""

    tokenizer: PreTrainedTokenizerFast
    train: dict[str, list[Document]]
    held_out: dict[str, list[Document]]
    tokens: dict[str, list[int]]
    """Token ids by a document's text."""
    bos: int
    context: int

    def count(self, documents: list[Document]) -> int:
        """The number of tokens in the documents, without BOS."""
        return sum(len(self.tokens[document.text]) for document in documents)

    def rows(self, documents: list[Document]) -> torch.Tensor:
        """The documents' contexts, `[n_contexts, context]`."""
        ids = [self.tokens[document.text] for document in documents]
        return contexts(ids, self.context, self.bos)

    def all_rows(self, sources: dict[str, list[Document]]) -> torch.Tensor:
        """The contexts of several sources' documents, `[n_contexts, context]`."""
        return torch.cat([self.rows(documents) for documents in sources.values()])


def prepare(
    documents: dict[str, list[Document]],
    *,
    vocabulary: int,
    context: int,
    held_out_tokens: int,
    seed: int,
) -> Prepared:
    """Split by document, train the tokenizer, and cut all sources to the tokens of the smallest.

    `vocabulary` includes BOS and the 256 bytes, `context` includes BOS. At most `held_out_tokens`
    of each source are held out.
    """
    splits = split_documents(documents, 0.12, seed)
    train_texts = [document.text for split in splits.values() for document in split.train]
    tokenizer = train_tokenizer(train_texts, vocabulary)
    everything = [d for split in splits.values() for d in (*split.train, *split.held_out)]
    ids = encode(tokenizer, everything)
    tokens = {document.text: row for document, row in zip(everything, ids, strict=True)}

    def size(document: Document) -> int:
        return len(tokens[document.text])

    smallest = min(sum(map(size, split.train)) for split in splits.values())
    return Prepared(
        tokenizer=tokenizer,
        train={name: first_within(split.train, smallest, size) for name, split in splits.items()},
        held_out={
            name: first_within(split.held_out, held_out_tokens, size)
            for name, split in splits.items()
        },
        tokens=tokens,
        bos=tokenizer.convert_tokens_to_ids(BOS),
        context=context,
    )


@dataclass(frozen=True)
class Split:
    """The training and held-out documents of one source."""

    train: list[Document]
    held_out: list[Document]


def split_documents(
    documents: dict[str, list[Document]], share: float, seed: int
) -> dict[str, Split]:
    """Shuffle each source, cut all to the characters of the shortest, hold out a `share` of
    each."""
    shortest = min(sum(map(characters, texts)) for texts in documents.values())
    splits = {}
    for name, texts in documents.items():
        shuffled = random.Random(seed).sample(texts, len(texts))
        taken = first_within(shuffled, shortest, characters)
        cut = round(share * len(taken))
        splits[name] = Split(train=taken[cut:], held_out=taken[:cut])
    return splits


def characters(document: Document) -> int:
    """The length of the document's text."""
    return len(document.text)


def first_within(
    documents: list[Document], budget: int, size: Callable[[Document], int]
) -> list[Document]:
    """The longest prefix whose sizes sum to at most `budget`."""
    sums = accumulate(map(size, documents))
    return documents[: sum(1 for total in sums if total <= budget)]


def train_tokenizer(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer. BOS is token 0 and is never added automatically."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[BOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        clean_up_tokenization_spaces=False,
    )


def encode(tokenizer: PreTrainedTokenizerFast, documents: list[Document]) -> list[list[int]]:
    """Token ids of each document; text never becomes a control token."""
    texts = [document.text for document in documents]
    encoded = tokenizer(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)
    return [list(ids) for ids in encoded["input_ids"]]


def contexts(documents: list[list[int]], length: int, bos: int) -> torch.Tensor:
    """Token ids `[n_contexts, length]`: BOS, then tokens of one document; −1 pads on the right.

    A document is cut into consecutive chunks; a last chunk of fewer than 2 tokens is dropped.
    """
    body = length - 1
    chunks = [ids[at : at + body] for ids in documents for at in range(0, len(ids), body)]
    rows = torch.full((len(chunks), length), -1)
    for row, chunk in zip(rows, chunks, strict=True):
        row[: len(chunk) + 1] = torch.tensor([bos, *chunk])
    return rows[rows[:, 2] >= 0]


def interleave(parts: dict[str, list[Document]]) -> list[Document]:
    """Documents of all sources in turn, until none are left."""
    rounds = zip_longest(*parts.values())
    return [document for turn in rounds for document in turn if document is not None]


def write_corpus(path: Path, documents: list[Document]) -> None:
    """Write one JSON object per line, gzipped so that equal documents give equal bytes."""
    lines = (json.dumps(asdict(document), ensure_ascii=False) for document in documents)
    data = "".join(f"{line}\n" for line in lines).encode("utf-8")
    path.write_bytes(gzip.compress(data, compresslevel=9, mtime=0))
