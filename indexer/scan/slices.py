"""What is scanned in one pass: all layers, or slices where memory does not hold their state. Slices
are of whole layers, or of the units of one layer that is too wide.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from indexer import memory
from indexer.errors import NeurariumError
from indexer.memory import readable_bytes
from indexer.scan.shape import ScanShape

SHARE = 0.7
"""The share of memory free after loading the model that the scan may use; the rest is for the
forward pass."""
LEAST_UNITS = 256
"""Units of a layer in a slice, at least: a whole pass over the corpus for fewer is not worth it."""


@dataclass(frozen=True)
class Slice:
    """What one pass scans."""

    first: int
    """The first layer."""
    end: int
    """The layer after the last one."""
    units: tuple[int, int] | None = None
    """The first unit, and the one after the last, where one layer is cut."""

    def of(self, shape: ScanShape) -> ScanShape:
        """The sizes of the slice's layers, from the sizes of all layers."""
        if self.units is None:
            return shape.slice(self.first, self.end)
        return shape.units(self.first, *self.units)

    @property
    def name(self) -> str:
        """The name of the file with its checkpoint, without its ending."""
        layers = f"layers-{self.first}-{self.end - 1}"
        return layers if self.units is None else f"{layers}-units-{self.units[0]}-{self.units[1]}"

    @property
    def numbers(self) -> tuple[int, ...]:
        """It as numbers, as `of_numbers` takes them."""
        return (self.first, self.end, *(self.units or ()))

    @classmethod
    def of_numbers(cls, first: int, end: int, *units: int) -> Slice:
        """From its `numbers`. Raises ValueError."""
        if len(units) not in (0, 2):
            raise ValueError("a slice of units has a first and an end")
        return cls(first, end, (units[0], units[1]) if units else None)


def choose_slices(shape: ScanShape, allowed: int | None = None) -> tuple[Slice, ...]:
    """The slices in order, each with as many layers as `allowed` bytes hold. A layer of a sparse
    set that they do not hold is cut into equal parts.

    `allowed` None means most of the free memory. Raises NeurariumError if that is too little.
    """
    allowed = allowed_bytes(allowed)
    if allowed is None or shape.bytes_held() <= allowed:
        return (Slice(0, len(shape.widths)),)
    slices: list[Slice] = []
    first = 0
    while first < len(shape.widths):
        end = first + 1
        if shape.slice(first, end).bytes_held() > allowed:
            slices += _parts_of(shape, first, allowed)
            first = end
            continue
        while end < len(shape.widths) and shape.slice(first, end + 1).bytes_held() <= allowed:
            end += 1
        slices.append(Slice(first, end))
        first = end
    return tuple(slices)


def _parts_of(shape: ScanShape, layer: int, allowed: int) -> list[Slice]:
    """Equal parts of a layer that `allowed` bytes do not hold. Raises NeurariumError."""
    width = shape.widths[layer]
    least = min(width, LEAST_UNITS) if shape.sparse else width
    # Sums of a dense layer are rounded otherwise where fewer units are added at once.
    if (needed := shape.units(layer, 0, least).bytes_held()) > allowed:
        what = f"Layer {layer} alone" if least == width else f"{least} units of layer {layer}"
        needs = "needs" if least == width else "need"
        raise NeurariumError(
            f"{what} {needs} {readable_bytes(needed)} of memory beside the model, and there are "
            f"{readable_bytes(allowed)}: lower --sample, --top-k or --bottom-k, set a --window, or "
            "allow more with --memory."
        )
    each = shape.slice(layer, layer + 1).bytes_held() / width
    parts = -(-width // int(allowed / each))
    edges = [width * part // parts for part in range(parts + 1)]
    return [Slice(layer, layer + 1, units) for units in pairwise(edges)]


def allowed_bytes(allowed: int | None) -> int | None:
    """The bytes that states may take: as given, or most of the free memory; None where that is not
    known."""
    if allowed is not None:
        return allowed
    free = memory.available()
    return None if free is None else int(SHARE * free)
