"""Reading a hub data set, with stand-ins for the hub's two calls and a real streamed data set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import datasets.exceptions
import httpx
import huggingface_hub
import huggingface_hub.errors
import pytest

from indexer.corpus.hub import explain
from indexer.corpus.prepare import open_corpus
from indexer.corpus.rows import Corpus
from indexer.errors import NeurariumError


@dataclass
class FakeHub:
    """A hub with one data set, `someone/texts`, which counts rows read."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    info_error: Exception | None = None
    load_error: Exception | None = None
    fails_at: int | None = None
    sha: str = "c0ffee"
    rows_read: int = 0
    loaded: tuple[Any, ...] = ()

    def dataset_info(self, name: str, timeout: float) -> SimpleNamespace:
        assert timeout > 0, "or it may hang for ever"
        if self.info_error:
            raise self.info_error
        return SimpleNamespace(sha=self.sha)

    def load_dataset(self, name: str, config: str | None, **options: Any) -> Any:
        if self.load_error:
            raise self.load_error
        self.loaded = (name, config, options)
        return datasets.IterableDataset.from_generator(self.generate)

    def generate(self) -> Iterator[dict[str, Any]]:
        for number, row in enumerate(self.rows):
            if number == self.fails_at:
                raise ConnectionError("the line went dead")
            self.rows_read += 1
            yield row

    def __reduce__(self) -> Any:
        """`datasets` hashes the generator by pickling it: the stand-in has a constant hash."""
        return (FakeHub, ())


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeHub:
    fake = FakeHub()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: fake)
    monkeypatch.setattr(datasets, "load_dataset", fake.load_dataset)
    return fake


def pairs(corpus: Corpus) -> list[tuple[str | None, str | None]]:
    return [(document.text, document.source) for document in corpus.documents()]


def test_text_is_streamed_at_one_commit(hub: FakeHub) -> None:
    """Rows come in order with their source, from the commit in the identity."""
    hub.rows = [{"text": f"t{i}", "meta": {"pile_set_name": f"s{i % 2}"}} for i in range(150)]
    corpus = open_corpus("someone/texts:en", split="validation")
    assert corpus.label == "someone/texts:en"
    assert corpus.revision == "c0ffee"
    assert pairs(corpus) == [(f"t{i}", f"s{i % 2}") for i in range(150)]
    options = {"split": "validation", "revision": "c0ffee", "streaming": True}
    assert hub.loaded == ("someone/texts", "en", options)


def test_token_rows_are_taken_as_they_are(hub: FakeHub) -> None:
    """A `tokens` column of a hub data set is pre-tokenised."""
    hub.rows = [{"tokens": [1, 2, 3]}, {"tokens": [4]}]
    rows = [document.token_ids for document in open_corpus("texts").documents()]
    assert [row.tolist() for row in rows if row is not None] == [[1, 2, 3], [4]]


def test_nothing_is_read_when_opening_and_little_ahead(hub: FakeHub) -> None:
    """Opening only asks for the commit; rows are read as documents are consumed."""
    hub.rows = [{"text": "x"}] * 10_000
    corpus = open_corpus("someone/texts")
    assert hub.loaded == ()
    next(iter(corpus.documents()))
    assert hub.rows_read <= 200


def test_identity_is_of_the_commit_and_the_choice(hub: FakeHub) -> None:
    """Commit, split, configuration and columns each change the identity."""
    same = [open_corpus("someone/texts").identity for _ in range(2)]
    others = [
        open_corpus("someone/texts:en").identity,
        open_corpus("someone/texts", split="test").identity,
        open_corpus("someone/texts", text_column="a").identity,
        open_corpus("someone/texts", source_column="a").identity,
    ]
    hub.sha = "bada55"
    others.append(open_corpus("someone/texts").identity)
    assert len(set(same)) == 1
    assert len({*same, *others}) == 6


