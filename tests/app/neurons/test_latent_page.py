"""A latent's page: what it has of its dictionary, what reads and writes as it does, its name."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file
from starlette.testclient import TestClient
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoModelForCausalLM

from app.cli.main import app as command
from app.neurons.schemas import NeuronPage
from app.neurons.snippet import transformer_lens
from indexer.config import IndexConfig
from indexer.run.index import index
from tests.app.neurons.test_snippet import evaluated
from tests.conftest import Silent, serving
from tests.helpers.html_reader import read
from tests.helpers.note_servers import BEARER, keeping, write
from tests.helpers.small_latents import LATENTS, SILENT, latents_config

MODEL = "/api/v1/models/llama"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> IndexConfig:
    """A run of two dictionaries."""
    return latents_config(tmp_path_factory.mktemp("latent-page"))


@pytest.fixture(scope="module")
def client(config: IndexConfig) -> Iterator[TestClient]:
    """A server over the model's neurons and its latents."""
    folder = Path(config.model).parent
    url = f"sqlite:///{folder / 'store.db'}"
    for each in (replace(config, dictionary=None), config):
        index(each, url, folder / "cache", Silent())
    with serving(url) as client:
        yield client


def latent(client: TestClient, layer: int, unit: int) -> dict[str, Any]:
    """A latent's page as JSON."""
    page: dict[str, Any] = client.get(f"{MODEL}/sets/latents/layers/{layer}/neurons/{unit}").json()
    return page


def weights(config: IndexConfig, layer: int) -> dict[str, Tensor]:
    """The tensors of a layer's dictionary."""
    return load_file(str(config.dictionary).split(",")[layer])


def test_nearest_by_encoder_and_threshold(config: IndexConfig, client: TestClient) -> None:
    """Those of the layer with the highest cosines, and the file's own threshold."""
    for layer in range(2):
        own = weights(config, layer)
        columns = normalize(own["W_enc"].T, dim=1)
        cosines = (columns @ columns.T).fill_diagonal_(-9)
        for unit in (0, 7, 15):
            facts = latent(client, layer, unit)["dictionary"]
            best = cosines[unit].sort(descending=True)
            found = facts["encoders"]
            assert [(one["layer"], one["neuron"]) for one in found] == [
                (layer, index) for index in best.indices[:5].tolist()
            ]
            np.testing.assert_allclose([one["value"] for one in found], best.values[:5], rtol=1e-5)
            if layer == 0:
                assert facts["threshold"] == pytest.approx(float(own["threshold"][unit]))
                assert (facts["activation"], facts["k"], facts["name"]) == ("jumprelu", None, None)
            else:
                assert (facts["threshold"], facts["k"]) == (None, 3)
                assert facts["name"] == f"Idea {unit}"


def test_neurons_that_write_alike_link_back(config: IndexConfig, client: TestClient) -> None:
    """A latent lists the neurons of all layers by cosine; a neuron the latents that list it."""
    model = AutoModelForCausalLM.from_pretrained(config.model)
    outs = [normalize(layer.mlp.down_proj.weight.T, dim=1) for layer in model.model.layers]
    width = len(outs[0])
    listing: dict[tuple[int, int], list[tuple[float, int, int]]] = {}
    for layer in range(2):
        decoder = normalize(weights(config, layer)["W_dec"], dim=1)
        for unit in range(LATENTS):
            cosines = np.concatenate([(decoder[unit] @ out.T).detach().numpy() for out in outs])
            best = np.argsort(-cosines, kind="stable")[:5]
            for neuron in best.tolist():
                place = divmod(neuron, width)
                listing.setdefault(place, []).append((float(cosines[neuron]), layer, unit))
            if unit in (1, 9):
                found = latent(client, layer, unit)["aligned"]
                places = [(one["layer"], one["neuron"]) for one in found]
                assert places == [divmod(neuron, width) for neuron in best.tolist()]
                assert {one["set"] for one in found} == {"neurons"}
    place, expected = max(listing.items(), key=lambda entry: len(entry[1]))
    page = client.get("{}/layers/{}/neurons/{}".format(MODEL, *place)).json()
    assert page["dictionary"] is None
    expected.sort(reverse=True)
    assert [(one["layer"], one["neuron"]) for one in page["aligned"]] == [
        (layer, unit) for _, layer, unit in expected[:5]
    ]
    html = client.get("/llama/{}/{}".format(*place)).text
    _, layer, unit = expected[0]
    assert "Aligned latents" in html
    assert f'href="/llama/latents/{layer}/{unit}"' in html
    back = client.get(f"/llama/latents/{layer}/{unit}").text
    assert f'href="/llama/{place[0]}/{place[1]}"' in back


