"""Models that come and go by memory, and are refused when they are not the run's any more."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import transformers

from app.errors import Gone, Invalid, Unavailable
from app.live import models as live
from app.live.models import FAILED_FOR, Models, machine_memory
from app.live.text import tokenised
from app.schemas import Run, Sample, UnitsRef
from indexer.models import reload
from indexer.models.asked import Asked
from indexer.models.load import describe, load_model
from indexer.models.loaded import LoadedModel
from indexer.models.reload import bos_of, bytes_of, expected_bytes, wanted
from indexer.models.source import resolve_model
from indexer.store.units import Units
from tests.helpers.dictionary_files import LATENTS, save_own, some, weights
from tests.helpers.tiny_models import WIDTH, save_tiny_model

_OWN = ("W_enc", "b_enc", "W_dec", "b_dec")


def run_of(folder: Path, model: LoadedModel, number: int, **changes: Any) -> Run:
    """A run as the store would have it, as far as a model's loading looks."""
    provenance: dict[str, Any] = {
        "model": {
            "asked_for": str(folder),
            "asked_revision": None,
            "revision": None,
            "weights_hash": model.weights_hash,
        },
        "tokenizer": {"identity": model.tokens.identity},
        "capture": {"hook_point": model.units.hook_point, "dtype": "float32", "device": "cpu"},
        "corpus": {"contexts": 10, "contexts_with_bos": 10},
    }
    for path, value in changes.items():
        part, name = path.split("__")
        provenance.setdefault(part, {})[name] = value
    return Run(
        id=number,
        model="tiny",
        model_id="tiny",
        revision=None,
        hook_point=model.units.hook_point,
        units=UnitsRef(set=model.units.name, **Units().as_dict()),
        corpus="none",
        dtype="float32",
        contexts=10,
        tokens=100,
        ctx_len=16,
        created_at=datetime.now(UTC),
        content_hash="0" * 64,
        n_layers=model.layout.n_layers,
        n_neurons=sum(model.units.widths),
        sample=Sample(contexts=10, positions=100),
        provenance=provenance,
    )


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three tiny models on disk."""
    root = tmp_path_factory.mktemp("tiny")
    return {name: save_tiny_model(root / name, name) for name in ("gpt2", "llama", "opt")}


@pytest.fixture(scope="module")
def runs(tiny: dict[str, Path]) -> dict[str, Run]:
    """A run of each."""
    return {
        name: run_of(folder, load_model(resolve_model(str(folder))), number)
        for number, (name, folder) in enumerate(tiny.items(), 1)
    }


def size(run: Run) -> int:
    """The bytes of a run's model."""
    return bytes_of(load_model(resolve_model(run.provenance["model"]["asked_for"])))


def test_models_stay_while_there_is_room(runs: dict[str, Run]) -> None:
    """A model is loaded once for all that comes after."""
    models = Models(sum(map(size, runs.values())))
    loaded = {name: models.get(run) for name, run in runs.items()}
    assert len(models) == 3
    assert all(models.get(run) is loaded[name] for name, run in runs.items())
    assert models.get(runs["gpt2"].model_copy(update={"id": 99})) is loaded["gpt2"]
    assert loaded["gpt2"].size == size(runs["gpt2"])
    assert loaded["gpt2"].text(34) == "A"


def test_the_model_used_longest_ago_leaves(runs: dict[str, Run]) -> None:
    """Where the memory is for two, the third takes the place of the one least recently used."""
    sizes = {name: size(run) for name, run in runs.items()}
    models = Models(sum(sizes.values()) - 1)
    first = {name: models.get(runs[name]) for name in ("gpt2", "llama")}
    assert models.get(runs["gpt2"]) is first["gpt2"]  # now llama is the oldest
    models.get(runs["opt"])
    assert len(models) == 2
    assert models.get(runs["gpt2"]) is first["gpt2"]
    assert models.get(runs["llama"]) is not first["llama"]