def test_a_local_file_goes_before_the_hub(hub: FakeHub, tmp_path: Path) -> None:
    """A local folder takes precedence over a data set of the same name."""
    (tmp_path / "someone" / "texts").mkdir(parents=True)
    (tmp_path / "someone" / "texts" / "a.txt").write_text("here")
    assert pairs(open_corpus("someone/texts")) == [("here", "a")]


def test_missing_columns_name_the_data_set(hub: FakeHub) -> None:
    """The message for a wrong column names the data set and its columns."""
    hub.rows = [{"a": "x", "b": "y"}]
    with pytest.raises(NeurariumError, match=r"someone/texts: several columns .*--text-col.*a, b"):
        pairs(open_corpus("someone/texts"))


def hub_error(kind: type[Exception], message: str) -> Exception:
    """An error of the hub's library, with the response it needs."""
    response = SimpleNamespace(headers={}, request=None, status_code=404, url="")
    return kind(message, response=response)  # type: ignore[call-arg]


ERRORS = [
    (
        hub_error(huggingface_hub.errors.RepositoryNotFoundError, "404 Client Error."),
        "neither a file nor a hub data set 'someone/texts'",
    ),
    (
        datasets.exceptions.DatasetNotFoundError("Dataset 'x' doesn't exist on the Hub"),
        "neither a file nor a hub data set",
    ),
    (hub_error(huggingface_hub.errors.GatedRepoError, "Access restricted"), "is gated"),
    (
        datasets.exceptions.DatasetNotFoundError("Dataset 'x' is a gated dataset on the Hub."),
        "is gated",
    ),
    (huggingface_hub.errors.OfflineModeIsEnabled("offline"), "HF_HUB_OFFLINE is set"),
    (ConnectionError("Couldn't reach 'x' on the Hub"), "No network: the hub cannot be reached"),
    (ConnectionError("Couldn't reach 'x/aggregated' on the Hub"), "No network"),
    (httpx.ConnectError("Name or service not known"), "No network"),
    (httpx.ReadTimeout("timed out"), "No network"),
    (TimeoutError("timed out"), "No network"),
    (
        ValueError("Bad split: train. Available splits: ['test']"),
        "someone/texts has no split 'train': choose one with --split (Bad split: train. "
        "Available splits: ['test'])",
    ),
    (
        ValueError("Config name is missing.\nPlease pick one among: ['en', 'de']"),
        "someone/texts needs a configuration: name one as someone/texts:CONFIGURATION",
    ),
    (
        RuntimeError("Dataset scripts are no longer supported, but found texts.py"),
        "cannot be read (RuntimeError: Dataset scripts are no longer supported",
    ),
]


@pytest.mark.parametrize(("error", "words"), ERRORS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("at", ["info_error", "load_error"])
def test_every_error_of_the_hub_is_one_line(
    hub: FakeHub, at: str, error: Exception, words: str
) -> None:
    """Unknown, gated, offline, no network, wrong split or configuration: each has its own
    message."""
    setattr(hub, at, error)
    with pytest.raises(NeurariumError) as caught:
        pairs(open_corpus("someone/texts"))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_configuration_lists_the_right_ones(hub: FakeHub) -> None:
    """The message includes the library's list of configurations."""
    hub.load_error = ValueError("BuilderConfig 'fr' not found. Available: ['en', 'de']")
    with pytest.raises(NeurariumError, match=r"no configuration 'fr'.*Available: \['en', 'de'\]"):
        pairs(open_corpus("someone/texts:fr"))


def test_a_network_that_fails_midway(hub: FakeHub) -> None:
    """An error while streaming gives the same message as one at the start."""
    hub.rows, hub.fails_at = [{"text": "x"}] * 300, 200
    with pytest.raises(NeurariumError, match=r"No network.*the line went dead"):
        pairs(open_corpus("someone/texts"))


def test_the_cause_is_looked_at_too() -> None:
    """A network error wrapped in another error is recognised."""
    wrapped = RuntimeError("could not load")
    wrapped.__cause__ = httpx.ConnectError("refused")
    assert str(explain(wrapped, "a/b", "train")).startswith("No network")
