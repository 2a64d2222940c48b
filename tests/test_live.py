"""Texts of a visitor's own: the same numbers as the indexer's, a clear answer to every mistake, and
models that come and go by memory."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
import torch
import transformers
from starlette.testclient import TestClient

from app import cli, live, live_view
from app.errors import Gone, Unavailable
from app.live import FAILED_FOR, Models, higher_than, machine_memory
from app.live_routes import MOST_BODY, MOST_BYTES
from app.main import create_app
from app.schemas import Histogram, NeuronPage, Run, Sample
from app.settings import Settings
from indexer.config import IndexConfig
from indexer.demo import MODEL_DIR
from indexer.model import LoadedModel, describe, load_model, resolve_model
from indexer.reload import bos_of, bytes_of, expected_bytes, wanted
from indexer.run import index
from tests.conftest import Silent
from tests.html_reader import Element, Reader
from tests.tiny_models import save_tiny_model

NEURON = "/api/v1/models/demo/layers/1/neurons/349"
READ = f"{NEURON}/activations"
TRY = "/demo/1/349/try"
TEXT = "def f(x):\n    if x:\n        return 1\n    else:\n        "


@contextmanager
def serving_live(database_url: str, **settings: Any) -> Iterator[TestClient]:
    """A client of a server that loads models."""
    app = create_app(Settings(database_url=database_url, live=True, **settings))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def live_client(demo_store: str) -> Iterator[TestClient]:
    """A live server over the indexed demo."""
    with serving_live(demo_store) as client:
        yield client


def answer(client: TestClient, text: str, path: str = READ) -> dict[str, Any]:
    """What the API says of a text."""
    response = client.post(path, json={"text": text})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


# --- The numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [(0, 12), (0, 237), (1, 10), (1, 349), (1, 497)])
def test_activations_are_the_indexer_s(live_client: TestClient, place: tuple[int, int]) -> None:
    """An example's own text gives its stored activations, within the store's rounding."""
    path = "/api/v1/models/demo/layers/{}/neurons/{}".format(*place)
    examples = live_client.get(path).json()["examples"]
    same = 0
    for example in (*examples["top"][:8], *examples["bottom"][:4], *examples["random"][:8]):
        page = live_client.get(f"{path}/contexts/{example['context_id']}").json()
        stored = page["example"]
        found = answer(live_client, page["text"], f"{path}/activations")
        if found["token_ids"] != stored["token_ids"]:
            continue  # cut out of a longer text, its end or beginning is tokenised otherwise
        same += 1
        assert found["tokens"] == stored["tokens"]
        assert found["activations"][0] is None
        ours = np.array(found["activations"][1:])
        theirs = np.array(stored["activations"][1:], dtype=float)
        largest = np.abs(theirs).max()
        assert np.abs(ours - theirs).max() <= (1 / 254 + 1e-4) * largest
        assert found["peak"] == pytest.approx(stored["peak"], abs=1e-4 * largest)
        assert found["peak_position"] == stored["peak_position"]
    assert same >= 10


def test_the_answer_says_where_its_peak_stands(live_client: TestClient) -> None:
    """The bound is one: no more contexts of the sample's histogram lie below, and no fewer."""
    found = answer(live_client, TEXT)
    peaks = live_client.get(NEURON).json()["peak_histogram"]
    assert sum(peaks["counts"]) == 128
    below = [
        n
        for n, end in zip(peaks["counts"], peaks["edges"][1:], strict=True)
        if end <= found["peak"]
    ]
    assert found["higher_than"] == sum(below) / 128
    assert found["peak"] == max(found["activations"][1:])
    assert found["activations"].index(found["peak"]) == found["peak_position"]
    assert found["note"] is None
    assert (found["run"], found["dtype"], found["gate"]) == (1, "float32", None)


