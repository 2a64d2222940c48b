"""Streams documents from a data set on the Hugging Face hub, without downloading all of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from indexer.corpus.rows import Columns, Document, ReadReport, RequestedColumns, choose_columns
from indexer.corpus.tables import kinds_of_schema, source_rows, table_documents
from indexer.errors import NeurariumError

_BATCH_ROWS = 64
_PATIENCE = 30.0
"""Seconds for the hub to answer."""
_NETWORK_ERRORS = frozenset({"TransportError", "RequestException", "ClientConnectionError"})
"""Base classes of network errors of HTTP clients, by name: which client is installed depends on the
version of huggingface_hub."""

T = TypeVar("T")


@dataclass(frozen=True)
class HubCorpus:
    """One split of a hub data set, at one commit."""

    name: str
    config: str | None
    split: str
    revision: str | None
    """The newest commit when the corpus was opened."""
    wanted: RequestedColumns = field(default_factory=RequestedColumns)
    report: ReadReport = field(default_factory=ReadReport, compare=False)

    @property
    def label(self) -> str:
        """The name as the user typed it."""
        return self.name if self.config is None else f"{self.name}:{self.config}"

    @property
    def notes(self) -> tuple[str, ...]:
        """None: all rows are read."""
        return ()

    @property
    def identity(self) -> str:
        """Changes with the commit, so that no row needs to be read."""
        parts = [self.name, self.config, self.split, self.revision]
        return json.dumps([*parts, self.wanted.text, self.wanted.source])

    def documents(self) -> Iterator[Document]:
        """All documents in the data set's order. Raises NeurariumError if reading fails."""
        self.report.reset()
        tables = self._explained(self._tables)
        columns: Columns | None = None
        while (table := self._explained(lambda: next(tables, None))) is not None:
            if table.num_rows == 0:
                continue
            columns = columns or choose_columns(
                source_rows(table, self.wanted) or [dict.fromkeys(table.column_names)],
                kinds_of_schema(table.schema),
                self.wanted,
                self.label,
            )
            yield from table_documents(table, columns, self.label, None)

    def check_first(self) -> None:
        """Nothing: a row of the hub takes seconds."""

    def _tables(self) -> Iterator[Any]:
        import datasets

        rows = datasets.load_dataset(
            self.name, self.config, split=self.split, revision=self.revision, streaming=True
        )
        return iter(rows.with_format("arrow").iter(batch_size=_BATCH_ROWS))

    def _explained(self, read: Callable[[], T]) -> T:
        """The result of `read`. Raises NeurariumError for any error of the libraries it uses."""
        try:
            return read()
        except Exception as error:
            raise explain(error, self.label, self.split) from error


def open_hub(name: str, config: str | None, split: str, wanted: RequestedColumns) -> HubCorpus:
    """The corpus of a hub data set at its newest commit. Raises NeurariumError."""
    from huggingface_hub import HfApi

    label = name if config is None else f"{name}:{config}"
    try:
        revision = HfApi().dataset_info(name, timeout=_PATIENCE).sha
    except Exception as error:
        raise explain(error, label, split) from error
    return HubCorpus(name, config, split, revision, wanted)


def explain(error: Exception, label: str, split: str) -> NeurariumError:
    """An error of the hub as one line for the user."""
    chain = _chain(error)
    ancestors = {parent.__name__ for link in chain for parent in type(link).__mro__}
    message = " ".join(str(error).split()) or type(error).__name__
    name, _, config = label.partition(":")
    if "GatedRepoError" in ancestors or "is a gated dataset" in message:
        return NeurariumError(
            f"The data set {name} is gated: accept its terms on the hub, then log in "
            "(`hf auth login`)."
        )
    if ancestors & {"RepositoryNotFoundError", "DatasetNotFoundError", "HFValidationError"}:
        return NeurariumError(
            f"Found neither a file nor a hub data set {name!r}: check its spelling, or log in "
            "if it is private (`hf auth login`)."
        )
    if "Bad split" in message or "Unknown split" in message:
        return NeurariumError(
            f"{label} has no split {split!r}: choose one with --split ({message})."
        )
    if "BuilderConfig" in message or "Config name" in message:
        problem = f"has no configuration {config!r}" if config else "needs a configuration"
        return NeurariumError(f"{name} {problem}: name one as {name}:CONFIGURATION ({message}).")
    if "OfflineModeIsEnabled" in ancestors:
        return NeurariumError(
            f"{label} would be read from the hub, but HF_HUB_OFFLINE is set: unset it."
        )
    if _is_network(chain, ancestors):
        return NeurariumError(
            f"No network: the hub cannot be reached to read {label} ({message}). Try again "
            "later, or use a local file."
        )
    return NeurariumError(
        f"The hub data set {label} cannot be read ({type(error).__name__}: {message[:300]}): try "
        "another, or a local copy as Parquet or JSON lines."
    )


def _chain(error: BaseException) -> list[BaseException]:
    """The error and all its causes."""
    links: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in links:
        links.append(link)
        link = link.__cause__ or link.__context__
    return links


def _is_network(chain: list[BaseException], ancestors: set[str]) -> bool:
    return bool(ancestors & _NETWORK_ERRORS) or any(
        isinstance(link, ConnectionError | TimeoutError) for link in chain
    )
