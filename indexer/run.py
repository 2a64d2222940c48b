"""One indexing run from top to bottom: corpus → contexts → batches → model → scan → store."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from indexer.config import IndexConfig, check_name
from indexer.corpus import PreparedCorpus, TokenizerInfo, open_corpus, prepare_corpus
from indexer.errors import NeurariumError
from indexer.model import check_ctx_len, describe, load_model, pin_revision
from indexer.model_source import (
    ModelSource,
    choose_device,
    choose_dtype,
    load_tokenizer,
    resolve_model,
)
from indexer.plan import Plan, check_disk, describe_plan, make_plan
from indexer.provenance import run_record
from indexer.reporter import Reporter
from indexer.results import context_records, neuron_records
from indexer.scan import ScanShape, scan_corpus
from indexer.source_slots import count_slots
from indexer.store.database import check_writable, open_store, shown, unusable, writing
from indexer.store.writer import write_run
from indexer.weights import weight_facts


@dataclass(frozen=True)
class Outcome:
    """A run that was written."""

    run_id: int
    model: str
    plan: Plan
    seconds: dict[str, float]
    """Wall time of each stage."""
    peak_memory: int
    """The process's largest resident size so far, in bytes."""


def index(config: IndexConfig, database_url: str, cache_dir: Path, reporter: Reporter) -> Outcome:
    """Index a model: everything from its name to rows in the store.

    Raises NeurariumError for whatever the user can do something about; nothing is written then.
    """
    source = resolve_model(config.model, config.revision)
    name = config.name or source.url_name
    check_name(name)
    engine = open_store(database_url, create=True)
    try:
        check_writable(engine)
        with writing(engine, f"{name} {config.as_dict()}", cache_dir / "locks"):
            return _index(config, source, name, engine, cache_dir, reporter)
    except SQLAlchemyError as error:
        raise NeurariumError(unusable(error, shown(engine.url))) from error
    finally:
        engine.dispose()


def _index(
    config: IndexConfig,
    source: ModelSource,
    name: str,
    engine: Engine,
    cache_dir: Path,
    reporter: Reporter,
) -> Outcome:
    clock = _Clock()
    source = pin_revision(source)
    description = describe(source, trust_remote_code=config.trust_remote_code)
    # All that can be refused without weights or text is refused first.
    check_ctx_len(description, config.ctx_len)
    description.layout.choose_hook_point(config.hook_point)
    choose_dtype(config.dtype, choose_device(config.device))
    tokens = load_tokenizer(source, trust_remote_code=config.trust_remote_code)
    info = TokenizerInfo(
        tokenizer=tokens.tokenizer,
        bos_token_id=tokens.bos_token_id,
        pad_token_id=tokens.pad_token_id,
        identity=tokens.identity,
        vocab_size=description.vocab_size,
    )
    corpus = _prepare(config, source, info, cache_dir, reporter)
    clock.lap("prepare")
    reporter.say(f"Loading {source.label}")
    model = load_model(
        source,
        hook_point=config.hook_point,
        dtype=config.dtype,
        device=config.device,
        trust_remote_code=config.trust_remote_code,
        tokens=tokens,
        description=description,
    )
    clock.lap("load")
    sample = corpus.sample(config.sample, config.seed)
    shape = ScanShape(
        widths=model.widths,
        sample=sample,
        top_k=min(config.top_k, corpus.contexts),
        bottom_k=min(config.bottom_k, corpus.contexts),
        window=min(config.window or config.ctx_len, config.ctx_len),
        source_slots=count_slots(len(corpus.sources)),
    )
    plan = make_plan(name, shape, corpus)
    check_disk(plan, engine)
    reporter.say(describe_plan(plan, config, model, corpus, shown(engine.url)))
    scan = scan_corpus(model, corpus, shape, config.batch_tokens, reporter)
    clock.lap("scan")
    record = run_record(config, name, model, corpus, scan, clock.seconds)
    progress = reporter.stage("Writing", plan.neurons, "neurons")
    facts_of = weight_facts(model, connections=config.connections)
    neurons = neuron_records(scan, corpus, model.gated, facts_of, model.device)
    run_id = write_run(engine, record, _counted(neurons, progress), context_records(scan, corpus))
    clock.lap("write")
    return Outcome(run_id, name, plan, clock.seconds, peak_memory())


def _prepare(
    config: IndexConfig,
    source: ModelSource,
    tokenizer: TokenizerInfo,
    cache_dir: Path,
    reporter: Reporter,
) -> PreparedCorpus:
    spec = config.corpus or source.default_corpus
    if spec is None:
        raise NeurariumError(
            f"{source.label} has no default corpus: name one with --corpus (a hub data set, or "
            "a file or folder of text)."
        )
    corpus = open_corpus(
        spec,
        split=config.split,
        text_column=config.text_column,
        source_column=config.source_column,
    )
    progress = reporter.stage("Preparing", config.max_tokens, "tokens")
    return prepare_corpus(
        corpus,
        tokenizer,
        ctx_len=config.ctx_len,
        max_tokens=config.max_tokens,
        cache_dir=cache_dir / "corpora",
        on_progress=progress,
    )


def _counted(records: Any, progress: Callable[[int], None]) -> Any:
    for count, record in enumerate(records, 1):
        yield record
        if count % 256 == 0:
            progress(count)
    progress(count)


class _Clock:
    """Seconds of each stage, wall time."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, stage: str) -> None:
        """End a stage."""
        now = time.monotonic()
        self.seconds[stage] = now - self._last
        self._last = now


def peak_memory() -> int:
    """The largest resident size this process has had, in bytes (0 where the system can't tell)."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024
