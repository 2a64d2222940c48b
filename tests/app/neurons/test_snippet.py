"""The code that a neuron's page gives reproduces its top example."""

from __future__ import annotations

import io
import json
import urllib.request
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.neurons.schemas import NeuronPage
from app.neurons.snippet import from_json, transformer_lens
from indexer.demo import MODEL_DIR
from tests.conftest import serving
from tests.helpers.sample_neurons import neuron_page, run_ref


def evaluated(code: str, names: dict[str, Any]) -> Any:
    """The value of the last expression of some code."""
    lines = code.partition("  #")[0].replace("; ", "\n").splitlines()
    exec("\n".join(lines[:-1]), names)
    return eval(lines[-1], names)


def test_transformer_lens_gives_the_peak(demo_store: str) -> None:
    """The two lines are run as they are, but for the path of the model, which is the reader's."""
    with serving(demo_store) as client:
        answer = client.get("/api/v1/models/demo/layers/1/neurons/349")
    page = NeuronPage.model_validate(answer.json())
    code = transformer_lens(page)
    assert len(code.splitlines()) == 2
    assert '"path/to/demo"' in code
    value = evaluated(code.replace("path/to/demo", str(MODEL_DIR)), {})
    assert float(value) == pytest.approx(page.examples.top[0].peak, abs=1e-4)


def test_models_of_the_hub_are_named_with_their_commit() -> None:
    """Old TransformerLens repositories are loaded in their own way."""
    names = {"model_id": "org/model", "revision": "0abc", "dtype": "bfloat16"}
    run = run_ref().model_copy(update=names)
    page = neuron_page().model_copy(update={"run": run})
    assert (
        'boot_transformers("org/model", revision="0abc", dtype=torch.bfloat16)'
        in transformer_lens(page)
    )
    old = run.model_copy(update={"model_id": "NeelNanda/SoLU_1L512W_C4_Code"})
    page = page.model_copy(update={"run": old})
    assert 'boot_tl_legacy("NeelNanda/SoLU_1L512W_C4_Code")' in transformer_lens(page)
    assert transformer_lens(page.model_copy(update={"top_token_ids": []})) == ""


def test_the_server_s_json_gives_the_peak(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line reads what the server answers at that address."""
    address = "/api/v1/models/toy/layers/0/neurons/0"
    page = NeuronPage.model_validate(client.get(address).json())

    def opened(url: str) -> io.BytesIO:
        return io.BytesIO(client.get(url.removeprefix("http://host")).content)

    monkeypatch.setattr(urllib.request, "urlopen", opened)
    assert evaluated(from_json(page, f"http://host{address}"), {}) == page.examples.top[0].peak
    assert json.loads(client.get(address).text)["top_token_ids"] == [0, 1, 2]
