"""Texts that cannot be read are told why, and a live server has its bounds."""

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

import pytest
from starlette.testclient import TestClient

from app.cli import main as cli
from app.live import places
from app.live.engine import Live
from app.live.models import Models
from app.live.neuron import routes as neuron_routes
from app.main import create_app
from app.schemas import Run
from app.serving.server import server_of
from app.settings import Settings
from app.web.forms import MOST_BODY, MOST_BYTES
from tests.helpers.live_servers import READ, TEXT, TRY, answer, live_client_of


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
