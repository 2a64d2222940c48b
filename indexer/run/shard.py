"""The name of one shard of a run."""

from __future__ import annotations

import re
from dataclasses import dataclass

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
