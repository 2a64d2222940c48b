"""Notes as JSON lines: what is written is read again, what is not right is told by its line."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from app.notes.rules import author_line, line_of, moment, note_of, note_text
from indexer.store import notes as store
from indexer.store.database import open_store
from indexer.store.notes import MAX_AUTHOR, MAX_INDEX, MAX_TEXT, Note
from tests.app.cli.test_cli import Shell, shell
from tests.conftest import NewDatabase

__all__ = ["shell"]

LINE: dict[str, Any] = {
    "model": "toy",
    "layer": 0,
    "neuron": 1,
    "time": "2026-03-14T15:09:26.535898+00:00",
    "author": "mira",
    "text": "Fires on é.\n\tTwice.",
}
SHOWN = st.characters(exclude_categories=("Cc", "Cs"))
AUTHORS = st.text(SHOWN, min_size=1, max_size=MAX_AUTHOR).map(str.strip).filter(bool)
TEXTS = (
    st.text(SHOWN | st.sampled_from("\n\t"), min_size=1, max_size=200)
    .map(lambda text: text.rstrip().lstrip("\n"))
    .filter(bool)
)
NOTES = st.builds(
    Note,
    model=st.text(SHOWN, min_size=1, max_size=100),
    layer=st.integers(0, MAX_INDEX),
    neuron=st.integers(0, MAX_INDEX),
    time=st.datetimes(datetime(1970, 1, 1), datetime(9998, 12, 31), timezones=st.just(UTC)),
    author=AUTHORS,
    text=TEXTS,
)


# --- One note -----------------------------------------------------------------------------------


@given(st.text())
@example("a\r\nb\rc  \n\n")
@example("\n\n  indented\n")
def test_a_text_is_kept_as_it_will_be_read(typed: str) -> None:
    """What is kept is kept again just so; nothing in it acts; lines stay lines."""
    try:
        kept = note_text(typed)
    except ValueError:
        return
    assert note_text(kept) == kept
    assert kept.strip("\n ")
    assert {c for c in kept if unicodedata.category(c) in ("Cc", "Cs")} <= {"\n", "\t"}
    assert typed.replace("\r\n", "\n").replace("\r", "\n").strip() == kept.strip()


@given(st.text(max_size=100))
def test_an_author_is_one_line(typed: str) -> None:
    """Without blanks round it, never empty, never long."""
    try:
        kept = author_line(typed)
    except ValueError:
        return
    assert kept == typed.strip() == author_line(kept)
    assert 1 <= len(kept) <= MAX_AUTHOR
    assert "\n" not in kept


def test_lengths_are_counted_in_characters() -> None:
    """The longest are taken, one more is not."""
    assert len(note_text("🙂" * MAX_TEXT + "\n")) == MAX_TEXT
    with pytest.raises(ValueError, match="4,001 characters: the maximum is 4,000"):
        note_text("🙂" * (MAX_TEXT + 1))
    with pytest.raises(ValueError, match="81 characters: the maximum is 80"):
        author_line("x" * 81)


@given(NOTES)
def test_a_note_is_one_line_and_comes_back(note: Note) -> None:
    """Whatever is in it; nothing in it ends the line."""
    line = line_of(note).encode()
    assert len(line.decode().splitlines()) == 1
    assert note_of(line) == note


def test_a_time_of_any_zone_is_the_same_moment() -> None:
    """It is kept in UTC."""
    assert moment("2026-03-14T17:09:26+02:00") == datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)
    assert moment("2026-03-14T15:09:26Z").isoformat() == "2026-03-14T15:09:26+00:00"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": ""}, "The model's name has 0 characters"),
        ({"model": "a\0"}, "U+0000"),
        ({"layer": -1}, "layer is -1: it has to be a whole number from 0 up."),
        ({"layer": True}, "layer is True"),
        ({"neuron": 1.0}, "neuron is 1.0"),
        ({"neuron": 2**31}, "neuron is 2147483648"),
        ({"time": "yesterday"}, "'yesterday' is not a time such as 2026-03-14T15:09:26Z."),
        ({"time": "2026-03-14T15:09:26"}, "has no time zone: append Z"),
        ({"time": "0001-01-01T00:00:00+14:00"}, "is not between 1970 and 9998"),
        ({"time": "9999-12-31T23:59:59-14:00"}, "is not between 1970 and 9998"),
        ({"time": 5}, "time is 5: it has to be a string."),
        ({"author": "x\ny"}, "U+000A"),
        ({"text": ""}, "The note is empty"),
        ({"text": None}, "text is None: it has to be a string."),
        (
            {"more": 1},
            "an object with the fields model, layer, neuron, time, author, text.",
        ),
    ],
)
def test_a_line_that_is_not_right_says_what(change: dict[str, Any], said: str) -> None:
    """One sentence, with the value."""
    with pytest.raises(ValueError, match=re.escape(said)):
        note_of(json.dumps(LINE | change).encode())


@pytest.mark.parametrize(
    "line", [b"{", b"\xff", b"[]", b"1", b"null", b"[" * 100_000, b"\xef\xbb\xbf{}"]
)
def test_a_line_that_is_no_object_says_so(line: bytes) -> None:
    """Whatever it is."""
    with pytest.raises(ValueError, match=r"^It "):
        note_of(line)


# --- Out of a store and into one ----------------------------------------------------------------


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def emptied(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Engine]]:
    """What gives a store without notes, each time."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('lines') / 'store.db'}"
    else:
        new_postgres: NewDatabase = request.getfixturevalue("new_postgres")
        url = new_postgres()
    engine = open_store(url, create=True)
    store.prepare(engine)

    def empty() -> Engine:
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM notes"))
        return engine

    yield empty
    engine.dispose()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(notes=st.lists(NOTES, max_size=5), again=st.lists(st.integers(0, 4), max_size=3))
