"""Computes what a run needs of its model besides the scan, and before it: failures come early."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from indexer.errors import NeurariumError
from indexer.heads.training import read_training
from indexer.models.failures import one_line_errors
from indexer.models.loaded import LoadedModel
from indexer.models.spelling import drops_first_space, drops_last_space
from indexer.reporter import Reporter
from indexer.weights.trial import Available, try_weights


@dataclass(frozen=True)
class Before:
    """The vocabulary, and which facts the weights give."""

    vocabulary: list[bytes]
    """The exact bytes of every token id."""
    first_space_dropped: bool
    """Whether a text loses the space its first token begins with."""
    last_space_dropped: bool
    """Whether a text loses the space its last token ends with."""
    facts: Available
    training: list[dict[str, Any]] | None
    """Of a model whose heads are indexed: the checkpoints of its training, if they are known."""


def before_scan(model: LoadedModel, reporter: Reporter) -> Before:
    """Spell the vocabulary and try the weights; for heads, read the checkpoints of
    the training. The user is told what is left out. Raises
    `NeurariumError` for a tokenizer that cannot spell its tokens."""
    with one_line_errors(model.source, what="tokenizer"):
        vocabulary = model.vocabulary()
        dropped = drops_first_space(model.tokens.tokenizer, vocabulary)
        dropped_last = drops_last_space(model.tokens.tokenizer, vocabulary)
    facts = try_weights(model)
    for line in facts.missing:
        reporter.say(f"Note: {line}")
    training = None
    if model.units.has_pairs:
        try:
            training = read_training(model)
        except NeurariumError as error:
            reporter.say(f"Note: {error}")
    return Before(vocabulary, dropped, dropped_last, facts, training)
