"""Neurons, latents and heads of one command: captured in one pass, with the content that each has
when it is indexed alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import transformers
from sqlalchemy import select

import neurarium
from indexer.config import Execution, IndexConfig
from indexer.errors import NeurariumError
from indexer.models import patterns
from indexer.run.index import index, index_sets
from indexer.run.stopping import Stopped
from indexer.scan.choice import resolve
from indexer.store import schema
from indexer.store.database import open_store
from tests.conftest import Silent
from tests.helpers.small_latents import latents_config
from tests.helpers.stopped_runs import stopped_after

OPTIONS = ("ctx_len", "sample", "top_k", "batch_tokens", "max_tokens", "connections")
"""Of all runs."""
OFTEN = Execution(checkpoint_seconds=0)


class Lines(Silent):
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.stages: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)

    def stage(self, name: str, total: int | None, unit: str) -> Callable[[int], None]:
        self.stages.append(name)
        return lambda done: None


class Sets:
    """A tiny Llama, and three sets of its units."""

    def __init__(self, folder: Path) -> None:
        latents = replace(latents_config(folder), max_tokens=400, connections=False)
        neurons = replace(latents, dictionary=None, force=False)
        self.configs = [neurons, latents, replace(neurons, heads=True)]
        self.cache = folder / "cache"
        for config in self.configs:
            index(config, f"sqlite:///{folder / 'alone.db'}", self.cache, Silent())
        self.alone = hashes(f"sqlite:///{folder / 'alone.db'}")

    def together(self, url: str, execution: Execution | None = None) -> Lines:
        """Index all three at once; returns what the user is told."""
        lines = Lines()
        choices = [resolve(config) for config in self.configs]
        index_sets(choices, url, self.cache, lines, execution)
        return lines


def hashes(url: str) -> list[str | None]:
    """The content hashes of all runs, in their order."""
    engine = open_store(url, create=False)
    with engine.connect() as connection:
        found = connection.scalars(select(schema.runs.c.content_hash).order_by(schema.runs.c.id))
        result = list(found)
    engine.dispose()
    return result


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Sets:
    """The three sets, each indexed alone."""
    return Sets(tmp_path_factory.mktemp("together"))


@pytest.fixture
def url(tmp_path: Path) -> str:
    """An empty database."""
    return f"sqlite:///{tmp_path / 'together.db'}"


def test_one_pass_gives_what_single_runs_give(
    sets: Sets, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped twice and resumed, the second time by a run of heads alone: each batch is read once,
    and the three hashes are those of three commands."""
    with stopped_after(monkeypatch, 2), pytest.raises(Stopped, match="Stopped after"):
        sets.together(url, OFTEN)
    with stopped_after(monkeypatch, 2), pytest.raises(Stopped, match="Stopped after"):
        index(sets.configs[2], url, sets.cache, Silent(), OFTEN)
    told = sets.together(url, OFTEN)
    assert told.stages.count("Scanning") == 1
    assert "Pairs of positions" not in told.stages
    assert sum("resuming after" in line for line in told.said) == 1
    assert sets.alone == hashes(url)
    assert len(set(sets.alone)) == 3
    assert not any((sets.cache / "runs").glob("*/*"))


def test_a_set_that_is_in_the_store_is_not_made_again(
    sets: Sets, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run fails while it is written: the same command goes on with it."""
    from indexer.run import write as module

    written = module.write_run

    def fails(*arguments: object, **more: object) -> int:
        if hashes(url):
            raise NeurariumError("The disk is full.")
        return written(*arguments, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_run", fails)
        with pytest.raises(NeurariumError, match="The disk is full"):
            sets.together(url)
    assert hashes(url) == sets.alone[:1]
    told = sets.together(url)
    assert "Scanning" not in told.stages
    assert hashes(url) == sets.alone


def test_heads_that_need_other_attention_have_a_pass_of_their_own(
    sets: Sets, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where patterns come from step-by-step attention alone, the other sets keep their bits."""
    monkeypatch.setattr(patterns, "ways", lambda *_: (patterns.SLOW,))
    told = sets.together(url)
    assert told.stages.count("Scanning") == 2
    assert any("have a pass of their own" in line for line in told.said)
    assert hashes(url)[:2] == sets.alone[:2]


@pytest.mark.parametrize("way", [None, patterns.SLOW])
def test_a_model_in_memory_gives_the_same_runs(
    sets: Sets, url: str, monkeypatch: pytest.MonkeyPatch, way: str | None
) -> None:
    """Sets from Python have the command's hashes, in one pass. Where heads need step-by-step
    attention, they read a copy of the model. It computes attention as before."""
    latents = [str(sets.configs[1].dictionary)]
    if way is not None:
        monkeypatch.setattr(patterns, "ways", lambda *_: (way,))
        latents = []
    monkeypatch.setenv("NEURARIUM_CACHE_DIR", str(sets.cache))
    lines = Lines()
    monkeypatch.setattr("neurarium.indexing.Quiet", lambda: nullcontext(lines))
    neurons = sets.configs[0]
    model = transformers.AutoModelForCausalLM.from_pretrained(neurons.model)
    usual = patterns.implementation(model)
    runs = neurarium.index_sets(
        model,
        transformers.AutoTokenizer.from_pretrained(neurons.model),
        [json.loads(line) for line in Path(str(neurons.corpus)).read_text().splitlines()],
        name="memory",
        neurons=True,
        heads=True,
        dictionaries=latents,
        database=url,
        progress=False,
        force=way is None,
        **{name: getattr(neurons, name) for name in OPTIONS},
    )
    assert patterns.implementation(model) == usual
    assert runs[-1].head(1, 0).page.run.id == len(runs)
    if way is None:
        assert [run.name for run in runs] == ["memory", "memory/latents", "memory/heads"]
        assert hashes(url) == sets.alone
        assert lines.stages.count("Scanning") == 1
    else:
        assert hashes(url)[0] == sets.alone[0]
        assert lines.stages.count("Scanning") == 2


def test_a_set_is_named_once(sets: Sets, url: str) -> None:
    """Two runs of one set would take each other's place."""
    choices = [resolve(sets.configs[0])] * 2
    with pytest.raises(NeurariumError, match="named twice"):
        index_sets(choices, url, sets.cache, Silent())


def test_settings_of_a_command(tmp_path: Path) -> None:
    """Each set has the settings of a command that names it alone."""
    from app.cli.index import configs_of

    values = dict.fromkeys(("hook_point", "set_name", "shard", "state"))
    values |= {"model": "demo", "neurons": True, "heads": True, "force": True, "top_k": 7}
    configs = configs_of({**values, "dictionary": ["a", "b,c"]})
    plain = IndexConfig(model="demo", top_k=7)
    assert configs == [
        plain,
        replace(plain, dictionary="a", force=True),
        replace(plain, dictionary="b,c", force=True),
        replace(plain, heads=True),
    ]
    alone = configs_of({**values, "neurons": False, "heads": False, "dictionary": ["a"]})
    assert alone == [replace(plain, dictionary="a", force=True)]
    with pytest.raises(NeurariumError, match=r"--hook-point mlp.hook_pre is of one"):
        configs_of({**values, "force": False, "dictionary": None, "hook_point": "mlp.hook_pre"})
