"""The benchmark of indexing compares like with like and adds up what it found. Nothing is timed."""

from __future__ import annotations

import functools
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
import typer
from typer.testing import CliRunner

from benchmarks.scan import indexing, pieces, rounds, shapes
from benchmarks.scan import results as indexing_results
from benchmarks.scan.contestants import (
    CACHED,
    JOINED,
    NEUROSCOPE,
    OTHERS,
    PLAIN,
    SCAN,
    TRUNK,
    Field,
)
from benchmarks.scan.others import counted
from benchmarks.scan.results import Measured, targets
from benchmarks.scan.rounds import Contestant, Quartiles, Turn
from indexer.config import IndexConfig
from indexer.corpus.batches import Batch, fill_batch
from indexer.errors import NeurariumError
from indexer.models.load import load_model
from indexer.models.source import resolve_model
from indexer.scan.job import Job, ask, load, prepare

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
    question = ask(replace(CONFIG, corpus=str(text(folder / "text.jsonl"))))
    silent = indexing.Silent()
    return load(question, prepare(question, folder, silent), silent)


def batches(job: Job) -> Iterator[Batch]:
    return (fill_batch(plan, job.corpus, padding_id=0) for plan in job.plans)


@pytest.fixture(scope="module")
def field(job: Job) -> Field:
    """All that competes, after the last batch."""
    whole = Field.of("float32", job, others=True, profile=False)
    for batch in batches(job):
        for one in whole.contestants(1):
            one.run(batch)
    return whole


def test_other_ways_find_what_the_scan_finds(job: Job, field: Field) -> None:
    """Every way ends with the highest peaks of the same contexts, padding and BOS left out."""
    assert len(job.plans) > 7
    assert sum(not batch.attention.all() for batch in batches(job)) > 3
    assert field.others.keys() == set(OTHERS)
    for layer in range(job.model.layout.n_layers):
        where = field.scan.places.layer(layer)
        values, ids = field.scan.top.values[where], field.scan.top.ids[where]
        assert np.isfinite(values).all()
        alone = np.ones(values.shape, np.bool_)  # equal values have no order the ways agree on
        alone[:, 1:] &= np.diff(values) < -1e-4
        alone[:, :-1] &= np.diff(values) < -1e-4
        assert alone.mean() > 0.5
        alone[:, -1] = False  # nor is it known who was next
        for way in field.others.values():
            best, contexts = way.best(layer)
            np.testing.assert_allclose(best.T.numpy(), values, rtol=1e-4, atol=1e-5)
            assert (contexts.T.numpy() == ids)[alone].all()


def test_what_is_kept_is_counted(job: Job, field: Field) -> None:
    """Bytes kept are those of the arrays: k peaks and ids a neuron; whole activations; the scan."""
    k, neurons = job.shape.top_k, job.shape.neurons
    positions = int((job.corpus.lengths - job.corpus.included_from).max())
    held = field.held()
    assert held[NEUROSCOPE] == held[CACHED] == k * neurons * (4 + 8)
    assert held[JOINED] == k * neurons * (4 * positions + 8)
    assert held[SCAN] == sum(array.nbytes for array in field.scan.arrays().values())


def test_positions_left_out_are_minus_infinity() -> None:
    """A BOS of all is cut off, without a copy where nothing is padded; padding becomes −inf."""
    included = np.array([[False, True, True], [False, True, True]])
    ids = np.arange(2)
    whole = Batch("rest", ids, np.zeros((2, 3), np.int64), np.ones((2, 3), np.bool_), included)
    activations = torch.arange(12.0).reshape(2, 3, 2)
    assert counted(activations, whole).data_ptr() == activations[:, 1:].data_ptr()
    shorter = replace(whole, included=np.array([[False, True, True], [False, True, False]]))
    expected = activations[:, 1:].clone()
    expected[1, 1] = -torch.inf
    assert torch.equal(counted(activations, shorter), expected)


