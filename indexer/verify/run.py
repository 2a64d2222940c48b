"""Verifies a run: loads its model again, recomputes contexts by a plain forward pass and compares
them with the store, without changing it."""

from __future__ import annotations

import json
import secrets
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from sqlalchemy import Engine

from indexer.corpus.batches import BatchPlan, fill_batch, plan_batches
from indexer.corpus.prepare import open_corpus, prepare_corpus, preparing
from indexer.corpus.prepared import PreparedCorpus, open_prepared
from indexer.corpus.tokens import TokenizerInfo
from indexer.errors import NeurariumError
from indexer.models.load import describe
from indexer.models.loaded import LoadedModel
from indexer.models.reload import reload, wanted
from indexer.paths import absolute
from indexer.reporter import Reporter, waiting
from indexer.store.units import NEURONS
from indexer.verify.choice import unpadded, whole_batches
from indexer.verify.examples import Examples, compare_examples, read_examples
from indexer.verify.expected import Expected
from indexer.verify.firing import compare_densities
from indexer.verify.forward import LayerActivations, forward
from indexer.verify.heads.run import verify_heads
from indexer.verify.lists import Comparison, read_lists
from indexer.verify.missed import check_contexts, compare_layer
from indexer.verify.report import Bounds, Findings
from indexer.verify.searches import check_searches
from indexer.verify.stored import StoredRun, read_run

FLOAT32 = 1e-4
"""Allowed difference between two float32 passes over a context in different batches."""
ELSEWHERE = 1 / 16
"""Allowed difference between two passes in half precision on other devices or versions."""


def verify(
    engine: Engine,
    run_id: int,
    cache_dir: Path,
    reporter: Reporter,
    *,
    neurons: int,
    contexts: int,
    seed: int | None = None,
    model_path: Path | None = None,
    corpus_path: Path | None = None,
    dictionary_path: str | None = None,
) -> tuple[StoredRun, Findings]:
    """Compare a run with its model: the examples of `neurons` random neurons, and `contexts` random
    contexts with the lists of all neurons.

    `seed` draws both; None: a random seed. `model_path`, `corpus_path` and `dictionary_path` are
    where a local model, corpus and dictionaries are now, if they were moved. Raises NeurariumError
    if there is no such run, or if one of these is missing or has changed.
    """
    for name, number in (("neurons", neurons), ("contexts", contexts)):
        if number < 1:
            raise NeurariumError(f"--{name} is {number}: it must be 1 or more.")
    run = read_run(engine, run_id)
    seed = secrets.randbelow(2**32) if seed is None else seed
    reporter.say(f"Loading the model of run {run.id}, {run.model}")
    model = _model(run, model_path, dictionary_path)
    corpus = _corpus(run, model, cache_dir, reporter, corpus_path)
    expected, bounds = _expected(run, corpus), _bounds(run, model)
    rng = np.random.default_rng(seed)
    flats = np.sort(rng.choice(run.neurons, min(neurons, run.neurons), replace=False))
    findings = Findings()
    examples = read_examples(engine, run, expected, corpus, flats, findings)
    check_searches(engine, run, flats, findings)
    most = run.provenance["settings"]["batch_tokens"]
    if model.dtype == torch.float32:
        random = rng.choice(corpus.contexts, min(contexts, corpus.contexts), replace=False)
        plans = unpadded(np.union1d(random, examples.context_ids), corpus.lengths, most)
    else:
        every = list(plan_batches(corpus.lengths, expected.sample, most))
        plans = whole_batches(every, examples.per_context(), contexts, rng)
        random = np.concatenate([plan.context_ids for plan in plans])
    chosen = np.sort(np.concatenate([plan.context_ids for plan in plans]))
    within = examples.only(chosen)
    reporter.say(
        f"Run {run.id}: {_name(run)} at {run.hook_point}, {run.dtype} on {model.device}\n"
        f"Examples of {len(flats):,} {run.noun}s: {within.count:,} of {examples.count:,}\n"
        f"Lists of all {run.neurons:,} {run.noun}s: {len(chosen):,} of {corpus.contexts:,} "
        "contexts\n"
        f"{len(plans):,} batches. {bounds.why}\n"
        f"To repeat this verification: --seed {seed}"
    )
    progress = reporter.stage("Reading", run.neurons, f"{run.noun}s")
    lists = read_lists(engine, run, expected, chosen, flats, findings, progress)
    compared = Comparison(run, expected, lists, bounds, findings)
    check_contexts(engine, compared, corpus, examples.context_ids)
    progress = reporter.stage("Verifying", len(chosen), "contexts")
    done = 0
    for plan in plans:
        _compare(model, corpus, plan, within, compared)
        done += len(plan.context_ids)
        progress(done)
    if lists.firing is not None:
        compare_densities(run, lists.firing, corpus.included_tokens, findings)
    if lists.histograms is not None:
        included = corpus.included[chosen]
        lists.histograms.compare(run, int(included.sum()), corpus.included_tokens, findings)
    if model.units.has_pairs:
        bound = FLOAT32 if model.dtype == torch.float32 else ELSEWHERE
        verify_heads(engine, run, model, corpus, expected, flats, random, bound, findings, reporter)
    return run, findings


