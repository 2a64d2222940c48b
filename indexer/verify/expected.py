"""Checks the form of a run's lists, without the model: how many examples each has, their contexts
and their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64

from indexer.corpus.prepared import PreparedCorpus
from indexer.measure.sources import count_slots, slots_of
from indexer.store import schema
from indexer.store.packing.codec import ExampleArrays
from indexer.store.sizes import BAND_EXAMPLES, RANDOM_EXAMPLES, SOURCE_EXAMPLES

TOP, BOTTOM, RANDOM, BAND, SOURCE = range(len(schema.KINDS))

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Expected:
    """The properties of all lists that follow from a run's settings and its corpus."""

    top_k: int
    bottom_k: int
    window: int
    sample: Int64[np.ndarray, " s"]
    """The sample's context ids in hash order."""
    slots: Int64[np.ndarray, " contexts"]
    """The source slot of each context."""
    source_slots: int
    """The number of slots; 0 if the corpus has one source."""
    slot_sizes: Int64[np.ndarray, " slots"]
    """Contexts in each slot."""
    ranks: Int32[np.ndarray, " contexts"] | None
    """Of a sparse set: each context's place in the order of all contexts' hashes."""

    @classmethod
    def of(cls, settings: dict[str, Any], corpus: PreparedCorpus, *, sparse: bool) -> Expected:
        """From a run's settings; `sparse`: only contexts in which a unit fires are in its lists.
        Raises KeyError if a setting is missing."""
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
            ranks=corpus.ranks(settings["seed"]) if sparse else None,
        )

    @property
    def sparse(self) -> bool:
        """Whether only contexts in which a unit fires are in its lists, which may be short."""
        return self.ranks is not None

    @property
    def contexts(self) -> int:
        """The number of contexts in the corpus."""
        return len(self.slots)

    @property
    def second_half(self) -> Int64[np.ndarray, " m"]:
        """The half of the sample with random and band examples, in hash order."""
        return self.sample[len(self.sample) // 2 :]


def by_extreme_problem(examples: ExampleArrays | None, kind: int, expected: Expected) -> str | None:
    """The problem with the form of a top, bottom or by-source list, or None."""
    if kind == SOURCE:
        return _source_problem(examples, expected)
    most = expected.top_k if kind == TOP else expected.bottom_k
    if examples is None:
        missing = most and not expected.sparse
        return f"the list is missing; it should have {most} examples" if missing else None
    if (problem := _ids_problem(examples, most, expected)) is not None:
        return problem
    values = examples.peaks if kind == TOP else -examples.troughs
    return _order_problem(values, examples.context_ids)


def _source_problem(examples: ExampleArrays | None, expected: Expected) -> str | None:
    wanted = np.minimum(expected.slot_sizes, SOURCE_EXAMPLES)
    most = int(wanted.sum())
    if examples is None:
        missing = most and not expected.sparse
        return f"the list is missing; it should have {most} examples" if missing else None
    if (problem := _ids_problem(examples, most, expected)) is not None:
        return problem
    slots = expected.slots[examples.context_ids]
    if (np.diff(slots) < 0).any():
        return "the sources are not in order"
    counts = np.bincount(slots, minlength=len(wanted))
    wrong = counts > wanted if expected.sparse else counts != wanted
    if wrong.any():
        slot = int(np.flatnonzero(wrong)[0])
        return f"source {slot} has {counts[slot]} examples, not {wanted[slot]}"
    for slot in range(expected.source_slots):
        rows = slots == slot
        problem = _order_problem(examples.peaks[rows], examples.context_ids[rows])
        if problem is not None:
            return problem
    return None


def sample_problem(
    examples: ExampleArrays | None,
    kind: int,
    expected: Expected,
    band_cuts: Array,
    band_counts: Array,
) -> str | None:
    """The problem with the form of a random or band list, or None.

    `band_cuts` [bands − 1] separate the bands; a cut belongs to the band above it. `band_counts`
    [bands] are the contexts of the second half in each band.
    """
    ids = np.empty(0, np.int64) if examples is None else examples.context_ids
    if kind == RANDOM:
        wanted = expected.second_half[:RANDOM_EXAMPLES]
        same = len(ids) == len(wanted) and bool((ids == wanted).all())
        return None if same else "these are not the first contexts of the sample's second half"
    sizes = np.minimum(band_counts, BAND_EXAMPLES)
    if len(ids) != sizes.sum():
        return f"the list has {len(ids)} examples, not {int(sizes.sum())}"
    if examples is None:
        return None
    ranks = {int(context): rank for rank, context in enumerate(expected.second_half)}
    if not all(int(context) in ranks for context in ids):
        return "it has a context that is not in the sample's second half"
    bands = (examples.peaks[:, None].astype(np.float64) >= band_cuts).sum(axis=1)
    if (np.bincount(bands, minlength=len(sizes)) != sizes).any() or (np.diff(bands) < 0).any():
        return "it has a peak outside its band"
    within = np.diff([ranks[int(context)] for context in ids])[np.diff(bands) == 0]
    return "a band is not in hash order" if (within <= 0).any() else None


def ids_exist(examples: ExampleArrays, expected: Expected) -> bool:
    """Whether all context ids are in the corpus."""
    ids = examples.context_ids
    return bool(((ids >= 0) & (ids < expected.contexts)).all())


def _ids_problem(examples: ExampleArrays, most: int, expected: Expected) -> str | None:
    ids = examples.context_ids
    if not ids_exist(examples, expected):
        outside = ids[(ids < 0) | (ids >= expected.contexts)]
        return f"there is no context {int(outside[0])} in the corpus"
    if len(np.unique(ids)) != len(ids):
        return "it has a context twice"
    if len(ids) > most or (len(ids) < most and not expected.sparse):
        return f"the list has {len(ids)} examples, not {most}"
    if expected.sparse and (examples.peaks <= 0).any():
        return "it has a context in which the unit does not fire"
    return None


def _order_problem(values: Array, ids: Array) -> str | None:
    """The problem if values [n] do not fall, or ties are not by context id; None if they do."""
    worse = (values[1:] < values[:-1]) | ((values[1:] == values[:-1]) & (ids[1:] > ids[:-1]))
    if worse.all():
        return None
    place = int(np.flatnonzero(~worse)[0]) + 1
    return f"example {place + 1} (context {int(ids[place])}) comes after a lower one"
