"""The bundled dictionaries, indexed: equal to brute force, measured, refused when read wrongly."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sqlalchemy import select
from starlette.testclient import TestClient
from torch import Tensor
from transformers import AutoModelForCausalLM

from indexer.config import IndexConfig
from indexer.corpus.prepared import open_prepared
from indexer.demo import DICTIONARIES, MODEL_DIR
from indexer.demo.train_dictionaries import Task, Written
from indexer.demo.train_dictionaries import measure as measured_apart
from indexer.errors import NeurariumError
from indexer.run.index import index
from indexer.store import schema
from indexer.store.database import open_store
from tests.browser.test_accessibility import violations
from tests.browser.test_browser import PHONE, SCREENSHOTS, WIDE, visiting
from tests.browser.test_focus_browser import SMALL as SMALL_TARGETS
from tests.conftest import Silent, serving, serving_live
from tests.helpers.html_reader import elements, read
from tests.helpers.live_servers import live_client_of
from tests.helpers.store_copies import copy_store

SAE, TRANSCODER = DICTIONARIES
SMALL: dict[str, Any] = {"model": "demo", "max_tokens": 6_000, "sample": 20, "top_k": 5}


@pytest.fixture(scope="module")
def model() -> Any:
    """The bundled model, as transformers loads it."""
    return AutoModelForCausalLM.from_pretrained(MODEL_DIR).eval()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Small runs of both dictionaries; the store's address and the cache."""
    folder = tmp_path_factory.mktemp("latents")
    url = f"sqlite:///{folder / 'latents.db'}"
    for path in DICTIONARIES:
        index(IndexConfig(**SMALL, dictionary=str(path)), url, folder / "cache", Silent())
    return url, folder / "cache"


def latents(model: Any, path: Path, token_ids: list[int]) -> Tensor:
    """Activations [pos, latents] by plain hooks and plain arithmetic."""
    seen: list[Tensor] = []
    module = model.transformer.h[0] if path == SAE else model.transformer.h[1].mlp
    side = 1 if path == SAE else 0

    def keep(_: Any, given: Any, output: Any) -> None:
        first = (given, output)[side]
        seen.append(first[0][0] if isinstance(first, tuple) else first[0])

    handle = module.register_forward_hook(keep)
    with torch.no_grad():
        model(torch.tensor([token_ids]))
    handle.remove()
    w = {name: tensor.float() for name, tensor in load_file(path).items()}
    before = seen[0] @ w["W_enc"] + w["b_enc"]
    return torch.where(before > w["threshold"], before, 0.0)


@pytest.mark.parametrize("path", DICTIONARIES, ids=lambda path: path.stem)
def test_top_density_and_firing_choice_are_those_of_brute_force(
    runs: tuple[str, Path], model: Any, path: Path
) -> None:
    """Every context's latents, recomputed, give the same lists, densities and statistics."""
    (folder,) = [found for found in (runs[1] / "corpora").iterdir() if found.is_dir()]
    corpus = open_prepared(folder)
    rows = [latents(model, path, corpus.context(i).tolist())[1:] for i in range(corpus.contexts)]
    peaks = torch.stack([row.amax(0) for row in rows]).numpy()
    every = torch.cat(rows).numpy()
    order = np.argsort(corpus.ranks(0))
    fires = (every > 0).mean(axis=0)
    chosen = np.argsort(fires)[[-1, -40, -200, -600]].tolist()
    layer = 0 if path == SAE else 1
    base = f"/api/v1/models/demo/sets/{path.stem}/layers/{layer}"
    with serving(runs[0]) as client:
        for unit in [*chosen, int(np.argmin(fires))]:
            page = client.get(f"{base}/neurons/{unit}").json()
            kinds, column = page["examples"], peaks[:, unit]
            firing = [int(context) for context in order if column[context] > 0]
            top = [example["context_id"] for example in kinds["top"]]
            best = np.sort(-column[firing])[: len(top)]
            assert len(top) == min(5, len(firing))
            assert -column[top] == pytest.approx(best, rel=1e-4, abs=1e-5)
            assert [example["context_id"] for example in kinds["random"]] == firing[:15]
            assert kinds["bottom"] == []
            assert page["stats"]["density"] == pytest.approx(fires[unit], abs=2 / len(every))
            banded = {e["context_id"] for band in kinds["bands"] for e in band["examples"]}
            assert banded <= set(firing[:15])
            if len(firing) >= 2:
                cuts = [band["low"] for band in kinds["bands"] if band["low"] is not None]
                kept = column[firing[:200]].astype(np.float64)
                expected = np.quantile(kept, [0.99, 0.9, 0.5])
                assert sorted(cuts) == pytest.approx(sorted(expected), rel=1e-4)


