"""The benchmarks of scans compare like with like. Nothing is timed."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.pages import servers
from benchmarks.rounds import Turn
from benchmarks.scan import indexing, inputs, latents, memory
from benchmarks.scan.indexing import figures
from benchmarks.scan.inputs import batches, ready
from benchmarks.scan.ways import FORWARD, SCAN, TRUNK, ways_of
from indexer.config import IndexConfig
from indexer.corpus.batches import Batch
from indexer.errors import NeurariumError
from indexer.scan.job import Job
from indexer.scan.loop import scan_batch
from indexer.scan.state import Scan

CONFIG = IndexConfig(
    model="demo", ctx_len=32, max_tokens=1500, top_k=5, sample=12, batch_tokens=200, device="cpu"
)


def text(path: Path) -> Path:
    """Documents of many lengths, so that batches have padding."""
    words = ["the", "lord", "said", "unto", "return", "self", "a", "river", "\n", "0", "if"]
    draw = random.Random(5)
    documents = [" ".join(draw.choices(words, k=draw.randint(4, 60))) for _ in range(120)]
    path.write_text("".join(json.dumps({"text": one}) + "\n" for one in documents))
    return path


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """The demo's model, and a little text."""
    folder = tmp_path_factory.mktemp("indexing")
    return ready(replace(CONFIG, corpus=str(text(folder / "text.jsonl"))), folder)


def test_every_way_takes_every_batch(job: Job) -> None:
    """Padding included, as a run's batches have it."""
    taken = [batch for batch in batches(job) for run in ways_of(job).values() if not run(batch)]
    assert list(ways_of(job)) == [TRUNK, FORWARD, SCAN]
    assert len(taken) == 3 * len(job.plans)
    assert sum(not batch.attention.all() for batch in batches(job)) > 3


def batch_of(included: Sequence[Sequence[int]], part: str = "rest") -> Batch:
    mask = np.array(included, np.bool_)
    ids = np.arange(len(mask))
    return Batch(part, ids, np.zeros(mask.shape, np.int64), np.ones(mask.shape, np.bool_), mask)


def test_figures_are_shares_of_the_trunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Medians over the batches of sample, rest and its last quarter; runs weigh them by tokens."""
    sample, rest = batch_of([[1] * 100], "sample"), batch_of([[1] * 100])
    seconds = [2.0, 3.0, 2.5, 2.0, 2.0, 1.5, 1.5, 1.25, 1.0]
    turns = [
        Turn(("float32", way), number, rest if number else sample, wall, 0.0, None)
        for number, scan in enumerate(seconds)
        for way, wall in ((TRUNK, 1.0), (SCAN, scan))
    ]
    turns.append(Turn(("float32", FORWARD), 1, rest, 4.0, 0.0, None))
    monkeypatch.setattr(indexing, "LONG_RUN", 1100)
    values = {one.row: one.value for one in figures("gpt2", turns)}
    middle = (1 / 2 + 1 / 1.5) / 2  # of the rest's eight ratios
    assert values == {
        "trunk, float32": 100.0,
        "scan, sample, float32": 0.5,
        "scan, rest, float32": pytest.approx(middle),
        "scan, late, float32": 0.9,
        "scan, whole run, float32": pytest.approx(900 / (100 / 0.5 + 800 / middle)),
        "scan, at 0M tokens, float32": pytest.approx(1100 / (100 / 0.5 + 1000 / 0.9)),
        "model(tokens), rest, float32": 0.25,
    }


def test_memory_is_of_a_scan_as_large_as_asked(tmp_path: Path) -> None:
    """As many neurons and tokens as asked for; what is announced is what a run announces."""
    model = inputs.thin_model(tmp_path, 2, 24, seed=0)
    corpus = inputs.write_corpus(tmp_path, 128, 4_000, seed=0)
    announced, taken, ratio = memory.measure(model, corpus, 4_000)
    assert announced.row.startswith("48 neurons, 3,9")
    assert announced.value > 0
    assert -5 < taken.value < 500  # the system counts pages in batches
    assert ratio.value == pytest.approx(taken.value / announced.value)


def test_latents_are_ranked_alike_by_all_passes_of_the_other_way(tmp_path: Path) -> None:
    """SAEDashboard's way finds the highest peaks of its slice that the scan finds."""
    config = replace(CONFIG, corpus=str(text(tmp_path / "text.jsonl")), dtype="float32")
    dictionary = latents.save_dictionaries(tmp_path, config, 96, 8)
    job = ready(replace(config, dictionary=dictionary), tmp_path)
    dashboard, scan = latents.Dashboard(job, 32), Scan(job.shape, job.corpus.source_index)
    for batch in batches(job):
        dashboard.add(batch)
        scan_batch(job.model, batch, scan)
    assert dashboard.passes == 3
    found = np.where(np.isfinite(scan.top.values), scan.top.values, 0)[:32]
    np.testing.assert_allclose(dashboard.best.clamp_min(0).numpy(), found, rtol=1e-4, atol=1e-5)
    turns = [
        Turn(way, number, batch_of([[1] * 10], "rest" if number else "sample"), wall, 0.0, None)
        for number in range(3)
        for way, wall in ((latents.LEAST, 2.0), (latents.SCAN, 2.5), (latents.DASHBOARD, 1.0))
    ]
    values = {one.row: one.value for one in latents.figures("demo", turns, 256)}
    assert values == {
        "trunk and encoder, tokens/s": 5.0,
        "scan, sample": 0.8,
        "scan, rest": 0.8,
        "scan, whole run": pytest.approx(0.8),
        "SAEDashboard's way, 256 passes, seconds ÷ the least's": 256 / 2,
    }


def test_a_server_has_begun_when_it_prints_its_address() -> None:
    """In the line that says so; a command that ends before is a mistake, in its last lines."""
    lines = "indexed: http://127.0.0.1:8000/demo", "Neurarium is at http://127.0.0.1:4711 (…)"
    with servers.running([f"print(*{lines!r}, sep='\\n')"], begins="Neurarium is at") as server:
        assert server.address == "http://127.0.0.1:4711"
    with (
        pytest.raises(NeurariumError, match="no room"),
        servers.running(["print('no room on the disk')"]),
    ):
        pass
