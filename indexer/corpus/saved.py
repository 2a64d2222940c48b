"""Data sets in folders written by `save_to_disk` of the datasets library."""

from __future__ import annotations

import json
from pathlib import Path

from indexer.errors import NeurariumError

_DATA_SET, _SPLITS = "state.json", "dataset_dict.json"


def saved_files(root: Path, split: str) -> tuple[Path, ...] | None:
    """The Arrow files of a saved data set in their order; None for any other folder.

    Of a data set with splits, those of `split`. Raises NeurariumError if there is no such split, or
    if the folder is not as it was saved.
    """
    if (root / _SPLITS).is_file():
        splits = [str(name) for name in _read(root / _SPLITS, "splits")]
        if split not in splits:
            raise NeurariumError(
                f"{root} has no split {split!r}: choose one with --split ({', '.join(splits)})."
            )
        root = root / split
    elif not ((root / _DATA_SET).is_file() and (root / "dataset_info.json").is_file()):
        return None
    entries = _read(root / _DATA_SET, "_data_files")
    names = [str(entry.get("filename")) for entry in entries if isinstance(entry, dict)]
    # Each is a file of the folder itself: the list is not trusted to lead elsewhere.
    files = tuple(root / Path(name).name for name in names)
    missing = next((path for path in files if not path.is_file()), None)
    if missing is not None or not files:
        raise NeurariumError(
            f"{root} is not complete: {missing or 'data'} is missing. Save the data set again."
        )
    return files


def _read(path: Path, key: str) -> list[object]:
    try:
        entries = json.loads(path.read_bytes())[key]
        if not isinstance(entries, list):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise NeurariumError(
            f"{path} is not what save_to_disk writes: save the data set again, or name its files."
        ) from None
    return entries
