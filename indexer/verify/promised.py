"""What a run promises of the form of its lists: how many examples each has, which contexts they may
be of, and their order. Pure; nothing here needs the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from indexer.corpus.prepared import PreparedCorpus
from indexer.measure.sources import count_slots, slots_of
from indexer.store import schema
from indexer.store.packing.codec import ExampleArrays

# What the README promises of a list, not imported from the scan whose work is being checked.
RANDOM_EXAMPLES = 15
BAND_EXAMPLES = 3
SOURCE_EXAMPLES = 3

TOP, BOTTOM, RANDOM, BAND, SOURCE = range(len(schema.KINDS))

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Promised:
    """What every list of a run was made by: its settings as they came out, and its corpus."""

    top_k: int
    bottom_k: int
    window: int
    sample: Int64[np.ndarray, " s"]
    """The sample's context ids in hash order."""
    slots: Int64[np.ndarray, " contexts"]
    """The source slot of every context."""
    source_slots: int
    """How many slots there are; 0 where the corpus has one source."""
    slot_sizes: Int64[np.ndarray, " slots"]
    """Contexts of each."""

    @classmethod
    def of(cls, settings: dict[str, Any], corpus: PreparedCorpus) -> Promised:
        """From a run's settings. Raises KeyError where one is not there."""
        slots = slots_of(corpus.source_index)
        count = count_slots(len(corpus.sources))
        return cls(
            top_k=min(settings["top_k"], corpus.contexts),
            bottom_k=min(settings["bottom_k"], corpus.contexts),
            window=min(settings["window"] or settings["ctx_len"], settings["ctx_len"]),
            sample=corpus.sample(settings["sample"], settings["seed"]),
            slots=slots,
            source_slots=count,
            slot_sizes=np.bincount(slots, minlength=count)[:count],
        )

    @property
    def contexts(self) -> int:
        """Contexts of the corpus."""
        return len(self.slots)

    @property
    def second_half(self) -> Int64[np.ndarray, " m"]:
        """The half of the sample that random and band examples are of, in hash order."""
        return self.sample[len(self.sample) // 2 :]


def by_extreme_problem(examples: ExampleArrays | None, kind: int, promised: Promised) -> str | None:
    """What is wrong with the form of a top, bottom or by-source list, or None."""
    if kind == SOURCE:
        return _source_problem(examples, promised)
    most = promised.top_k if kind == TOP else promised.bottom_k
    if examples is None:
        return f"the list is missing, it is to have {most} examples" if most else None
    if (problem := _ids_problem(examples, most, promised)) is not None:
        return problem
    values = examples.peaks if kind == TOP else -examples.troughs
    return _order_problem(values, examples.context_ids)


def _source_problem(examples: ExampleArrays | None, promised: Promised) -> str | None:
    wanted = np.minimum(promised.slot_sizes, SOURCE_EXAMPLES)
    most = int(wanted.sum())
    if examples is None:
        return f"the list is missing, it is to have {most} examples" if most else None
    if (problem := _ids_problem(examples, most, promised)) is not None:
        return problem
    slots = promised.slots[examples.context_ids]
    if (np.diff(slots) < 0).any():
        return "the sources are not in order"
    counts = np.bincount(slots, minlength=len(wanted))
    if (counts != wanted).any():
        slot = int(np.flatnonzero(counts != wanted)[0])
        return f"source {slot} has {counts[slot]} examples, not {wanted[slot]}"
    for slot in range(promised.source_slots):
        mine = slots == slot
        problem = _order_problem(examples.peaks[mine], examples.context_ids[mine])
        if problem is not None:
            return problem
    return None


def sample_problem(
    examples: ExampleArrays | None,
    kind: int,
    promised: Promised,
    band_cuts: Array,
    band_counts: Array,
) -> str | None:
    """What is wrong with the form of a random or band list, or None.

    A band is between two of `band_cuts`, a cut belonging to the band above it; `band_counts` are
    the contexts of the second half in each.
    """
    ids = np.empty(0, np.int64) if examples is None else examples.context_ids
    if kind == RANDOM:
        wanted = promised.second_half[:RANDOM_EXAMPLES]
        same = len(ids) == len(wanted) and bool((ids == wanted).all())
        return None if same else "they are not the first contexts of the sample's second half"
    kept = np.minimum(band_counts, BAND_EXAMPLES)
    if len(ids) != kept.sum():
        return f"the list has {len(ids)} examples, not {int(kept.sum())}"
    if examples is None:
        return None
    ranks = {int(context): rank for rank, context in enumerate(promised.second_half)}
    if not all(int(context) in ranks for context in ids):
        return "there is a context that is not in the sample's second half"
    bands = (examples.peaks[:, None].astype(np.float64) >= band_cuts).sum(axis=1)
    if (np.bincount(bands, minlength=len(kept)) != kept).any() or (np.diff(bands) < 0).any():
        return "there is a peak outside its band"
    within = np.diff([ranks[int(context)] for context in ids])[np.diff(bands) == 0]
    return "a band is not in hash order" if (within <= 0).any() else None


def ids_exist(examples: ExampleArrays, promised: Promised) -> bool:
    ids = examples.context_ids
    return bool(((ids >= 0) & (ids < promised.contexts)).all())


def _ids_problem(examples: ExampleArrays, most: int, promised: Promised) -> str | None:
    ids = examples.context_ids
    if not ids_exist(examples, promised):
        outside = ids[(ids < 0) | (ids >= promised.contexts)]
        return f"there is no context {int(outside[0])} in the corpus"
    if len(np.unique(ids)) != len(ids):
        return "a context is there twice"
    if len(ids) != most:
        return f"the list has {len(ids)} examples, not {most}"
    return None


def _order_problem(values: Array, ids: Array) -> str | None:
    """Entries come best first, of equal ones the earlier context."""
    worse = (values[1:] < values[:-1]) | ((values[1:] == values[:-1]) & (ids[1:] > ids[:-1]))
    if worse.all():
        return None
    place = int(np.flatnonzero(~worse)[0]) + 1
    return f"example {place + 1} (context {int(ids[place])}) stands after a lesser one"
