"""Stores that are missing, read-only or deleted from: every command, in one line."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.cli import console
from indexer import reporter
from indexer.store import notes
from indexer.store.database import open_store
from tests.app.cli.test_cli import Shell
from tests.helpers.fixture_store import TOY_NEURONS, RunOf


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    """A shell in an empty folder."""
    return Shell(tmp_path, capsys)


def test_no_command_makes_a_store_that_it_reads(shell: Shell) -> None:
    """One line that names the missing file; neither it nor another file is made."""
    (shell.folder / "notes.jsonl").write_text("")
    before = sorted(shell.folder.iterdir())
    shell.url = f"sqlite:///{shell.folder / 'deep' / 'store.db'}"
    other = shell.folder / "other.db"
    for words in (
        ["serve"],
        ["serve", "--notes"],
        ["runs"],
        ["delete", "1", "--yes"],
        ["check", "1"],
        ["check", "--all"],
        ["verify", "1"],
        ["export", "1"],
        ["export", "toy", "--format", "site", "--out", str(shell.folder / "site")],
        ["copy", "1", "--to", f"sqlite:///{other}"],
        ["pack", "1", "--out", str(other)],
        ["upgrade"],
        ["notes", "export"],
        ["notes", "import", str(shell.folder / "notes.jsonl")],
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NEURARIUM_NOTES_TOKEN", "a-token-of-readers-1")
            code, out, err = shell.run(*words)
        assert (code, out) == (2, ""), words
        assert err.startswith(f"Error: There is no database at {shell.folder}/deep/store.db: "), err
        assert err.count("\n") == 1
        assert sorted(shell.folder.iterdir()) == before, words


def test_a_store_made_for_a_run_that_cannot_be_read_is_removed(shell: Shell) -> None:
    """A wrong file leaves no empty database; a store that was there before stays."""
    wrong = shell.folder / "wrong.jsonl"
    wrong.write_text('{"not": "a run"}\n')
    folder = shell.folder / "records"
    folder.mkdir()
    before = sorted(shell.folder.iterdir())
    new = shell.folder / "new.db"
    for words in ([str(wrong)], [str(folder), "--format", "openai"]):
        code, _, err = shell.run("import", *words, "--database", f"sqlite:///{new}")
        assert code == 2
        assert err.count("\n") == 1
        assert sorted(shell.folder.iterdir()) == before
    open_store(f"sqlite:///{new}", create=True).dispose()
    assert shell.run("import", str(wrong), "--database", f"sqlite:///{new}")[0] == 2
    assert new.exists()


def test_deleting_asks(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal `--yes` is needed; on a terminal, anything but yes deletes nothing."""
    engine = open_store(shell.url, create=True)
    RunOf("toy", TOY_NEURONS).write(engine)
    engine.dispose()
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    code, _, err = shell.run("delete", "1")
    assert (code, shell.stored()) == (2, 1)
    assert "Delete run 1 (toy over " in err
    assert "add --yes if you mean it" in err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    answers = iter([False, True])
    asked: list[str] = []
    monkeypatch.setattr("typer.confirm", lambda question: asked.append(question) or next(answers))
    assert shell.run("delete", "1")[:2] == (1, "Nothing was deleted.\n")
    assert shell.stored() == 1
    assert shell.run("delete", "1")[0] == 0
    assert shell.stored() == 0
    assert all(question.startswith("Delete run 1 (toy over ") for question in asked)


@pytest.mark.parametrize("words", [["upgrade"], ["delete", "1", "--yes"], ["runs"]])
def test_waiting_for_another_process_is_said(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """It holds the database, and goes on when the line is printed."""
    engine = open_store(shell.url, create=True)
    RunOf("toy", TOY_NEURONS).write(engine)
    engine.dispose()
    monkeypatch.setattr(reporter, "PATIENCE", 0.1)
    said, holding = threading.Event(), threading.Event()
    print_line = console.say

    def tell(line: str) -> None:
        print_line(line)
        said.set()

    def hold() -> None:
        other = sqlite3.connect(shell.folder / "store.db", isolation_level=None)
        if words == ["runs"]:  # so that readers wait too
            other.execute("PRAGMA journal_mode=DELETE")
        other.execute("BEGIN EXCLUSIVE")
        holding.set()
        said.wait(60)
        other.close()

    monkeypatch.setattr(console, "say", tell)
    holder = threading.Thread(target=hold)
    holder.start()
    assert holding.wait(60)
    code, _, err = shell.run(*words)
    said.set()
    holder.join()
    assert code == 0, err
    assert err.startswith("Waiting for "), err
    assert ("the database" if words == ["runs"] else "another process is writing to") in err


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that every account can read."""
    with tempfile.TemporaryDirectory(prefix="neurarium-") as name:
        Path(name).chmod(0o755)
        yield Path(name)
        Path(name).chmod(0o755)


@pytest.mark.parametrize("with_log", [False, True])
def test_a_read_only_store_is_served_read_only(shared_folder: Path, with_log: bool) -> None:
    """By an account that may write neither the file nor its folder, also while another process
    has changes in the write-ahead log; said in one line, and nothing is left beside the file."""
    path = shared_folder / "store.db"
    engine = open_store(f"sqlite:///{path}", create=True)
    RunOf("toy", TOY_NEURONS).write(engine)
    notes.prepare(engine)
    notes.add(engine, notes.Note("toy", 0, 1, datetime(2026, 3, 14, tzinfo=UTC), "k", "kept"))
    if not with_log:
        engine.dispose()
    for file in shared_folder.iterdir():
        file.chmod(0o444)
    shared_folder.chmod(0o555)
    found: dict[str, Any] = json.loads(
        subprocess.run(
            [sys.executable, "-m", "tests.helpers.without_permission", str(shared_folder)],
            capture_output=True,
            check=True,
            timeout=120,
            text=True,
            env=os.environ | {"NEURARIUM_CACHE_DIR": str(shared_folder), "COLUMNS": "400"},
        ).stdout
    )
    engine.dispose()
    refusal = "The server's database is read-only: nothing was changed."
    assert found["answers"] == {
        "page": 200,
        "form": False,
        "said": True,
        "notes": ["kept"],
        "post": [403, refusal],
        "delete": 403,
        "sent": 403,
    }
    code, out, err = found["serve"]
    assert code == 0
    assert "Neurarium is at " in out
    line = f"sqlite:///{path} is read-only: it is served as it is, and nobody can write or delete"
    assert " ".join(err.split()) == f"{line} notes."
    assert found["runs"][0] == 0
    assert found["check"][0] == 0
    assert "kept" in found["export"][1]
    code, _, err = found["delete"]
    assert code == 2
    assert "cannot be written here" in err
    assert "nothing was changed" in err
    assert "Traceback" not in err
