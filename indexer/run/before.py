"""Computes what a run needs of its model besides the scan, and before it: failures come early."""

from __future__ import annotations

from dataclasses import dataclass

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


def before_scan(model: LoadedModel, reporter: Reporter) -> Before:
    """Spell the vocabulary and try the weights; the user is told what is left out. Raises
    `NeurariumError` for a tokenizer that cannot spell its tokens."""
    with one_line_errors(model.source, what="tokenizer"):
        vocabulary = model.vocabulary()
        dropped = drops_first_space(model.tokens.tokenizer, vocabulary)
        dropped_last = drops_last_space(model.tokens.tokenizer, vocabulary)
    facts = try_weights(model)
    for line in facts.missing:
        reporter.say(f"Note: {line}")
    return Before(vocabulary, dropped, dropped_last, facts)
