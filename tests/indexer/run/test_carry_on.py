"""Stop, crash, carry on: whatever ends a run, the same command ends with the same content."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from indexer.config import IndexConfig
from indexer.errors import NeurariumError
from indexer.run import index as run
from indexer.run import passes
from indexer.run.checkpoint import RunFacts, RunFolder
from indexer.run.stopping import Stopped, stop_requests
from indexer.scan.slices import Slice
from tests.helpers.stopped_runs import OFTEN, Place, stopped_after


def write_lines(path: Path, rows: list[dict[str, str]]) -> None:
    """A corpus as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_run_that_is_stopped_is_carried_on(
    place: Place, config: IndexConfig, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three times stopped, in the sample and after it: the content is that of one go."""
    for batches in (1, 3, 5):
        with (
            stopped_after(monkeypatch, batches),
            pytest.raises(Stopped, match=r"Stopped after [\d,]+ of [\d,]+ tokens: the same"),
        ):
            place.index(config)
        assert len(place.unfinished()) == 1
    lines = place.index(config)
    assert any("resuming after" in line for line in lines)
    assert place.hashes() == [expected]
    assert place.unfinished() == []


def test_other_arguments_are_named_and_refused(
    place: Place, config: IndexConfig, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed argument is refused until --restart; another name is another run."""
    with stopped_after(monkeypatch, 3), pytest.raises(Stopped):
        place.index(config)
    changed = replace(config, top_k=6, text_column="text")
    with pytest.raises(NeurariumError) as refused:
        place.index(changed)
    assert "--text-column was not given and is text, --top-k was 5 and is 6" in str(refused.value)
    assert "--restart" in str(refused.value)
    place.index(replace(changed, name="other"))
    assert len(place.unfinished()) == 1
    lines = place.index(config, replace(OFTEN, restart=True))
    assert not any("resuming" in line for line in lines)
    assert place.hashes()[1] == expected
    assert place.unfinished() == []


def test_a_corpus_that_changed_underneath_is_noticed(
    place: Place, config: IndexConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Carrying on over another text would count some contexts twice and others never."""
    corpus = tmp_path / "text.jsonl"
    rows = [
        {"text": f"In the beginning was line {number}, and it was not the last. " * 9}
        for number in range(60)
    ]
    write_lines(corpus, rows)
    own = replace(config, corpus=str(corpus))
    with stopped_after(monkeypatch, 3), pytest.raises(Stopped):
        place.index(own)
    write_lines(corpus, [{"text": "This is another beginning. " * 9}, *rows[1:]])
    with pytest.raises(NeurariumError, match="the corpus") as refused:
        place.index(own)
    assert "changed since it began" in str(refused.value)
    write_lines(corpus, rows)
    place.index(own)
    assert len(place.hashes()) == 1


def test_nothing_is_tokenised_again(
    place: Place, config: IndexConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Carrying on reads the prepared corpus."""
    from indexer.corpus.tokens import TextTokenizer

    with stopped_after(monkeypatch, 3), pytest.raises(Stopped):
        place.index(config)

    def never(*_: object) -> None:
        raise AssertionError("tokenised again")

    monkeypatch.setattr(TextTokenizer, "tokenise", never)
    place.index(config)
    assert len(place.hashes()) == 1


@pytest.mark.parametrize("removed", [0, 1])
def test_a_run_killed_after_its_last_commit_is_not_written_twice(
    place: Place, config: IndexConfig, expected: str, monkeypatch: pytest.MonkeyPatch, removed: int
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
            place.index(config)
    assert place.hashes() == [expected]
    assert len(place.unfinished()) == 1
    with monkeypatch.context() as patch:
        patch.setattr(run, "scan_slices", None)  # nothing is scanned once more
        place.index(config)
    assert place.hashes() == [expected]
    assert place.unfinished() == []


def test_a_write_that_fails_leaves_the_scan(
    place: Place, config: IndexConfig, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the run is in the store, and what is carried on scans nothing again."""

    def broken(*_: object, **__: object) -> int:
        raise NeurariumError("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr("indexer.run.write.write_run", broken)
        with pytest.raises(NeurariumError, match="disk is full"):
            place.index(config)
    assert place.hashes() == []
    monkeypatch.setattr(passes, "scan_batches", broken)
    place.index(config)
    assert place.hashes() == [expected]


def test_a_little_memory_means_several_passes(
    place: Place, config: IndexConfig, expected: str
) -> None:
    """The layers one after the other give the content of all at once; too little is refused."""
    lines = place.index(config, replace(OFTEN, memory=100_000))
    assert any("2 passes" in line for line in lines)
    assert place.hashes() == [expected]
    with pytest.raises(NeurariumError, match="Layer 0 alone needs"):
        place.index(config, replace(OFTEN, memory=10_000))


def test_passes_are_carried_on(
    place: Place, config: IndexConfig, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the second pass; then with other memory, which changes nothing any more."""
    execution = replace(OFTEN, memory=100_000)
    with stopped_after(monkeypatch, 16), pytest.raises(Stopped):
        place.index(config, execution)
    with stopped_after(monkeypatch, 2), pytest.raises(Stopped):
        place.index(config, replace(OFTEN, memory=100_000))
    place.index(config)
    assert place.hashes() == [expected]


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
