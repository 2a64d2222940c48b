"""The whole line on the bundled model: what the pages say is what the model does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sqlalchemy import func, select
from transformers import AutoModelForCausalLM

from indexer.config import IndexConfig
from indexer.demo import MODEL_DIR
from indexer.errors import NeurariumError
from indexer.run.index import index
from indexer.store import schema
from indexer.store.database import open_store
from tests.conftest import Silent, serving

LAYERS, NEURONS = 2, 640
CONFIG = IndexConfig(model="demo", max_tokens=12_000, sample=40, top_k=5, bottom_k=3)


@pytest.fixture(scope="module")
def model() -> Any:
    """The bundled model, as transformers loads it."""
    return AutoModelForCausalLM.from_pretrained(MODEL_DIR).eval()


def activations(model: Any, token_ids: list[int]) -> np.ndarray[Any, Any]:
    """[layer, position, neuron]: the input of each MLP's output projection, by a plain hook."""
    seen: list[torch.Tensor] = []
    hooks = [
        block.mlp.c_proj.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        for block in model.transformer.h
    ]
    with torch.no_grad():
        model(torch.tensor([token_ids]))
    for hook in hooks:
        hook.remove()
    return torch.cat(seen).numpy()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A small run of the demo; the store's address and the cache."""
    folder = tmp_path_factory.mktemp("small")
    url = f"sqlite:///{folder / 'small.db'}"
    index(CONFIG, url, folder / "cache", Silent())
    return url, folder / "cache"


def test_stored_activations_are_the_models(small: tuple[str, Path], model: Any) -> None:
    """Every example of some neurons, recomputed one context at a time, is within the bound."""
    with serving(small[0]) as client:
        for layer, neuron in ((0, 0), (0, 639), (1, 17), (1, 300)):
            page = client.get(f"/api/v1/models/demo/layers/{layer}/neurons/{neuron}").json()
            examples = page["examples"]
            every = examples["top"] + examples["bottom"] + examples["random"]
            every += [e for band in examples["bands"] for e in band["examples"]]
            assert len(every) > 20
            for example in every:
                truth = activations(model, example["token_ids"])[layer, :, neuron]
                stored = example["activations"]
                assert stored[0] is None, "BOS is not an included position"
                bound = np.abs(truth[1:]).max() * (1 / 254 + 1e-4)
                assert np.abs(truth[1:] - np.array(stored[1:])).max() <= bound
                assert example["peak"] == pytest.approx(truth[1:].max(), rel=1e-4, abs=1e-5)
                assert example["peak"] == stored[example["peak_position"]]
                assert example["trough"] == stored[example["trough_position"]]


def test_no_context_is_missed(small: tuple[str, Path], model: Any) -> None:
    """Brute force over every prepared context gives the same top and bottom lists."""
    from indexer.corpus.prepared import open_prepared

    (folder,) = [path for path in (small[1] / "corpora").iterdir() if path.is_dir()]
    corpus = open_prepared(folder)
    rows = [activations(model, corpus.context(i).tolist())[:, 1:] for i in range(corpus.contexts)]
    peaks = np.stack([row.max(axis=1) for row in rows])  # [context, layer, neuron]
    troughs = np.stack([row.min(axis=1) for row in rows])
    with serving(small[0]) as client:
        for layer, neuron in ((0, 5), (0, 123), (1, 0), (1, 639)):
            page = client.get(f"/api/v1/models/demo/layers/{layer}/neurons/{neuron}").json()
            for kind, values, sign in (("top", peaks, -1), ("bottom", troughs, 1)):
                column = values[:, layer, neuron]
                found = [example["context_id"] for example in page["examples"][kind]]
                best = np.sort(sign * column)[: len(found)]
                # Two contexts may change places where they differ by less than float noise.
                assert sign * column[found] == pytest.approx(best, rel=1e-4, abs=1e-5)
                assert len(set(found)) == len(found)
            assert page["stats"]["max"] == pytest.approx(peaks[:, layer, neuron].max(), rel=1e-4)
            assert page["stats"]["min"] == pytest.approx(troughs[:, layer, neuron].min(), rel=1e-4)


def test_the_same_run_again_has_the_same_content(small: tuple[str, Path]) -> None:
    """One config on one machine gives one content hash; another seed gives another."""
    url, cache = small
    engine = open_store(url, create=False)
    index(CONFIG, url, cache, Silent())
    index(IndexConfig(**{**CONFIG.as_dict(), "seed": 1}), url, cache, Silent())
    with engine.connect() as connection:
        hashes = connection.scalars(
            select(schema.runs.c.content_hash).order_by(schema.runs.c.id)
        ).all()
    engine.dispose()
    assert hashes[0] == hashes[1]
    assert hashes[0] != hashes[2]


