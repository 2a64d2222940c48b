"""Lists of examples from `ExampleArrays`, for the store's writing half."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from indexer.store.packing import layout
from indexer.store.packing.codec import ExampleArrays, Packer
from indexer.store.packing.layout import Windows


def windows_of(lists: Sequence[ExampleArrays]) -> Windows:
    """The examples of all lists, concatenated in the form `layout` takes."""
    lengths = np.concatenate([np.empty(0, np.uint16), *(examples.lengths for examples in lists)])
    quantized = np.zeros((len(lengths), int(lengths.max(initial=0))), np.int8)
    inside = np.arange(quantized.shape[1]) < lengths[:, None]
    quantized[inside] = np.concatenate(
        [np.empty(0, np.int8), *(examples.quantized for examples in lists)]
    )
    fields = {
        name: np.concatenate([np.empty(0, dtype), *(getattr(examples, name) for examples in lists)])
        for name, dtype in layout.FIELDS.items()
    }
    return Windows(quantized=quantized, **fields)


def pack_lists(lists: Sequence[ExampleArrays]) -> bytes:
    """Bytes for one row of `examples`: lists of consecutive kinds of one neuron.

    Raises ValueError if a list does not have the activations its `lengths` state.
    """
    counts = np.array([[len(examples) for examples in lists]], np.int64).reshape(1, len(lists))
    for examples in lists:
        if len(examples.quantized) != int(examples.lengths.sum(dtype=np.int64)):
            raise ValueError("A list of examples does not have as many activations as stated.")
    (head,), (activations,) = layout.lists_bytes(counts, windows_of(lists))
    return Packer().lists(head, activations)
