"""Which files can be a corpus, by name and type. Opens none of them and imports no reader."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from indexer.errors import NeurariumError
from indexer.paths import absolute

JSON_LINES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz", ".jsonl.zst", ".ndjson.zst")
SEPARATED = (".csv", ".tsv")
PARQUET, ARROW = ".parquet", ".arrow"
_PROSE = (".txt", ".md", ".rst", ".text", ".markdown", ".adoc", ".org", ".tex", ".html", ".htm")
_CODE = (
    ".py .pyi .c .h .cc .cpp .hpp .cs .java .kt .scala .js .mjs .jsx .ts .tsx .go .rs .rb .php .pl "
    ".lua .swift .r .jl .hs .ml .ex .erl .clj .el .lisp .f90 .sql .sh .css"
).split()
PLAIN_TEXT = (*_PROSE, *_CODE)
"""Endings of files that are one document each."""
ENDINGS = (*JSON_LINES, *SEPARATED, PARQUET, ARROW, *PLAIN_TEXT)
"""The supported kinds of file."""
KINDS = ".txt, .md, .py and other plain text, .jsonl (also .gz, .zst), .csv, .tsv, .parquet, .arrow"
"""The same for messages."""
_LOCAL_ENDINGS = (*JSON_LINES, *SEPARATED, PARQUET, ARROW, ".txt", ".md", ".rst", ".py")
"""Endings that no hub data set's name has."""
_SYSTEM = ("/proc", "/sys", "/dev")
"""Folders of files that are answers of the kernel, and may never end."""
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(:[^/]+)?")


def ending_of(path: Path) -> str:
    """The supported ending of a file's name; "" if it has none."""
    name = path.name.lower()
    return next((ending for ending in ENDINGS if name.endswith(ending)), "")


def local_corpus(spec: str) -> Path | None:
    """The absolute path of the file or folder that a corpus's name means; None for `demo` and for
    what can only be a hub data set.

    Raises NeurariumError if the name is a path and there is no such file or folder, or if the file
    cannot be a corpus.
    """
    if spec == "demo":
        return None
    path = Path(os.path.expanduser(spec))
    if not spec or not os.path.lexists(path):
        if _HUB_NAME.fullmatch(spec) and not spec.lower().endswith(_LOCAL_ENDINGS):
            return None
        raise NeurariumError(
            f"There is no file or folder {str(path)!r}: name a file ({KINDS}), a folder of these, "
            "or a hub data set as name[:config]."
        )
    path = absolute(path)
    if not path.is_dir():
        if not ending_of(path):
            raise NeurariumError(f"{path} is not a supported file. Supported: {KINDS}.")
        if problem := problem_of(path):
            raise NeurariumError(f"{path} is {problem}: name a regular file.")
    return path


def problem_of(path: Path) -> str | None:
    """Why a path cannot be read like a file; None for a regular file or a link to one. Reading a
    pipe or a device may never end."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "a link to nothing" if path.is_symlink() else None  # gone: noticed when it is read
    except OSError as error:
        return f"unreadable ({error.strerror})"
    if stat.S_ISREG(mode):
        of_the_system = any(map(path.resolve().is_relative_to, _SYSTEM))
        return "a file of the system" if of_the_system else None
    if stat.S_ISDIR(mode):
        return "a link to a folder" if path.is_symlink() else "a folder"
    return "a pipe" if stat.S_ISFIFO(mode) else "not a regular file"