def test_effects_are_those_of_the_demo_model_hooked_by_hand(live_client: TestClient) -> None:
    """Predictions as they are, zero- and mean-ablated, and the attribution, from plain GPT-2."""
    found = answer(live_client, TEXT)
    effects, tokens = found["effects"], torch.tensor([found["token_ids"]])
    stats = live_client.get(NEURON).json()["stats"]
    assert effects["mean"] == stats["mean"]
    plain: Any = transformers.AutoModelForCausalLM.from_pretrained(MODEL_DIR).eval()
    block, norm = plain.transformer.h[1], plain.transformer.ln_f
    seen: dict[str, Any] = {}

    def logits(value: float | None) -> Any:
        def change(_: Any, args: Any) -> Any:
            acts = args[0].clone()
            if value is not None:
                acts[0, 1:, 349] = value  # not at the BOS
            seen.setdefault("neurons", acts[0, -1])
            return (acts,)

        handle = block.mlp.c_proj.register_forward_pre_hook(change)
        with torch.no_grad():
            out = plain(tokens, output_hidden_states=True)
        handle.remove()
        seen.setdefault("final", out.hidden_states[-1][0, -1])
        return out.logits[0, -1].double()

    as_is = logits(None).softmax(-1)
    for name, value in (("as_is", None), ("zero_ablated", 0.0), ("mean_ablated", stats["mean"])):
        truth = logits(value).softmax(-1)
        ids = [token["token_id"] for token in effects[name]["tokens"]]
        assert ids == truth.topk(10).indices.tolist()
        told = np.array([[t["probability"], t["as_is"]] for t in effects[name]["tokens"]])
        np.testing.assert_allclose(told[:, 0], truth[ids], rtol=1e-4)
        np.testing.assert_allclose(told[:, 1], as_is[ids], rtol=1e-4)
        divergence = float((as_is * (as_is / truth).log()).sum())
        assert effects[name]["divergence"] == pytest.approx(divergence, abs=1e-6, rel=1e-3)

    # What is normed comes out of the model normed: taking the neuron's write off it, at the norm's
    # own scale, is a matter of the weights.
    told = effects["attribution"]
    scale = float(told["scale"])
    activation = float(seen["neurons"][349])
    write = activation * block.mlp.c_proj.weight[349].detach()
    lost = (write - write.mean()) / scale * norm.weight.detach()
    head = plain.lm_head.weight.detach()
    normed = seen["final"]
    difference = head @ normed - head @ (normed - lost)
    assert told["token_id"] == int(as_is.argmax())
    assert told["activation"] == pytest.approx(activation, rel=1e-4)
    assert told["value"] == pytest.approx(float(difference[told["token_id"]]), rel=1e-2, abs=1e-5)
    assert told["value"] == pytest.approx(told["activation"] * told["logit_effect"] / scale)


@pytest.mark.parametrize(
    ("edges", "counts", "peak", "share"),
    [
        ([0.0, 1.0, 2.0], [3, 1], 0.5, 0.0),
        ([0.0, 1.0, 2.0], [3, 1], 1.0, 0.75),
        ([0.0, 1.0, 2.0], [3, 1], 1.9, 0.75),
        ([0.0, 1.0, 2.0], [3, 1], 2.0, 0.75),  # the last bin may hold a 2 itself
        ([0.0, 1.0, 2.0], [3, 1], 2.1, 1.0),
        ([0.0, 1.0, 2.0], [3, 1], -9.0, 0.0),
        ([1.5, 1.5], [4], 1.5, 0.0),
        ([1.5, 1.5], [4], 1.6, 1.0),
        ([0.0, 1.0], [0], 0.5, None),
    ],
)
def test_a_share_counts_the_bins_wholly_below(
    edges: list[float], counts: list[int], peak: float, share: float | None
) -> None:
    """A bin that the peak falls in, or the closed end of the last one, is not counted."""
    assert higher_than(Histogram(edges=edges, counts=counts), peak) == share


