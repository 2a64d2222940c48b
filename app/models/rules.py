"""The rules that choose the neurons of a gallery: apart from what reads the store for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.examples.schemas import Example

CANDIDATES = 60
"""The neurons of a rule whose top examples are read."""
FEWEST_TOKENS = 4
"""Different peak tokens of a neuron that is chosen for its source rather than for a token."""

Top = Sequence[Example]


@dataclass(frozen=True, slots=True)
class Rule:
    """A reason to show a neuron."""

    name: str
    """In JSON."""
    title: str
    definition: str
    """In one sentence, for readers."""
    column: str
    """The statistic that orders its candidates."""
    sign: int
    """1: the highest first; −1: the lowest."""
    holds: Callable[[Top], bool]
    """Whether the top examples of a candidate agree."""


def peak_token(example: Example) -> str:
    """The token an example peaks on; empty if its window does not reach there."""
    at = example.peak_position - example.start
    return example.tokens[at] if 0 <= at < len(example.tokens) else ""


def on_one_token(top: Top) -> bool:
    """Whether there are at least two examples, and all peak on the same token."""
    return len(top) > 1 and len({peak_token(example) for example in top}) == 1


def in_one_source(top: Top) -> bool:
    """Whether all examples come from one source and peak on at least `FEWEST_TOKENS` different
    tokens."""
    sources = {example.source for example in top}
    return (
        len(sources) == 1
        and None not in sources
        and len({peak_token(example) for example in top}) >= FEWEST_TOKENS
    )


RULES = (
    Rule(
        "token",
        "One token",
        "All top examples peak on the same token; highest kurtosis of activations first, of the "
        f"{CANDIDATES} highest.",
        "kurtosis",
        1,
        on_one_token,
    ),
    Rule(
        "source",
        "One source",
        f"All top examples come from one source and peak on {FEWEST_TOKENS} or more different "
        f"tokens; highest kurtosis of activations first, of the {CANDIDATES} highest.",
        "kurtosis",
        1,
        in_one_source,
    ),
    Rule(
        "output",
        "Clear output",
        "Highest kurtosis of logit effects: they promote or suppress few tokens. Fragments of "
        "characters are left out.",
        "effect_kurtosis",
        1,
        lambda top: True,
    ),
    Rule(
        "context",
        "Context",
        "Lowest token-lookup score: the current token alone says least about their activation.",
        "lookup",
        -1,
        lambda top: True,
    ),
)