def test_the_dictionary_s_quality_stands_on_the_page(client: TestClient) -> None:
    """What was measured before the scan."""
    quality = latent(client, 1, 0)["dictionary"]["quality"]
    assert quality["l0"] <= 3
    assert quality["declared_l0"] is None
    html = client.get("/llama/latents/1/0").text
    for words in ("Variance unexplained", "the file declares no value", "Loss with reconstruction"):
        assert words in html


def test_pages_say_what_density_is_of(client: TestClient) -> None:
    """Of latents all positions of the corpus are counted, of neurons those of the sample."""
    for path in ("", "/0"):
        assert "all positions of the corpus above zero" in client.get(f"/llama/latents{path}").text
        assert "sample’s positions above zero" in client.get(f"/llama{path}").text
    query = client.get("/llama/latents/neurons?q=density>0").text
    assert "share of positions above zero, of all positions of the corpus" in query
    assert "Densities, max and min are over the whole corpus" in query
    html = client.get("/llama/latents/0/1").text
    assert "Peaks of the sampled contexts in which it fires, by quantile" in html


def test_no_column_is_empty(client: TestClient) -> None:
    """What no latent of a run has is no column, but for the statistic that the table is sorted by:
    neither its head nor its cells nor a word about it."""
    for path in ("/latents/0", "/latents/neurons?q=max>0", "/0", "/neurons?q=max>0"):
        page = read(client, f"/llama{path}")
        (table,) = page.all("table", "neurons")
        heads = [head.text.strip() for head in table.all("tr")[0].all("th")]
        rows = [
            [cell.text.strip() for cell in (*row.all("th"), *row.all("td"))]
            for row in table.all("tr")[1:]
        ]
        assert {len(row) for row in rows} == {len(heads)}
        columns = dict(zip(heads, zip(*rows, strict=True), strict=True))
        assert not [head for head, cells in columns.items() if set(cells) == {"—"}]
    assert "Lookup" in client.get("/llama/latents/0?sort=lookup").text


def test_the_home_page_lists_every_set(client: TestClient) -> None:
    """With its size and a link."""
    (item,) = client.get("/api/v1/models").json()["items"]
    links = {
        link.attributes["href"]: " ".join(link.text.split()) for link in read(client, "/").all("a")
    }
    sizes = [one["n_units"] for one in client.get(MODEL).json()["sets"]]
    assert sizes[0] == item["n_neurons"]
    assert links["/llama/latents"] == f"{sizes[1]} latents"
    assert f">{sizes[0]} neurons</a>" in client.get("/").text


def test_a_unit_s_name_is_its_title_and_finds_it(client: TestClient) -> None:
    """In any case of letters, on any page of the model; an address still wins."""
    assert "“<bdi>Idea é</bdi>”" in client.get("/llama/latents/1/5").text
    for query in ({"to": "idea É", "model": "llama"}, {"to": " Idea é "}):
        there = client.get("/go", params=query).headers["location"]
        assert there == "/llama/latents/1/5"
    assert client.get("/go", params={"to": "1/7", "model": "llama"}).headers["location"] == (
        "/llama/1/7"
    )
    assert client.get("/go", params={"to": "idea 99", "model": "llama"}).status_code == 404


