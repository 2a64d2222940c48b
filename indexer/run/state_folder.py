"""Whether checkpoints can be written. Imports nothing heavy."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

from indexer.errors import NeurariumError


def check_writable(folder: Path) -> None:
    """Raises NeurariumError if no file can be written in a folder, which is made for the attempt if
    it is not there."""
    missing = list(takewhile(lambda path: not path.exists(), (folder, *folder.parents)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise NeurariumError(
            f"Checkpoints cannot be written to {folder} ({error.strerror or error}): name another "
            "folder with --state."
        ) from error
    finally:
        with suppress(OSError):
            for path in missing:
                path.rmdir()