def test_a_model_that_is_too_large_is_refused_before_it_is_loaded(
    runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configuration alone says how large it is; the others stay."""
    models = Models(size(runs["gpt2"]))
    models.get(runs["gpt2"])
    bigger = max(runs.values(), key=size)
    assert size(bigger) > size(runs["gpt2"])
    loaded: list[Any] = []
    monkeypatch.setattr(reload, "reload", lambda *what: loaded.append(what))
    with pytest.raises(Unavailable, match="NEURARIUM_LIVE_MEMORY") as refused:
        models.get(bigger)
    assert "/" not in refused.value.detail, "no path of the operator's disk"
    assert (len(models), loaded) == (1, [])


@pytest.mark.parametrize("name", ["gpt2", "llama", "opt"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_s_size_is_told_before_it_is_loaded(
    tiny: dict[str, Path], runs: dict[str, Run], name: str, dtype: str
) -> None:
    """What the configuration promises is what the parameters take."""
    provenance = runs[name].provenance
    what = wanted(provenance | {"capture": provenance["capture"] | {"dtype": dtype}})
    model = load_model(resolve_model(str(tiny[name])), dtype=dtype)
    parameters = sum(p.numel() * p.element_size() for p in model.root.parameters())
    assert expected_bytes(what, describe(what.source)) == parameters


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model__weights_hash": "0" * 64}, "another weights hash"),
        ({"tokenizer__identity": "X:00000000"}, "another tokenizer hash"),
    ],
)
def test_other_weights_are_refused(
    tiny: dict[str, Path], runs: dict[str, Run], change: dict[str, str], told: str
) -> None:
    """What is loaded must be what was indexed; the next model is loaded as ever."""
    model = load_model(resolve_model(str(tiny["gpt2"])))
    models = Models(None)
    with pytest.raises(Gone, match=told):
        models.get(run_of(tiny["gpt2"], model, 7, **change))
    assert len(models) == 0
    assert models.get(runs["gpt2"]).model.units.hook_point == "mlp.hook_post"


def test_another_configuration_is_refused(tiny: dict[str, Path], tmp_path: Path) -> None:
    """Weights mean another model under another config.json; what changes no number may change."""
    folder = tmp_path / "m"
    shutil.copytree(tiny["llama"], folder)
    model = load_model(resolve_model(str(folder)))
    run = run_of(folder, model, 8, model__config_hash=model.config_hash)
    path = folder / "config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"transformers_version": "9", "use_cache": False}))
    assert Models(None).get(run).model.config_hash == model.config_hash
    path.write_text(json.dumps(settings | {"rms_norm_eps": 0.1}))
    with pytest.raises(Gone, match="another configuration hash") as told:
        Models(None).get(run)
    assert str(tmp_path) not in told.value.detail


def test_a_moved_model_is_found_where_the_operator_says(
    tiny: dict[str, Path], tmp_path: Path
) -> None:
    """By its name in URLs; another model in that place is refused."""
    model = load_model(resolve_model(str(tiny["gpt2"])))
    run = run_of(tmp_path / "gone", model, 9)
    with pytest.raises(Unavailable, match=r"not here \(moved\?\).*--model-path"):
        Models(None).get(run)
    assert Models(None, {"tiny": tiny["gpt2"]}).get(run).model.weights_hash == model.weights_hash
    with pytest.raises(Gone, match="another weights hash"):
        Models(None, {"tiny": tiny["llama"]}).get(run)


def test_a_dictionary_is_found_where_the_operator_says_and_must_be_the_same(
    tiny: dict[str, Path], tmp_path: Path
) -> None:
    """By its model's and its set's name in URLs; a file that was changed since is refused."""
    other, path = weights(1, WIDTH, LATENTS), tmp_path / "own.safetensors"
    said = {"hook_point": "blocks.0.hook_resid_post", "activation": "relu"}
    asked = Asked(dictionary=str(save_own(path, some(weights(0, WIDTH, LATENTS), *_OWN), **said)))
    model = load_model(resolve_model(str(tiny["gpt2"])), asked=asked)
    changes = {"dictionary__hash": model.units.identity}
    run = run_of(tiny["gpt2"], model, 9, capture__dictionary=str(path), **changes)
    assert Models(None).get(run).model.units.identity == model.units.identity
    moved = path.rename(tmp_path / "moved.safetensors")
    with pytest.raises(Unavailable, match=r"not here \(moved\?\).*--dictionary-path"):
        Models(None).get(run)
    places = {"tiny": "nowhere", f"tiny/{run.units.set}": str(moved)}
    assert Models(None, None, places).get(run).model.units.asked.dictionary == str(moved)
    changed = save_own(tmp_path / "other.safetensors", some(other, *_OWN), **said)
    with pytest.raises(Gone, match="another tensor hash than the run's dictionary"):
        Models(None, None, {f"tiny/{run.units.set}": str(changed)}).get(run)


def test_a_text_with_a_token_the_model_lacks_is_refused(
    tiny: dict[str, Path], tmp_path: Path
) -> None:
    """A tokenizer may have been given more tokens than the embedding has rows."""
    folder = tmp_path / "m"
    shutil.copytree(tiny["llama"], folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"<extra{i}>" for i in range(9)])
    tokenizer.save_pretrained(folder)
    model = load_model(resolve_model(str(folder)))
    run = run_of(folder, model, 10)
    ready = Models(None).get(run)
    assert tokenised(ready, run, "the word <extra0>", 99)[0]
    with pytest.raises(Invalid, match=r"The text has the token '<extra8>' \(id 324\).*0 to 319"):
        tokenised(ready, run, "the word <extra8>", 99)


def test_a_model_that_has_gone_is_told_and_may_come_back(
    tiny: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is not there is one line; it is looked for again after a while, not at once."""
    folder = tmp_path / "moved"
    shutil.copytree(tiny["gpt2"], folder)
    run = run_of(folder, load_model(resolve_model(str(folder))), 5)
    folder.rename(tmp_path / "away")
    clock = 1000.0
    monkeypatch.setattr(live.time, "monotonic", lambda: clock)
    models = Models(None)
    with pytest.raises(
        Unavailable, match=r"model of run 5 cannot be loaded here: the server's log .*moved"
    ) as told:
        models.get(run)
    assert told.value.headers == {"Retry-After": "30"}
    assert str(tmp_path) in str(told.value), "for the operator"
    assert str(tmp_path) not in told.value.detail, "for the visitor"
    (tmp_path / "away").rename(folder)
    with pytest.raises(Unavailable):
        models.get(run)
    clock += FAILED_FOR
    assert models.get(run).model.layout.n_layers == 2


def test_a_provenance_that_says_nothing_is_told() -> None:
    """A run of which nothing is known names no model to load."""
    with pytest.raises(Exception, match="does not say which model to load"):
        wanted({"model": {}})


def test_a_hub_model_is_asked_for_at_the_run_s_commit(runs: dict[str, Run]) -> None:
    """Whatever a branch stands for by now, the run's own commit is what is loaded."""
    provenance = json.loads(json.dumps(runs["gpt2"].provenance))
    provenance["model"] |= {"asked_for": "owner/name", "revision": "c0ffee"}
    assert wanted(provenance).source.commit == "c0ffee"


@pytest.mark.parametrize(("leading", "bos"), [(10, 1), (5, 1), (4, None), (0, None)])
def test_a_bos_is_put_in_front_as_the_corpus_had_it(
    runs: dict[str, Run], leading: int, bos: int | None
) -> None:
    """A corpus that came as tokens decides by what most of its contexts begin with."""
    provenance = runs["gpt2"].provenance | {
        "corpus": {"contexts": 10, "contexts_with_bos": leading}
    }
    model = load_model(resolve_model(provenance["model"]["asked_for"]))
    assert bos_of(model, provenance) == bos
    assert bos_of(model, {"corpus": {"contexts": 10}}) == 1


def test_the_memory_of_this_machine_is_known() -> None:
    """A share of it is the default for models."""
    assert 1 << 28 < machine_memory() < 1 << 50