@pytest.fixture(scope="module")
def in_bfloat16(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with a little of the demo, indexed in bfloat16."""
    folder = tmp_path_factory.mktemp("bfloat16")
    url = f"sqlite:///{folder / 'store.db'}"
    config = IndexConfig(model="demo", dtype="bfloat16", max_tokens=3000, sample=16)
    index(config, url, folder / "cache", Silent())
    return url


def test_a_run_in_bfloat16_says_how_far_it_may_be(in_bfloat16: str) -> None:
    """The model is loaded in the run's number format, and the page and the JSON say what it does
    to the numbers."""
    with serving_live(in_bfloat16) as client:
        found = answer(client, TEXT)
        assert found["dtype"] == "bfloat16"
        assert "may differ from the indexed ones by some percent" in found["note"]
        values = torch.tensor(found["activations"][1:])
        assert torch.equal(values, values.to(torch.bfloat16).float())
        page = client.post(TRY, content=urlencode({"text": TEXT}))
        assert found["note"] in " ".join(read_page(page.text).text.split())


# --- Mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (b"", 422, "JSON"),
        (b"{}", 422, "'text' of the body cannot be used"),
        (b"[]", 422, "The body cannot be used"),
        (b'{"text": 3}', 422, "'text' of the body"),
        (b'{"text": null}', 422, "'text' of the body"),
        (b'{"text": "a", "layer": 1}', 422, "'layer' of the body"),
        (b'{"text": ""}', 422, "The text is empty"),
        (b'{"text": "caf\xe9"}', 422, "not UTF-8: byte 13"),
        (b'{"text": "\\ud83d"}', 422, "lone surrogate"),
        (b'{"text": "\\ud83d!"}', 422, "lone surrogate"),
        (b"[" * 100_000, 422, "not JSON"),
        (b'{"text": "a', 422, "JSON"),
        (json.dumps({"text": "the " * 600}).encode(), 413, "tokens, the BOS counted: 128"),
        (json.dumps({"text": "x" * (MOST_BYTES + 1)}).encode(), 413, "65,537 bytes: 65,536"),
        (b" " * (MOST_BODY + 1), 413, "too long"),
    ],
)
def test_a_text_that_cannot_be_read_is_told_why(
    live_client: TestClient, body: bytes, status: int, told: str
) -> None:
    """One shape for every mistake, and the next text is read as if nothing had been."""
    response = live_client.post(READ, content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == status
    error = response.json()
    assert set(error) == {"error", "detail", "status"}
    assert error["status"] == status
    assert error["error"] == {413: "too_large", 422: "invalid"}[status]
    assert told in error["detail"]
    assert "\n" not in error["detail"]
    assert answer(live_client, "a b")["tokens"][0] == "<|bos|>"


def test_a_body_without_a_length_is_cut_off_too(live_client: TestClient) -> None:
    """A body that comes in pieces is refused when it grows too long, not when it ends."""
    sent = 0

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        while sent < 100 * MOST_BODY:
            sent += 1 << 16
            yield b" " * (1 << 16)

    assert live_client.post(READ, content=pieces()).status_code == 413


@pytest.mark.parametrize(
    "text",
    ["\0", " ", "\n\n", "<|bos|><|bos|>", "🙂" * 9, "\u202e\u200d\u0301", "</p><script>1</script>"],
)
def test_any_other_text_is_read(live_client: TestClient, text: str) -> None:
    """Control characters, control tokens' names and markup are text: a value for every token."""
    found = answer(live_client, text)
    assert found["token_ids"][0] == 0
    assert 0 not in found["token_ids"][1:]
    assert None not in found["activations"][1:]
    assert len(found["tokens"]) == len(found["activations"]) == len(found["token_ids"])


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/api/v1/models/demo/layers/9/neurons/0/activations", "layers 0 to 1"),
        ("/api/v1/models/demo/layers/1/neurons/640/activations", "neurons 0 to 639"),
        ("/api/v1/models/other/layers/1/neurons/0/activations", "no model 'other'"),
        (f"{READ}?run=7", "no run 7"),
    ],
)
def test_a_neuron_that_is_not_there_is_not_found(
    live_client: TestClient, path: str, told: str
) -> None:
    """The addresses are checked as those of pages are."""
    response = live_client.post(path, json={"text": "a"})
    assert response.status_code == 404
    assert told in response.json()["detail"]


def test_a_server_that_is_not_live_says_so(client: TestClient) -> None:
    """Without --live the addresses are there and say what is missing; pages have no box."""
    response = client.post("/api/v1/models/toy/layers/0/neurons/0/activations", json={"text": "a"})
    assert response.status_code == 404
    assert "without --live" in response.json()["detail"]
    for method in ("GET", "POST"):
        page = client.request(method, "/toy/0/0/try")
        assert page.status_code == 404
        assert "without --live" in page.text
    assert 'id="live"' not in client.get("/toy/0/0").text


def test_only_a_post_is_answered(live_client: TestClient) -> None:
    """Other methods get the ones that are."""
    response = live_client.get(READ)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert response.json()["detail"] == "GET is not answered: only POST."
    response = live_client.put(TRY)
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD, POST")


def test_the_documentation_names_every_answer(live_client: TestClient) -> None:
    """The schema says what to send and what may come back."""
    paths = live_client.get("/openapi.json").json()["paths"]
    operation = paths["/api/v1/models/{model}/layers/{layer}/neurons/{neuron}/activations"]["post"]
    assert set(operation["responses"]) == {"200", "404", "410", "413", "422", "503"}
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    assert body["required"] == ["text"]


