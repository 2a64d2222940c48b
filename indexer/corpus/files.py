"""Reads documents from local files of text and tables, or a folder of these, holding only the line
or rows being read."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from indexer.corpus.columnar import arrow_documents, parquet_documents
from indexer.corpus.kinds import (
    ARROW,
    JSON_LINES,
    KINDS,
    PARQUET,
    PLAIN_TEXT,
    SEPARATED,
    ending_of,
    problem_of,
)
from indexer.corpus.lines import BOM, json_documents
from indexer.corpus.rows import Document, ReadReport, RequestedColumns, printable
from indexer.corpus.saved import saved_files
from indexer.corpus.separated import check_no_zeros, not_utf8, separated_documents
from indexer.errors import NeurariumError
from indexer.paths import absolute

MAX_TEXT_BYTES = 1 << 30
"""The largest plain text file that is read: it is held in memory as one document."""
_READER = 2
"""Increased whenever the same files give other documents, so that older caches are rebuilt."""
_NAMED = 5
"""Files listed by name in a note."""
_MAGIC = {
    b"\x1f\x8b": ("gzip", ".gz"),
    b"\x28\xb5\x2f\xfd": ("zstandard", ".zst"),
    b"PAR1": ("Parquet", ".parquet"),
}
_SKIPPABLE = tuple(bytes([n, 0x2A, 0x4D, 0x18]) for n in range(0x50, 0x60))
"""Frames that some programs put in front of a zstandard file, for their own use."""


@dataclass(frozen=True)
class FilesCorpus:
    """One local file, or the supported files below a folder in order of their paths."""

    label: str
    root: Path
    files: tuple[Path, ...]
    wanted: RequestedColumns = field(default_factory=RequestedColumns)
    notes: tuple[str, ...] = ()
    """What is passed over, and what is read from elsewhere."""
    report: ReadReport = field(default_factory=ReadReport, compare=False)

    @property
    def revision(self) -> None:
        """None: files have no commit."""
        return None

    @cached_property
    def identity(self) -> str:
        """A hash that changes when a file is added, removed, renamed or modified."""
        parts: list[object] = [_READER, str(self.root), self.wanted.text, self.wanted.source]
        for path in self.files:
            with _system_errors(path):
                stat = path.stat()
            parts.append([_relative(path, self.root), stat.st_size, stat.st_mtime_ns])
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()

    def documents(self) -> Iterator[Document]:
        """All documents, file by file. Raises NeurariumError if a file cannot be read."""
        self.report.reset()
        for path in self.files:
            with _system_errors(path):
                yield from self._file_documents(path)
        self.report.check()

    def check_first(self) -> None:
        """Read the first row of the first file with columns. Raises NeurariumError."""
        path = next((path for path in self.files if ending_of(path) not in PLAIN_TEXT), None)
        if path is not None:
            with _system_errors(path):
                next(self._file_documents(path), None)

    def _file_documents(self, path: Path) -> Iterator[Document]:
        if problem := problem_of(path):
            raise NeurariumError(f"{path} is {problem}: remove it, or name the files to read.")
        ending = ending_of(path)
        check_magic(path, ending)
        source = _stem(path)  # for documents without a source column
        if ending in PLAIN_TEXT:
            yield Document(_text(path), None, source)
        elif ending in SEPARATED:
            yield from separated_documents(path, self.wanted, self.report, source)
        elif ending == PARQUET:
            yield from parquet_documents(path, self.wanted, source)
        elif ending == ARROW:
            yield from arrow_documents(path, self.wanted, source)
        else:
            assert ending in JSON_LINES
            yield from json_documents(path, self.wanted, self.report, source)


def open_files(
    path: Path, wanted: RequestedColumns, label: str | None = None, split: str = "train"
) -> FilesCorpus:
    """The corpus in an existing file or folder. Raises NeurariumError if no file is supported.

    `split` is read of a folder that `save_to_disk` has written with splits.
    """
    root = absolute(path)
    if not root.is_dir():
        return FilesCorpus(label or printable(root.name), root, (root,), wanted)
    saved = saved_files(root, split)
    if saved is not None:
        return FilesCorpus(label or f"{printable(root.name)}/", root, saved, wanted)
    files, passed_over = _usable_files(root)
    if not files:
        raise NeurariumError(f"The folder {path} has no supported files. Supported: {KINDS}.")
    counted = "1 file" if len(files) == 1 else f"{len(files)} files"
    label = label or f"{printable(root.name)}/ ({counted})"
    notes = []
    if passed_over:
        notes.append(f"{label}: passed over {_listed(passed_over)}")
    if elsewhere := _elsewhere(root, files):
        notes.append(f"{label}: read through links out of the folder: {_listed(elsewhere)}")
    return FilesCorpus(label, root, files, wanted, tuple(notes))


def _usable_files(root: Path) -> tuple[tuple[Path, ...], list[str]]:
    """The supported files below a folder in order of their paths, and the names of what is passed
    over. Hidden folders are not looked into."""
    paths: list[Path] = []
    passed_over: list[str] = []
    for folder, subfolders, names in os.walk(root, onerror=_cannot_list):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        # os.walk does not follow links to folders, which may lead in a circle.
        links = [name for name in subfolders if Path(folder, name).is_symlink()]
        for path in (Path(folder, name) for name in [*names, *links]):
            hidden = path.name.startswith(".")
            if not ending_of(path) and not path.is_dir():
                if not hidden:
                    passed_over.append(_relative(path, root))
            elif problem := "hidden" if hidden else problem_of(path):
                passed_over.append(f"{_relative(path, root)} ({problem})")
            else:
                paths.append(path)
    return tuple(sorted(paths, key=lambda path: _relative(path, root))), sorted(passed_over)


def _elsewhere(root: Path, files: tuple[Path, ...]) -> list[str]:
    """The files that are links to files outside the folder, with their targets."""
    home = root.resolve()
    links = [path for path in files if path.is_symlink()]
    return [
        f"{_relative(path, root)} → {target}"
        for path in links
        if not (target := path.resolve()).is_relative_to(home)
    ]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(printable(name) for name in names[:_NAMED]) + more


def _cannot_list(error: OSError) -> None:
    raise NeurariumError(f"The folder {error.filename} cannot be read: {error.strerror}.")


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path != root else path.name


def _stem(path: Path) -> str:
    """The file's name without its ending; undecodable bytes become �."""
    return printable(path.name[: -len(ending_of(path))] or path.name)


