"""Verifying small real runs: clean runs pass for all number formats, kinds of MLP and databases;
errors are one clear line."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select, update

from app.cli import main as cli
from indexer.corpus.batches import Batch, plan_batches
from indexer.corpus.prepared import open_prepared
from indexer.errors import NeurariumError
from indexer.models.loaded import LoadedModel
from indexer.store import schema
from indexer.verify.forward import forward
from tests.conftest import Silent
from tests.helpers.tiny_models import save_tiny_model
from tests.helpers.verify_cases import (
    CONTEXTS,
    NEURONS,
    WIDTH,
    SmallRun,
    change,
    examples_of,
    lines_of,
    make,
    only,
    put,
    save_llama,
    verified,
    with_value,
)
from tests.indexer.models import test_model_native

legacy_hub = test_model_native.legacy_hub


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny gated model on disk."""
    return save_llama(tmp_path_factory.mktemp("model") / "llama")


@pytest.fixture(scope="module")
def float32(tmp_path_factory: pytest.TempPathFactory, llama: Path) -> SmallRun:
    """A run in float32."""
    return make(tmp_path_factory.mktemp("float32"), llama)


@pytest.fixture(scope="module")
def bfloat16(tmp_path_factory: pytest.TempPathFactory, llama: Path) -> SmallRun:
    """A run in bfloat16."""
    return make(tmp_path_factory.mktemp("bfloat16"), llama, dtype="bfloat16")


