"""The sizes that decide what a scan holds in memory. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from indexer.measure.kernels import BINS
from indexer.measure.peaks import BANDS
from indexer.measure.selection import Selection

RANDOM_EXAMPLES = 15
BAND_EXAMPLES = 3
SOURCE_EXAMPLES = 3


@dataclass(frozen=True)
class ScanShape:
    """What a scan measures: some layers that follow one another, all of a model unless said."""

    widths: tuple[int, ...]
    """Neurons of each layer."""
    sample: Int64[np.ndarray, " s"]
    """The sample's context ids in hash order."""
    top_k: int
    bottom_k: int
    window: int
    """Activations stored an example."""
    source_slots: int = 0
    """Slots of sources that have examples of their own; 0 where the corpus has one source."""
    first_layer: int = 0
    """The model's layer that is the first here."""
    first_neuron: int = 0
    """Neurons in the layers before that."""

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
        """The first contexts of the sample's second half."""
        half = len(self.sample) // 2
        return self.sample[half : half + RANDOM_EXAMPLES]

    @property
    def examples(self) -> int:
        """Examples of a neuron, of all kinds but those by source."""
        return self.top_k + self.bottom_k + self.sample_examples

    @property
    def sample_examples(self) -> int:
        """Random examples and those of the bands."""
        return len(self.random_contexts) + BANDS * BAND_EXAMPLES

    def extremes_bytes(self) -> int:
        """Memory that what is taken over all contexts holds, in bytes."""
        kept = self.top_k + self.bottom_k + self.source_examples
        return Selection.bytes_for(self.neurons, kept, self.window) + 8 * self.neurons

    def sample_bytes(self) -> int:
        """Memory that what is taken over the sample holds, in bytes."""
        examples = Selection.bytes_for(self.neurons, self.sample_examples, self.window)
        return examples + self.neurons * (4 * len(self.sample) + 4 * BINS + 8 * 20)

    def bytes_held(self) -> int:
        """Memory the scan's state takes, in bytes, beyond the model and its forward pass."""
        return self.extremes_bytes() + self.sample_bytes()

    def slice(self, first: int, end: int) -> ScanShape:
        """The same of layers first…end of these."""
        before = sum(self.widths[:first])
        return ScanShape(
            widths=self.widths[first:end],
            sample=self.sample,
            top_k=self.top_k,
            bottom_k=self.bottom_k,
            window=self.window,
            source_slots=self.source_slots,
            first_layer=self.first_layer + first,
            first_neuron=self.first_neuron + before,
        )