def test_what_a_dictionary_is_worth_equals_an_independent_computation(
    runs: tuple[str, Path], model: Any
) -> None:
    """FVU, L0 and spliced losses on the sample, by the script that trains."""
    (folder,) = [found for found in (runs[1] / "corpora").iterdir() if found.is_dir()]
    corpus = open_prepared(folder)
    rows = torch.full((20, 128), -1)
    for row, context in zip(rows, corpus.sample(20, 0).tolist(), strict=True):
        ids = torch.tensor(corpus.context(context).astype(np.int64))
        row[: len(ids)] = ids
    engine = open_store(runs[0], create=False)
    with engine.connect() as connection:
        stored = connection.scalars(
            select(schema.runs.c.provenance).order_by(schema.runs.c.id)
        ).all()
    engine.dispose()
    for path, provenance in zip(DICTIONARIES, stored, strict=True):
        assert provenance["capture"]["dictionary"] == f"demo:{path.stem}"
        (quality,) = provenance["dictionary"]["quality"]
        with safe_open(path, framework="pt") as opened:
            said = opened.metadata()
        layer, out = int(said["hook_point"].split(".")[1]), said.get("hook_point_out")
        task = Task(path.stem, "latent", said["hook_point"], out, layer)
        apart = measured_apart(model, rows, Written(task, load_file(path)))
        assert quality["fvu"] == pytest.approx(apart["fvu"], abs=2e-4)
        assert quality["l0"] == pytest.approx(apart["l0"], abs=0.02)
        for name in ("loss", "loss_with_reconstruction", "loss_with_zeros"):
            assert quality[name] == pytest.approx(apart[name], abs=2e-4)


def test_a_set_may_not_have_the_name_of_another_kind_s(tmp_path: Path) -> None:
    """A file may say anything; the user's name for the set is taken in its place."""
    tensors = {"W_enc": torch.eye(160)[:, :3].contiguous()}
    path, url = tmp_path / "own.safetensors", f"sqlite:///{tmp_path / 'store.db'}"
    save_file(tensors, path, {"hook_point": "blocks.0.hook_resid_post", "name": "heads"})
    config = IndexConfig(**SMALL | {"max_tokens": 500}, dictionary=str(path))
    with pytest.raises(NeurariumError, match="'heads' is reserved by the server: choose another"):
        index(config, url, tmp_path / "cache", Silent())
    assert index(replace(config, set_name="mine"), url, tmp_path / "cache", Silent()).run_id == 1


def test_a_set_of_some_layers_has_pages(runs: tuple[str, Path]) -> None:
    """The model, the set, its layers and a latent that never fires are pages, not errors."""
    with serving(runs[0]) as client:
        for address in (
            "/demo/residual-sae",
            "/demo/residual-sae/0",
            "/demo/residual-sae/0/17",
            "/demo/mlp-transcoder/1/3",
        ):
            assert client.get(address).status_code == 200, address
        assert 'href="/demo/residual-sae/1"' not in client.get("/demo/residual-sae/0").text
        assert 'href="/demo/mlp-transcoder/0"' not in client.get("/demo/mlp-transcoder/1").text
        missing = client.get("/demo/residual-sae/1")
        assert missing.status_code == 404
        assert "has no latents" in missing.text


def sent(client: TestClient, path: str, **body: Any) -> Any:
    """What the API answers to a text about a unit of the demo."""
    text = {"text": "def f(x):\n    return x"}
    return client.post(f"/api/v1/models/demo/sets/{path}", json=text | body)


def test_a_transcoder_s_latents_read_a_text(runs: tuple[str, Path], model: Any) -> None:
    """Activations as brute force has them, and predictions with the latent ablated."""
    with live_client_of(runs[0]) as client:
        base = "mlp-transcoder/layers/1/neurons"
        ids = sent(client, f"{base}/0/activations").json()["token_ids"]
        expected = latents(model, TRANSCODER, ids)
        unit = int(expected[-1].argmax())
        found = sent(client, f"{base}/{unit}/activations").json()
        assert found["activations"][1:] == pytest.approx(expected[1:, unit].tolist(), abs=1e-4)
        assert found["effects"]["no_ablation"] == ""
        assert found["effects"]["zero_ablated"]["divergence"] > 1e-6
        together = [{"layer": 1, "neuron": unit}]
        assert sent(client, "mlp-transcoder/ablation", neurons=together).status_code == 200
        steered = sent(client, f"{base}/{unit}/steering", strength=2, new_tokens=2)
        assert steered.status_code == 200, steered.text


