"""Recomputes the circuits of chosen heads from their weights: no matrices are folded or factored,
vectors go through norms and matrices one after the other.

Frobenius norms of products are traces of Gram matrices in float64: ‖A B Cᵀ‖² = tr(AᵀA B CᵀC Bᵀ).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from indexer.heads.circuits import TOP_EARLIER, TOP_PAIRS
from indexer.heads.effects import LogitPath, heads_of, logit_path
from indexer.heads.folded import has_query_norms
from indexer.heads.neurons import TOP_NEURONS, ModelNeurons, model_neurons
from indexer.models.loaded import LoadedModel
from indexer.models.norms import ScaledNorm, scaled_norm
from indexer.models.units import Reader, Unknown
from indexer.verify.heads.stored import Facts
from indexer.verify.report import SMALL, Findings
from indexer.verify.stored import StoredRun
from indexer.weights.embedding import embedded

_OV, _QK = "heads: OV circuit", "heads: QK circuit"
_HEADS, _NEURONS = "heads: composition with heads", "heads: composition with neurons"

Entries = list[tuple[tuple[Any, ...], float]]
"""What is named, and its value."""


@dataclass(frozen=True)
class _Layer:
    """One layer's matrices as maps of the residual stream, float64 [head, d_model, d_head]."""

    norm: ScaledNorm | None
    query: Float64[Tensor, "head d_model d_head"] | None
    key: Float64[Tensor, "head d_model d_head"] | None
    value: Float64[Tensor, "head d_model d_head"]
    write: Float64[Tensor, "head d_head d_model"]