def listed(found: Any) -> Iterator[dict[str, Any]]:
    """All units in an answer that are listed with the token they peak on, or in a context."""
    if isinstance(found, dict):
        if "neuron" in found and ({"peak_token", "position"} & set(found)):
            yield found
        for value in found.values():
            yield from listed(value)
    elif isinstance(found, list):
        for value in found:
            yield from listed(value)


def test_a_unit_s_name_stands_wherever_it_is_listed(client: TestClient) -> None:
    """In lists, searches, comparisons and exports, as JSON, CSV and pages; other sets have none."""
    page = next(
        found for unit in range(LATENTS) if (found := latent(client, 1, unit))["examples"]["top"]
    )
    unit, top = page["neuron"], page["examples"]["top"][0]
    token = top["tokens"][top["peak_position"] - top["start"]]
    context, base = top["context_id"], f"{MODEL}/sets/latents"
    text = client.get(f"{base}/contexts/{context}").json()["text"]
    word = max(text.split(), key=len)
    paths = [
        ("/layers/1/neurons", {}),
        ("/layers/1/scatter", {}),
        ("/gallery", {}),
        ("/search/token", {"token": token}),
        ("/search/text", {"q": word}),
        ("/neurons", {"q": "layer:1 max>0"}),
        (f"/contexts/{context}", {}),
        (f"/layers/1/neurons/{unit}", {}),
    ]
    for path, query in paths:
        answer = client.get(base + path, params=query)
        assert answer.status_code == 200, answer.text
        found = [one for one in listed(answer.json()) if one.get("set") != "neurons"]
        assert found, path
        for one in found:
            expected = None if one.get("layer", 1) == 0 else called(one["neuron"])
            assert one.get("name") == expected, path
        if path != f"/layers/1/neurons/{unit}":
            assert any("name" in one for one in found), path
    own = client.get(f"{MODEL}/layers/1/neurons")
    assert all("name" not in one for one in listed(own.json()))

    marked = f'<bdi class="unit-name">{called(unit)}</bdi>'
    here, other = f"llama/latents/1/{unit}", f"llama/latents/1/{(unit + 1) % LATENTS}"
    for path, query in (
        ("/llama/latents/1", {}),
        ("/llama/latents/search", {"token": token}),
        ("/llama/latents/search", {"text": word}),
        ("/llama/latents/neurons", {"q": "layer:1 max>0 sort:max"}),
        (f"/llama/latents/contexts/{context}", {}),
        ("/list", {"n": here}),
    ):
        answer = client.get(path, params=query)
        assert answer.status_code == 200
        assert marked in answer.text, path
    compared = client.get("/compare", params={"a": here, "b": other}).text
    assert f"llama/latents 1/{unit} “{called(unit)}”" in compared

    for path in (f"{base}/layers/1/neurons", f"{base}/export"):
        query = {"format": "csv"} if path.endswith("export") else {}
        lines = client.get(path, params=query, headers={"accept": "text/csv"}).text.splitlines()
        assert lines[0].startswith("layer,neuron,name,"), path
        assert f"1,{unit},{called(unit)}," in "\n".join(lines)
    plain = client.get(f"{MODEL}/export", params={"format": "csv"}).text
    assert plain.startswith("layer,neuron,max,")