class Heard(Silent):
    """A reporter that records its messages."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines += line.splitlines()


def test_a_clean_run_passes(float32: SmallRun) -> None:
    """Everything is compared, nothing is wrong, and differences are far below the bound."""
    heard = Heard()
    findings = verified(float32, reporter=heard)
    assert lines_of(findings) == []
    tallies = findings.tallies
    contexts = tallies["beyond maximum or minimum"].compared // (2 * NEURONS)
    assert 40 < contexts < CONTEXTS
    assert tallies["outside a list"].compared == 3 * NEURONS * contexts
    assert tallies["inside a list"].compared == NEURONS * (5 + 3 + 3 * 3)
    examples = NEURONS * (5 + 3 + 12 + 9)  # 12 random examples: all of the sample's second half
    bands = tallies["peaks and troughs"].compared // 2 - examples
    assert 0 < bands <= NEURONS * 12
    assert tallies["gates and linear parts"].compared == 2 * (examples + bands)
    for name in ("peaks and troughs", "inside a list", "gates and linear parts"):
        assert tallies[name].bound == 1e-4
        assert 0 <= tallies[name].largest < 2e-5
    assert 1 / 254 - 1e-4 < tallies["activations"].largest <= 1 / 254 + 1e-4
    assert (
        f"Examples of {NEURONS} neurons: {examples + bands:,} of {examples + bands:,}"
        in heard.lines
    )
    assert "To repeat this verification: --seed 0" in heard.lines


def test_a_part_of_a_run_is_verified(float32: SmallRun) -> None:
    """Compares as many neurons as requested, and at least as many contexts."""
    findings = verified(float32, neurons=2, contexts=7)
    assert lines_of(findings) == []
    all_tallies = verified(float32).tallies
    assert findings.tallies["tokens at the highest peaks"].compared == 2
    partial, all_of_them = (
        t["beyond maximum or minimum"].compared // (2 * NEURONS)
        for t in (findings.tallies, all_tallies)
    )
    assert 7 <= partial < all_of_them


def test_the_seed_draws_the_neurons(float32: SmallRun) -> None:
    """Equal seeds choose equally, other seeds differ; without a seed, the seed drawn is shown."""

    def compared(seed: int | None, heard: Heard) -> tuple[int, int]:
        tallies = verified(float32, neurons=9, contexts=9, seed=seed, reporter=heard).tallies
        return tallies["activations"].compared, tallies["beyond maximum or minimum"].compared

    heard = Heard()
    drawn = compared(None, heard)
    (line,) = [line for line in heard.lines if "--seed" in line]
    assert compared(int(line.rpartition(" ")[2]), Heard()) == drawn
    assert len({compared(seed, Heard()) for seed in range(4)}) > 1


def test_bfloat16_is_verified_by_its_own_batches(bfloat16: SmallRun) -> None:
    """With its own batches, a run in bfloat16 is equal bit for bit."""
    heard = Heard()
    findings = verified(bfloat16, reporter=heard)
    assert lines_of(findings) == []
    for name in ("peaks and troughs", "their positions", "inside a list", "outside a list"):
        assert (findings.tallies[name].largest, findings.tallies[name].bound) == (0, 0)
    assert any("equal bit for bit" in line for line in heard.lines)


def test_bfloat16_runs_only_batches_of_the_run(bfloat16: SmallRun) -> None:
    """Every batch is a batch of the run, with the same contexts in the same order."""
    (folder,) = [path.parent for path in (bfloat16.cache / "corpora").glob("*/meta.json")]
    corpus = open_prepared(folder)
    plans = plan_batches(corpus.lengths, corpus.sample(24, 0), 256)
    run = [plan.context_ids.tolist() for plan in plans]
    seen: list[list[int]] = []

    def look(model: LoadedModel, batch: Batch, on_layer: Any, rounding: float) -> None:
        seen.append(batch.context_ids.tolist())
        forward(model, batch, on_layer, rounding)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("indexer.verify.run.forward", look)
        assert lines_of(verified(bfloat16, neurons=1, contexts=1)) == []
        assert 0 < len(seen) < len(run)
        assert all(batch in run for batch in seen)
        seen.clear()
        verified(bfloat16)
    assert sorted(seen) == sorted(run)


def test_a_tie_in_bfloat16_is_decided_by_the_context(bfloat16: SmallRun, tmp_path: Path) -> None:
    """Of two contexts with equal peaks at the k-th place, listing the later one is an error."""
    longer = make(tmp_path / "six", Path(bfloat16.config.model), dtype="bfloat16", top_k=6)
    tied = [
        (layer, neuron)
        for layer in range(2)
        for neuron in range(WIDTH)
        if (peaks := examples_of(longer, (layer, neuron), "top").peaks)[4] == peaks[5]
    ]
    assert tied, "no neuron has a tie at its fifth place"
    small = bfloat16.copy(tmp_path)
    six = examples_of(longer, tied[0], "top")
    put(small, tied[0], "top", only(six, [0, 1, 2, 3, 5]))
    lines = [line for line in lines_of(verified(small)) if "should be in the list" in line]
    layer, neuron = tied[0]
    (line,) = lines
    assert line.startswith(f"layer {layer}, neuron {neuron}, top, context {six.context_ids[4]}: ")


def test_another_version_widens_the_bound(bfloat16: SmallRun, tmp_path: Path) -> None:
    """In half precision another version of torch may give other values: the bound is wider."""
    small = bfloat16.copy(tmp_path)

    def older(connection: Connection) -> None:
        runs = schema.runs
        provenance = connection.execute(select(runs.c.provenance)).scalar_one()
        provenance["versions"]["torch"] = "0.0.1"
        connection.execute(update(runs).values(provenance=provenance))

    change(small, older)
    heard = Heard()
    findings = verified(small, reporter=heard)
    assert findings.tallies["peaks and troughs"].bound == 1 / 16
    assert any("(then 0.0.1)" in line for line in heard.lines)


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("gpt2", {"window": 5}),
        ("llama", {"hook_point": "mlp.hook_pre"}),
        ("phi3", {"bottom_k": 0}),
        ("opt", {}),
    ],
)
def test_other_models_and_places_pass(
    tmp_path: Path, architecture: str, settings: dict[str, object]
) -> None:
    """Not gated, gated before the nonlinearity, gate and linear part fused, positions flattened."""
    model = save_tiny_model(tmp_path / architecture, architecture)
    findings = verified(make(tmp_path / "run", model, **settings))
    assert lines_of(findings) == []
    gated = "gates and linear parts" in findings.tallies
    assert gated == (architecture == "phi3")


@pytest.mark.usefixtures("legacy_hub")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_solu_model_passes(tmp_path: Path, dtype: str) -> None:
    """A TransformerLens model, captured before the LayerNorm in its MLPs."""
    small = make(tmp_path / "run", "solu-1l", dtype=dtype)
    findings = verified(small)
    assert lines_of(findings) == []
    assert findings.tallies["inside a list"].compared == 48 * (5 + 3 + 9)


def test_both_databases(llama: Path, tmp_path: Path, any_url: str) -> None:
    """In both databases a clean run passes and a changed peak is found."""
    small = make(tmp_path / "run", llama, any_url)
    assert lines_of(verified(small)) == []
    top = examples_of(small, (1, 3), "top")
    put(small, (1, 3), "top", with_value(top, "peaks", 4, top.peaks[4] * 0.5))
    lines = lines_of(verified(small))
    context = top.context_ids[4]
    assert any(f"layer 1, neuron 3, top, context {context}: the peak (" in line for line in lines)


# --- What cannot be verified ---------------------------------------------------------------------


def test_a_run_that_is_not_there(float32: SmallRun) -> None:
    """The error names the command that lists runs."""
    from indexer.store.database import open_store
    from indexer.verify.run import verify

    engine = open_store(float32.url, create=False)
    with pytest.raises(NeurariumError, match="There is no run 7: `neurarium runs` lists all runs"):
        verify(engine, 7, float32.cache, Silent(), neurons=1, contexts=1)
    engine.dispose()


@pytest.mark.parametrize("option", ["neurons", "contexts"])
def test_nothing_to_verify(float32: SmallRun, option: str) -> None:
    """Numbers below 1 are refused, naming the option."""
    with pytest.raises(NeurariumError, match=f"--{option} is 0: it must be 1 or more"):
        verified(float32, **{option: 0})


def test_a_model_that_is_gone_or_another(tmp_path: Path) -> None:
    """Other weights, another tokenizer, no model: each is a clear line."""
    model = save_tiny_model(tmp_path / "gpt2", "gpt2")
    small = make(tmp_path / "run", model)
    assert lines_of(verified(small)) == []
    weights = model / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(NeurariumError, match=r"Run 1 cannot be verified\. .*another weights hash"):
        verified(small)
    weights.write_bytes(content)
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:-1]
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(NeurariumError, match=r"cannot be verified\. .*another tokenizer hash"):
        verified(small)
    shutil.rmtree(model)
    with pytest.raises(
        NeurariumError, match=r"Run 1 cannot be verified\. The folder .*\(moved\?\)"
    ):
        verified(small)


def test_a_model_and_a_corpus_that_moved(llama: Path, tmp_path: Path) -> None:
    """Both can be named at their new places."""
    model = tmp_path / "model"
    shutil.copytree(llama, model)
    small = make(tmp_path / "run", model)
    corpus = Path(small.config.corpus or "")
    moved = {"model_path": tmp_path / "new", "corpus_path": tmp_path / "new.jsonl"}
    model.rename(moved["model_path"])
    corpus.rename(moved["corpus_path"])
    assert lines_of(verified(small, cache=tmp_path / "cache", **moved)) == []


def test_a_corpus_that_is_gone_or_another(llama: Path, tmp_path: Path) -> None:
    """A cached corpus suffices; without it the corpus must be available and unchanged."""
    small = make(tmp_path / "run", llama)
    corpus = Path(small.config.corpus or "")
    content = corpus.read_text()
    assert lines_of(verified(small, cache=tmp_path / "new")) == []
    corpus.write_text(content.replace("fox", "dog"))
    assert lines_of(verified(small)) == []
    with pytest.raises(NeurariumError, match=r"is not the corpus of run 1: .*another fingerprint"):
        verified(small, cache=tmp_path / "newer")
    corpus.unlink()
    with pytest.raises(NeurariumError, match=r"cannot be verified\. Its corpus .*\(moved\?\)"):
        verified(small, cache=tmp_path / "newest")
    assert lines_of(verified(small)) == []


def test_a_damaged_cache_is_made_again(float32: SmallRun, tmp_path: Path) -> None:
    """A damaged prepared corpus is prepared again."""
    shutil.copytree(float32.cache, tmp_path / "cache")
    for path in (tmp_path / "cache" / "corpora").glob("*/tokens.bin"):
        path.write_bytes(path.read_bytes()[:-4])
    (tmp_path / "cache" / "corpora" / "odd").mkdir()
    (tmp_path / "cache" / "corpora" / "odd" / "meta.json").write_text("[")
    assert lines_of(verified(float32, cache=tmp_path / "cache")) == []


# --- The command ---------------------------------------------------------------------------------


def run(
    small: SmallRun, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, list[str], str]:
    """`neurarium verify …`: exit code, lines of output, errors."""
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["neurarium", "verify", *words, "--database", small.url])
        patch.setenv("NEURARIUM_CACHE_DIR", str(small.cache))
        with pytest.raises(SystemExit) as ended:
            cli.main()
    output = capsys.readouterr()
    return int(ended.value.code or 0), output.out.splitlines(), output.err


def test_the_command_passes_a_clean_run(
    float32: SmallRun, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0; the comparisons, the largest differences and the bounds."""
    code, lines, err = run(float32, capsys, "1", "--neurons", "5", "--seed", "11")
    assert (code, err) == (0, "")
    assert lines[-1] == "No mismatches."
    assert "Examples of 5 neurons" in "\n".join(lines)
    assert "To repeat this verification: --seed 11" in lines
    (row,) = [line.split() for line in lines if line.startswith("peaks and troughs")]
    assert float(row[4]) < 1e-4 == float(row[5])
    assert row[6] == "0"