class PlainCircuits:
    """The weights of a model as its heads' circuits are recomputed from them."""

    @torch.inference_mode()
    def __init__(self, model: LoadedModel, frequent: Int[Tensor, " n"]) -> None:
        self.model, self.heads, self.frequent = model, heads_of(model), frequent
        self.path = logit_path(model)
        self.neurons = model_neurons(model)
        self.layers = [self._layer(layer) for layer in range(len(self.heads.widths))]
        self.stream = embedded(model, frequent.to(model.device))
        everything = torch.arange(model.known_tokens, device=model.device)
        self.every = None if self.path is None else embedded(model, everything)

    def _layer(self, layer: int) -> _Layer:
        model, weights = self.model, self.heads.weights(layer)
        module = model.layout.component(model.root, f"blocks.{layer}.ln1")
        width = model.layout.d_model
        norm = None if module is None else scaled_norm(module, width, model.device)
        # The norm's linear part, row by row of an identity matrix.
        through = torch.eye(width, device=model.device)
        through = (through if norm is None else norm.linear(through)).double()

        def read(matrix: Tensor | None) -> Tensor | None:
            return None if matrix is None else through @ matrix.double()

        value = read(weights.value)
        assert value is not None
        normed = has_query_norms(model)
        after = self.heads.norms[layer]
        write = weights.out if after is None else after.linear(weights.out)
        return _Layer(
            norm,
            None if normed else read(weights.query),
            None if normed else read(weights.key),
            value,
            write.double(),
        )

    @torch.inference_mode()
    def compare(
        self, run: StoredRun, flat: int, facts: Facts, bound: float, findings: Findings
    ) -> None:
        """Compare one head's circuits with what is stored."""
        layer, head = run.place(flat)
        check = _Check(run, flat, bound, findings)
        own = facts["circuits"]
        self._ov(layer, head, own, check)
        self._qk(layer, head, own, check)
        self._earlier(layer, head, own, check)
        self._neurons(layer, head, own, check)

    def _ov(self, layer: int, head: int, own: Facts, check: _Check) -> None:
        path, every, stream = self.path, self.every, self.stream
        if path is None or every is None or stream is None:
            for name in ("copying", "promoted", "self_share"):
                check.missing(_OV, name, own[name])
            return
        this = self.layers[layer]
        read = every.double() @ this.value[head]
        directions = _logits(path, this.write[head].float(), slice(0, len(every)))
        eigenvalues = np.linalg.eigvals((directions.double() @ read).cpu().numpy())
        size = float(np.abs(eigenvalues).sum())
        copying = float(eigenvalues.real.sum()) / size if size else 0.0
        check.value(_OV, "copying score", own["copying"], copying, 1.0)
        x = stream if this.norm is None else this.norm.own(stream) - this.norm.bias
        weights = self.heads.weights(layer)
        to_logits = _logits(path, this.write[head].float(), self.frequent)
        table = x @ weights.value[head] @ to_logits * self.heads.residual_multiplier
        check.pairs(_OV, "promoted", own["promoted"], table, self.frequent)
        margin = check.bound * max(float(table.abs().max()), SMALL)
        ahead = table.diagonal() - table.amax(dim=1)
        least, most = (float((ahead >= m).float().mean()) for m in (margin, -margin))
        least = min(least, float((ahead >= 0).float().mean()))
        share = own["self_share"]
        off = math.nan if share is None else max(least - share, share - most, 0.0)
        check.within(_OV, "share of tokens that raise themselves", off, share, most)

    def _qk(self, layer: int, head: int, own: Facts, check: _Check) -> None:
        this, weights, stream = self.layers[layer], self.heads.weights(layer), self.stream
        if this.query is None or this.key is None or stream is None:
            for name in ("matched", "matched_previous"):
                check.missing(_QK, name, own[name])
            return
        assert weights.query is not None
        assert weights.key is not None
        x = stream if this.norm is None else this.norm.own(stream)
        queries, keys = x @ weights.query[head], x @ weights.key[head]
        if weights.query_bias is not None:
            queries = queries + weights.query_bias[head]
        if weights.key_bias is not None:
            keys = keys + weights.key_bias[head]
        check.pairs(_QK, "matched", own["matched"], queries @ keys.T, self.frequent)
        rotation = self.heads.rotations[layer]
        if isinstance(rotation, Unknown) or not len(rotation.angles):
            check.missing(_QK, "matched_previous", own["matched_previous"])
            return
        table = rotation.turned(queries, 3) @ rotation.turned(keys, 2).T
        check.pairs(_QK, "matched_previous", own["matched_previous"], table, self.frequent)

    def _earlier(self, layer: int, head: int, own: Facts, check: _Check) -> None:
        for name, read, rest in self._matrices(layer, head):
            if read is None or rest is None:
                check.missing(_HEADS, name, own[name])
                continue
            rest_gram = rest.T @ rest
            size = _trace(read.T @ read, rest_gram).clamp(min=0).sqrt()
            truths: Entries = []
            for number, other in enumerate(self.layers[:layer]):
                grams = other.value.mT @ other.value
                product = other.write @ read  # head, d_head, d_head
                lengths = _trace(grams, product @ rest_gram @ product.mT).clamp(min=0).sqrt()
                written = _trace(grams, other.write @ other.write.mT).clamp(min=0).sqrt()
                scores = lengths / (written * size)
                truths += [((number, i), score) for i, score in enumerate(scores.tolist())]
            stored = [((c["layer"], c["head"]), c["score"]) for c in own[name]]
            check.ranked(_HEADS, name, stored, truths, TOP_EARLIER)

    def _matrices(self, layer: int, head: int) -> list[tuple[str, Tensor | None, Tensor | None]]:
        """The two factors [d_model, d_head] of each matrix that a head composes by, M = read ·
        restᵀ, for queries, keys and values. None where not known."""
        this = self.layers[layer]
        query = None if this.query is None else this.query[head]
        key = None if this.key is None else this.key[head]
        return [
            ("queries", query, key),
            ("keys", key, query),
            ("values", this.value[head], this.write[head].T),
        ]

    def _neurons(self, layer: int, head: int, own: Facts, check: _Check) -> None:
        neurons, stored = self.neurons, own["neurons"]
        if not isinstance(neurons, ModelNeurons) or stored is None:
            wrong = isinstance(neurons, ModelNeurons) != (stored is not None)
            check.findings.equal(_NEURONS, 1, int(wrong))
            return
        for name, read, rest in self._matrices(layer, head):
            if read is None or rest is None:
                check.missing(_NEURONS, name, stored[name])
                continue
            rest_gram = rest.T @ rest
            size = _trace(read.T @ read, rest_gram).clamp(min=0).sqrt()
            truths: Entries = []
            for number in range(layer):
                vectors = neurons.written(number)
                if not isinstance(vectors, Unknown):
                    reached = vectors.float() @ read.float()
                    scores = _scores(reached, rest_gram, vectors, size)
                    truths += [((number, i, None), s) for i, s in enumerate(scores)]
            check.ranked(_NEURONS, name, _named(stored[name]), truths, TOP_NEURONS)
        this = self.layers[layer]
        gram = this.value[head].T @ this.value[head]
        size = _trace(gram, this.write[head] @ this.write[head].T).clamp(min=0).sqrt()
        truths, known = [], False
        gated = any(isinstance(r, Reader) and len(r.matrices) > 1 for r in neurons.readers)
        later = range(layer + (not neurons.same_layer), len(neurons.readers))
        for number in later:
            reader = neurons.readers[number]
            if isinstance(reader, Unknown):
                continue
            known = True
            for part in reader.matrices:
                vectors = reader.directions(part)
                reached = vectors.float() @ this.write[head].T.float()
                scores = _scores(reached, gram, vectors, size)
                truths += [((number, i, part if gated else None), s) for i, s in enumerate(scores)]
        if len(later) and not known:
            check.missing(_NEURONS, "readers", stored["readers"])
        else:
            check.ranked(_NEURONS, "readers", _named(stored["readers"]), truths, TOP_NEURONS)


