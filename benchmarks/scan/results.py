"""What the benchmark of indexing found out, as values: shown as tables, saved as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.scan.contestants import OTHERS, SCAN, TRUNK
from benchmarks.scan.rounds import Speed, Turn, faster, of_trunk_at, of_trunk_whole
from benchmarks.scan.shapes import DEMO

OF_TRUNK = {"float32": 0.95, "bfloat16": 0.90}
FASTER = 1.2
"""The targets: the scan's speed by the trunk's, and by the fastest of the others' ways."""
LEAST_TOKENS = 200_000
"""They are meant for runs at least so long: the first batches are full of winners."""
LONG_RUN = 10_000_000
"""Tokens of the run for which a ratio is computed from those of the sample and of the end."""


@dataclass(frozen=True)
class Whole:
    """One run as a user has it, `neurarium index` in a process of its own."""

    dtype: str
    tokens: int
    seconds: dict[str, float]
    """Of each stage."""
    peak_memory: int
    """The process's largest resident size, in bytes."""


@dataclass(frozen=True)
class Piece:
    """A part of the scan's time beyond the trunk."""

    dtype: str
    part: str
    name: str
    of_trunk: float
    """Its seconds by the trunk's, on the same batches."""
    of_trunk_processor: float
    """The same of processor time."""


@dataclass(frozen=True)
class Measured:
    """All that was measured of one model at one length of context."""

    shape: str
    ctx_len: int
    layers: int
    neurons: int
    parameters: int
    attention: str
    """transformers's name of the attention that the trunk and the scan run with."""
    contexts: int
    tokens: int
    sample_contexts: int
    sources: int
    batches: int
    padding: float
    """Share of all positions."""
    described_in: float
    """Seconds until the model's configuration and its tokenizer were read."""
    prepared_in: float
    """Seconds from text to the token file."""
    loaded_in: dict[str, float]
    """Seconds, by dtype."""
    expected_bytes: int
    """What the scan's state was expected to take."""
    held_bytes: dict[str, dict[str, int]]
    """What is kept from batch to batch, by dtype and way."""
    speeds: list[Speed]
    turns: list[Turn]
    pieces: list[Piece]
    """Only with `--profile`."""
    peak_memory: int
    """The process's largest resident size so far, with all that is compared in it."""
    load: tuple[float | None, float | None]
    """The machine's load before and after."""
    whole: Whole | None = None

    @property
    def dtypes(self) -> list[str]:
        """The dtypes that were measured."""
        return list(self.loaded_in)

    def speed(self, way: str, dtype: str, part: str = "whole") -> Speed | None:
        """What one way reached at a dtype over a part of the run."""
        key = (way, dtype, part)
        return next((one for one in self.speeds if (one.way, one.dtype, one.part) == key), None)

    def of_trunk(self, way: str, dtype: str, part: str = "whole") -> float | None:
        """A way's speed by the trunk's: the median of the batches of the sample or of the rest; of
        the whole run both, each for its tokens."""
        if part == "whole" and self.speed(way, dtype, "sample") and self.speed(way, dtype, "rest"):
            return of_trunk_whole(self.speeds, way, TRUNK, dtype, self.tokens)
        speed = self.speed(way, dtype, part)
        if speed is None or speed.of_trunk_by_batch is None:
            return None
        return speed.of_trunk_by_batch.median

    def of_trunk_in_a_long_run(self, way: str, dtype: str) -> float | None:
        """A way's speed by the trunk's in a run of `LONG_RUN` tokens, computed."""
        return of_trunk_at(self.speeds, way, TRUNK, dtype, LONG_RUN)

    def beside_others(self, dtype: str) -> tuple[str, float] | None:
        """The fastest of the others' ways, and how many times faster the scan is."""
        found = [
            (times, way)
            for way in OTHERS
            if (times := faster(self.turns, (SCAN, dtype), (way, dtype))) is not None
        ]
        return (min(found)[1], min(found)[0]) if found else None

    def gain(self, way: str) -> float | None:
        """How many times faster a way is in bfloat16 than in float32."""
        return faster(self.turns, (way, "bfloat16"), (way, "float32"))


def targets(found: Sequence[Measured]) -> Iterator[tuple[str, float, float]]:
    """What was measured beside what was asked for: name, value, the least it may be.

    The demo is a toy: it has no targets.
    """
    for one in found:
        if one.shape == DEMO:
            continue
        for dtype in one.dtypes:
            name = f"{one.shape}, {one.ctx_len}, {dtype}"
            ratios = {
                "scan ÷ trunk": one.of_trunk(SCAN, dtype),
                f"the same at {LONG_RUN:,} tokens, computed": one.of_trunk_in_a_long_run(
                    SCAN, dtype
                ),
            }
            for what, value in ratios.items():
                if value is not None and dtype in OF_TRUNK:
                    yield f"{name}: {what}", value, OF_TRUNK[dtype]
            beside = one.beside_others(dtype)
            if beside is not None:
                yield f"{name}: scan ÷ {beside[0]}", beside[1], FASTER
