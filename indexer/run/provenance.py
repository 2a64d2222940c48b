"""A run's record in the store: where its model and corpus came from, and how it was made."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from indexer.corpus.prepared import PreparedCorpus
from indexer.corpus.rows import printable
from indexer.measure.peaks import KEPT_PEAKS, sample_identity
from indexer.run.before import Before
from indexer.run.quality import Quality, as_provenance
from indexer.scan.job import Job, bottom_k
from indexer.scan.state import Scan
from indexer.store.writing.records import HeadRecords, RunRecord

VERSIONED = ("neurarium", "torch", "transformers", "transformer-lens", "numpy", "tokenizers")


def run_record(
    job: Job,
    scan_id: str,
    scan: Scan,
    before: Before,
    seconds: dict[str, float],
    heads: HeadRecords | None = None,
    qualities: tuple[Quality, ...] = (),
) -> RunRecord:
    """The run's record with its provenance. `scan` is the run's scan, or the first of several;
    `heads` is what was measured of attention heads, `qualities` how well dictionaries
    reconstruct."""
    config, model, corpus = job.config, job.model, job.corpus
    source, layout, tokens, units = model.source, model.layout, model.tokens, model.units
    assert scan.sample is not None  # a complete scan has measured it
    sample_positions = int(scan.sample.moments.count[0])
    dtype = str(model.dtype).removeprefix("torch.")
    provenance: dict[str, Any] = {
        "scan": scan_id,
        "model": {
            "id": source.model_id,
            "asked_for": printable(source.reference),
            "asked_revision": source.revision,
            "revision": source.commit,
            "checkpoint": source.checkpoint,
            "weights_hash": model.weights_hash,
            **({"config_hash": model.config_hash} if model.config_hash else {}),
            "architecture": layout.architecture,
            "activation_function": layout.activation_function,
            "gated": layout.gated,
            "layers": layout.n_layers,
            "d_model": layout.d_model,
            **({"in_memory": True} if source.kind == "memory" else {}),
            **({"unused_weights": list(model.unused_weights)} if model.unused_weights else {}),
        },
        "tokenizer": {
            "name": tokens.name,
            "identity": tokens.identity,
            "vocabulary": model.d_vocab,
            **({"first_space": "dropped"} if before.first_space_dropped else {}),
            **({"last_space": "dropped"} if before.last_space_dropped else {}),
        },
        "corpus": {
            "label": corpus.label,
            "revision": corpus.revision,
            "pretokenized": corpus.pretokenized,
            "fingerprint": corpus.fingerprint,
            "documents": corpus.documents,
            "contexts": corpus.contexts,
            "contexts_with_bos": corpus.contexts_with_bos,
            "tokens": corpus.included_tokens,
            "duplicates_skipped": corpus.duplicates,
            "broken_lines_skipped": corpus.broken_lines,
            "sources": list(corpus.sources),
            **_special_tokens(corpus),
        },
        "capture": {
            "hook_point": units.hook_point,
            "dtype": dtype,
            "device": str(model.device),
            **units.asked.as_dict(),
        },
        **as_provenance(job, qualities),
        **({"weights_not_available": list(missing)} if (missing := before.facts.missing) else {}),
        "policy": {
            "bos": _bos_policy(tokens.bos_token_id, config.bos, corpus),
            "padding": "on the right, masked, not included",
            "short_contexts": "a last chunk of fewer than 2 tokens is dropped, unless it is full",
            "duplicates": "contexts with the same token ids are counted once",
        },
        "sample": {
            "contexts": len(scan.shape.sample),
            "positions": sample_positions,
            "drawn_by": "lowest blake2b of (seed, token ids)",
            "seed": config.seed,
            # What `sample_peaks` are of: a page links them.
            "compared_contexts": scan.shape.sample[:KEPT_PEAKS].tolist(),
        },
        **({} if heads is None else {"heads": heads.run}),
        "settings": {
            name: printable(value) if isinstance(value, str) else value
            for name, value in config.as_dict().items()
        }
        | {"bottom_k": bottom_k(config, units)},
        "versions": {"python": platform.python_version()} | {n: version(n) for n in VERSIONED},
        "seconds": {stage: round(taken, 2) for stage, taken in seconds.items()},
    }
    return RunRecord(
        model=job.name,
        model_id=source.model_id,
        revision=source.commit,
        hook_point=units.hook_point,
        is_default_hook_point=units.is_default,
        corpus=corpus.label,
        dtype=dtype,
        ctx_len=config.ctx_len,
        contexts=corpus.contexts,
        tokens=corpus.included_tokens,
        sample_contexts=len(scan.shape.sample),
        sample_positions=sample_positions,
        sample_identity=sample_identity(
            corpus.context(context_id) for context_id in scan.shape.sample[:KEPT_PEAKS].tolist()
        ),
        widths=units.widths,
        sources=corpus.sources,
        vocabulary=before.vocabulary,
        token_counts=corpus.token_counts(len(before.vocabulary)),
        source_contexts=corpus.source_contexts(),
        provenance=provenance,
        created_at=datetime.now(UTC),
        set_name=job.set_name,
        units=units.described,
    )


def _special_tokens(corpus: PreparedCorpus) -> dict[str, list[int]]:
    """The special tokens inside a corpus's rows, whose positions are not included; nothing where
    there are none."""
    special = list(corpus.special_token_ids)
    return {"special_token_ids": special} if special else {}


def _bos_policy(bos_token_id: int | None, wanted: bool, corpus: PreparedCorpus) -> str:
    if corpus.pretokenized:
        return (
            f"as the corpus came: {corpus.contexts_with_bos:,} of {corpus.contexts:,} contexts "
            "begin with a BOS, not included"
        )
    if bos_token_id is None:
        return "none: the tokenizer has no BOS"
    if not wanted:
        return "none: left out (--no-bos)"
    return f"token {bos_token_id} in front of every context, not included"
