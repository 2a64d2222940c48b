"""The names of a run's shards, and of the folder they share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from indexer.errors import NeurariumError


@dataclass(frozen=True)
class Shard:
    """One of several shares of a run."""

    number: int
    """From 1 on."""
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `2/8`. Raises NeurariumError."""
        match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        number, count = (int(part) for part in match.groups()) if match else (0, 0)
        if not 1 <= number <= count:
            raise NeurariumError(
                f"--shard {text} is not recognised: use 2/8 for the second of eight shards."
            )
        return cls(number, count)

    @property
    def folder_name(self) -> str:
        """The name of this shard's folder in the run's folder."""
        return f"shard-{self.number}-of-{self.count}"


def shared_folder(state: Path | None) -> Path:
    """The folder that all shards share. Raises NeurariumError if none is named."""
    if state is None:
        raise NeurariumError(
            "A shard needs --state FOLDER, a folder that all shards and `neurarium merge` can see."
        )
    return state


def count_of(folder: Path) -> int:
    """How many shards a run has, by the names in its folder. Raises NeurariumError."""
    names = [path.name for path in folder.glob("shard-*-of-*") if path.is_dir()]
    counts = {name.rpartition("-")[2] for name in names}
    if len(counts) > 1:
        raise NeurariumError(
            f"{folder} holds shards of several runs, of {' and of '.join(sorted(counts))} shards: "
            "remove those that do not belong."
        )
    if not counts or not (total := counts.pop()).isdigit():
        raise NeurariumError(
            f"{folder} holds no shards: index them with --shard and --state {folder}."
        )
    return int(total)
