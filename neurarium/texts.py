"""Texts with a neuron's activations: its examples, and what it does on a custom text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from app.examples.schemas import Example as ExampleSchema
from app.live.neuron.schemas import LiveAnswer


@dataclass(frozen=True, eq=False)
class Example:
    """A context chosen for a neuron."""

    data: ExampleSchema
    """What the API says of it."""

    @property
    def peak(self) -> float:
        """Its largest activation, exact."""
        return self.data.peak

    @property
    def tokens(self) -> list[str]:
        """The texts of its tokens."""
        return self.data.tokens

    @property
    def text(self) -> str:
        """The tokens' texts joined."""
        return "".join(self.data.tokens)

    @property
    def peak_token(self) -> str | None:
        """The token it peaks on; None if that is not stored."""
        at = self.data.peak_position - self.data.start
        return self.data.tokens[at] if 0 <= at < len(self.data.tokens) else None

    @property
    def token_ids(self) -> Int64[np.ndarray, " pos"]:
        """Its token ids."""
        return np.array(self.data.token_ids, np.int64)

    @property
    def activations(self) -> Float32[np.ndarray, " pos"]:
        """One a token; NaN at positions that are not included."""
        return _floats(self.data.activations)

    def __repr__(self) -> str:
        return f"<example {self.data.rank}: {self.peak:.4g} at {self.peak_token!r}>"


@dataclass(frozen=True, eq=False)
class LiveText:
    """A neuron on a text."""

    data: LiveAnswer
    """What the API says of it."""

    @property
    def tokens(self) -> list[str]:
        """The texts of the tokens."""
        return self.data.tokens

    @property
    def activations(self) -> Float32[np.ndarray, " pos"]:
        """One a token; NaN at positions that are not included."""
        return _floats(self.data.activations)

    @property
    def peak(self) -> float:
        """The largest activation."""
        return self.data.peak

    def __repr__(self) -> str:
        data = self.data
        unit, token = f"{data.model} {data.layer}/{data.neuron}", data.tokens[data.peak_position]
        return f"<{unit} on {len(data.tokens):,} tokens: {data.peak:.4g} at {token!r}>"


def _floats(values: list[float | None]) -> Float32[np.ndarray, " pos"]:
    return np.array([np.nan if value is None else value for value in values], np.float32)
