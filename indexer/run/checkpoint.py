"""Stop, crash, carry on: the folder in which an unfinished run waits for the same command again.

It holds `run.json`, what the run is asked to do and finds, and one file a scan with all it has
measured and which batches those were. Each file is written whole beside its place and then put
there, so that a process killed at any moment leaves the one before.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import Bool

from indexer.errors import NeurariumError
from indexer.scan.state import Scan

FORMAT = 1
"""Raised whenever the files change their meaning: older ones are then refused."""
_DONE = "done"


@dataclass(frozen=True)
class RunFacts:
    """What a run is: it can be carried on only while all of this is the same."""

    id: str
    """A name no other run has, kept with what is written at the end."""
    settings: dict[str, Any]
    """What was asked for."""
    found: dict[str, Any]
    """What that led to, such as the weights' hash."""
    slices: tuple[tuple[int, int], ...]
    """First layer and end of each scan."""


class RunFolder:
    """Where one run's unfinished scans are kept."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def exists(self) -> bool:
        """Whether a run was begun here and is not finished."""
        return self._facts_file.exists()

    @property
    def facts(self) -> RunFacts:
        """What is known of the run. Raises NeurariumError where there is none."""
        try:
            facts: dict[str, Any] = json.loads(self._facts_file.read_bytes())
            if facts.pop("format") != FORMAT:
                raise ValueError("made by another version")
            facts["slices"] = tuple((first, end) for first, end in facts["slices"])
            return RunFacts(**facts)
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise NeurariumError(
                f"There is no unfinished run in {self.path} that can be used ({reason})."
            ) from error

    def begin(self, facts: RunFacts) -> None:
        """Note what the run is, before anything is kept of it. Raises OSError."""
        self.path.mkdir(parents=True, exist_ok=True)
        with _whole(self._facts_file) as file:
            file.write(json.dumps({"format": FORMAT, **asdict(facts)}, indent=1).encode())

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Make sure that the run begun here, if any, was asked for with the same settings.

        Raises NeurariumError that names those that differ.
        """
        if not self.exists:
            return
        before = self.facts.settings
        changed = [
            f"{_option(name)} was {_plain(before.get(name))} and is {_plain(settings.get(name))}"
            for name in sorted({*before, *settings})
            if before.get(name) != settings.get(name)
        ]
        if changed:
            raise NeurariumError(
                f"An unfinished run of this model is kept in {self.path}, and {', '.join(changed)}"
                ": give the same arguments to carry on, --restart to begin anew, or another --name."
            )

    def check_found(self, found: Mapping[str, Any]) -> None:
        """Make sure that what the settings lead to is still what the run was begun with.

        Raises NeurariumError that says what has changed underneath.
        """
        if not self.exists:
            return
        before = self.facts.found
        changed = [name for name in found if found[name] != before.get(name)]
        if changed:
            verb = "has" if len(changed) == 1 else "have"
            raise NeurariumError(
                f"An unfinished run of this model is kept in {self.path}, but "
                f"{' and '.join(changed)} {verb} changed since it was begun: put it back as it "
                "was, or begin anew with --restart."
            )

    def save(self, name: str, scan: Scan, done: Bool[np.ndarray, " batches"]) -> None:
        """Keep a scan and which of the run's batches are in it. Raises OSError."""
        arrays = {_DONE: done, **scan.arrays()}
        with _whole(self.path / f"{name}.npz") as file, zipfile.ZipFile(file, "w") as kept:
            for key, array in arrays.items():
                with kept.open(f"{key}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, array, allow_pickle=False)

    def load(self, name: str, scan: Scan, done: Bool[np.ndarray, " batches"]) -> bool:
        """Fill a new scan, and `done`, with what was kept; False, if nothing was.

        Raises NeurariumError where the file is damaged, or of another shape.
        """
        path = self.path / f"{name}.npz"
        if not path.exists():
            return False
        try:
            with zipfile.ZipFile(path) as kept:
                names = {entry.removesuffix(".npy") for entry in kept.namelist()}
                if scan.sample is not None and "sample.signs" in names:
                    scan.sample.count_signs()
                arrays = {_DONE: done, **scan.arrays()}
                if names != set(arrays):
                    raise ValueError("it holds other things")
                for key, array in arrays.items():
                    with kept.open(f"{key}.npy") as file:
                        _read_into(file, array)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise NeurariumError(
                f"The checkpoint {path} cannot be used ({error}): begin anew with --restart."
            ) from error
        return True

    def remove(self) -> None:
        """Forget the run: it is written, or begun anew."""
        # The facts go last: while they are there, it can be told that the run is written.
        for file in self.path.glob("*.npz*"):
            file.unlink(missing_ok=True)
        self._facts_file.unlink(missing_ok=True)
        with suppress(OSError):  # there may be something else in it
            self.path.rmdir()

    @property
    def _facts_file(self) -> Path:
        return self.path / "run.json"


def _option(name: str) -> str:
    """A setting as the command line writes it."""
    return "the model" if name == "model" else "--" + name.replace("_", "-")


def _plain(value: Any) -> str:
    return "not given" if value is None else str(value)


@contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes its place only when all is written and on the disk."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _read_into(file: IO[bytes], array: np.ndarray[Any, Any]) -> None:
    """Read an array of numpy's format into memory that is there. Raises ValueError."""
    if np.lib.format.read_magic(file) == (1, 0):
        shape, by_column, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        shape, by_column, dtype = np.lib.format.read_array_header_2_0(file)
    if shape != array.shape or by_column or dtype != array.dtype:
        raise ValueError(f"{shape} {dtype} in place of {array.shape} {array.dtype}")
    view = memoryview(array.data).cast("B") if array.size else memoryview(b"")
    place = 0
    while place < len(view):
        read = file.read(min(1 << 24, len(view) - place))
        if not read:
            raise ValueError("it ends too early")
        view[place : place + len(read)] = read
        place += len(read)
    if file.read(1):  # also checks the sum of the whole
        raise ValueError("it goes on too long")