def test_provenance_says_where_everything_came_from(small: tuple[str, Path]) -> None:
    """A run names its model, weights, tokenizer, corpus, policies, versions and times."""
    with serving(small[0]) as client:
        run = client.get("/api/v1/runs/1").json()
    told = run["provenance"]
    assert told["model"]["architecture"] == "GPT2LMHeadModel"
    assert len(told["model"]["weights_hash"]) == 64
    assert told["corpus"]["fingerprint"]
    assert told["corpus"]["tokens"] == run["tokens"] <= 12_000
    assert told["corpus"]["sources"] == ["bible", "wordnet", "python", "austen"]
    assert told["sample"]["contexts"] == 40
    assert told["settings"]["top_k"] == 5
    assert told["capture"] == {"hook_point": "mlp.hook_post", "dtype": "float32", "device": "cpu"}
    assert set(told["versions"]) >= {"python", "torch", "transformer-lens", "neurarium"}
    assert set(told["seconds"]) >= {"prepare", "load", "scan"}


def test_other_options_reach_the_run(tmp_path: Path) -> None:
    """Another hook point, name, window and context length are what the run has."""
    url = f"sqlite:///{tmp_path / 'x.db'}"
    config = IndexConfig(
        model="demo",
        name="other",
        hook_point="mlp.hook_pre",
        ctx_len=32,
        max_tokens=2000,
        window=9,
        sample=8,
        bottom_k=0,
    )
    index(config, url, tmp_path / "cache", Silent())
    with serving(url) as client:
        page = client.get("/api/v1/models/other/layers/1/neurons/3").json()
    assert page["hook_point"] == "blocks.1.mlp.hook_pre"
    assert page["run"]["ctx_len"] == 32
    assert page["examples"]["bottom"] == []
    assert {len(example["tokens"]) for example in page["examples"]["top"]} <= set(range(1, 10))
    for example in page["examples"]["top"]:
        assert example["start"] <= example["peak_position"] < example["start"] + 9


@pytest.mark.parametrize("stage", ["Preparing", "Scanning", "Writing"])
def test_a_stopped_run_leaves_nothing(tmp_path: Path, stage: str) -> None:
    """Ctrl-C in the middle of a stage: no run, no row, and the same can be done again."""
    url = f"sqlite:///{tmp_path / 'x.db'}"

    class Impatient(Silent):
        def stage(self, name: str, total: int | None, unit: str) -> Any:
            def progress(done: int) -> None:
                if name == stage and done:
                    raise KeyboardInterrupt

            return progress

    with pytest.raises(KeyboardInterrupt):
        index(CONFIG, url, tmp_path / "cache", Impatient())
    engine = open_store(url, create=False)
    with engine.connect() as connection:
        rows = {
            table.name: connection.scalar(select(func.count()).select_from(table))
            for table in schema.metadata.sorted_tables
        }
        assert rows == {name: int(name == "store") for name in rows}
    engine.dispose()
    index(CONFIG, url, tmp_path / "cache", Silent())


def test_too_little_disk_is_said_before_the_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that the run cannot fit on is refused with both figures."""
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=1_000_000))
    with pytest.raises(NeurariumError, match=r"1\.0 MB free and this run needs about"):
        index(CONFIG, f"sqlite:///{tmp_path / 'x.db'}", tmp_path / "cache", Silent())


def test_postgresql_holds_the_same(small: tuple[str, Path], postgres_url: str) -> None:
    """Indexed into PostgreSQL, the same config gives the same hash and the same JSON."""
    index(CONFIG, postgres_url, small[1], Silent())
    with serving(small[0]) as one, serving(postgres_url) as other:
        for path in (
            "/api/v1/models/demo/layers/0/neurons?run=1&sort=kurtosis&limit=1000",
            "/api/v1/models/demo/layers/1/neurons/300?run=1",
            "/api/v1/models/demo?run=1",
        ):
            answers = [client.get(path).json() for client in (one, other)]
            for answer in answers:
                if "run" in answer:
                    assert answer["run"].pop("created_at")
                answer.pop("other_runs", None)
                answer.pop("sets", None)  # with their runs
            assert answers[0] == answers[1]
