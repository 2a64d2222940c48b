"""The sizes of a scan, which decide how much memory it holds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int32, Int64

from indexer.captured import Captured
from indexer.measure.kernels import BINS
from indexer.measure.lookup import NO_TOKENS, LookupTokens
from indexer.measure.selection import Selection
from indexer.store.bands import BANDS
from indexer.store.sizes import BAND_EXAMPLES, FIRING_PEAKS, RANDOM_EXAMPLES, SOURCE_EXAMPLES


@dataclass(frozen=True)
class ScanShape:
    """What a scan measures: consecutive layers, by default all of a model, or a part of a layer."""

    widths: tuple[int, ...]
    """Neurons of each layer."""
    sample: Int64[np.ndarray, " s"]
    """The sample's context ids in hash order."""
    top_k: int
    bottom_k: int
    window: int
    """Activations stored an example."""
    source_slots: int = 0
    """Sources with examples of their own; 0 where the corpus has one source."""
    ranks: Int32[np.ndarray, " contexts"] | None = None
    """Of a sparse set: each context's place in the order of all contexts' hashes."""
    lookup: LookupTokens = NO_TOKENS
    """Tokens of the token-lookup score; without any, it is not measured."""
    first_layer: int = 0
    """The index in the model of the first of these layers."""
    first_neuron: int = 0
    """Neurons before these, counted over all layers."""
    first_unit: int = 0
    """The index in its layer of the first of these, where a layer is cut."""
    cut: bool = False
    """Whether this is a part of one layer."""

    @property
    def sparse(self) -> bool:
        """Whether most activations are exactly 0, and only values above 0 are chosen from."""
        return self.ranks is not None

    @property
    def source_examples(self) -> int:
        """Examples by source of a neuron."""
        return self.source_slots * SOURCE_EXAMPLES

    @property
    def layers(self) -> range:
        """The model's layers that are measured."""
        return range(self.first_layer, self.first_layer + len(self.widths))

    @property
    def neurons(self) -> int:
        """Neurons in all layers."""
        return sum(self.widths)

    @property
    def random_contexts(self) -> Int64[np.ndarray, " r"]:
        """The first contexts of the sample's second half; none where each unit has its own."""
        if self.sparse:
            return self.sample[:0]
        half = len(self.sample) // 2
        return self.sample[half : half + RANDOM_EXAMPLES]

    @property
    def examples(self) -> int:
        """Examples of a neuron, without those by source."""
        return self.top_k + self.bottom_k + self.sample_examples

    @property
    def sample_examples(self) -> int:
        """Random and band examples of a neuron."""
        if self.sparse:
            return RANDOM_EXAMPLES
        return len(self.random_contexts) + BANDS * BAND_EXAMPLES

    def extremes_bytes(self) -> int:
        """Memory for what is measured over all contexts, in bytes."""
        examples = self.top_k + self.bottom_k + self.source_examples
        return Selection.bytes_for(self.neurons, examples, self.window) + 8 * self.neurons

    def sample_bytes(self) -> int:
        """Memory for what is measured over the sample, in bytes."""
        examples = Selection.bytes_for(self.neurons, self.sample_examples, self.window)
        if self.sparse:
            examples += self.neurons * (8 * FIRING_PEAKS + 16)
        lookup = 4 * len(self.lookup) + 5 * 8
        each = 4 * len(self.sample) + 4 * BINS + 8 * 20 + lookup
        return examples + self.neurons * each

    def bytes_held(self) -> int:
        """Memory of the scan's state in bytes, without the model and its forward pass."""
        return self.extremes_bytes() + self.sample_bytes()

    def slice(self, first: int, end: int) -> ScanShape:
        """The same for layers first…end − 1 of these."""
        return replace(
            self,
            widths=self.widths[first:end],
            first_layer=self.first_layer + first,
            first_neuron=self.first_neuron + sum(self.widths[:first]),
        )

    def units(self, layer: int, first: int, end: int) -> ScanShape:
        """The same for units first…end − 1 of a layer of these."""
        whole = self.slice(layer, layer + 1)
        return replace(
            whole,
            widths=(end - first,),
            first_neuron=whole.first_neuron + first,
            first_unit=first,
            cut=True,
        )

    def own(self, captured: Captured) -> Captured:
        """What is measured of a captured layer: all of it, unless the layer is cut."""
        if not self.cut:
            return captured
        units = slice(self.first_unit, self.first_unit + self.neurons)
        return Captured(*(part[..., units] for part in (captured.activations, *captured.parts)))
