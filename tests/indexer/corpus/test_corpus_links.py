"""Links and relative paths: the name the user gave counts, not the one it leads to."""

from __future__ import annotations

from pathlib import Path

import pytest

from indexer.corpus.kinds import local_corpus
from indexer.corpus.prepare import open_corpus
from indexer.errors import NeurariumError
from indexer.paths import absolute
from tests.indexer.corpus.test_corpus_files import WRITERS, pairs


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A hub cache: links with names to blobs without endings."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshots" / "c0ffee").mkdir(parents=True)
    for number, name in enumerate(WRITERS):
        WRITERS[name](tmp_path / "blobs" / f"9f86d0{number}{name[1:]}")
        blob = (tmp_path / "blobs" / f"9f86d0{number}{name[1:]}").rename(
            tmp_path / "blobs" / f"9f86d0{number}"
        )
        (tmp_path / "snapshots" / "c0ffee" / name).symlink_to(f"../../blobs/{blob.name}")
    return tmp_path


@pytest.mark.parametrize("name", WRITERS)
def test_a_link_is_read_by_its_own_name(cache: Path, name: str) -> None:
    """The ending, label and source are those of the link."""
    corpus = open_corpus(str(cache / "snapshots" / "c0ffee" / name))
    assert corpus.label == name
    assert len(pairs(corpus)) == 3


def test_links_that_leave_the_folder_are_mentioned(cache: Path) -> None:
    """They are read, and the note says where they lead; a link to a folder is passed over."""
    folder = cache / "snapshots" / "c0ffee"
    (folder / "b.txt").write_text("x")
    (folder / "c.txt").symlink_to("b.txt")
    (folder / "more").symlink_to(cache / "blobs")
    corpus = open_corpus(str(folder))
    assert len(pairs(corpus)) == 3 * len(WRITERS) + 2
    passed_over, elsewhere = corpus.notes
    assert passed_over.endswith("passed over more (a link to a folder)")
    assert f"a.csv → {cache}/blobs/9f86d0" in elsewhere
    assert "c.txt" not in elsewhere


def test_a_folder_that_is_a_link_keeps_its_name(cache: Path) -> None:
    """Its label is the link's name."""
    (cache / "mine").symlink_to(cache / "snapshots" / "c0ffee")
    assert open_corpus(str(cache / "mine")).label == f"mine/ ({len(WRITERS)} files)"


def test_a_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links are kept, except before `..`, which means the folder above the link's target."""
    (tmp_path / "far" / "deep").mkdir(parents=True)
    (tmp_path / "far" / "a.txt").write_text("far")
    (tmp_path / "link").symlink_to(tmp_path / "far" / "deep")
    monkeypatch.chdir(tmp_path)
    assert absolute(Path("link")) == tmp_path / "link"
    assert absolute(Path("link/../a.txt")) == tmp_path / "far" / "a.txt"
    assert absolute(Path(".")) == tmp_path
    assert local_corpus("far") == tmp_path / "far"
    assert local_corpus("./far/a.txt") == tmp_path / "far" / "a.txt"


def test_only_what_can_be_a_data_set_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name of the hub is no path; an absolute path never becomes a name of the hub."""
    monkeypatch.chdir(tmp_path)
    for spec in ("demo", "owner/name", "name", "owner/name:config"):
        assert local_corpus(spec) is None
    for spec in (str(tmp_path / "gone"), "./gone", "~/gone-for-good", "gone/", "a/gone.csv", ""):
        with pytest.raises(NeurariumError, match="There is no file or folder"):
            local_corpus(spec)
