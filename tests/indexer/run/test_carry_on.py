"""Stop, crash, carry on: whatever ends a run, the same command ends with the same content."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from indexer.config import Execution, IndexConfig
from indexer.errors import NeurariumError
from indexer.run import index as run
from indexer.run import passes, together
from indexer.run.checkpoint import RunFacts, RunFolder
from indexer.run.index import index
from indexer.run.shard import Shard
from indexer.run.shards import merge, scan_shard
from indexer.run.stopping import Stopped, stop_requests
from indexer.scan import slices
from indexer.scan.slices import Slice
from indexer.store import schema
from indexer.store.database import open_store
from tests.conftest import Silent
from tests.helpers.kill_runs import CONFIG
from tests.helpers.small_latents import latents_config

OFTEN = Execution(checkpoint_seconds=0)


def write_lines(path: Path, rows: list[dict[str, str]]) -> None:
    """A corpus as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


class Told(Silent):
    """Remembers what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


class Place:
    """A database and a cache of its own; the prepared corpora are shared by all tests here."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder / 'runs.db'}"
        self.cache = folder / "cache"

    def index(self, config: IndexConfig = CONFIG, execution: Execution = OFTEN) -> list[str]:
        told = Told()
        index(config, self.url, self.cache, told, execution)
        return told.lines

    def hashes(self) -> list[str]:
        engine = open_store(self.url, create=False)
        with engine.connect() as connection:
            found = connection.scalars(select(schema.runs.c.content_hash)).all()
        engine.dispose()
        return list(found)

    def unfinished(self) -> list[Path]:
        return sorted((self.cache / "runs").glob("*"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The content hash of a run that nothing disturbed."""
    undisturbed = Place(tmp_path_factory.mktemp("plain"))
    undisturbed.index(execution=Execution())
    (found,) = undisturbed.hashes()
    return found


@contextmanager
def stopped_after(monkeypatch: pytest.MonkeyPatch, batches: int) -> Iterator[None]:
    """As if the user pressed Ctrl-C while batch number `batches` is scanned."""

    asked = iter(range(1, 1000))

    class Later(threading.Event):
        def is_set(self) -> bool:
            return next(asked) >= batches

    @contextmanager
    def requests() -> Iterator[threading.Event]:
        yield Later()

    with monkeypatch.context() as patch:
        for module in (passes, together):
            patch.setattr(module, "stop_requests", requests)
        yield


def test_a_run_that_is_stopped_is_carried_on(
    place: Place, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three times stopped, in the sample and after it: the content is that of one go."""
    for batches in (1, 3, 5):
        with (
            stopped_after(monkeypatch, batches),
            pytest.raises(Stopped, match=r"Stopped after [\d,]+ of [\d,]+ tokens: the same"),
        ):
            place.index()
        assert len(place.unfinished()) == 1
    lines = place.index()
    assert any("resuming after" in line for line in lines)
    assert place.hashes() == [expected]
    assert place.unfinished() == []


def test_other_arguments_are_named_and_refused(
    place: Place, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed argument is refused until --restart; another name is another run."""
    with stopped_after(monkeypatch, 3), pytest.raises(Stopped):
        place.index()
    changed = replace(CONFIG, top_k=6, corpus="demo")
    with pytest.raises(NeurariumError) as refused:
        place.index(changed)
    assert "--corpus was not given and is demo, --top-k was 5 and is 6" in str(refused.value)
    assert "--restart" in str(refused.value)
    place.index(replace(changed, name="other"))
    assert len(place.unfinished()) == 1
    lines = place.index(execution=replace(OFTEN, restart=True))
    assert not any("resuming" in line for line in lines)
    assert place.hashes()[1] == expected
    assert place.unfinished() == []


def test_a_corpus_that_changed_underneath_is_noticed(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Carrying on over another text would count some contexts twice and others never."""
    corpus = tmp_path / "text.jsonl"
    rows = [
        {"text": f"In the beginning was line {number}, and it was not the last. " * 9}
        for number in range(60)
    ]
    write_lines(corpus, rows)
    config = replace(CONFIG, corpus=str(corpus))
    with stopped_after(monkeypatch, 3), pytest.raises(Stopped):
        place.index(config)
    write_lines(corpus, [{"text": "This is another beginning. " * 9}, *rows[1:]])
    with pytest.raises(NeurariumError, match="the corpus") as refused:
        place.index(config)
    assert "changed since it began" in str(refused.value)
    write_lines(corpus, rows)
    place.index(config)
    assert len(place.hashes()) == 1


def test_nothing_is_tokenised_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Carrying on reads the prepared corpus."""
    from indexer.corpus.tokens import TextTokenizer

    with stopped_after(monkeypatch, 3), pytest.raises(Stopped):
        place.index()

    def never(*_: object) -> None:
        raise AssertionError("tokenised again")

    monkeypatch.setattr(TextTokenizer, "tokenise", never)
    place.index()
    assert len(place.hashes()) == 1


@pytest.mark.parametrize("removed", [0, 1])
def test_a_run_killed_after_its_last_commit_is_not_written_twice(
    place: Place, expected: str, monkeypatch: pytest.MonkeyPatch, removed: int
) -> None:
    """The run is in the store and its checkpoint is still there, or a part of it: the same command
    ends at once."""
    files = iter(range(removed, -1, -1))
    unlink = Path.unlink

    def killed(path: Path, missing_ok: bool = False) -> None:
        if path.suffix != ".partial" and "runs" in path.parts and next(files) == 0:
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            place.index()
    assert place.hashes() == [expected]
    assert len(place.unfinished()) == 1
    with monkeypatch.context() as patch:
        patch.setattr(run, "scan_slices", None)  # nothing is scanned once more
        place.index()
    assert place.hashes() == [expected]
    assert place.unfinished() == []


def test_a_write_that_fails_leaves_the_scan(
    place: Place, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the run is in the store, and what is carried on scans nothing again."""

    def broken(*_: object, **__: object) -> int:
        raise NeurariumError("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(run, "write_run", broken)
        with pytest.raises(NeurariumError, match="disk is full"):
            place.index()
    assert place.hashes() == []
    monkeypatch.setattr(passes, "scan_batches", broken)
    place.index()
    assert place.hashes() == [expected]


def test_a_little_memory_means_several_passes(place: Place, expected: str) -> None:
    """The layers one after the other give the content of all at once; too little is refused."""
    lines = place.index(execution=replace(OFTEN, memory=8_000_000))
    assert any("2 passes" in line for line in lines)
    assert place.hashes() == [expected]
    with pytest.raises(NeurariumError, match="Layer 0 alone needs"):
        place.index(execution=replace(OFTEN, memory=100_000))


def test_passes_are_carried_on(
    place: Place, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the second pass; then with other memory, which changes nothing any more."""
    execution = replace(OFTEN, memory=8_000_000)
    with stopped_after(monkeypatch, 16), pytest.raises(Stopped):
        place.index(execution=execution)
    with stopped_after(monkeypatch, 2), pytest.raises(Stopped):
        place.index(execution=replace(OFTEN, memory=8_000_000))
    place.index()
    assert place.hashes() == [expected]


def test_shards_and_stops_make_a_run_of_latents(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one go, stopped and carried on, and in three shards, each layer cut: one content."""
    config = latents_config(tmp_path / "small")
    place.index(config, Execution())
    monkeypatch.setattr(slices, "LEAST_UNITS", 4)
    little = replace(OFTEN, memory=50_000)
    again = Place(tmp_path / "again")
    (tmp_path / "again").mkdir()
    with stopped_after(monkeypatch, 4), pytest.raises(Stopped):
        again.index(config, little)
    (unfinished,) = again.unfinished()
    assert [part.name for part in RunFolder(unfinished).facts.slices] == [
        f"layers-{layer}-{layer}-units-{first}-{end}"
        for layer in (0, 1)
        for first, end in ((0, 8), (8, 16))
    ]
    little = replace(little, checkpoint_seconds=600)
    assert any("resuming after" in line for line in again.index(config, little))
    assert again.hashes() == place.hashes()
    with pytest.raises(NeurariumError, match="4 units of layer 0 need"):
        again.index(config, replace(little, memory=5_000))
    sharded = Place(tmp_path / "sharded")
    (tmp_path / "sharded").mkdir()
    state = tmp_path / "state"
    for number in (3, 1, 2):
        in_parts = replace(little, state=state)
        scan_shard(config, Shard(number, 3), sharded.cache, Silent(), in_parts)
    merge(state, sharded.url, sharded.cache, Silent(), Execution())
    assert sharded.hashes() == place.hashes()


@pytest.mark.parametrize("count", [1, 3])
def test_shards_make_the_run(place: Place, tmp_path: Path, expected: str, count: int) -> None:
    """Scanned apart and in any order, merged: the content of one piece."""
    state = tmp_path / "state"
    execution = replace(OFTEN, state=state)
    for number in range(count, 0, -1):
        if number == 1 and count > 1:
            with pytest.raises(NeurariumError, match="shard-1-of-3 is not in"):
                merge(state, place.url, place.cache, Silent(), Execution())
        scan_shard(CONFIG, Shard(number, count), place.cache, Silent(), execution)
    outcome = merge(state, place.url, place.cache, Silent(), Execution())
    assert (outcome.run_id, place.hashes()) == (1, [expected])
    assert merge(state, place.url, place.cache, Silent(), Execution()).run_id == 1
    assert place.hashes() == [expected]


def test_shards_that_do_not_fit_are_refused(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not finished, of other arguments, of two divisions, none at all, not understood."""
    state = tmp_path / "state"
    execution = replace(OFTEN, state=state)
    scan_shard(CONFIG, Shard(2, 2), place.cache, Silent(), execution)
    with stopped_after(monkeypatch, 2), pytest.raises(Stopped):
        scan_shard(CONFIG, Shard(1, 2), place.cache, Silent(), execution)
    with pytest.raises(NeurariumError, match="shard-1-of-2 is not finished"):
        merge(state, place.url, place.cache, Silent(), Execution())
    with pytest.raises(NeurariumError, match="--seed was 0 and is 1"):
        scan_shard(replace(CONFIG, seed=1), Shard(1, 2), place.cache, Silent(), execution)
    anew = replace(execution, restart=True)
    scan_shard(replace(CONFIG, seed=1), Shard(1, 2), place.cache, Silent(), anew)
    with pytest.raises(NeurariumError, match="shard-2-of-2, and --seed was 0 and is 1"):
        merge(state, place.url, place.cache, Silent(), Execution())
    (state / "shard-1-of-3").mkdir()
    with pytest.raises(NeurariumError, match="shards of several runs, of 2 and of 3 shards"):
        merge(state, place.url, place.cache, Silent(), Execution())
    with pytest.raises(NeurariumError, match="holds no shards"):
        merge(tmp_path / "nothing", place.url, place.cache, Silent(), Execution())
    with pytest.raises(NeurariumError, match="needs --state"):
        scan_shard(CONFIG, Shard(1, 2), place.cache, Silent(), Execution())
    for bad in ("0/2", "3/2", "2", "a/b", "1/0", "-1/2", ""):
        with pytest.raises(NeurariumError, match="is not recognised"):
            Shard.parse(bad)
    assert Shard.parse("2/8") == Shard(2, 8)
    assert place.hashes() == []


def test_the_first_request_to_stop_waits_and_the_second_does_not(
    request: pytest.FixtureRequest,
) -> None:
    """SIGINT sets the event; again, it interrupts as ever. Outside the main thread: nothing."""
    outside = signal.getsignal(signal.SIGINT)  # ignored where the tests run in the background
    before = signal.default_int_handler
    signal.signal(signal.SIGINT, before)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, outside))
    with stop_requests() as stop:
        assert not stop.is_set()
        signal.raise_signal(signal.SIGINT)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    with stop_requests() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()
    found: list[Any] = []

    def elsewhere() -> None:
        with stop_requests() as stop:
            found.append(stop.is_set())

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [False]


def test_a_run_begun_by_an_older_version_is_read(tmp_path: Path) -> None:
    """The file's keys stay, whatever the fields are called."""
    facts = RunFacts("a", {"model": "demo"}, {"the corpus": "b"}, (Slice(0, 1), Slice(1, 3)))
    folder = RunFolder(tmp_path)
    folder.begin(facts)
    assert json.loads((tmp_path / "run.json").read_text()) == {
        "format": 1,
        "id": "a",
        "settings": {"model": "demo"},
        "found": {"the corpus": "b"},
        "slices": [[0, 1], [1, 3]],
    }
    assert folder.facts == facts
    cut = replace(facts, slices=(Slice(0, 1, (0, 8)), Slice(0, 1, (8, 16))))
    folder.begin(cut)
    assert folder.facts == cut


@pytest.mark.timeout(1800)
def test_killed_at_random_moments(tmp_path: Path, expected: str) -> None:
    """kill −9 in preparing, scanning, checkpoints and writing: always the undisturbed content, of
    neurons, latents and heads. The program kills more often when it is run by hand."""
    neurons, others = 8, 4
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.helpers.kill_runs"),
            str(tmp_path),
            f"{neurons}",
            f"{others}",
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert results[0]["expected"] == expected
    for told, kills in zip(results, (neurons, others, others), strict=True):
        assert told["kills"] >= kills
        assert told["found"] == [[told["expected"]]] * len(told["found"])
        assert told["left"] == []
