"""Texts of a visitor's own: the same numbers as the indexer's, a clear answer to every mistake, and
models that come and go by memory."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
import torch
import transformers
from starlette.testclient import TestClient

from app.cli import main as cli
from app.live import places
from app.live.engine import Live
from app.live.models import Models
from app.live.neuron import routes as neuron_routes
from app.live.neuron.answer import higher_than
from app.main import create_app
from app.neurons.schemas import Histogram
from app.schemas import Run
from app.serving.server import server_of
from app.settings import Settings
from app.web.forms import MOST_BODY, MOST_BYTES
from indexer.config import IndexConfig
from indexer.demo import MODEL_DIR
from indexer.run.index import index
from tests.conftest import Silent
from tests.helpers.html_reader import elements
from tests.helpers.live_servers import NEURON, READ, TEXT, TRY, answer, live_client_of


@pytest.fixture(scope="module")
def live_client(demo_store: str) -> Iterator[TestClient]:
    """A live server over the indexed demo."""
    with live_client_of(demo_store) as client:
        yield client


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
        ([0.0, 1.0, 1.9999999999999998], [3, 1], 2.0, 0.75),
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
    with live_client_of(in_bfloat16) as client:
        found = answer(client, TEXT)
        assert found["dtype"] == "bfloat16"
        assert "may differ from the indexed ones by some percent" in found["note"]
        values = torch.tensor(found["activations"][1:])
        assert torch.equal(values, values.to(torch.bfloat16).float())
        page = client.post(TRY, content=urlencode({"text": TEXT}))
        assert found["note"] in " ".join(elements(page.text).text.split())


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
        (
            json.dumps({"text": "the " * 600}).encode(),
            413,
            "including the BOS: the maximum is 128",
        ),
        (
            json.dumps({"text": "x" * (MOST_BYTES + 1)}).encode(),
            413,
            "65,537 bytes: the maximum is",
        ),
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
    assert response.json()["detail"] == "GET is not allowed, only POST."
    response = live_client.put(TRY)
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD, POST")


def test_the_documentation_names_every_answer(live_client: TestClient) -> None:
    """The schema says what to send and what may come back."""
    paths = live_client.get("/openapi.json").json()["paths"]
    operation = paths["/api/v1/models/{model}/layers/{layer}/neurons/{neuron}/activations"]["post"]
    assert set(operation["responses"]) == {"200", "403", "404", "410", "413", "422", "503"}
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    assert body["required"] == ["text"]


def test_too_many_at_once_are_sent_away(demo_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound a text is refused at once, before anything is read for it; pages are served,
    and those waiting are read."""
    go, begun = threading.Event(), threading.Event()
    get, read = Models.get, Live.read
    asked: list[Live] = []

    def slowly(self: Models, run: Run) -> Any:
        begun.set()
        assert go.wait(60)
        return get(self, run)

    async def told(self: Live, *of: Any) -> Any:
        asked.append(self)
        return await read(self, *of)

    monkeypatch.setattr(Models, "get", slowly)
    monkeypatch.setattr(Live, "read", told)
    with live_client_of(demo_store, live_waiting=2) as client, ThreadPoolExecutor(2) as visitors:
        waiting = [visitors.submit(answer, client, "a b c")]
        assert begun.wait(60)
        waiting.append(visitors.submit(answer, client, "a b c"))
        while (
            asked[0].places.taken < 2 and not waiting[1].done()
        ):  # it needs a moment to get in line
            time.sleep(0.01)
        refused = client.post(READ, json={"text": "a"})
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == str(places.RETRY)
        assert refused.json()["error"] == "unavailable"
        assert "2 texts are running or waiting" in refused.json()["detail"]
        with monkeypatch.context() as patch:
            patch.setattr(neuron_routes, "_read", None)
            assert client.post(TRY, data={"text": "a"}).status_code == 503
            assert client.post(f"{READ}?run=99", json={"text": "a"}).status_code == 503
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
    assert "shutting down" in response.json()["detail"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a Unix socket")
def test_another_process_answers_as_this_one(
    demo_store: str, live_client: TestClient, tmp_path: Path
) -> None:
    """A server whose models are elsewhere sends the same answers: JSON, pages, refusals."""
    path = tmp_path / "live"
    settings = Settings(database_url=demo_store, live=True)
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(path))
        opened.listen()
        server = server_of(create_app(settings), settings)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]}, daemon=True)
        thread.start()
        with TestClient(create_app(settings, live_at=path), raise_server_exceptions=False) as ours:
            for sent, where in [
                ({"json": {"text": TEXT}}, READ),
                ({"json": {"text": ""}}, READ),
                ({"json": {"text": TEXT}}, f"{READ}?run=1"),
                ({"json": {"text": TEXT}}, f"{READ}?run=7"),
                ({"data": {"text": TEXT}}, TRY),
                ({"data": {"text": "ü %+&"}}, f"{TRY}?run=1"),
                ({"json": {"text": TEXT, "k": 3}}, "/api/v1/models/demo/behaviour"),
            ]:
                theirs, found = live_client.post(where, **sent), ours.post(where, **sent)
                assert found.status_code == theirs.status_code
                assert found.content == theirs.content
                assert sorted(found.headers.multi_items()) == sorted(theirs.headers.multi_items())
            assert ours.get(TRY).content == live_client.get(TRY).content
            server.should_exit = True
            thread.join(30)
            gone = ours.post(READ, json={"text": TEXT})
            assert (gone.status_code, gone.headers["retry-after"]) == (503, str(places.RETRY))
            assert "another one is being started" in gone.json()["detail"]


# --- The server around it -----------------------------------------------------------------------


@pytest.mark.parametrize("is_live", [False, True])
def test_the_server_starts_without_torch(sqlite_filled: str, is_live: bool) -> None:
    """Live or not, no model library is imported before a text comes."""
    code = (
        "import sys\n"
        "from app.main import create_app\n"
        "from app.settings import Settings\n"
        f"create_app(Settings(database_url={sqlite_filled!r}, live={is_live}))\n"
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


@pytest.mark.parametrize("path", [READ, TRY])
def test_another_site_s_page_cannot_let_it_compute(live_client: TestClient, path: str) -> None:
    """A text that a browser says comes from elsewhere is refused; one of our own is read."""
    for site, status in (("cross-site", 403), ("same-origin", 200), ("none", 200)):
        headers = {"Sec-Fetch-Site": site}
        sent = {"json": {"text": "a b"}} if path == READ else {"data": {"text": "a b"}}
        assert live_client.post(path, headers=headers, **sent).status_code == status
