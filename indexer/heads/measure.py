"""All that a run stores of a model's attention heads besides what it stores of any unit."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from indexer.corpus.prepared import PreparedCorpus
from indexer.corpus.special_tokens import control_tokens
from indexer.heads.circuits import FREQUENT, Circuits, circuits
from indexer.heads.effects import EffectPass, LogitPath, heads_of, logit_path, next_tokens
from indexer.heads.examples import RANKINGS, HeadExample
from indexer.heads.left_out import left_out
from indexer.heads.losses import in_context, repeated_losses
from indexer.heads.repeated import SEQUENCES, Repeated, repeated_tokens
from indexer.heads.scan import HeadScan, HeadShape
from indexer.heads.scores import ScoreSums, rows_of
from indexer.models.loaded import LoadedModel
from indexer.scan.job import Job
from indexer.store.writing.records import HeadRecord, HeadRecords

TOKENS = 15
"""Most frequent query and key tokens that are stored."""
_BATCH = 8


def head_shape(job: Job) -> HeadShape:
    """The sizes of a scan of a run's heads."""
    return HeadShape(
        widths=heads_of(job.model).widths,
        sample=job.shape.sample,
        random=job.shape.random_contexts,
        examples=job.shape.top_k,
    )


def new_scan(job: Job) -> HeadScan:
    """A scan of a run's heads, with nothing seen yet."""
    return HeadScan(head_shape(job))


def measure_heads(job: Job, scan: HeadScan, training: list[dict[str, Any]] | None) -> HeadRecords:
    """What is stored of a run's heads, from a scan of all batches; `training` are checkpoints of
    the model's training (see `indexer.heads.training`). Raises NeurariumError."""
    model, corpus = job.model, job.corpus
    heads, path = heads_of(model), logit_path(model)
    repeated = repeated_of(model, corpus.bos_token_id, job.config.seed)
    on_repeated = repeated_scores(model, path, repeated)
    frequent = torch.from_numpy(_frequent(corpus, model))
    records: list[HeadRecord] = []
    columns: dict[str, list[np.ndarray[Any, Any]]] = {}
    for layer, of_layer in enumerate(circuits(model, frequent)):
        scores = {"repeated": on_repeated.scores(layer), "text": scan.scores.scores(layer)}
        if path is None:
            for by_name in scores.values():
                by_name["effect"] = np.full(heads.widths[layer], np.nan)
        for suffix, by_name in (("", scores["repeated"]), ("_text", scores["text"])):
            for name, values in by_name.items():
                columns.setdefault(name + suffix, []).append(values)
        copying = [math.nan if c.copying is None else c.copying for c in of_layer]
        columns.setdefault("copying", []).append(np.array(copying))
        for head, circuit in enumerate(of_layer):
            of_head = {
                ground: {name: _known(values[head]) for name, values in by_name.items()}
                for ground, by_name in scores.items()
            }
            records.append(_record(scan, len(records), of_head, circuit))
    return HeadRecords(records, columns, _run_facts(job, scan, repeated, len(frequent), training))


def repeated_of(model: LoadedModel, bos: int | None, seed: int) -> Repeated:
    """The repeated random tokens for a model."""
    special = frozenset(control_tokens(model.tokens.tokenizer))
    return repeated_tokens(model.known_tokens, special, bos, model.layout.max_context, seed)


@torch.inference_mode()
def repeated_scores(model: LoadedModel, path: LogitPath | None, repeated: Repeated) -> ScoreSums:
    """The scores of all heads on repeated random tokens, the effects on the second copy alone.
    Raises `NeurariumError` when memory runs out."""
    heads = heads_of(model)
    sums = ScoreSums(heads.widths)
    everything = torch.from_numpy(repeated.tokens).to(model.device)
    included = torch.from_numpy(repeated.included).to(model.device)
    second = torch.from_numpy(repeated.second).to(model.device)
    for first in range(0, SEQUENCES, _BATCH):
        tokens, mask = everything[first : first + _BATCH], included[first : first + _BATCH]
        rows = rows_of(tokens, mask)
        rows.predicting[:] = second  # only what the first copy can explain
        effects = None if path is None else EffectPass(heads, path, next_tokens(tokens))

        def on_heads(layer: int, captured: Any, rows: Any = rows, effects: Any = effects) -> None:
            sums.add(layer, captured.pattern, rows)
            if effects is not None:
                effects.on_heads(layer, captured)

        hooks = None if effects is None else effects.hooks()
        heads.capture_heads(tokens, torch.ones_like(tokens), on_heads, hooks)
        sums.count(rows)
        if effects is not None:
            for layer in range(len(heads.widths)):
                sums.add_effects(layer, effects.effects(layer), rows)
    return sums


def _frequent(corpus: PreparedCorpus, model: LoadedModel) -> Int64[np.ndarray, " n"]:
    """The corpus's most frequent tokens that are no control tokens; ties: the lower id."""
    counts = np.zeros(model.d_vocab, np.int64)
    for part in np.array_split(corpus.tokens, len(corpus.tokens) // (1 << 22) + 1):
        counts += np.bincount(part, minlength=model.d_vocab)
    # A tokenizer may know tokens beyond the model's own.
    counts[[i for i in control_tokens(model.tokens.tokenizer) if i < len(counts)]] = 0
    order = np.argsort(-counts, kind="stable")[:FREQUENT]
    return order[counts[order] > 0]


def _record(
    scan: HeadScan, head: int, scores: dict[str, dict[str, float | None]], circuit: Circuits
) -> HeadRecord:
    examples = {name: list(scan.rankings[name].of(head)) for name in RANKINGS}
    examples["random"] = scan.random_examples(head)
    patterns = {e.context_id: e.pattern for kind in examples.values() for e in kind}
    facts = {
        "scores": scores,
        "tokens": scan.tokens.counts(head, TOKENS),
        "circuits": asdict(circuit),
        "examples": {name: [_fields(e) for e in kind] for name, kind in examples.items()},
    }
    return HeadRecord(facts, patterns)


def _fields(example: HeadExample) -> dict[str, Any]:
    """An example without its pattern."""
    return {name: value for name, value in vars(example).items() if name != "pattern"}


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _run_facts(
    job: Job,
    scan: HeadScan,
    repeated: Repeated,
    frequent: int,
    training: list[dict[str, Any]] | None,
) -> dict[str, Any]:
    model, corpus = job.model, job.corpus
    contexts = (corpus.context(context_id) for context_id in job.shape.sample.tolist())
    learning = in_context(model, contexts, corpus.ctx_len, corpus.special_token_ids)
    first, second = repeated_losses(model, repeated)
    return ({} if training is None else {"training": training}) | {
        "pairs": scan.pairs,
        "repeated": {
            "sequences": SEQUENCES,
            "length": repeated.length,
            "seed": job.config.seed,
            "first_loss": first,
            "second_loss": second,
        },
        "in_context": None if learning is None else asdict(learning) | {"score": learning.score},
        "frequent_tokens": frequent,
        "left_out": left_out(model),
    }