@contextmanager
def _system_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split()).rstrip(" .")
        raise NeurariumError(f"{path} cannot be read: {reason}.") from error


def check_magic(path: Path, ending: str) -> None:
    """Raises NeurariumError if the first bytes of a file contradict its ending."""
    with path.open("rb") as file:
        start = file.read(8)
    if ending.endswith(".zst") and start.startswith(_SKIPPABLE):
        return
    actual = next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), None)
    expected = next((kind for kind in _MAGIC.values() if ending.endswith(kind[1])), None)
    if actual == expected or (
        expected is None and start.isascii() and start.decode().isprintable()
    ):
        return  # a text file may also begin with PAR1
    if not start:
        raise NeurariumError(f"{path} is empty: it should be a {ending} file of documents.")
    if expected is None and actual is not None:
        raise NeurariumError(
            f"{path} is a {actual[0]} file despite its name: rename it to end in {actual[1]}."
        )
    if expected is not None:
        raise NeurariumError(
            f"{path} is not a {expected[0]} file despite its name: rename or replace it."
        )


def _text(path: Path) -> str:
    size = path.stat().st_size
    if size > MAX_TEXT_BYTES:
        raise NeurariumError(
            f"{path} is {size / 1e9:,.1f} GB, and a file of plain text is one document, of up to "
            f"{MAX_TEXT_BYTES >> 30} GiB: split it, or make it JSON lines."
        )
    data = path.read_bytes()
    check_no_zeros(data, path, 0)
    try:
        return data.removeprefix(BOM).decode()
    except UnicodeDecodeError as error:
        offset = error.start + len(BOM) * data.startswith(BOM)
        raise not_utf8(path, offset) from None