def test_too_many_at_once_are_sent_away(demo_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound a text is refused at once, pages are served, and those waiting are read."""
    go, begun = threading.Event(), threading.Event()
    get = Models.get

    def slowly(self: Models, run: Run) -> Any:
        begun.set()
        assert go.wait(60)
        return get(self, run)

    monkeypatch.setattr(Models, "get", slowly)
    with serving_live(demo_store, live_waiting=2) as client, ThreadPoolExecutor(2) as visitors:
        waiting = [visitors.submit(answer, client, "a b c")]
        assert begun.wait(60)
        waiting.append(visitors.submit(answer, client, "a b c"))
        for _ in range(600):  # the second needs a moment to get in line
            refused = client.post(READ, json={"text": "a"}, headers={"X-Neuron": "second"})
            if refused.status_code == 503:
                break
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == str(live.RETRY)
        assert refused.json()["error"] == "unavailable"
        assert "2 texts are being read" in refused.json()["detail"]
        assert client.get("/demo/1/349").status_code == 200
        go.set()
        assert waiting[0].result() == waiting[1].result()
        assert answer(client, "a b c") == waiting[0].result()


def test_a_server_that_stops_takes_no_more(demo_store: str) -> None:
    """A text that comes while the server is being stopped is refused, not lost."""
    app = create_app(Settings(database_url=demo_store, live=True))
    with TestClient(app, raise_server_exceptions=False):
        pass
    response = TestClient(app, raise_server_exceptions=False).post(READ, json={"text": "a"})
    assert response.status_code == 503
    assert "being stopped" in response.json()["detail"]


# --- Models -------------------------------------------------------------------------------------


def run_of(folder: Path, model: LoadedModel, number: int, **changes: Any) -> Run:
    """A run as the store would have it, as far as a model's loading looks."""
    provenance: dict[str, Any] = {
        "model": {
            "asked_for": str(folder),
            "asked_revision": None,
            "revision": None,
            "weights_hash": model.weights_hash,
        },
        "tokenizer": {"identity": model.tokenizer_identity},
        "capture": {"hook_point": model.hook_point, "dtype": "float32", "device": "cpu"},
        "corpus": {"contexts": 10, "contexts_with_bos": 10},
    }
    for path, value in changes.items():
        part, name = path.split("__")
        provenance[part][name] = value
    return Run(
        id=number,
        model="tiny",
        model_id="tiny",
        revision=None,
        hook_point=model.hook_point,
        corpus="none",
        dtype="float32",
        contexts=10,
        tokens=100,
        ctx_len=16,
        created_at=datetime.now(UTC),
        content_hash="0" * 64,
        n_layers=model.n_layers,
        n_neurons=sum(model.widths),
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
    assert loaded["gpt2"].text(65 + 2 - 33) == "A"


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


def test_a_model_that_is_too_large_is_refused_before_it_is_loaded(runs: dict[str, Run]) -> None:
    """The configuration alone says how large it is; the others stay."""
    models = Models(size(runs["gpt2"]))
    models.get(runs["gpt2"])
    bigger = max(runs.values(), key=size)
    assert size(bigger) > size(runs["gpt2"])
    with pytest.raises(Unavailable, match="NEURARIUM_LIVE_MEMORY"):
        models.get(bigger)
    assert len(models) == 1


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
    assert models.get(runs["gpt2"]).model.hook_point == "mlp.hook_post"


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
        Unavailable, match=r"model of run 5 cannot be loaded here\. .*moved"
    ) as told:
        models.get(run)
    assert told.value.headers == {"Retry-After": "30"}
    (tmp_path / "away").rename(folder)
    with pytest.raises(Unavailable):
        models.get(run)
    clock += FAILED_FOR
    assert models.get(run).model.n_layers == 2


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


# --- The page -----------------------------------------------------------------------------------


def read_page(html: str) -> Element:
    """A page to look things up in."""
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == [reader.root]
    return reader.root


def posted(client: TestClient, text: str, path: str = TRY) -> Any:
    """The page a plain form leads to."""
    body = urlencode({"text": text.replace("\n", "\r\n")})
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return client.post(path, content=body, headers=headers)


def test_the_form_works_by_itself(live_client: TestClient) -> None:
    """Without a script the form gives a page with the text coloured on the neuron's own scale."""
    response = posted(live_client, TEXT)
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    found = answer(live_client, TEXT)  # line ends came back as they were typed
    page = read_page(response.text)
    (mark,) = page.all("mark")
    assert f"position {found['peak_position']}" in mark.attributes["title"]
    scale = live_client.get(NEURON).json()["scale"]
    tenths = int(found["peak"] / scale * 10 + 0.5)
    assert f"p{tenths}" in mark.attributes["class"].split()
    assert len(page.all("table", "choices")) == 3
    assert "at least" in page.text
    (field,) = page.all("textarea")
    assert field.text.lstrip("\n") == TEXT


def test_a_text_that_cannot_be_read_stays_in_the_form(live_client: TestClient) -> None:
    """The page says what was wrong, with the status, and gives the text back."""
    long = "the " * 300
    response = posted(live_client, long)
    assert response.status_code == 413
    page = read_page(response.text)
    (notice,) = page.all("p", "notice")
    assert "128 are the most" in notice.text
    (field,) = page.all("textarea")
    assert field.text.lstrip("\n") == long
    assert posted(live_client, "").status_code == 422
    assert live_client.post(TRY, content=b"text=%E9").status_code == 422
    assert live_client.post(TRY, content=b"text=\xe9").status_code == 422
    assert live_client.post(TRY, content="&".join("abcdefghij")).status_code in (422,)


def test_hostile_text_is_only_text(live_client: TestClient) -> None:
    """Markup in a text is shown, wherever it is shown."""
    hostile = "</textarea><script>alert(1)</script><b>\u202ex\0\"'>"
    response = posted(live_client, hostile)
    page = read_page(response.text)
    assert "alert" not in "".join(script.text for script in page.all("script"))
    assert not page.all("b", "x")
    assert "<script>alert" not in response.text
    (field,) = page.all("textarea")
    assert "</textarea><script>alert(1)</script>" in field.text


def test_the_box_is_on_the_neuron_s_page(live_client: TestClient) -> None:
    """A live server's page has the box, another's has not, and their tags differ."""
    page = read_page(live_client.get("/demo/1/349").text)
    (form,) = [form for form in page.all("form") if form.attributes.get("data-neuron")]
    assert form.attributes["action"] == TRY
    assert form.attributes["data-neuron"] == NEURON
    named = read_page(live_client.get("/demo/1/349?run=1").text)
    assert any(form.attributes.get("action") == TRY for form in named.all("form"))
    assert live_client.get(TRY).status_code == 200


def test_what_is_said_of_a_peak_is_never_too_much(live_client: TestClient) -> None:
    """A bound is rounded down, and the ends are said in words."""
    page = NeuronPage.model_validate(live_client.get(NEURON).json())
    peak = page.stats.max / 2
    assert "at least 99.2%" in live_view.standing(0.99299, peak, page)
    assert "at least 99.9%" in live_view.standing(0.99999, peak, page)
    assert "all of the sample" in live_view.standing(1.0, peak, page)
    assert "lowest" in live_view.standing(0.0, peak, page)
    assert "every peak of the whole corpus" in live_view.standing(1.0, 2 * page.stats.max, page)


@pytest.mark.parametrize("peak", [-1.0, 0.5, 2.0, 9.0])
def test_the_chart_holds_every_peak(peak: float) -> None:
    """Bars and mark are inside the picture, also where the peak is outside the sample's range."""
    chart = live_view.peaks_chart(Histogram(edges=[0.0, 1.0, 2.0], counts=[5, 1]), peak)
    svg = read_page(str(chart))
    for bar in svg.all("rect"):
        left = float(bar.attributes["x"])
        assert left >= 0
        assert left + float(bar.attributes["width"]) <= live_view.WIDTH
    (mark,) = svg.all("path", "here")
    assert 0 <= float(mark.attributes["d"].split()[0][1:]) <= live_view.WIDTH
    assert not live_view.peaks_chart(Histogram(edges=[], counts=[]), peak)
    assert "nan" not in live_view.peaks_chart(Histogram(edges=[1.0, 1.0], counts=[3]), 1.0)


# --- The server around it -----------------------------------------------------------------------


@pytest.mark.parametrize("is_live", [False, True])
def test_the_server_starts_without_torch(store_url: str, is_live: bool) -> None:
    """Live or not, no model library is imported before a text comes."""
    code = (
        "import sys\n"
        "from app.main import create_app\n"
        "from app.settings import Settings\n"
        f"create_app(Settings(database_url={store_url!r}, live={is_live}))\n"
        "heavy = {'torch', 'transformers', 'transformer_lens', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize(
    ("words", "variable", "expected"),
    [
        (["serve"], "", False),
        (["serve", "--live"], "", True),
        (["serve"], "true", True),
        (["serve", "--live"], "false", True),
    ],
)
def test_the_option_and_the_setting_make_it_live(
    monkeypatch: pytest.MonkeyPatch, words: list[str], variable: str, expected: bool
) -> None:
    """--live, or NEURARIUM_LIVE."""
    served: list[Settings] = []
    monkeypatch.setattr(cli, "_serve", served.append)
    monkeypatch.setattr("sys.argv", ["neurarium", *words])
    monkeypatch.delenv("NEURARIUM_LIVE", raising=False)
    if variable:
        monkeypatch.setenv("NEURARIUM_LIVE", variable)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert [settings.live for settings in served] == [expected]
