"""One pass of a model over a corpus for its attention heads: examples by every ranking over all
contexts, scores over the sample, one forward pass a batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from indexer.captured import CapturedHeads
from indexer.corpus.batches import Batch, BatchPlan, Contexts, fill_batch
from indexer.heads.effects import EffectPass, LogitPath, next_tokens
from indexer.heads.examples import RANKINGS, HeadExample, PairTokens, Ranking
from indexer.heads.pairs import best_effects, best_places, best_values, valid_pairs
from indexer.heads.scores import Rows, ScoreSums, rows_of
from indexer.models.heads import AttentionHeads
from indexer.store.packing.pattern import pack_pattern

PAIRS_KEPT = 256
"""Largest pairs of a head whose tokens are counted."""
_HELD_BYTES = 2**29
"""Patterns held in a forward pass; a single context may need more."""


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

    def rows(self, layer: int) -> slice:
        """A layer's heads among all."""
        first = sum(self.widths[:layer])
        return slice(first, first + self.widths[layer])


class HeadScan:
    """All that is known of the heads so far."""

    def __init__(self, shape: HeadShape) -> None:
        self.shape = shape
        self.rankings = {name: Ranking(shape.heads, shape.examples) for name in RANKINGS}
        self.tokens = PairTokens(shape.heads, PAIRS_KEPT)
        self.random: list[dict[int, HeadExample]] = [{} for _ in range(shape.heads)]
        self.scores = ScoreSums(shape.widths)
        self.pairs = 0
        """Pairs of positions that counted, in all contexts."""
        self._sample = set(shape.sample.tolist())
        self._random = set(shape.random.tolist())

    def random_examples(self, head: int) -> list[HeadExample]:
        """A head's random examples, in the order of the sample."""
        return [self.random[head][int(context)] for context in self.shape.random]


def scan_heads(
    heads: AttentionHeads,
    path: LogitPath | None,
    corpus: Contexts,
    scan: HeadScan,
    plans: Iterable[BatchPlan],
) -> None:
    """Run the model over batches."""
    for plan in plans:
        for part in _parts(plan, corpus, scan.shape):
            batch = fill_batch(part, corpus, padding_id=0)
            scan_batch(heads, path, batch, scan)


