"""One pass of a model over a corpus for its attention heads: examples by every ranking over all
contexts, scores over the sample, one forward pass a batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64

from indexer.corpus.batches import Batch, BatchPlan, Contexts, fill_batch
from indexer.heads.batch import HeadBatch, Ranked
from indexer.heads.effects import LogitPath
from indexer.heads.examples import RANKINGS, Examples, HeadExample, PairTokens, Ranking
from indexer.heads.scores import ScoreSums
from indexer.measure.selection import Selection
from indexer.models.heads import AttentionHeads

PAIRS_KEPT = 256
"""Largest pairs of a head whose tokens are counted."""


@dataclass(frozen=True)
class HeadShape:
    """The sizes of a scan."""

    widths: tuple[int, ...]
    sample: Int64[np.ndarray, " s"]
    """The sample's contexts in hash order."""
    random: Int64[np.ndarray, " r"]
    """Contexts that are examples of every head."""
    examples: int
    """Of each ranking."""

    @property
    def heads(self) -> int:
        """Of all layers."""
        return sum(self.widths)


class HeadScan:
    """All that is known of the heads so far."""

    def __init__(self, shape: HeadShape) -> None:
        self.shape = shape
        self.rankings = {name: Ranking(shape.heads, shape.examples) for name in RANKINGS}
        self.tokens = PairTokens(shape.heads, PAIRS_KEPT)
        self.random = Examples(shape.heads * len(shape.random))
        """Head by head, in the order of the sample."""
        self.scores = ScoreSums(shape.widths)
        self.pairs = 0
        """Pairs of positions that counted, in all contexts."""

    def random_examples(self, head: int) -> list[HeadExample]:
        """A head's random examples, in the order of the sample."""
        count = len(self.shape.random)
        return [self.random.example(slot) for slot in range(head * count, (head + 1) * count)]

    def add(self, batch: HeadBatch) -> None:
        """Enter a batch, after its forward pass, into every ranking."""
        self.pairs += batch.pairs
        for name, ranking in self.rankings.items():
            ranked = batch.ranked(name)
            if ranked is not None:
                contexts, heads, slots = _admitted(ranking.best, batch, ranked)
                ranking.examples.put(slots, batch.found(ranked, contexts, heads))
        moved = batch.ranked("moved")
        assert moved is not None  # norms are always known
        contexts, heads, slots = _admitted(self.tokens.best, batch, moved)
        for row, places in enumerate((moved.queries, moved.keys)):
            self.tokens.tokens[row, slots] = batch.batch.tokens[contexts, places[contexts, heads]]
        heads, count = np.arange(self.shape.heads), len(self.shape.random)
        for context, context_id in enumerate(batch.batch.context_ids.tolist()):
            for number in np.flatnonzero(self.shape.random == context_id).tolist():
                found = batch.found(moved, np.full_like(heads, context), heads)
                self.random.put(heads * count + number, found)


def _admitted(
    best: Selection, batch: HeadBatch, ranked: Ranked
) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"], Int64[np.ndarray, " m"]]:
    """Enter a batch into a selection: the contexts and heads that are in it now, and their
    slots."""
    ids = batch.batch.context_ids
    entering = best.entering(slice(0, best.rows), ranked.values, ids)
    contexts, heads = np.nonzero(entering & (ranked.values > -np.inf))
    places, slots = best.admit(heads, ranked.values[contexts, heads], ids[contexts])
    return contexts[places], heads[places], slots


def scan_heads(
    heads: AttentionHeads,
    path: LogitPath | None,
    corpus: Contexts,
    scan: HeadScan,
    plans: Iterable[BatchPlan],
) -> None:
    """Run the model over batches."""
    for plan in plans:
        scan_batch(heads, path, fill_batch(plan, corpus, padding_id=0), scan)


def scan_batch(heads: AttentionHeads, path: LogitPath | None, batch: Batch, scan: HeadScan) -> None:
    """Run one forward pass and measure all heads. Raises `NeurariumError` when memory runs out."""
    measured = HeadBatch(heads, path, batch, scan.scores)
    device = heads.trunk.device
    tokens = torch.from_numpy(batch.tokens).to(device)
    attention = torch.from_numpy(batch.attention).to(device)
    heads.trunk.run_hooked(tokens, attention, measured.hooks())
    scan.add(measured)
