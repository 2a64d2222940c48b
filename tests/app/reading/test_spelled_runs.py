"""Runs of models whose tokenizers mark spaces in many ways: page, JSON, search, completion and live
texts have what the tokenizer decodes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import transformers
from fastapi.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from indexer.config import IndexConfig
from indexer.run.index import index
from tests.conftest import Silent
from tests.helpers.tiny_models import tiny_config
from tests.helpers.tokenizer_zoo import ZOO

DOCUMENTS = [
    "the old house stood on a hill",
    "a hill and the old house",
    "the wind blew on the house",
]
CASES = [
    *("words", "word pieces", "suffixed", "llama", "llama --no-bos", "gemma", "raw bytes"),
]


@pytest.fixture(scope="module", params=CASES)
def indexed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[TestClient, Any]]:
    """A live client of a small run, and its tokenizer."""
    kind, _, no_bos = request.param.partition(" --")
    folder = tmp_path_factory.mktemp("spelled")
    tokenizer = ZOO[kind]()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = tiny_config("llama", vocab_size=len(tokenizer), bos_token_id=None)
        model = transformers.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    corpus = folder / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in DOCUMENTS))
    url = f"sqlite:///{folder / 'store.db'}"
    settings = IndexConfig(
        model=str(folder / "model"),
        corpus=str(corpus),
        name="tiny",
        ctx_len=48,
        sample=4,
        top_k=3,
        connections=False,
        bos=not no_bos,
    )
    index(settings, url, folder / "cache", Silent())
    app = create_app(Settings(database_url=url, live=True))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client, transformers.AutoTokenizer.from_pretrained(folder / "model")


def decoded(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids)
    return text


def get(client: TestClient, path: str, **parameters: Any) -> Any:
    response = client.get(f"/api/v1/models/tiny/{path}", params=parameters)
    assert response.status_code == 200, response.text
    return response.json()


def test_tokens_joined_are_what_is_decoded(indexed: tuple[TestClient, Any]) -> None:
    """Of examples, of contexts and of texts typed in, the BOS where there is one included."""
    client, tokenizer = indexed
    page = get(client, "layers/1/neurons/3")
    rows = [*page["examples"]["top"], *page["examples"]["bottom"]]
    context_id = rows[0]["context_id"]
    rows.append(get(client, f"contexts/{context_id}"))
    rows.append(get(client, f"layers/1/neurons/3/contexts/{context_id}")["example"])
    live = client.post(
        "/api/v1/models/tiny/layers/1/neurons/3/activations", json={"text": "the hill"}
    )
    assert live.status_code == 200, live.text
    rows.append(live.json())
    for row in rows:
        assert as_text(row["tokens"]) == decoded(tokenizer, row["token_ids"])


def as_text(tokens: list[str]) -> str:
    """Joined tokens; bytes of split characters are written as \\xNN each."""
    return "".join(tokens).encode("latin-1", "backslashreplace").decode("unicode_escape")


def test_search_finds_words_and_tokens(indexed: tuple[TestClient, Any]) -> None:
    """A word and a phrase of the corpus, and every token as it is shown or by how it begins."""
    client, _ = indexed
    for query, texts in (("house", 3), ("old house", 2), ('"the wind"', 1)):
        found = get(client, "search/text", q=query)["items"]
        assert len(found) == texts
        marked = ["".join(p["text"] for p in item["text"] if p["found"]) for item in found]
        assert all(word.replace(" ", "") for word in marked)
        for item in found:
            text = "".join(part["text"] for part in item["text"])
            assert text.removeprefix(" ") in DOCUMENTS
    page = get(client, "layers/1/neurons/3")
    shown = {token for row in page["examples"]["top"] for token in row["tokens"]}
    for token in shown - {""}:
        whole = {token, f" {token}", f"{token} "}  # at an end of a context a space may be dropped
        assert get(client, "search/token", token=token)["token"] in whole
        listed = get(client, "tokens", prefix=token)["items"]
        assert whole & {item["token"] for item in listed}


def test_the_page_has_the_words(indexed: tuple[TestClient, Any]) -> None:
    """The text on a context's page is the text of the corpus."""
    client, _ = indexed
    page = get(client, "layers/1/neurons/3")
    context_id = page["examples"]["top"][0]["context_id"]
    context = get(client, f"contexts/{context_id}")
    assert context["text"].removeprefix(" ") in DOCUMENTS
    assert client.get(f"/tiny/contexts/{context_id}").status_code == 200