def test_what_is_written_out_is_read_again(
    emptied: Callable[[], Engine], notes: list[Note], again: list[int]
) -> None:
    """Into another store the same notes come, each once, and a second time nothing comes."""
    given_ = notes + [notes[index] for index in again if index < len(notes)]
    engine = emptied()
    added, there = store.merge(engine, given_)
    assert (added, there) == (len(set(notes)), len(given_) - len(set(notes)))
    written = [line_of(note) for note in store.walk(engine)]
    assert sorted(written) == sorted(line_of(note) for note in set(notes))
    engine = emptied()
    read = [note_of(line.encode()) for line in written]
    assert store.merge(engine, read) == (len(read), 0)
    assert [line_of(note) for note in store.walk(engine)] == written
    assert store.merge(engine, read) == (0, len(read))


def test_many_notes_are_merged_in_batches(emptied: Callable[[], Engine]) -> None:
    """More than one batch, each note once wherever it comes again."""
    notes = [note_of(json.dumps(LINE | {"neuron": n % 1200}).encode()) for n in range(1700)]
    assert store.merge(emptied(), notes) == (1200, 500)


def test_what_goes_wrong_in_the_middle_leaves_nothing(emptied: Callable[[], Engine]) -> None:
    """Also what had been written before it."""
    engine = emptied()

    def some() -> Iterator[Note]:
        for number in range(700):
            yield note_of(json.dumps(LINE | {"neuron": number}).encode())
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        store.merge(engine, some())
    assert list(store.walk(engine)) == []


# --- The command line ---------------------------------------------------------------------------


def stored(folder: Path, shell: Shell) -> None:
    """An empty store where the shell looks for it."""
    assert folder == shell.folder
    open_store(shell.url, create=True).dispose()


def write_lines(path: Path, *lines: dict[str, Any] | str) -> str:
    """A file of lines; its name."""
    path.write_text("".join(f"{x if isinstance(x, str) else json.dumps(x)}\n" for x in lines))
    return str(path)