def test_names_stand_beside_notes_and_in_files(
    client: TestClient, config: IndexConfig, tmp_path: Path
) -> None:
    """In the lists of notes as pages and as JSON, in the metadata of safetensors, as explanations
    for Neuronpedia, and in a static site, whose links stay in the set."""
    url = f"sqlite:///{Path(config.model).parent / 'store.db'}"
    with keeping(url) as server:
        for units, name in (("/sets/latents", called(5)), ("", None)):
            path = f"{MODEL}{units}/layers/1/neurons/5/notes"
            note = write(server, "a note", path=path)
            for index_of in ("/api/v1/notes", f"{MODEL}{units}/notes"):
                items = server.get(index_of).json()["items"]
                assert [one.get("name") for one in items if one["id"] == note["id"]] == [name]
        marked = '<bdi class="unit-name">Idea é</bdi>'
        assert server.get("/notes").text.count(marked) == 1
        assert marked in server.get("/llama/latents/notes").text
        assert "latent 5 “Idea é”" in server.get("/llama/latents/1/5/notes").text
        for one in server.get("/api/v1/notes").json()["items"]:
            units = "/sets/latents" if one["model"] != "llama" else ""
            path = f"{MODEL}{units}/layers/1/neurons/5/notes/{one['id']}"
            assert server.delete(path, headers=BEARER).status_code == 200
    for kind in ("safetensors", "neuronpedia", "site"):
        words = ["export", "llama/latents", "--format", kind, "--out", str(tmp_path / kind)]
        assert not command([*words, "--database", url], standalone_mode=False), kind
    with safe_open(tmp_path / "safetensors", framework="np") as opened:
        said = opened.metadata()
    names = json.loads(said["names"])
    assert (said["set"], names["0"]) == ("latents", [None] * LATENTS)
    assert names["1"] == [called(unit) for unit in range(LATENTS)]
    (file,) = tmp_path.glob("neuronpedia/v1/llama/1-latents/explanations/*.gz")
    rows = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    assert [row["description"] for row in rows] == names["1"]
    script = (tmp_path / "site/static/neurons.js").read_text()
    found = json.loads(script.removeprefix("globalThis.NEURARIUM = ").removesuffix(";\n"))
    assert list(found["names"].values()) == names["1"]
    assert found["noun"] == "latent"
    page = (tmp_path / "site/1/5.html").read_text()
    aligned = page[page.index("Aligned neurons") :].partition("</table>")[0]
    assert "<a href" not in aligned, "a site of latents has no neurons"
    assert "href=../1/index.html" in page


def test_two_runs_of_latents_are_compared(config: IndexConfig, tmp_path: Path) -> None:
    """Latents that never fire peak on no token. Dimensions of the tensor that latents read are at
    the same hook point, and another set."""
    url, cache = f"sqlite:///{tmp_path / 'store.db'}", Path(config.model).parent / "cache"
    alone = replace(config, dictionary=None, hook_point="hook_resid_post")
    less = replace(config, dictionary=str(config.dictionary).split(",")[1])
    for each in (less, alone, config, replace(config, seed=1)):
        index(each, url, cache, Silent())
    with serving(url) as client:
        items = client.get(f"{MODEL}/sets/latents/differences", params={"b": 1}).json()["items"]
        assert [one["layer"] for one in items] == [1] * LATENTS
        assert client.get(f"{MODEL}/sets/resid_post/differences").status_code == 404
        assert "run=1" not in client.get("/llama/latents/0").text
        assert client.get("/llama/latents/differences").status_code == 200
        items = client.get(f"{MODEL}/sets/latents/differences").json()["items"]
    silent = [one for one in items if one["neuron"] == SILENT]
    assert [(one["max_a"], one["peak_token_a"]) for one in silent] == [(0, "")] * 2
    assert all(one["max_a"] == one["max_b"] for one in items)


def called(unit: int) -> str:
    """The name of a latent of layer 1."""
    return f"Idea {'é' if unit == 5 else unit}"


def test_the_code_on_its_page_gives_its_peak(config: IndexConfig, client: TestClient) -> None:
    """Run as it is, but for the paths, which are the reader's."""
    unit = next(u for u in range(LATENTS) if latent(client, 0, u)["examples"]["top"])
    page = NeuronPage.model_validate(latent(client, 0, unit))
    code = transformer_lens(page)
    files = Path(str(config.dictionary).split(",")[0]).parent
    code = code.replace("path/to/llama", str(config.model)).replace("path/to", str(files))
    assert float(evaluated(code, {})) == pytest.approx(page.examples.top[0].peak, rel=1e-3)
