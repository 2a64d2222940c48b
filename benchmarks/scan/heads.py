"""How fast attention heads are scanned, as a share of the model's own forward pass with patterns.

    python -m benchmarks.scan.heads smollm2 demo --save benchmarks/results/heads.json

`benchmarks/README.md` defines every figure.
"""

from __future__ import annotations

import contextlib
import copy
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.results import Figure, Save, run
from benchmarks.rounds import interleave, times_faster
from benchmarks.scan.inputs import (
    Sample,
    Shapes,
    SmolLM2,
    Threads,
    Tokens,
    batches,
    check,
    model_of,
    ready,
    write_corpus,
)
from benchmarks.scan.ways import TRUNK, on_device, trunk
from benchmarks.tables import report
from indexer.config import IndexConfig
from indexer.corpus.batches import Batch, fill_batch
from indexer.heads.batch import HeadBatch
from indexer.heads.effects import heads_of, logit_path
from indexer.heads.scan import HeadScan, HeadShape
from indexer.models.loaded import LoadedModel
from indexer.scan.job import Job
from indexer.scan.loop import measuring
from indexer.scan.state import Scan

SCAN = "scan of heads"
RUN_TOKENS = (100_000, 1_000_000)
"""Of whole runs whose speed is computed from those of the sample and the rest."""


def eager_trunk(model: LoadedModel) -> Callable[[Batch], None]:
    """The body of a copy of the model that computes attention step by step."""
    root: Any = copy.deepcopy(model.root)
    root.set_attn_implementation("eager")
    return trunk(replace(model, root=root))


def scanning(job: Job) -> Callable[[Batch], None]:
    """What a run of heads does with a batch: their activations and pairs, in one forward pass."""
    model = job.model
    heads, path = heads_of(model), logit_path(model)
    shape = HeadShape(heads.widths, job.shape.sample, job.shape.random_contexts, job.shape.top_k)
    scan, pairs = Scan(job.shape, job.corpus.source_index), HeadScan(shape)

    def run(batch: Batch) -> None:
        measured = HeadBatch(heads, path, batch, pairs.scores)
        tokens, attention = on_device(batch, model.device)
        with contextlib.ExitStack() as hooks:
            measure = hooks.enter_context(measuring(model.device, batch, scan))
            hooks.enter_context(model.capturing(batch.tokens.shape, measure))
            model.trunk.run_hooked(tokens, attention, measured.hooks())
        pairs.add(measured)

    return run


def measure(name: str, job: Job) -> list[Figure]:
    """The eager trunk's seconds ÷ the scan's, of every batch of a run's plan: of the sample, of the
    rest, and of whole runs of `RUN_TOKENS`."""
    ways = {TRUNK: eager_trunk(job.model), SCAN: scanning(job)}
    last = fill_batch(job.plans[-1], job.corpus, padding_id=0)
    ways[TRUNK](last)  # the first call in a process is slow: not timed
    turns = list(interleave(ways, batches(job), job.config.seed))
    found = []
    for row, key in (("eager trunk", TRUNK), (SCAN, SCAN)):
        rates = [int(turn.item.included.sum()) / turn.wall for turn in turns if turn.key == key]
        found.append(Figure.of(row, name, rates, "tokens/s"))
    costs: dict[str, float] = {}  # the scan's seconds ÷ the trunk's
    for which in ("sample", "rest"):
        own = [turn for turn in turns if (turn.item.part == "rest") == (which == "rest")]
        if own:
            ratios = times_faster(own, SCAN, TRUNK)
            found.append(Figure.of(f"{SCAN}, {which}", name, ratios, "× trunk"))
            costs[which] = sum(turn.wall for turn in own if turn.key == SCAN) / sum(
                turn.wall for turn in own if turn.key == TRUNK
            )
    for tokens in RUN_TOKENS if len(costs) == 2 else ():
        share = sample_share(job, tokens)
        whole = 1 / (share * costs["sample"] + (1 - share) * costs["rest"])
        found.append(Figure(f"{SCAN}, whole run of {tokens:,} tokens", name, whole, "× trunk"))
    return found


def sample_share(job: Job, tokens: int) -> float:
    """The share of a run of so many tokens that the default sample has, with contexts as long as
    this run's."""
    contexts = tokens / float(np.mean(job.corpus.lengths))
    return min(1.0, IndexConfig.sample / contexts)


def main(
    shapes: Shapes,
    smollm2: SmolLM2 = None,
    tokens: Tokens = 40_000,
    sample: Sample = 128,
    threads: Threads = None,
    save: Save = None,
) -> None:
    """Measure how fast heads are scanned."""
    check(shapes, threads)
    measured: list[Figure] = []
    with tempfile.TemporaryDirectory() as name:
        for shape in shapes:
            folder = Path(name) / shape
            folder.mkdir()
            config = IndexConfig(
                model=model_of(shape, smollm2, folder, 0),
                heads=True,
                corpus=str(write_corpus(folder, 128, tokens, 0)),
                max_tokens=tokens,
                sample=sample,
                dtype="float32",
            )
            measured += measure(f"{shape}, 128", ready(config, folder))
    parameters = {"tokens": tokens, "sample": sample, "threads": torch.get_num_threads()}
    report("scan.heads", parameters, measured, save)


if __name__ == "__main__":
    run(main)
