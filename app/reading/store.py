"""How the server reads the store: `Store` is one database, `Reading` one run of a model, open for
the time of one answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Engine, Row

from app.reading import runs
from app.reading.corpus import CorpusCounts, corpus_counts
from app.reading.derived import Derived
from app.reading.texts import CheckedTexts
from app.reading.versions import RunVersions
from app.reading.vocabulary import (
    Piece,
    Vocabularies,
    Vocabulary,
    VocabularyIndex,
    as_decoded,
    padded,
)
from app.sets import ModelSet
from indexer.store.places import Places
from indexer.store.units import Units


@dataclass(frozen=True)
class Reading:
    """One run of a model, open for reading."""

    connection: Connection
    run: Row[Any]
    """Its row of the table `runs`."""
    others: list[Row[Any]]
    """The set's other runs, newest first."""
    sets: list[Row[Any]]
    """The default run of each of the model's sets of units, the default set's first."""
    _vocabularies: Vocabularies
    _checked_texts: CheckedTexts
    derived: Derived
    """Values computed once from a run, then cached in memory."""

    @cached_property
    def vocabulary(self) -> list[str]:
        """The text of every token id."""
        return self._vocabulary.texts

    @property
    def begins_words_with_space(self) -> bool:
        """Whether the run's tokens have words with a space in front."""
        return self._vocabularies.begin_words_with_space(
            self.connection, self.run.vocabulary_id, self.run.identity
        )

    @property
    def spelling(self) -> list[bytes]:
        """The bytes of every token id."""
        return self._vocabulary.spelling

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return self._vocabularies.get(self.connection, self.run.vocabulary_id, self.run.identity)

    def text_of(self, token_ids: list[int], included_from: int) -> str:
        """The text of a context's included tokens, given all from the first of them on; bytes that
        are no whole character become U+FFFD."""
        spelling, special = self.spelling, self.special_token_ids
        pieces = self.in_context([spelling[token_id] for token_id in token_ids], included_from)
        shown = zip(token_ids, pieces, strict=True)
        kept = (piece for token_id, piece in shown if token_id not in special)
        return b"".join(kept).decode("utf-8", "replace")

    def hook_point_of(self, layer: int) -> str:
        """TransformerLens's full name of the place where a layer's units are captured."""
        name: str = self.run.hook_point
        return name if name == "hook_embed" else f"blocks.{layer}.{name}"

    @cached_property
    def units(self) -> Units:
        """The run's description of its set of units."""
        return Units.of(self.run.units)

    @property
    def special_token_ids(self) -> frozenset[int]:
        """Special tokens inside the run's contexts, whose positions are not included."""
        return frozenset(self.run.provenance.get("corpus", {}).get("special_token_ids") or ())

    def special_inside(self, token_ids: list[int], included_from: int) -> list[int]:
        """Positions of special tokens inside a context, given all its tokens."""
        special = self.special_token_ids
        return [
            position
            for position, token_id in enumerate(token_ids)
            if position >= included_from and token_id in special
        ]

    def in_context(
        self, pieces: list[Piece], included_from: int, *, first: bool = True, last: bool = True
    ) -> list[Piece]:
        """The texts or bytes of a context's tokens as they stand in it; `first`, `last`: whether
        the context begins and ends with these. Only without a BOS is a space in front dropped."""
        tokenizer = self.run.provenance.get("tokenizer", {})
        return as_decoded(pieces, tokenizer, first=first and not included_from, last=last)

    def spellings_of(self, text: str) -> list[str]:
        """The spellings of tokens that pages show as `text`: `text` itself, and with the space
        that the tokenizer drops where a context begins or ends."""
        return [text, *padded(text, self.run.provenance.get("tokenizer", {}))]

    @cached_property
    def corpus_counts(self) -> CorpusCounts:
        """How often tokens and sources occur in the corpus. Raises Damaged."""

        def read() -> CorpusCounts:
            return corpus_counts(self.connection, self.run.id)

        return self.derived.of("corpus", self.run, compute=read)

    @cached_property
    def token_index(self) -> VocabularyIndex:
        """Finds tokens by their text."""
        return self._vocabulary.index

    @cached_property
    def places(self) -> Places:
        """Converts between a neuron's layer and its index over all layers."""
        return Places(self.run.widths)

    def check_texts(self) -> None:
        """Check the table of the run's texts, once for each server process: a search can show what
        matches, but not that nothing else does. Raises Damaged."""
        self._checked_texts.check(self.connection, self.run)

    def check_layer(self, layer: int) -> None:
        """Raises NotFound if the run does not have this layer."""
        runs.check_layer(self.run, layer)

    def index_of(self, layer: int, neuron: int) -> int:
        """A neuron's index over all layers. Raises NotFound if the run does not have it."""
        runs.check_neuron(self.run, layer, neuron)
        return self.places.index(layer, neuron)


