"""Everything a process needs to scan: the model, the prepared corpus, the sizes, the batches.

A run on one machine, each shard, each worker and the merging of shards all make the same job.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from indexer.config import IndexConfig
from indexer.corpus.batches import BatchPlan, plan_batches
from indexer.corpus.prepare import open_corpus, prepare_corpus, preparing
from indexer.corpus.prepared import PreparedCorpus
from indexer.corpus.tokens import TokenizerInfo
from indexer.measure.lookup import NO_TOKENS, lookup_tokens
from indexer.measure.sources import count_slots
from indexer.models import kinds
from indexer.models.device import choose_device, choose_dtype
from indexer.models.load import (
    Description,
    check_ctx_len,
    describe,
    describe_loaded,
    load_model,
    use_loaded,
    with_units,
)
from indexer.models.loaded import LoadedModel
from indexer.models.pretrained import (
    LoadedTokenizer,
    load_tokenizer,
    pin_revision,
    use_tokenizer,
)
from indexer.models.source import ModelSource
from indexer.models.units import UnitSet
from indexer.reporter import Reporter, waiting
from indexer.scan.choice import ModelChoice, asking_hub
from indexer.scan.shape import ScanShape
from indexer.store.units import check_set_name

USUAL_BOTTOM = 10
"""Bottom examples of a unit whose negative values mean little."""


@dataclass(frozen=True)
class PreparedText:
    """The corpus, prepared for the model, and the model's configuration and tokenizer."""

    source: ModelSource
    description: Description
    tokens: LoadedTokenizer
    corpus: PreparedCorpus


@dataclass(frozen=True)
class Job:
    """A model, a corpus and the batches to scan."""

    config: IndexConfig
    name: str
    model: LoadedModel
    corpus: PreparedCorpus
    shape: ScanShape
    """Of all layers."""
    plans: tuple[BatchPlan, ...]
    """All batches, the sample's first."""

    @property
    def set_name(self) -> str:
        """The name in URLs of the set of units."""
        return self.config.set_name or self.model.units.name

    def facts(self) -> dict[str, Any]:
        """What the settings led to: a scan can be resumed only while all of it is the same."""
        identity = self.model.units.identity
        return {
            "the model's weights": self.model.weights_hash,
            "the model's configuration": self.model.config_hash,
            "the tokenizer": self.model.tokens.identity,
            "the corpus": self.corpus.fingerprint,
            "the number format": str(self.model.dtype).removeprefix("torch."),
            "the place captured": self.model.units.hook_point,
            "the number of batches": len(self.plans),
            **({"the dictionary": identity} if identity else {}),
        }


def prepare(choice: ModelChoice, cache_dir: Path, reporter: Reporter) -> PreparedText:
    """Prepare the corpus. Everything that can be refused without weights or text is refused first.

    Raises NeurariumError.
    """
    config, given = choice.config, choice.given
    with asking_hub(choice.source, reporter.say):
        if given is None:
            source = pin_revision(choice.source)
            description = describe(source, trust_remote_code=config.trust_remote_code)
        else:
            source = choice.source
            description = describe_loaded(given.model, source)
    check_ctx_len(description, config.ctx_len)
    with waiting(reporter.say, f"the dictionary {config.dictionary}"):
        kinds.choose(description.layout, config.asked())
    choose_dtype(config.dtype, choose_device(config.device))
    with asking_hub(source, reporter.say):
        if given is None:
            tokens = load_tokenizer(source, trust_remote_code=config.trust_remote_code)
        else:
            tokens = use_tokenizer(given.tokenizer, source, description.vocab_size)
    info = TokenizerInfo(
        tokenizer=tokens.tokenizer,
        bos_token_id=tokens.bos_token_id,
        pad_token_id=tokens.pad_token_id,
        identity=tokens.identity,
        vocab_size=description.vocab_size,
        bos=config.bos,
    )
    with waiting(reporter.say, f"the corpus {choice.corpus}"):
        corpus = (
            given.corpus
            if given is not None
            else open_corpus(
                choice.corpus,
                split=config.split,
                text_column=config.text_column,
                source_column=config.source_column,
            )
        )
    for note in corpus.notes:
        reporter.say(note)
    progress = reporter.stage("Preparing", config.max_tokens, "tokens")
    prepared = prepare_corpus(
        corpus,
        info,
        ctx_len=config.ctx_len,
        max_tokens=config.max_tokens,
        cache_dir=cache_dir / "corpora",
        on_progress=progress,
        on_wait=lambda: reporter.say(preparing(corpus, cache_dir)),
    )
    for note in corpus.report.notes:
        reporter.say(note)
    return PreparedText(source, description, tokens, prepared)


def bottom_k(config: IndexConfig, units: UnitSet) -> int:
    """Bottom examples per unit: as many as top examples where both signs are alike."""
    if units.sparse:
        return 0  # nothing is below 0
    if config.bottom_k is not None:
        return config.bottom_k
    return config.top_k if units.described.two_sided else USUAL_BOTTOM


def load(choice: ModelChoice, text: PreparedText, reporter: Reporter) -> Job:
    """Load the model and plan the batches. Raises NeurariumError."""
    config = choice.config
    if choice.given is not None:
        model = use_loaded(choice.given.model, text.description, text.tokens, config.asked())
    else:
        reporter.say(f"Loading {choice.name}")
        model = load_model(
            text.source,
            asked=config.asked(),
            dtype=config.dtype,
            device=config.device,
            trust_remote_code=config.trust_remote_code,
            tokens=text.tokens,
            description=text.description,
        )
    return _job(choice, text, model)


def load_beside(choice: ModelChoice, text: PreparedText, loaded: LoadedModel) -> Job:
    """The job of another set of units of a model that is in memory. Raises NeurariumError."""
    return _job(choice, text, with_units(loaded, choice.config.asked()))


def _job(choice: ModelChoice, text: PreparedText, model: LoadedModel) -> Job:
    config, corpus = choice.config, text.corpus
    if config.dictionary is not None and config.set_name is None:
        check_set_name(model.units.name)  # a file may say anything
    sample = corpus.sample(config.sample, config.seed)
    shape = ScanShape(
        widths=model.units.widths,
        sample=sample,
        top_k=min(config.top_k, corpus.contexts),
        bottom_k=min(bottom_k(config, model.units), corpus.contexts),
        window=min(config.window or config.ctx_len, config.ctx_len),
        source_slots=count_slots(len(corpus.sources)),
        lookup=NO_TOKENS if model.units.sparse else lookup_tokens(corpus, sample),
        ranks=corpus.ranks(config.seed) if model.units.sparse else None,
    )
    plans = tuple(plan_batches(corpus.lengths, sample, config.batch_tokens))
    return Job(config, choice.name, model, corpus, shape, plans)