def test_directions_without_a_decoder_read_a_text(
    browser: Any, runs: tuple[str, Path], tmp_path: Path
) -> None:
    """JSON and page have the activations, and the reason in place of ablated predictions; nothing
    can be ablated or steered, in one line each."""
    tensors = {"W_enc": torch.eye(160)[:, :3].contiguous()}
    path, url = tmp_path / "own.safetensors", f"sqlite:///{tmp_path / 'store.db'}"
    save_file(tensors, path, {"hook_point": "blocks.0.hook_resid_post", "name": "mine"})
    index(IndexConfig(**SMALL | {"max_tokens": 500}, dictionary=str(path)), url, runs[1], Silent())
    with live_client_of(url) as client:
        answer = sent(client, "mine/layers/0/neurons/2/activations")
        assert answer.status_code == 200, answer.text
        found = answer.json()
        effects = found["effects"]
        reason = effects["no_ablation"]
        assert "directions would take away: their file has no decoder" in reason
        assert effects["zero_ablated"] is effects["mean_ablated"] is effects["attribution"] is None
        assert len(effects["as_is"]["tokens"]) == 10
        assert max(found["activations"][1:]) == found["peak"]
        ablated = sent(client, "mine/ablation", neurons=[{"layer": 0, "neuron": 2}])
        steered = sent(client, "mine/layers/0/neurons/2/steering", strength=1)
        for refused, expected in ((ablated, reason), (steered, "Nothing can be steered here.")):
            assert refused.status_code == 422
            assert expected in refused.json()["detail"]
        layer = client.get("/demo/mine/0").text
        assert "picture=density" in layer
        assert "picture=effect_kurtosis" not in layer, "they write nothing"
    with (
        serving_live(url, live=True) as server,
        visiting(browser, server, viewport=PHONE) as page,
    ):
        page.goto("/demo/mine/0/2/try")
        page.fill("#live-text", "def f(x):")
        page.click("#live button[type=submit]")
        page.wait_for_selector("#live-result .read")
        assert reason in page.inner_text("#live-result").replace("\n", " ")
        assert page.locator("table.choices").count() == 1
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        assert violations(page) == []


@pytest.mark.parametrize(
    ("path", "first"),
    [
        ("/demo/residual-sae/0/99999", "/demo/residual-sae/0/2047"),
        ("/demo/residual-sae/1/7", "/demo/residual-sae/0/7"),
        ("/demo/mlp-transcoder/0/99999", "/demo/mlp-transcoder/1/2047"),
        ("/demo/mlp-transcoder/0", "/demo/mlp-transcoder/1"),
        ("/demo/mlp-transcoder/1/nonsense", "/demo/mlp-transcoder/1"),
        ("/demo/no-such-set/1/3", "/demo/0/3"),
        ("/go?to=0/99999&model=demo&set=mlp-transcoder", "/demo/mlp-transcoder/1/2047"),
        ("/go?to=demo/1/7&model=demo&set=mlp-transcoder", "/demo/0/7"),
    ],
)
def test_the_nearest_is_in_the_same_set(runs: tuple[str, Path], path: str, first: str) -> None:
    """An error page offers what exists in the address's set; layers without latents do not."""
    with serving(runs[0]) as client:
        response = client.get(path)
        assert response.status_code in (404, 422)
        (near,) = elements(response.text).all("ul", "nearest")
        addresses = [link.attributes["href"] for link in near.all("a")]
        assert addresses[0] == first
        assert all(client.get(address).status_code == 200 for address in addresses)


