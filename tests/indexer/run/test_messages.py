"""What a run tells the user: what it passes over, what is doubtful, what it waits for."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock
from sqlalchemy import select

from indexer import reporter
from indexer.config import IndexConfig
from indexer.errors import NeurariumError
from indexer.run.index import index
from indexer.store import schema
from indexer.store.database import changing, open_store
from indexer.verify.run import verify
from tests.conftest import Silent
from tests.helpers.tiny_models import save_tiny_model

SMALL = {"ctx_len": 16, "sample": 8, "top_k": 3, "bottom_k": 2, "connections": False}


class Notebook(Silent):
    """A reporter that writes down every line."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def stage(self, name: str, total: int | None, unit: str) -> Callable[[int], None]:
        return lambda done: None

    def about(self, words: str) -> list[str]:
        """The lines that contain these words."""
        return [line for line in self.lines if words in line]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model `m` and a corpus `c`, which the process is in."""
    save_tiny_model(tmp_path / "m", "llama")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "a.csv").write_text("id;text\n" + "1;the old house stood\n" * 3)
    (tmp_path / "c" / "b.docx").write_text("x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'store.db'}"


def test_guesses_and_small_corpora_are_mentioned(here: Path) -> None:
    """The file passed over, the separator, the few tokens; and weights that are not used."""
    notebook = Notebook()
    config = IndexConfig(model="m", corpus="c", **SMALL)
    index(config, url_of(here), here / "cache", notebook)
    assert notebook.about("passed over b.docx")
    assert notebook.about("separated by semicolons")
    assert notebook.about("tokens are too few for statistics")
    assert not notebook.about("Waiting")
    assert not notebook.about("not used")

    save_tiny_model(here / "biased", "llama", attention_bias=True)
    settings = json.loads((here / "biased" / "config.json").read_text())
    settings["attention_bias"] = False
    (here / "biased" / "config.json").write_text(json.dumps(settings))
    outcome = index(replace(config, model="biased"), url_of(here), here / "cache", notebook)
    (warning,) = notebook.about("not used")
    assert outcome.warnings == (warning,)
    assert "8: model.layers.0.self_attn.k_proj.bias" in warning


def test_a_run_knows_its_model_and_corpus_from_any_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative paths are stored absolute, so that verifying needs no hub; the same arguments in
    another folder do not resume the run, and the difference is named."""
    config = IndexConfig(model="m", corpus="c", **SMALL)
    index(config, url_of(here), here / "cache", Silent())
    engine = open_store(url_of(here), create=False)
    with engine.connect() as connection:
        provenance = connection.scalar(select(schema.runs.c.provenance))
    settings = json.loads(provenance) if isinstance(provenance, str) else provenance
    assert settings["model"]["asked_for"] == str(here / "m")
    assert settings["settings"]["corpus"] == str(here / "c")
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    findings = verify(engine, 1, here / "new", Silent(), neurons=9, contexts=9)[1]
    assert findings.count == 0
    (here / "m").rename(here / "moved")
    with pytest.raises(NeurariumError, match=r"is not here \(moved\?\)"):
        verify(engine, 1, here / "new", Silent(), neurons=9, contexts=9)
    engine.dispose()


def test_an_unfinished_run_is_not_looked_for_on_the_hub(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`m` in another folder would be a hub model: the run's settings are compared before."""
    config = IndexConfig(model="m", corpus="c", **SMALL)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("indexer.run.index.write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            index(config, url_of(here), here / "cache", Silent())
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    with pytest.raises(NeurariumError, match=f"the model was {here / 'm'} and is m"):
        index(config, url_of(here), here / "cache", Silent())


def test_waiting_for_the_database_is_mentioned(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process writes to it."""
    monkeypatch.setattr(reporter, "PATIENCE", 0.2)
    engine = open_store(url_of(here), create=True)
    notebook, writing = Notebook(), threading.Event()

    def write() -> None:
        with changing(engine):
            writing.set()
            until = time.monotonic() + 60
            while not notebook.about("Waiting for") and time.monotonic() < until:
                time.sleep(0.05)

    other = threading.Thread(target=write)
    other.start()
    writing.wait(60)
    config = IndexConfig(model="m", corpus="c", **SMALL)
    index(config, url_of(here), here / "cache", notebook)
    other.join()
    engine.dispose()
    (line,) = notebook.about("Waiting for")[:1]
    assert "store.db, which another process is writing to" in line


def test_waiting_for_the_cache_is_mentioned(here: Path) -> None:
    """Another process prepares the same corpus."""
    config = IndexConfig(model="m", corpus="c", **SMALL)
    index(config, url_of(here), here / "cache", Silent())
    (path,) = (here / "cache" / "corpora").glob("*.lock")
    notebook, preparing = Notebook(), threading.Event()

    def prepare() -> None:
        with FileLock(path):
            preparing.set()
            until = time.monotonic() + 60
            while not notebook.about("Waiting for") and time.monotonic() < until:
                time.sleep(0.05)

    other = threading.Thread(target=prepare)
    other.start()
    preparing.wait(60)
    index(config, url_of(here), here / "cache", notebook)
    other.join()
    assert notebook.about("Waiting for another process that prepares c/ (1 file)")