def test_notes_go_from_store_to_store(shell: Shell, tmp_path: Path) -> None:
    """Imported, counted, skipped the second time, exported to a file as to the terminal."""
    stored(tmp_path, shell)
    first, second = LINE, LINE | {"text": "Another, ünd\u2028so.", "layer": 3}
    file = write_lines(tmp_path / "in.jsonl", first, "", second, first)
    assert shell.run("notes", "import", file) == (
        0,
        "Added 2 notes, skipped 1 already in the database.\n",
        "",
    )
    assert shell.run("notes", "import", file)[1].startswith("Added 0 notes, skipped 3")
    code, out, err = shell.run("notes", "export")
    assert (code, err) == (0, "")
    assert [json.loads(line) for line in out.splitlines()] == [first, second]
    target = tmp_path / "out [1].jsonl"
    assert shell.run("notes", "export", str(target))[1] == f"Wrote 2 notes to {target}.\n"
    assert target.read_bytes().decode() == out
    other = f"sqlite:///{tmp_path / 'other.db'}"
    open_store(other, create=True).dispose()
    shell.run("notes", "import", str(target), "--database", other)
    assert shell.run("notes", "export", "--database", other)[1] == out


def test_a_store_without_notes_has_none_to_write(shell: Shell, tmp_path: Path) -> None:
    """Nothing comes out, and the store stays without the table."""
    stored(tmp_path, shell)
    assert shell.run("notes", "export") == (0, "", "")
    target = tmp_path / "none.jsonl"
    assert shell.run("notes", "export", str(target))[1] == f"Wrote 0 notes to {target}.\n"
    assert target.read_bytes() == b""


def test_a_bad_line_is_named_and_nothing_is_added(shell: Shell, tmp_path: Path) -> None:
    """By its number in the file, in one line; what stood before it is not added either."""
    stored(tmp_path, shell)
    good = [LINE | {"neuron": n} for n in range(3)]
    for bad, said in (("{oops", "It is not JSON"), (LINE | {"author": ""}, "is empty: write your")):
        file = write_lines(tmp_path / "in.jsonl", *good, bad, *good)
        code, out, err = shell.run("notes", "import", file)
        assert (code, out) == (2, "")
        assert f"Line 4 of {file} cannot be read: " in err
        assert said in err
        assert err.count("\n") == 1
    assert shell.run("notes", "export")[1] == ""


def test_mistakes_with_notes_are_one_line(shell: Shell, tmp_path: Path) -> None:
    """No store, no file, a folder, a server without a token."""
    for words, said in (
        (["notes", "export"], "index a model first"),
        (["notes", "import", "x.jsonl"], "index a model first"),
        (["notes"], "Missing command"),
        (["serve", "--notes"], "set NEURARIUM_NOTES_TOKEN to 16 characters or more"),
        (["notes", "import", str(tmp_path / "none.jsonl")], "No such file"),
        (["notes", "export", str(tmp_path)], "Is a directory"),
        (["notes", "frobnicate"], "frobnicate"),
    ):
        if "none.jsonl" in words[-1]:
            stored(tmp_path, shell)
        code, _, err = shell.run(*words)
        assert said in err
        assert (code, err.count("\n")) == (2, 1), err


def test_a_server_with_notes_starts(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a token from the environment, by the option as by the setting."""
    monkeypatch.setattr("uvicorn.Server.run", lambda server, sockets: None)
    monkeypatch.setenv("NEURARIUM_NOTES_TOKEN", "a-token-of-readers-1")
    open_store(shell.url, create=True).dispose()
    for words, made in ((["--port", "0"], False), (["--port", "0", "--notes"], True)):
        assert shell.run("serve", *words)[0] == 0
        engine = open_store(shell.url, create=False)
        with engine.connect() as connection:
            found = connection.execute(text("SELECT name FROM sqlite_master")).scalars().all()
        engine.dispose()
        assert ("notes" in found) == made
