"""The folder from which an unfinished run is resumed.

It holds `run.json`, with the run's settings and what they led to, and one file per scan with all it
has measured and the batches in it. Each file is written beside its place and then moved there, so a
process killed at any moment leaves the previous file.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import Bool

from indexer.errors import NeurariumError
from indexer.scan.slices import Slice
from indexer.scan.state import Scan

FORMAT = 1
"""Increased whenever the files change their meaning: older files are then refused."""
_DONE = "done"


@dataclass(frozen=True)
class RunFacts:
    """What identifies a run: it can be resumed only while all of this is the same."""

    id: str
    """A name no other run has; it is written to the store too."""
    settings: dict[str, Any]
    """The fields of its `IndexConfig`."""
    inputs: dict[str, Any]
    """What the settings led to, such as the weights' hash."""
    slices: tuple[Slice, ...]
    """What each pass scans."""


class RunFolder:
    """One unfinished run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def exists(self) -> bool:
        """Whether it holds an unfinished run."""
        return self._facts_file.exists()

    @property
    def facts(self) -> RunFacts:
        """The run's facts. Raises NeurariumError if there is no usable run."""
        try:
            facts: dict[str, Any] = json.loads(self._facts_file.read_bytes())
            if facts["format"] != FORMAT:
                raise ValueError("made by another version")
            return RunFacts(
                id=facts["id"],
                settings=facts["settings"],
                inputs=facts["found"],
                slices=tuple(Slice.of_numbers(*numbers) for numbers in facts["slices"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise NeurariumError(
                f"There is no unfinished run in {self.path} that can be used ({reason})."
            ) from error

    def begin(self, facts: RunFacts) -> None:
        """Create the folder and write the run's facts. Raises OSError."""
        self.path.mkdir(parents=True, exist_ok=True)
        stored = {
            "format": FORMAT,
            "id": facts.id,
            "settings": facts.settings,
            "found": facts.inputs,
            "slices": [one.numbers for one in facts.slices],
        }
        with _atomic(self._facts_file) as file:
            file.write(json.dumps(stored, indent=1).encode())

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Check that the folder's run, if any, has the same settings.

        Raises NeurariumError that names the settings that differ.
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
                f"An unfinished run of this model is in {self.path}, and {', '.join(changed)}: use "
                "the same arguments to resume it, --restart to start over, or another --name."
            )

    def check_inputs(self, inputs: Mapping[str, Any]) -> None:
        """Check that the settings still lead to the same model, tokenizer and corpus.

        Raises NeurariumError that names what has changed.
        """
        if not self.exists:
            return
        before = self.facts.inputs
        changed = [name for name in inputs if inputs[name] != before.get(name)]
        if changed:
            verb = "has" if len(changed) == 1 else "have"
            raise NeurariumError(
                f"An unfinished run of this model is in {self.path}, but {' and '.join(changed)} "
                f"{verb} changed since it began: undo the change, or start over with --restart."
            )

    def save(self, name: str, scan: Scan, done: Bool[np.ndarray, " batches"]) -> None:
        """Write a scan and the run's batches that are in it. Raises OSError."""
        self.save_arrays(name, {_DONE: done, **scan.arrays()})

    def save_arrays(self, name: str, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Write arrays as a file. Raises OSError."""
        with _atomic(self.path / f"{name}.npz") as file, zipfile.ZipFile(file, "w") as archive:
            for key, array in arrays.items():
                with archive.open(f"{key}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, array, allow_pickle=False)

    def load(self, name: str, scan: Scan, done: Bool[np.ndarray, " batches"]) -> bool:
        """Fill a new scan and `done` from the scan's file; False if there is none.

        Raises NeurariumError if the file is damaged or has another shape.
        """
        path = self.path / f"{name}.npz"
        if not path.exists():
            return False
        try:
            with zipfile.ZipFile(path) as archive:
                names = {entry.removesuffix(".npy") for entry in archive.namelist()}
                if scan.sample is not None and "sample.signs" in names:
                    scan.sample.count_signs()
                arrays = {_DONE: done, **scan.arrays()}
                if names != set(arrays):
                    raise ValueError("it holds other arrays")
                for key, array in arrays.items():
                    with archive.open(f"{key}.npy") as file:
                        _read_into(file, array)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise NeurariumError(
                f"The checkpoint {path} cannot be used ({error}): start over with --restart."
            ) from error
        return True

    def load_arrays(self, name: str) -> dict[str, np.ndarray[Any, Any]] | None:
        """The arrays of a file; None if there is none. Raises NeurariumError if it is damaged."""
        path = self.path / f"{name}.npz"
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as archive:
                return {key: archive[key] for key in archive.files}
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise NeurariumError(
                f"The checkpoint {path} cannot be used ({error}): start over with --restart."
            ) from error

    def load_part(self, name: str, key: str) -> np.ndarray[Any, Any]:
        """One array of a scan's file. Raises NeurariumError if it cannot be read."""
        path = self.path / f"{name}.npz"
        try:
            with np.load(path, allow_pickle=False) as archive:
                array: np.ndarray[Any, Any] = archive[key]
                return array
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise NeurariumError(
                f"The checkpoint {path} cannot be used ({error}): start over with --restart."
            ) from error

    def remove(self) -> None:
        """Delete the run's files: it is in the store, or starts over."""
        # The facts go last: as long as they are there, the run in the store can be recognised.
        for file in self.path.glob("*.npz*"):
            file.unlink(missing_ok=True)
        self._facts_file.unlink(missing_ok=True)
        with suppress(OSError):  # the folder may hold other files
            self.path.rmdir()

    @property
    def _facts_file(self) -> Path:
        return self.path / "run.json"


def _option(name: str) -> str:
    """A setting as on the command line."""
    return "the model" if name == "model" else "--" + name.replace("_", "-")


def _plain(value: Any) -> str:
    return "not given" if value is None else str(value)


@contextmanager
def _atomic(path: Path) -> Iterator[IO[bytes]]:
    """A file that is moved to its place only when all of it is on the disk."""
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
    """Read an array in numpy's format into an existing array. Raises ValueError."""
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
    if file.read(1):  # reading to the end also checks the checksum
        raise ValueError("it is too long")
