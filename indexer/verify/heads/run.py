"""Verifies all that is stored of a run's attention heads beyond what every unit has."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from sqlalchemy import Engine

from indexer.corpus.batches import BatchPlan, fill_batch
from indexer.corpus.prepared import PreparedCorpus
from indexer.corpus.special_tokens import control_tokens
from indexer.heads.circuits import FREQUENT
from indexer.heads.effects import logit_path
from indexer.heads.losses import CONTEXTS
from indexer.heads.measure import repeated_of
from indexer.models.loaded import LoadedModel
from indexer.reporter import Reporter
from indexer.store.sizes import RANDOM_EXAMPLES
from indexer.verify.expected import Expected
from indexer.verify.heads.circuits import PlainCircuits
from indexer.verify.heads.pairs import (
    Checked,
    PairTally,
    check_lists,
    compare_context,
    compare_tokens,
)
from indexer.verify.heads.plain import eager, read_plainly
from indexer.verify.heads.scores import (
    PlainScores,
    compare_in_context,
    compare_repeated_losses,
    compare_scores,
)
from indexer.verify.heads.stored import StoredHeads, read_heads, read_patterns
from indexer.verify.report import Finding, Findings
from indexer.verify.stored import StoredRun

_COUNTS = "heads: numbers of pairs and frequent tokens"

Array = np.ndarray[Any, Any]


def verify_heads(
    engine: Engine,
    run: StoredRun,
    model: LoadedModel,
    corpus: PreparedCorpus,
    expected: Expected,
    flats: Int64[np.ndarray, " n"],
    random: Int64[np.ndarray, " c"],
    bound: float,
    findings: Findings,
    reporter: Reporter,
) -> None:
    """Compare the heads with recomputed contexts: `random` ones, the sample, and those of the
    chosen heads' examples.

    Args:
        flats: the chosen heads by flat index: their examples, patterns, tokens, scores, circuits.
        random: contexts that are compared with the rankings of all heads.
        bound: the allowed difference.
    """
    stored = read_heads(engine, run, findings)
    chosen = [flat for flat in flats.tolist() if flat in stored.facts]
    settings = run.provenance["settings"]
    checked = Checked(
        run,
        stored.facts,
        {flat: read_patterns(engine, run, flat, findings) for flat in chosen},
        expected.top_k,
        bound,
        findings,
        {flat: PairTally() for flat in chosen},
    )
    effects = logit_path(model) is not None
    check_lists(
        checked,
        expected.second_half[:RANDOM_EXAMPLES],
        corpus.included.astype(np.int64),
        effects=effects,
    )
    with eager(model):
        _contexts(checked, stored, model, corpus, expected, chosen, random, reporter)
        _repeated(checked, stored, model, corpus, chosen, settings["seed"])
    frequent = _frequent(corpus, model)
    wrong = int(stored.run["frequent_tokens"] != len(frequent))
    findings.equal(_COUNTS, 2, wrong + int(stored.run["pairs"] != _pairs(corpus)))
    if stored.run["pairs"] != _pairs(corpus):
        what = "the number of pairs"
        findings.add(Finding(what, stored=stored.run["pairs"], recomputed=_pairs(corpus)))
    if wrong:
        what = "the number of frequent tokens"
        findings.add(Finding(what, stored=stored.run["frequent_tokens"], recomputed=len(frequent)))
    circuits = PlainCircuits(model, torch.from_numpy(frequent))
    progress = reporter.stage("Circuits", len(chosen), "heads")
    for number, flat in enumerate(chosen):
        circuits.compare(run, flat, stored.facts[flat], bound, findings)
        progress(number + 1)


def _contexts(
    checked: Checked,
    stored: StoredHeads,
    model: LoadedModel,
    corpus: PreparedCorpus,
    expected: Expected,
    chosen: list[int],
    random: Int64[np.ndarray, " c"],
    reporter: Reporter,
) -> None:
    """The pass over contexts: examples, rankings, tokens, scores on the sample, losses."""
    ids = {
        example["context_id"]
        for flat in chosen
        for examples in stored.facts[flat]["examples"].values()
        for example in examples
    }
    inside = [i for i in ids if 0 <= i < corpus.contexts]
    every = np.union1d(np.union1d(random, expected.sample), np.array(inside, np.int64))
    in_sample = set(expected.sample.tolist())
    whole = [i for i in expected.sample.tolist() if corpus.lengths[i] == corpus.ctx_len][:CONTEXTS]
    losses: dict[int, Array] = dict.fromkeys(whole, np.empty(0))
    scores = PlainScores(chosen)
    progress = reporter.stage("Heads", len(every), "contexts")
    for number, context_id in enumerate(every.tolist()):
        batch = fill_batch(BatchPlan("rest", np.array([context_id])), corpus, padding_id=0)
        tokens, included = batch.tokens[0], batch.included[0]
        plain = read_plainly(model, tokens)
        for layer, own in enumerate(plain.layers):
            check = "heads: attention × values is their output"
            if not checked.findings.is_within(check, checked.bound, own.astray):
                what = f"layer {layer}: attention × values is not what the heads put out"
                checked.findings.add(Finding(what, context_id=context_id))
        compare_context(checked, context_id, tokens, included, plain)
        if context_id in in_sample:
            predicting = np.append(included[:-1] & included[1:], False)
            scores.add(plain, tokens, included, predicting)
        if context_id in losses:
            losses[context_id] = np.where(included[1:], plain.losses, np.nan)
        progress(number + 1)
    compare_scores(checked.run, stored, "text", scores, checked.bound, checked.findings)
    compare_in_context(
        stored.run, list(losses.values()), corpus.ctx_len, checked.bound, checked.findings
    )
    if len(every) == corpus.contexts:
        compare_tokens(checked)


def _repeated(
    checked: Checked,
    stored: StoredHeads,
    model: LoadedModel,
    corpus: PreparedCorpus,
    chosen: list[int],
    seed: int,
) -> None:
    """The scores and losses on repeated random tokens."""
    repeated = repeated_of(model, corpus.bos_token_id, seed)
    scores, losses = PlainScores(chosen), []
    for tokens, included in zip(repeated.tokens, repeated.included, strict=True):
        plain = read_plainly(model, tokens)
        scores.add(plain, tokens, included, repeated.second)
        losses.append(plain.losses)
    bound, findings = checked.bound, checked.findings
    compare_scores(checked.run, stored, "repeated", scores, bound, findings)
    compare_repeated_losses(stored.run, losses, repeated, bound, findings)


def _frequent(corpus: PreparedCorpus, model: LoadedModel) -> Int64[np.ndarray, " n"]:
    """The corpus's most frequent tokens, the lower id first of equals, without control tokens."""
    counts = np.bincount(corpus.tokens, minlength=model.d_vocab).astype(np.int64)
    special = set(control_tokens(model.tokens.tokenizer))
    ids = [i for i in np.flatnonzero(counts).tolist() if i not in special]
    ids.sort(key=lambda i: (-counts[i], i))
    return np.array(ids[:FREQUENT], np.int64)


def _pairs(corpus: PreparedCorpus) -> int:
    """Pairs of included positions in all contexts."""
    included = corpus.included.astype(np.int64)
    return int((included * (included - 1) // 2).sum())
