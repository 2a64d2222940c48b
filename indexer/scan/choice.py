"""What a run is asked for, checked without a model library: a mistake is answered at once."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from indexer.config import IndexConfig, check_name
from indexer.corpus.kinds import local_corpus
from indexer.errors import NeurariumError
from indexer.models.claims import check_folder
from indexer.models.dictionaries.names import lasting
from indexer.models.source import ModelSource, in_memory, resolve_model
from indexer.reporter import waiting

if TYPE_CHECKING:
    from indexer.corpus.rows import Corpus


@dataclass(frozen=True, eq=False)
class InMemory:
    """What a program gives instead of names."""

    model: Any
    """A transformers causal language model."""
    tokenizer: Any
    corpus: Corpus


@dataclass(frozen=True)
class ModelChoice:
    """Which model is to be indexed over which corpus, before anything is read."""

    config: IndexConfig
    """The settings, with absolute paths for a model or corpus on this machine: the run may be
    resumed or verified from any folder."""
    source: ModelSource
    name: str
    """The model's name in URLs."""
    corpus: str
    """The corpus that is named, or the model's own."""
    given: InMemory | None = None
    """The model and the corpus themselves, where they are in memory."""


def choose_given(config: IndexConfig, given: InMemory) -> ModelChoice:
    """What is to be indexed of a model and a corpus in memory. Raises NeurariumError."""
    check_name(config.model)
    if config.dictionary:
        config = replace(config, dictionary=lasting(config.dictionary))
    return ModelChoice(config, in_memory(config.model), config.model, given.corpus.label, given)


def copied(choice: ModelChoice) -> ModelChoice:
    """The same choice with a copy of a model that is in memory, which then may be changed."""
    if choice.given is None:
        return choice
    model = copy.deepcopy(choice.given.model)
    return replace(choice, given=replace(choice.given, model=model))


def resolve(config: IndexConfig) -> ModelChoice:
    """Resolve the names of the model and the corpus. Raises NeurariumError."""
    source = resolve_model(config.model, config.revision)
    name = config.name or source.url_name
    check_name(name)
    corpus = config.corpus or source.default_corpus
    if corpus is None:
        raise NeurariumError(
            f"{source.label} has no default corpus: name one with --corpus (a hub data set, or "
            "a file or folder of text)."
        )
    if config.corpus:
        path = local_corpus(config.corpus)
        corpus = corpus if path is None else str(path)
        config = replace(config, corpus=corpus)
    if config.dictionary:
        config = replace(config, dictionary=lasting(config.dictionary))
    return ModelChoice(replace(config, model=source.reference), source, name, corpus)


def asking_hub(source: ModelSource, say: Callable[[str], None]) -> AbstractContextManager[None]:
    """Runs while the hub may be asked for a model; tells the user if the answer takes long."""
    if source.kind in ("folder", "gguf", "memory"):
        return nullcontext()
    return waiting(say, f"the Hugging Face hub, for {source.label}")


def check_there(choice: ModelChoice) -> None:
    """Look at the config.json of a model in a folder, or ask the hub for one that is not on this
    machine. Raises NeurariumError if it cannot be indexed, or if the hub has none of this name, or
    cannot be reached while the local cache has none either."""
    check_folder(choice.source, choice.config.ctx_len)
    if choice.source.kind in ("hub", "legacy"):
        from indexer.models.hub import pin

        pin(choice.source)


def check_device(choice: ModelChoice) -> None:
    """Refuse a GPU that is not there. Imports PyTorch alone. Raises NeurariumError."""
    if choice.config.device not in (None, "cpu"):
        from indexer.models.device import choose_device

        choose_device(choice.config.device)


def check_corpus(choice: ModelChoice) -> None:
    """Ask the hub for the corpus, or read the first row of a corpus of files, to see whether it has
    the columns that are needed. Raises NeurariumError."""
    from indexer.corpus.prepare import open_corpus  # not needed to resolve names

    config = choice.config
    corpus = open_corpus(
        choice.corpus,
        split=config.split,
        text_column=config.text_column,
        source_column=config.source_column,
    )
    corpus.check_first()