def _parts(plan: BatchPlan, corpus: Contexts, shape: HeadShape) -> Iterable[BatchPlan]:
    """A batch in parts whose patterns can all be held."""
    longest = int(corpus.lengths[plan.context_ids].max())
    count = max(1, _HELD_BYTES // (4 * shape.heads * longest**2))
    for start in range(0, len(plan.context_ids), count):
        yield BatchPlan(plan.part, plan.context_ids[start : start + count])


def scan_batch(heads: AttentionHeads, path: LogitPath | None, batch: Batch, scan: HeadScan) -> None:
    """Run one forward pass and measure all heads."""
    device = heads.trunk.device
    tokens = torch.from_numpy(batch.tokens).to(device)
    attention = torch.from_numpy(batch.attention).to(device)
    included = torch.from_numpy(batch.included).to(device)
    held: list[CapturedHeads] = []
    effects = None if path is None else EffectPass(heads, path, next_tokens(tokens))

    def on_heads(layer: int, captured: CapturedHeads) -> None:
        if effects is not None:
            effects.on_heads(layer, captured)
        held.append(captured)

    heads.capture_heads(tokens, attention, on_heads, None if effects is None else effects.hooks())
    with torch.inference_mode():
        valid, rows = valid_pairs(included), rows_of(tokens, included)
        scan.pairs += int(valid.sum())
        sampled = [i for i, c in enumerate(batch.context_ids.tolist()) if c in scan._sample]
        if sampled:
            scan.scores.count(_only(rows, sampled))
        for layer, captured in enumerate(held):
            added = None if effects is None else effects.effects(layer)
            if sampled:
                _add_scores(scan.scores, layer, captured, added, rows, sampled)
            _LayerBatch(batch, captured, added, valid, rows, scan, layer).select()


def _only(rows: Rows, contexts: list[int]) -> Rows:
    return Rows(**{name: value[contexts] for name, value in vars(rows).items()})


def _add_scores(
    scores: ScoreSums,
    layer: int,
    captured: CapturedHeads,
    effects: Float[Tensor, "batch pos head"] | None,
    rows: Rows,
    sampled: list[int],
) -> None:
    chosen = _only(rows, sampled)
    scores.add(layer, captured.pattern[sampled], chosen)
    if effects is not None:
        scores.add_effects(layer, effects[sampled], chosen)


class _LayerBatch:
    """One layer's heads on one batch, and what is kept of the contexts chosen from it."""

    def __init__(
        self,
        batch: Batch,
        captured: CapturedHeads,
        effects: Float[Tensor, "batch pos head"] | None,
        valid: Bool[Tensor, "batch query key"],
        rows: Rows,
        scan: HeadScan,
        layer: int,
    ) -> None:
        self.batch, self.captured, self.valid, self.rows = batch, captured, valid, rows
        self.effects, self.scan, self.where = effects, scan, scan.shape.rows(layer)
        self._patterns: dict[tuple[int, int], tuple[Float32[np.ndarray, "q k"], bytes]] = {}

    def select(self) -> None:
        """Enter this layer's heads into every ranking."""
        best = best_values(self.captured, self.valid)
        self._rank("moved", np.where(best.moved >= 0, best.moved, -np.inf))
        self._rank("attention", np.where(best.attention >= 0, best.attention, -np.inf))
        if self.effects is not None:
            highest, lowest = best_effects(self.effects, self.rows.predicting)
            self._rank("helps", highest)
            self._rank("hurts", -lowest)
        self._count_tokens(np.where(best.moved >= 0, best.moved, -np.inf))
        for context, context_id in enumerate(self.batch.context_ids.tolist()):
            if context_id in self.scan._random:
                for head in range(self.captured.pattern.shape[1]):
                    example = self._pair_example(context, head, by_norm=True)
                    self.scan.random[self.where.start + head][context_id] = example

    def _entering(
        self, ranking: Ranking | PairTokens, values: Float32[np.ndarray, "batch head"]
    ) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"], Float32[np.ndarray, " m"]]:
        """Contexts and heads that may enter, and their values."""
        values = values.astype(np.float32)
        entering = ranking.entering(self.where, values, self.batch.context_ids)
        contexts, heads = np.nonzero(entering & (values > -np.inf))
        return contexts, heads, values[contexts, heads]

    def _rank(self, name: str, values: Float32[np.ndarray, "batch head"]) -> None:
        ranking = self.scan.rankings[name]
        contexts, heads, entering = self._entering(ranking, values)
        if not len(contexts):
            return
        examples = []
        for context, head in zip(contexts.tolist(), heads.tolist(), strict=True):
            if name in ("moved", "attention"):
                examples.append(self._pair_example(context, head, by_norm=name == "moved"))
            else:
                examples.append(self._effect_example(context, head, helps=name == "helps"))
        ranking.add(self.where.start + heads, entering, examples)

    def _count_tokens(self, values: Float32[np.ndarray, "batch head"]) -> None:
        contexts, heads, entering = self._entering(self.scan.tokens, values)
        queries, keys = np.zeros((2, len(contexts)), np.int64)
        for i, (context, head) in enumerate(zip(contexts.tolist(), heads.tolist(), strict=True)):
            queries[i], keys[i] = self._best_pair(context, head, by_norm=True)
        self.scan.tokens.add(
            self.where.start + heads,
            entering,
            self.batch.context_ids[contexts],
            self.batch.tokens[contexts, queries],
            self.batch.tokens[contexts, keys],
        )

    def _best_pair(self, context: int, head: int, *, by_norm: bool) -> tuple[int, int]:
        pattern = self.captured.pattern[context, head].float().cpu().numpy()
        norms = self.captured.value_norms[context, head].cpu().numpy()
        weights = norms if by_norm else np.ones_like(norms)
        valid = self.valid[context].cpu().numpy()
        places = best_places(pattern[None], weights[None], valid[None])
        return int(places.queries[0]), int(places.keys[0])

    def _pair_example(self, context: int, head: int, *, by_norm: bool) -> HeadExample:
        query, key = self._best_pair(context, head, by_norm=by_norm)
        if not self.valid[context].any():  # a context of one token has no pair: shown as itself
            query = key = int(self.batch.included[context].argmax())
        return self._example(context, head, query, key, "moved" if by_norm else "attention")

    def _effect_example(self, context: int, head: int, *, helps: bool) -> HeadExample:
        assert self.effects is not None
        effects = self.effects[context, :, head].float().cpu().numpy()
        counted = self.rows.predicting[context].cpu().numpy()
        signed = np.where(counted, effects if helps else -effects, -np.inf)
        query = int(signed.argmax())
        earlier = self.batch.included[context][:query]
        row = self.captured.pattern[context, head, query, :query].float().cpu().numpy()
        key = int(np.where(earlier, row, -1).argmax()) if earlier.any() else query
        return self._example(context, head, query, key, "helps" if helps else "hurts")

    def _example(self, context: int, head: int, query: int, key: int, name: str) -> HeadExample:
        pattern, packed = self._pattern(context, head)
        attention = float(pattern[query, key])
        norm = float(self.captured.value_norms[context, head, key])
        effect = None
        if self.effects is not None and bool(self.rows.predicting[context, query]):
            effect = float(self.effects[context, query, head])
        moved = float(np.float32(attention) * np.float32(norm))
        value = {"moved": moved, "attention": attention}.get(name, effect)
        assert value is not None  # effects are ranked only where they are known
        return HeadExample(
            context_id=int(self.batch.context_ids[context]),
            value=value,
            query=query,
            key=key,
            attention=attention,
            moved=moved,
            effect=effect,
            pattern=packed,
        )

    def _pattern(self, context: int, head: int) -> tuple[Float32[np.ndarray, "q k"], bytes]:
        """A head's pattern over the context's own positions; packed once, however often it is
        chosen."""
        if (context, head) not in self._patterns:
            length = int(self.batch.attention[context].sum())
            own = self.captured.pattern[context, head, :length, :length].float().cpu().numpy()
            self._patterns[context, head] = (own, pack_pattern(own))
        return self._patterns[context, head]