def test_everything_has_its_turn_on_every_batch(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders differ and come from the seed; who runs on every third batch does."""
    ticks = iter(range(10**6))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
    monkeypatch.setattr(time, "process_time", lambda: 2.0 * next(ticks))
    seen: list[tuple[str, int]] = []

    def runs(seed: int) -> list[Turn]:
        seen.clear()
        some = [
            Contestant("a", "float32", lambda batch: seen.append(("a", batch.context_ids[0]))),
            Contestant("b", "float32", lambda batch: seen.append(("b", batch.context_ids[0]))),
            Contestant("c", "float32", lambda batch: seen.append(("c", batch.context_ids[0])), 3),
        ]
        return rounds.interleave(some, batches(job), torch.device("cpu"), seed)

    turns = runs(0)
    firsts = [plan.context_ids[0] for plan in job.plans]
    assert sorted(seen) == sorted(
        [(way, first) for way in "ab" for first in firsts] + [("c", f) for f in firsts[::3]]
    )
    assert [(turn.way, firsts[turn.batch]) for turn in turns] == seen
    order = seen.copy()
    assert [turn.way for turn in runs(0)] == [way for way, _ in order]
    assert [turn.way for turn in runs(1)] != [way for way, _ in order]
    starts = {next(way for way, first in order if first == one) for one in firsts}
    assert {"a", "b"} <= starts
    # The fake clocks tick once a look, and the processor's twice as fast: look, run, look.
    assert {(turn.wall, turn.processor) for turn in turns} == {(2.0, 4.0)}
    for turn, plan in ((turn, job.plans[turn.batch]) for turn in turns):
        assert turn.part == ("rest" if plan.part == "rest" else "sample")
        lengths, from_ = job.corpus.lengths, job.corpus.included_from
        assert turn.tokens == int((lengths - from_)[plan.context_ids].sum())


def turn(way: str, batch: int, wall: float, dtype: str = "float32", part: str = "rest") -> Turn:
    assert part in ("rest", "sample")
    named: rounds.Part = "rest" if part == "rest" else "sample"
    return Turn(way, dtype, batch, named, 100, wall, 2 * wall)


TURNS = [
    turn(TRUNK, 0, 1.0, part="sample"), turn(SCAN, 0, 2.0, part="sample"),
    turn(TRUNK, 1, 1.0), turn(SCAN, 1, 1.25), turn(NEUROSCOPE, 1, 2.5),
    turn(TRUNK, 2, 4.0), turn(SCAN, 2, 4.0), turn(JOINED, 2, 5.0),
    turn(SCAN, 1, 0.5, "bfloat16"), turn(TRUNK, 1, 0.25, "bfloat16"),
]  # fmt: skip


def test_speeds_are_beside_the_trunk_of_the_same_batches() -> None:
    """Sums and quartiles over the sample, the rest and the whole; dtypes are kept apart."""
    found = {(one.way, one.dtype, one.part): one for one in rounds.speeds(TURNS, TRUNK)}
    whole = found[SCAN, "float32", "whole"]
    assert (whole.batches, whole.tokens, whole.wall, whole.processor) == (3, 300, 7.25, 14.5)
    assert whole.tokens_a_second == pytest.approx(300 / 7.25)
    assert whole.of_trunk == whole.of_trunk_processor == pytest.approx(6 / 7.25)
    assert whole.by_batch == Quartiles(37.5, 50.0, 65.0)  # of 50, 80 and 25
    assert whole.of_trunk_by_batch == Quartiles(0.65, 0.8, 0.9)  # of 0.5, 0.8 and 1
    assert found[SCAN, "float32", "sample"].of_trunk == 0.5
    assert found[SCAN, "float32", "rest"].of_trunk == pytest.approx(5 / 5.25)
    assert found[NEUROSCOPE, "float32", "whole"].of_trunk == pytest.approx(0.4)
    assert found[SCAN, "bfloat16", "whole"].of_trunk == 0.5
    assert (SCAN, "bfloat16", "sample") not in found
    alone = rounds.speeds([turn(SCAN, 0, 1.0)], TRUNK)
    assert {one.of_trunk for one in alone} == {None}


def test_ratios_of_two_are_of_batches_both_had() -> None:
    """A way that had fewer batches is compared on those; without any there is no ratio."""
    scan = (SCAN, "float32")
    assert rounds.faster(TURNS, scan, (NEUROSCOPE, "float32")) == 2.0
    assert rounds.faster(TURNS, scan, (JOINED, "float32")) == 1.25
    assert rounds.faster(TURNS, (SCAN, "bfloat16"), scan) == 2.5
    assert rounds.faster(TURNS, scan, (CACHED, "float32")) is None


def test_a_long_run_has_one_sample() -> None:
    """The sample stays as large as it is; the rest goes with the tokens; each has its median."""
    found = rounds.speeds(TURNS, TRUNK)
    # 1,100 tokens: 100 of the sample at a half, and 1,000 at 0.8 and 1.
    expected = 1100 / (100 / 0.5 + 1000 / 0.9)
    at = functools.partial(rounds.of_trunk_at, found, trunk=TRUNK, dtype="float32", tokens=1100)
    assert at(way=SCAN) == pytest.approx(expected)
    assert at(way=NEUROSCOPE) is None
    assert rounds.of_trunk_at(found, SCAN, TRUNK, "bfloat16", 1100) is None


def test_a_long_run_is_like_the_end_of_this_one() -> None:
    """Of the rest's last quarter: most contexts of the first batches enter a list."""
    seconds = [3.0, 2.5, 2.0, 2.0, 1.5, 1.5, 1.25, 1.0]
    turns = [turn(TRUNK, 0, 1.0, part="sample"), turn(SCAN, 0, 2.0, part="sample")]
    for batch, wall in enumerate(seconds, 1):
        turns += [turn(TRUNK, batch, 1.0), turn(SCAN, batch, wall)]
    found = rounds.speeds(turns, TRUNK)
    late = next(one for one in found if (one.way, one.part) == (SCAN, "late"))
    assert (late.batches, late.of_trunk) == (2, pytest.approx(2 / 2.25))
    at = functools.partial(rounds.of_trunk_at, found, SCAN, TRUNK, "float32")
    assert at(tokens=1100) == pytest.approx(1100 / (100 / 0.5 + 1000 / 0.9))
    whole = rounds.of_trunk_whole(found, SCAN, TRUNK, "float32", 900)
    middle = (1 / 2 + 1 / 1.5) / 2  # the median of the rest's eight ratios
    assert whole == pytest.approx(900 / (100 / 0.5 + 800 / middle))


def measured(shape: str, turns: list[Turn]) -> Measured:
    return Measured(
        shape=shape, ctx_len=128, layers=2, neurons=8, parameters=9, attention="sdpa",
        contexts=3, tokens=300, sample_contexts=1, sources=1, batches=3, padding=0.0,
        described_in=1.0,
        prepared_in=1.0, loaded_in={"float32": 1.0, "bfloat16": 1.0}, expected_bytes=1,
        held_bytes={}, speeds=rounds.speeds(turns, TRUNK), turns=turns, pieces=[],
        peak_memory=1, load=(None, None),
    )  # fmt: skip


def test_targets_are_beside_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each dtype has its own; the fastest of the others counts; the demo has none."""
    monkeypatch.setattr(indexing_results, "LONG_RUN", 1100)
    found = {what: (value, least) for what, value, least in targets([measured("gpt2", TURNS)])}
    assert found == {
        "gpt2, 128, float32: scan ÷ trunk": (pytest.approx(300 / (100 / 0.5 + 200 / 0.9)), 0.95),
        "gpt2, 128, float32: the same at 1,100 tokens, computed": (
            pytest.approx(1100 / (100 / 0.5 + 1000 / 0.9)),
            0.95,
        ),
        f"gpt2, 128, float32: scan ÷ {JOINED}": (1.25, 1.2),
        "gpt2, 128, bfloat16: scan ÷ trunk": (0.5, 0.9),
    }
    assert list(targets([measured("demo", TURNS)])) == []
    assert measured("gpt2", TURNS).gain(SCAN) == 2.5
    assert measured("gpt2", TURNS).gain(PLAIN) is None


def test_a_piece_is_without_the_pieces_it_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Own time is a piece's without that of the pieces inside it, however deep."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time, "process_time", lambda: 3 * now[0])

    def work(seconds: float, *inside: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            now[0] += seconds
            for one in inside:
                one()

        return run

    clocks = pieces.Clocks()
    inner = clocks.around("inner", work(1.0))
    middle = clocks.around("middle", work(10.0, inner, inner))
    clocks.around("outer", work(100.0, middle, inner))()
    assert clocks.wall == {"inner": 3.0, "middle": 10.0, "outer": 100.0}
    assert clocks.processor == {"inner": 9.0, "middle": 30.0, "outer": 300.0}


def test_a_profiled_scan_is_the_scan(job: Job, field: Field) -> None:
    """Every piece is seen on the sample, and the scan finds the same; the clocks come off again."""
    plain = [getattr(owner, name) for _, owner, name in pieces.PIECES]
    profiled = Field.of("float32", job, others=False, profile=True)
    for batch in batches(job):
        profiled.scan_batch(batch)
    assert [getattr(owner, name) for _, owner, name in pieces.PIECES] == plain
    clocks = profiled.clocks
    assert clocks is not None
    assert clocks["sample"].wall.keys() == {name for name, _, _ in pieces.PIECES}
    assert "the sample: sums" not in clocks["rest"].wall
    assert [one.way for one in profiled.contestants(1)] == [TRUNK, SCAN]
    found = profiled.scan.arrays()
    for name, array in field.scan.arrays().items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_there_is_text_enough(tmp_path: Path) -> None:
    """Short contexts read the demo's text and then the library's, long ones the library's alone."""
    read = [
        [
            json.loads(line)
            for line in shapes.write_corpus(tmp_path, *asked).read_text().split("\n")[:-1]
        ]
        for asked in ((128, 200_000, 0), (1024, 10_000, 0), (1024, 10_000, 1))
    ]
    short, long, other = read
    sources = [document["source"] for document in short]
    assert {"bible", "wordnet", "python", "austen"} < set(sources)
    assert sources.index("library") == 390  # the demo's documents come first
    assert {document["source"] for document in long} == {"library"}
    assert long != other
    for documents, tokens in ((short, 200_000), (long, 10_000)):
        assert sum(len(document["text"]) for document in documents) > 8 * tokens


def test_a_random_gpt2_reads_the_demos_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a GPT-2 as transformers makes it, with the demo's tokenizer; the seed draws it."""
    small = functools.partial(transformers.GPT2Config, n_layer=1, n_embd=16, n_head=2)
    monkeypatch.setattr(transformers, "GPT2Config", small)
    hashes = []
    for number, seed in enumerate((0, 0, 1)):
        folder = tmp_path / str(number)
        model = load_model(resolve_model(shapes.model_of("gpt2", None, folder, seed)))
        hashes.append(model.weights_hash)
    assert (model.d_vocab, model.units.widths, model.layout.max_context) == (50257, (64,), 1024)
    assert model.root.config._attn_implementation == "sdpa"
    assert len(model.tokens.tokenizer) == 4096
    assert hashes[0] == hashes[1] != hashes[2]


def run(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(indexing.main)
    result = CliRunner().invoke(app, list(arguments))
    assert "Traceback" not in result.output
    return result.exit_code, result.output


SHORT = ("--shape", "demo", "--tokens", "1500", "--sample", "10", "--no-whole", "--device", "cpu")


def test_it_shows_and_saves_what_it_measured(tmp_path: Path) -> None:
    """Every way has its row; all turns are in the JSON, with the machine and what was asked."""
    path = tmp_path / "found.json"
    code, said = run(*SHORT, "--batch-tokens", "512", "--save", str(path))
    assert code == 0, said
    for way in (TRUNK, PLAIN, SCAN, *OTHERS):
        assert said.count(f"│ {way}") == 2  # float32 and bfloat16
    assert "not measured at 1024" in said
    saved = json.loads(path.read_text())
    (case,) = saved["cases"]
    assert saved["asked"]["dtypes"] == ["float32", "bfloat16"]
    assert saved["machine"]["threads"] == torch.get_num_threads()
    assert saved["machine"]["packages"].keys() == set(indexing.PACKAGES)
    assert case["tokens"] <= 1500 < case["tokens"] + 128
    assert len(case["turns"]) == 2 * 6 * case["batches"]
    assert {one["way"] for one in case["speeds"]} == {TRUNK, PLAIN, SCAN, *OTHERS}
    assert case["held_bytes"]["float32"][SCAN] > 0
    assert min(case["described_in"], case["prepared_in"], *case["loaded_in"].values()) > 0


def test_it_says_where_the_time_goes(tmp_path: Path) -> None:
    """With --profile, the parts of the scan stand beside the trunk, and nothing else runs."""
    path = tmp_path / "found.json"
    code, said = run(*SHORT, "--dtype", "float32", "--profile", "--save", str(path))
    assert code == 0, said
    assert "beyond the trunk" in said
    assert NEUROSCOPE not in said
    (case,) = json.loads(path.read_text())["cases"]
    named = {one["name"] for one in case["pieces"] if one["part"] == "sample"}
    assert named > {name for name, _, _ in pieces.PIECES}
    for part in ("sample", "rest"):  # the parts are all that the scan took beyond the trunk
        beyond = sum(one["of_trunk"] for one in case["pieces"] if one["part"] == part)
        speed = next(s for s in case["speeds"] if (s["way"], s["part"]) == (SCAN, part))
        assert beyond == pytest.approx(1 / speed["of_trunk"] - 1)


def test_a_whole_run_tells_its_stages(tmp_path: Path) -> None:
    """It is `neurarium index` with a new cache: it prepares, loads, scans and writes."""
    config = replace(CONFIG, corpus=str(text(tmp_path / "text.jsonl")), dtype="float32")
    whole = indexing.whole_run(config, tmp_path, torch.get_num_threads())
    assert list(whole.seconds) == ["prepare", "load", "scan", "write"]
    assert 0 < whole.tokens <= 1500
    assert (whole.dtype, whole.peak_memory > 10**8) == ("float32", True)
    assert (tmp_path / "whole.db").stat().st_size > 0


def test_what_cannot_be_measured_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown names, and a SmolLM2 that is not there, are one line each."""
    assert run("--shape", "bert") == (
        2, "Error: There is no shape 'bert': there are smollm2, gpt2, demo.\n"
    )  # fmt: skip
    code, said = run("--dtype", "int8", "--shape", "demo")
    assert (code, "There is no dtype 'int8'" in said) == (2, True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(NeurariumError, match="--smollm2"):
        shapes.model_of("smollm2", None, Path(), 0)
    assert shapes.model_of("smollm2", "some.gguf", Path(), 0) == "some.gguf"
