"""All heads of a model on one batch: gathered during a forward pass, read after it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64

from indexer.captured import CapturedHeads
from indexer.corpus.batches import Batch
from indexer.heads.effects import EffectPass, LogitPath, next_tokens
from indexer.heads.examples import Found
from indexer.heads.pairs import BestPairs, LayerPairs, best_effects, layer_pairs, pairs_of
from indexer.heads.scores import ScoreSums, predicting, rows_of
from indexer.models.heads import AttentionHeads
from indexer.store.packing.pattern import packed_entries

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Ranked:
    """What every context and head has for one ranking."""

    name: str
    values: Float32[np.ndarray, "batch head"]
    """Larger is better; −inf where there is nothing to rank."""
    queries: Int64[np.ndarray, "batch head"]
    keys: Int64[np.ndarray, "batch head"]
    attention: Float32[np.ndarray, "batch head"]


class HeadBatch:
    """One batch: open `hooks` during its forward pass, then read the rest.

    Patterns are reduced layer by layer, so that no more than one layer's are held.
    """

    def __init__(
        self, heads: AttentionHeads, path: LogitPath | None, batch: Batch, scores: ScoreSums
    ) -> None:
        """`scores` is given the batch's sums if the batch is part of the sample."""
        self.batch = batch
        self.pairs = int(pairs_of(batch.included).sum())
        """Pairs of positions that count."""
        self._heads, self._scores = heads, scores
        self._places = [(layer, at) for layer, n in enumerate(heads.widths) for at in range(n)]
        device = heads.trunk.device
        tokens = torch.from_numpy(batch.tokens).to(device)
        self._effects = None if path is None else EffectPass(heads, path, next_tokens(tokens))
        self._rows = None
        if batch.part != "rest":
            self._rows = rows_of(tokens, torch.from_numpy(batch.included).to(device))
            scores.count(self._rows)
        self._predicting = predicting(batch.included)
        self._layers: list[LayerPairs] = []
        self._by_head: dict[str, Array] = {}
        self._packed: dict[tuple[int, int], bytes] = {}

    @contextlib.contextmanager
    def hooks(self) -> Iterator[None]:
        """Gather all layers during a forward pass over the batch."""
        with contextlib.ExitStack() as opened:
            if self._effects is not None:
                opened.enter_context(self._effects.hooks())
            opened.enter_context(self._heads.hooked(self.batch.tokens.shape, self._on_heads))
            yield
        self._finish()

    def _on_heads(self, layer: int, captured: CapturedHeads) -> None:
        if self._effects is not None:
            self._effects.on_heads(layer, captured)
        if self._rows is not None:
            self._scores.add(layer, captured.pattern, self._rows)
        self._layers.append(layer_pairs(captured, self.batch.included))

    def _finish(self) -> None:
        """Put all layers' heads side by side."""
        for name in ("keys", "key_attention", "norms"):
            parts = [getattr(layer, name) for layer in self._layers]
            self._by_head[name] = np.concatenate(parts, axis=1)
        if self._effects is None:
            return
        effects = []
        for layer in range(len(self._layers)):
            of_layer = self._effects.effects(layer)
            if self._rows is not None:
                self._scores.add_effects(layer, of_layer, self._rows)
            effects.append(of_layer.float().cpu().numpy().transpose(0, 2, 1))
        self._by_head["effects"] = np.concatenate(effects, axis=1)

    def ranked(self, name: str) -> Ranked | None:
        """All contexts and heads for a ranking; None where effects are not known."""
        if name in ("moved", "attention"):
            pairs: list[BestPairs] = [getattr(layer, name) for layer in self._layers]
            values, queries, keys, attention = (
                np.concatenate([getattr(pair, field) for pair in pairs], axis=1)
                for field in ("values", "queries", "keys", "attention")
            )
            none = np.float32(-np.inf)
            return Ranked(name, np.where(values >= 0, values, none), queries, keys, attention)
        if self._effects is None:
            return None
        effects = self._by_head["effects"]
        values, queries = best_effects(effects if name == "helps" else -effects, self._predicting)
        rows = queries[:, :, None]
        keys, attention = (
            np.take_along_axis(self._by_head[field], rows, axis=2)[:, :, 0]
            for field in ("keys", "key_attention")
        )
        return Ranked(name, values, queries, keys, attention)

    def found(
        self, ranked: Ranked, contexts: Int64[np.ndarray, " m"], heads: Int64[np.ndarray, " m"]
    ) -> Found:
        """What is stored of chosen contexts of heads."""
        queries, keys = ranked.queries[contexts, heads], ranked.keys[contexts, heads]
        attention = ranked.attention[contexts, heads]
        moved = attention * self._by_head["norms"][contexts, heads, keys]
        effect = np.full(len(contexts), np.nan, np.float32)
        if self._effects is not None:
            known = self._predicting[contexts, queries]
            effect[known] = self._by_head["effects"][contexts, heads, queries][known]
        values = {"moved": moved, "attention": attention}
        return Found(
            context_id=self.batch.context_ids[contexts],
            value=values.get(ranked.name, effect),
            query=queries,
            key=keys,
            attention=attention,
            moved=moved,
            effect=effect,
            patterns=self._patterns(contexts, heads),
        )

    def _patterns(
        self, contexts: Int64[np.ndarray, " m"], heads: Int64[np.ndarray, " m"]
    ) -> list[bytes]:
        """Heads' patterns over the contexts' own positions; each packed once, however often it is
        chosen."""
        chosen = list(zip(contexts.tolist(), heads.tolist(), strict=True))
        new: dict[int, list[int]] = {}
        for context, head in dict.fromkeys(chosen):
            if (context, head) not in self._packed:
                new.setdefault(context, []).append(head)
        for context, of_context in new.items():
            length = int(self.batch.attention[context].sum())
            places = [self._places[head] for head in of_context]
            best = [self._layers[layer].entries[context, at, :length] for layer, at in places]
            for head, packed in zip(of_context, packed_entries(np.stack(best)), strict=True):
                self._packed[context, head] = packed
        return [self._packed[pair] for pair in chosen]
