"""Attention heads as objects, and as a table of their scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, SupportsIndex

import numpy as np
from jaxtyping import Float32

from app.heads.schemas import Circuits, HeadExamples, HeadPage, HeadRow, HeadsPage, Scores
from app.schemas import Schema
from neurarium.given import number
from neurarium.reader import Reader
from neurarium.tables import Table


class Heads(Table):
    """All attention heads of a model with their scores, as rows in order. Frames have a column for
    each score, by the names that searches use."""

    def __init__(self, reader: Reader, model: str, run: int | None) -> None:
        def read() -> Iterator[Schema]:
            yield from self.page.heads

        super().__init__(f"{model}: attention heads", read)
        self.page: HeadsPage = reader.heads(model, run)
        """The API's JSON of all heads."""

    def as_dict(self, row: HeadRow) -> dict[str, Any]:
        """A row's scores under one name each: those on text end in `_text`."""
        scores = row.scores
        text = {f"{name}_text": value for name, value in scores.text.model_dump().items()}
        at = {"layer": row.layer, "head": row.head}
        note = {} if row.note is None else {"note": row.note}
        return at | scores.repeated.model_dump() | text | {"copying": scores.copying} | note


class Head:
    """An attention head: its page's contents."""

    def __init__(self, reader: Reader, page: HeadPage) -> None:
        self._reader = reader
        self.page = page
        """The API's JSON of the head."""

    @property
    def scores(self) -> Scores:
        """Its scores on repeated random tokens and on text, and its copying score."""
        return self.page.scores

    @property
    def examples(self) -> HeadExamples:
        """Its pairs of positions, by ranking."""
        return self.page.examples

    @property
    def circuits(self) -> Circuits:
        """What its weights say: OV and QK circuits, composition."""
        return self.page.circuits

    def pattern(self, context_id: SupportsIndex) -> Float32[np.ndarray, "query key"]:
        """Its attention over a whole context that is one of its examples: the eight largest entries
        of each row; 0 where nothing is stored. Raises NeurariumError."""
        page = self.page
        found = self._reader.head_context(
            page.model, page.run.id, page.layer, page.head, number("context_id", context_id)
        )
        pattern = np.zeros((len(found.tokens), len(found.tokens)), np.float32)
        for query, row in enumerate(found.rows):
            for key, value in row:
                pattern[query, key] = value
        return pattern

    def to_dict(self) -> dict[str, Any]:
        """The same as the API's JSON."""
        return self.page.model_dump(mode="json")

    def __repr__(self) -> str:
        page = self.page
        return f"<{page.model} layer {page.layer} head {page.head}: {self._words()}>"

    def _repr_html_(self) -> str:
        """The head's card, for notebooks."""
        from neurarium.card import head_card

        return head_card(self.page)

    def _words(self) -> str:
        scores = self.scores.repeated
        known = (("induction", scores.induction), ("previous token", scores.previous_token))
        return ", ".join(f"{name} {value:.3g}" for name, value in known if value is not None)
