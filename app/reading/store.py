"""One run of a model, as long as the store is read for one answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row

from app.reading.vocabulary import VocabularyIndex


@dataclass(frozen=True)
class Reading:
    """One run, as long as the store is read for one answer."""

    connection: Connection
    run: Row[Any]
    others: list[Row[Any]]
    """The model's other runs."""
    vocabulary: list[str]
    """Text of every token id."""
    index: Callable[[], VocabularyIndex]
    """The tokens by their text: made when first asked for."""