class Store:
    """One database. Safe to share between threads."""

    def __init__(self, engine: Engine) -> None:
        # A page needs several SELECTs, which must all see the same state of the database.
        self._engine = engine
        if engine.dialect.name == "postgresql":
            self._engine = engine.execution_options(isolation_level="REPEATABLE READ")
        self._vocabularies = Vocabularies()
        self.derived = Derived()
        self._checked_texts = CheckedTexts()
        self._versions = RunVersions(engine)

    def close(self) -> None:
        """Close all connections."""
        self._versions.close()
        self._engine.dispose()

    def versions(self, model: str | None = None) -> list[str]:
        """Strings that identify the contents of a model's runs, or of all runs: for ETags."""
        return self._versions.of(model)

    def connect(self) -> Connection:
        """A connection, for a `with` statement."""
        return self._engine.connect()

    @contextmanager
    def reading(self, model: str | ModelSet, run: int | None) -> Iterator[Reading]:
        """Open a run of a model; without `run`, the default run of the set of units. Raises
        NotFound."""
        with self.connect() as connection:
            yield self.open(connection, model, run)

    def open(self, connection: Connection, model: str | ModelSet, run: int | None) -> Reading:
        """As `reading`, on an open connection."""
        name = model.model if isinstance(model, ModelSet) else model
        rows = self._runs_of(connection, name)
        return self.open_row(connection, runs.pick(model, rows, run), rows)

    def _runs_of(self, connection: Connection, model: str) -> list[Row[Any]]:
        """The rows of a model's runs, newest first. Runs appear and disappear but never change, so
        the rows are read and checked again only if these are not the same runs as before: their
        JSON took a tenth of a page's time."""

        def read() -> list[Row[Any]]:
            return runs.runs_of(connection, [model]).get(model, [])

        marks = runs.marks_of(connection, model)
        if not marks:
            return read()
        name = "\n".join(["runs", model, *(str(mark.checksum) for mark in marks)])
        return self.derived.of(name, *marks, compute=read)

    def open_row(self, connection: Connection, run: Row[Any], of_model: list[Row[Any]]) -> Reading:
        """As `open`, given the run's row and the rows of all its model's runs, newest first."""
        in_set = [row for row in of_model if row.set_name == run.set_name and row.id != run.id]
        sets = runs.default_runs(of_model)
        caches = (self._vocabularies, self._checked_texts, self.derived)
        return Reading(connection, run, in_set, sets, *caches)

    def is_default(self, model: str | ModelSet, run: int) -> bool:
        """Whether `run` is the default run of its set. Raises NotFound."""
        with self.reading(model, None) as reading:
            return bool(reading.run.id == run)

    def begins_words_with_space(self, model: str | ModelSet | None, run: int | None) -> bool:
        """Whether the tokens of a run have words with a space in front; without a model, those of
        all runs. Raises NotFound."""
        with self.connect() as connection:
            if model is not None:
                return self.open(connection, model, run).begins_words_with_space
            return all(
                self._vocabularies.begin_words_with_space(connection, *each)
                for each in self._vocabularies.in_store(connection)
            )

    def layers_with_units(self, model: str | ModelSet, run: int | None) -> list[int]:
        """The layers of a run that have units. Raises NotFound."""
        with self.reading(model, run) as reading:
            return runs.with_units(reading.run)

    def check_model(self, model: str | ModelSet) -> None:
        """Raises NotFound if the store does not have this model."""
        with self.reading(model, None):
            pass

    def check_neuron(self, model: str | ModelSet, layer: int, neuron: int, run: int | None) -> None:
        """Raises NotFound if the run (by default the default one) does not have this neuron."""
        with self.reading(model, run) as reading:
            reading.index_of(layer, neuron)

    def check_neuron_of_any_run(self, model: str | ModelSet, layer: int, neuron: int) -> None:
        """Raises NotFound if no run of the model has this neuron."""
        with self.reading(model, None) as reading:
            if not any(runs.has_neuron(other, layer, neuron) for other in reading.others):
                reading.index_of(layer, neuron)