def test_differences_of_a_set_are_of_the_layers_that_have_latents(
    runs: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first layer is empty: neither the count of common contexts nor the usual layer is its."""
    query, peaks = {"a": 2, "b": 2}, "over the 20 contexts that both samples have"
    with serving(runs[0]) as client:
        api = "/api/v1/models/demo/sets/mlp-transcoder/differences"
        found = client.get(api, params=query).json()
        assert (found["contexts"], found["layer"], found["total"]) == (20, None, 2048)
        assert any(row["correlation"] == pytest.approx(1) for row in found["items"])
        page = client.get("/demo/mlp-transcoder/differences", params=query).text
        assert peaks in page
        assert "No correlations" not in page
        assert "layer 0" not in page
        missing = client.get(api, params=query | {"layer": 0})
        assert missing.status_code == 404
        assert missing.json()["detail"] == "Layer 0 has no latents that both runs have."
        monkeypatch.setattr("app.differences.queries.MOST_AT_ONCE", 1)
        assert client.get(api, params=query).json()["layer"] == 1


def test_words_count_the_layers_that_have_latents(runs: tuple[str, Path]) -> None:
    """On every page that says how many units a set has; JSON has the model's layers."""
    with serving(runs[0]) as client:
        assert client.get("/api/v1/runs/2").json()["n_layers"] == 2
        facts = read(client, "/runs/2").all("tr")
        assert ["layers", "1"] in [
            [cell.text for cell in row.all("th") + row.all("td")] for row in facts
        ]
        search = client.get("/demo/mlp-transcoder/neurons?q=max>0").text
        assert "2,048 latents in 1 layer of demo" in search
        assert "2,048 latents in 1 layer of " in client.get("/demo/mlp-transcoder").text
        assert "<dt>layers</dt><dd>1</dd>" in client.get("/demo/mlp-transcoder").text
        (home,) = elements(client.get("/").text).all("tbody")
        sets = home.all("td")[1]
        assert home.all("td")[0].text == "1"
        assert [link.text for link in sets.all("a")] == [
            "2,048 latents residual-sae",
            "2,048 latents mlp-transcoder",
        ]


def changed(tmp_path: Path, name: str, **said: str | None) -> str:
    """The bundled autoencoder with other metadata."""
    with safe_open(SAE, framework="pt") as opened:
        metadata = {**opened.metadata(), **said}
    path = tmp_path / f"{name}.safetensors"
    save_file(load_file(SAE), path, {key: value for key, value in metadata.items() if value})
    return str(path)


def test_pages_of_a_model_with_three_sets(
    browser: Any, runs: tuple[str, Path], tmp_path: Path
) -> None:
    """Neurons and two dictionaries: on the model's page, a set's, its layer's and latents', axe
    finds nothing, nothing is wider than the window or too small for a finger, each set leads to the
    others, and a latent is reached by keyboard; a picture of each is kept."""
    url = copy_store(runs[0], tmp_path / "three.db")
    index(IndexConfig(**SMALL | {"max_tokens": 500}), url, runs[1], Silent())
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    pages = {
        "three sets": "/demo",
        "set": "/demo/residual-sae",
        "set's layer": "/demo/residual-sae/0",
        "latent": "/demo/residual-sae/0/7",
        "transcoder's latent": "/demo/mlp-transcoder/1/3",
    }
    with serving_live(url) as server:
        for size, scheme in ((WIDE, "light"), (PHONE, "dark")):
            with visiting(browser, server, viewport=size, color_scheme=scheme) as page:
                for name, path in pages.items():
                    page.goto(path)
                    page.screenshot(path=SCREENSHOTS / f"{name}-{size['width']}-{scheme}.png")
                    assert violations(page) == [], path
                    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
                    assert size == WIDE or page.evaluate(SMALL_TARGETS) == [], path
        with visiting(browser, server, viewport=WIDE) as page:
            page.goto("/demo")
            for other in ("/demo/residual-sae", "/demo/mlp-transcoder"):
                assert page.locator(f"a[href^='{other}']").count() >= 1
            page.goto("/demo/residual-sae")
            assert page.locator("a[href='/demo']").count() >= 1
            page.goto("/demo/residual-sae/0/7")
            assert "activates it, so it has no examples." in page.inner_text("main")
            page.keyboard.press("ArrowRight")
            page.wait_for_url("**/demo/residual-sae/0/8")


def test_pages_of_latents_do_not_call_them_neurons(runs: tuple[str, Path]) -> None:
    """Neither in what is read nor in what is read out; addresses and query words keep the name."""
    pages = """/0 /0?picture=density /0/7 /0/7/sources /search?text=the /search?token=the
    /neurons?q=max>0 /contexts/1""".split()
    with serving(runs[0]) as client:
        for page in ("", *pages):
            response = client.get(f"/demo/residual-sae{page}")
            assert response.status_code == 200
            shown = re.sub(
                r"<(script|style|code)\b.*?</\1>|<!--.*?-->", "", response.text, flags=re.S
            )
            spoken = re.findall(r'(?:title|aria-label|placeholder|content)="([^"]*)"', shown)
            words = " ".join([re.sub(r"<[^>]*>", " ", shown), *spoken])
            words = " ".join(words.replace("sort:neuron", "").split())
            # Those that it is aligned with.
            meant = r"Aligned neurons|Neuron cosine|MLP neurons|the model’s neurons"
            words = re.sub(meant, "", words)
            assert re.findall(r".{0,40}\bneurons?\b.{0,20}", words, re.IGNORECASE) == [], page


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"l0": "400"}, "latents active at a position, and declares 400"),
        ({"model": "gpt2"}, "was made for 'gpt2', and the model is 'demo'"),
        ({"hook_point": "blocks.7.hook_resid_post"}, "'demo' has 2 layers"),
    ],
)
def test_a_dictionary_that_does_not_fit_is_refused(
    said: dict[str, str], expected: str, tmp_path: Path, runs: tuple[str, Path]
) -> None:
    """Before the scan, in one line that names the likeliest cause."""
    config = IndexConfig(**SMALL, dictionary=changed(tmp_path, "other", **said))
    with pytest.raises(NeurariumError) as refused:
        index(config, f"sqlite:///{tmp_path / 'x.db'}", runs[1], Silent())
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)