@dataclass(frozen=True)
class _Check:
    """Comparisons of one head."""

    run: StoredRun
    flat: int
    bound: float
    findings: Findings

    def within(
        self, check: str, what: str, off: float, stored: float | None, truth: float | None
    ) -> None:
        """Count one comparison, with a finding where it is off."""
        if not self.findings.is_within(check, self.bound, off):
            finding = self.run.finding(self.flat, f"its {what}", stored=stored, recomputed=truth)
            self.findings.add(finding)

    def value(
        self, check: str, what: str, stored: float | None, truth: float, scale: float
    ) -> None:
        """Compare one value."""
        off = math.nan if stored is None else abs(stored - truth) / scale
        self.within(check, what, off, stored, truth)

    def missing(self, check: str, what: str, stored: Any) -> None:
        """What is not known must not be stored."""
        self.findings.equal(check + ": not known", 1, int(stored is not None))
        if stored is not None:
            self.findings.add(self.run.finding(self.flat, f"its {what} cannot be known"))

    def pairs(
        self,
        check: str,
        what: str,
        stored: list[tuple[int, int, float]] | None,
        table: Float[Tensor, "n n"],
        ids: Int[Tensor, " n"],
    ) -> None:
        """Compare the largest entries of a table of tokens with the stored pairs."""
        scale = max(float(table.abs().max()), SMALL)
        rows = {int(token): row for row, token in enumerate(ids.tolist())}
        off = math.nan
        if stored is not None and len(stored) == min(TOP_PAIRS, table.numel()):
            places = [(rows.get(first), rows.get(second)) for first, second, _ in stored]
            if all(a is not None and b is not None for a, b in places):
                at = tuple(torch.tensor(side) for side in zip(*places, strict=True))
                truths, values = table[at], torch.tensor([value for *_, value in stored])
                rest = table.clone()
                rest[at] = -math.inf
                beyond = float(rest.max()) - float(values.min())
                off = float((truths - values.to(truths.device)).abs().max())
                off = max(off, beyond, 0.0) / scale
                if len(set(places)) < len(places) or (values.diff() > 0).any():
                    off = math.nan
        self.within(check, f"top pairs ({what})", off, None, None)

    def ranked(
        self,
        check: str,
        what: str,
        stored: Entries | None,
        truths: Entries,
        most: int,
    ) -> None:
        """Compare a list of the strongest with all."""
        off, scores = math.nan, dict(truths)
        positive = sum(score > 0 for score in scores.values())
        most = min(most, positive if check == _NEURONS else len(scores))
        if stored is not None and len(stored) == most and all(n in scores for n, _ in stored):
            values = [value for _, value in stored]
            off = max((abs(scores[name] - value) for name, value in stored), default=0.0)
            named = {name for name, _ in stored}
            rest = max((s for name, s in scores.items() if name not in named), default=0.0)
            off = max(off, rest - min(values, default=math.inf), 0.0)
            if values != sorted(values, reverse=True) or len(named) < len(stored):
                off = math.nan
        self.within(check, f"composition ({what})", off, None, None)


def _named(stored: list[Facts] | None) -> Entries | None:
    if stored is None:
        return None
    return [((c["layer"], c["neuron"], c["part"]), c["score"]) for c in stored]


def _logits(
    path: LogitPath, written: Float[Tensor, "d_head d_model"], tokens: Any
) -> Float[Tensor, "d_head n"]:
    """What vectors in the residual stream add to tokens' logits, up to the final norm's scale."""
    through = written if path.norm is None else path.norm.linear(written)
    return through @ (path.unembedding[tokens].float() * path.logit_scale).T


def _trace(a: Tensor, b: Tensor) -> Tensor:
    """tr(A Bᵀ) over the last two dimensions."""
    return (a * b).sum((-2, -1))


def _scores(
    reached: Float[Tensor, "n d_head"],
    gram: Float64[Tensor, "d_head d_head"],
    vectors: Float[Tensor, "n d_model"],
    size: Tensor,
) -> list[float]:
    """‖vector · M‖ ÷ (‖vector‖ · ‖M‖) of each vector; 0 where a norm is 0."""
    wide = reached.double()
    lengths = ((wide @ gram) * wide).sum(-1).clamp(min=0).sqrt()
    whole = vectors.double().norm(dim=-1) * size
    found: list[float] = torch.where(whole > 0, lengths / whole, 0.0).tolist()
    return found