def _compare(
    model: LoadedModel,
    corpus: PreparedCorpus,
    plan: BatchPlan,
    examples: Examples,
    compared: Comparison,
) -> None:
    batch = fill_batch(plan, corpus, padding_id=0)

    def on_layer(layer: int, seen: LayerActivations) -> None:
        compare_examples(compared, examples, batch, layer, seen)
        compare_layer(compared, batch, layer, seen)

    forward(model, batch, on_layer, compared.bounds.rounding)


# --- The model and the corpus --------------------------------------------------------------------


def _model(run: StoredRun, model_path: Path | None, dictionary_path: str | None) -> LoadedModel:
    """The run's model. Raises NeurariumError if it is missing or has changed."""
    try:
        what = wanted(run.provenance, model_path, dictionary_path)
        return reload(what, describe(what.source))
    except NeurariumError as error:
        raise NeurariumError(f"Run {run.id} cannot be verified. {error}") from error


def _corpus(
    run: StoredRun,
    model: LoadedModel,
    cache_dir: Path,
    reporter: Reporter,
    corpus_path: Path | None,
) -> PreparedCorpus:
    """The run's contexts, from the cache or prepared again. Raises NeurariumError if the corpus is
    missing or has changed."""
    recorded, settings = run.provenance["corpus"], run.provenance["settings"]
    folder = cache_dir / "corpora"
    cached = _prepared(folder, recorded["fingerprint"], settings["ctx_len"])
    if cached is not None:
        return cached
    spec = settings["corpus"] or model.source.default_corpus or ""
    if corpus_path is not None:
        spec = str(absolute(corpus_path))
    elif spec != "demo" and recorded["revision"] is None and not Path(spec).expanduser().exists():
        raise NeurariumError(  # files have no commit, and are not looked for on the hub
            f"Run {run.id} cannot be verified. Its corpus {spec} is not here (moved?): put it "
            "back, or name its new place with --corpus-path."
        )
    info = TokenizerInfo(
        tokenizer=model.tokens.tokenizer,
        bos_token_id=model.tokens.bos_token_id,
        pad_token_id=model.tokens.pad_token_id,
        identity=model.tokens.identity,
        vocab_size=describe(model.source).vocab_size,
        bos=settings.get("bos", True),
    )
    try:
        with waiting(reporter.say, f"the corpus {spec}"):
            corpus = open_corpus(
                spec,
                split=settings["split"],
                text_column=settings["text_column"],
                source_column=settings["source_column"],
            )
        prepared = prepare_corpus(
            corpus,
            info,
            ctx_len=settings["ctx_len"],
            max_tokens=settings["max_tokens"],
            cache_dir=folder,
            on_progress=reporter.stage("Preparing", settings["max_tokens"], "tokens"),
            on_wait=lambda: reporter.say(preparing(corpus, cache_dir)),
        )
    except NeurariumError as error:
        raise NeurariumError(f"Run {run.id} cannot be verified. {error}") from error
    if prepared.fingerprint != recorded["fingerprint"]:
        raise NeurariumError(
            f"The corpus {recorded['label']} is not the corpus of run {run.id}: it gives "
            f"{prepared.contexts:,} contexts with another fingerprint than the run's "
            f"{recorded['contexts']:,} ({prepared.fingerprint[-12:]}, not "
            f"{recorded['fingerprint'][-12:]}). Restore the old corpus, or index the new one."
        )
    return prepared


def _prepared(folder: Path, fingerprint: str, ctx_len: int) -> PreparedCorpus | None:
    """The cached corpus with this fingerprint and context length, or None."""
    for meta in sorted(folder.glob("*/meta.json")):
        try:
            facts = json.loads(meta.read_bytes())
            if (facts["fingerprint"], facts["ctx_len"]) == (fingerprint, ctx_len):
                return open_prepared(meta.parent)
        except (OSError, ValueError, KeyError, TypeError, NeurariumError):
            continue  # damaged or of another version: prepared again
    return None


def _expected(run: StoredRun, corpus: PreparedCorpus) -> Expected:
    try:
        return Expected.of(run.provenance["settings"], corpus, sparse=run.sparse)
    except KeyError as error:
        raise NeurariumError(
            f"The provenance of run {run.id} lacks its {error}: index the model again."
        ) from None


def _bounds(run: StoredRun, model: LoadedModel) -> Bounds:
    """The allowed differences of recomputed values."""
    if model.dtype == torch.float32:
        return Bounds(
            FLOAT32,
            "Contexts of equal length form a batch: in float32 any batch will do.",
            rounding=FLOAT32 / 10,
        )
    recorded = run.provenance
    others = [
        f"{name} {version(name)} (then {then})"
        for name in ("torch", "transformers")
        if (then := recorded["versions"][name]) != version(name)
    ]
    if str(model.device) != recorded["capture"]["device"]:
        others.append(f"{model.device} (then {recorded['capture']['device']})")
    if others:
        return Bounds(
            ELSEWHERE,
            f"They are the run's own, but with {', '.join(others)}: in {run.dtype} values may "
            "therefore differ by a few percent.",
            rounding=ELSEWHERE,
        )
    return Bounds(
        0.0,
        f"They are the run's own: in {run.dtype}, on the kind of processor that made it, values "
        "are equal bit for bit.",
    )


def _name(run: StoredRun) -> str:
    """The run's model, and its set of units, if those are not the model's neurons."""
    return run.model if run.set_name == NEURONS else f"{run.model}/{run.set_name}"