def test_the_command_tells_every_finding_with_its_page(
    float32: SmallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1; a line with layer, neuron, kind, context, both values and the page."""
    small = float32.copy(tmp_path)
    top = examples_of(small, (1, 3), "top")
    put(small, (1, 3), "top", with_value(top, "peaks", 4, top.peaks[4] * 0.5))
    code, lines, err = run(small, capsys, "1", "--neurons", str(NEURONS))
    assert (code, err) == (1, "")
    wanted = (
        f"layer 1, neuron 3, top, context {top.context_ids[4]}: the peak "
        f"(stored {top.peaks[4] * 0.5:.7g}, recomputed "
    )
    (line,) = [line for line in lines if line.startswith(wanted)]
    assert line.endswith(")  /llama/1/3?run=1")


def test_the_command_does_not_drown_in_findings(
    float32: SmallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At most fifty findings are listed; the rest are counted."""
    small = float32.copy(tmp_path)
    table = schema.neurons
    higher = update(table).values(max=table.c.max + 1, min=table.c.min + 1)
    change(small, lambda c: c.execute(higher))
    code, lines, _ = run(small, capsys, "1", "--neurons", "1", "--contexts", "1")
    assert code == 1
    (total,) = [line for line in lines if line.startswith("Mismatches: ")]
    count = int(total.removeprefix("Mismatches: ")[:-1])
    assert count >= 2 * NEURONS
    assert lines[-1] == f"and {count - 50} more"
    assert sum(line.startswith("layer ") for line in lines) == 50


def test_the_command_refuses_mistakes(
    float32: SmallRun, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and one line: no such run, a model that is gone."""
    code, _, err = run(float32, capsys, "9")
    assert (code, err) == (2, "Error: There is no run 9: `neurarium runs` lists all runs.\n")
    elsewhere = replace(float32, url="sqlite:////nowhere/x.db")
    code, _, err = run(elsewhere, capsys, "1")
    assert code == 2
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
