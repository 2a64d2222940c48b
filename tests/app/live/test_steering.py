"""Steering a visitor's text: what the API and the form's page say, and every mistake in a line."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient

from tests.helpers.html_reader import elements
from tests.helpers.live_servers import NEURON

STEER = f"{NEURON}/steering"


def test_a_text_is_steered(live_client: TestClient) -> None:
    """Both texts, their divergences and what was added; the form's page shows the same."""
    stats = live_client.get(NEURON).json()["stats"]
    other = live_client.get("/api/v1/models/demo/layers/0/neurons/12").json()["stats"]
    sent = {
        "text": "def f(x):",
        "strength": 3,
        "also": [{"layer": 0, "neuron": 12, "strength": -1}],
        "positions": [-1, 2],
        "new_tokens": 8,
        "seed": 4,
    }
    found = live_client.post(STEER, json=sent).json()
    assert [unit["activation"] for unit in found["units"]] == [3 * stats["max"], -other["max"]]
    length = len(found["tokens"])
    assert found["positions"] == [2, length - 1]
    assert len(found["divergences"]) == length + len(found["plain"]["tokens"])
    assert max(found["divergences"][:2]) < 1e-9 < found["divergences"][2]
    assert found["plain"]["text"] == "".join(found["plain"]["tokens"])
    assert found["plain"] != found["steered"]
    fields = {
        "text": sent["text"],
        "strength": "3",
        "also": "0/12 × −1",
        "positions": f"2, {length - 1}-{length - 1}",
        "where": "everywhere",
        "new_tokens": "8",
        "seed": "4",
        "temperature": "1",
    }
    page = live_client.post("/demo/1/349/steer", content=urlencode(fields))
    assert page.status_code == 200
    read = [group.text.replace("↵", "") for group in elements(page.text).all("p", "tok")]
    assert read[:2] == [found[side]["text"] for side in ("plain", "steered")]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({"text": ""}, "is empty"),
        ({"text": "a", "strength": "x"}, "'strength' of the body"),
        ({"text": "a", "positions": [99]}, "has no position 99"),
        ({"text": "a", "also": [{"layer": 0, "neuron": 99999, "strength": 1}]}, "no neuron 99999"),
        ({"text": "a", "new_tokens": 0}, "'new_tokens' of the body"),
    ],
)
def test_what_cannot_be_steered_is_said(
    live_client: TestClient, sent: dict[str, Any], expected: str
) -> None:
    """A clear line for each mistake."""
    refused = live_client.post(STEER, json=sent)
    assert refused.status_code in (404, 422)
    assert expected in refused.json()["detail"]


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("where", "nowhere", "Steering can be at"),
        ("positions", "1;2", "cannot be read"),
        ("also", "7 2", "write layer/unit × strength"),
        ("seed", "-3", "cannot be used: Input should be greater"),
    ],
)
def test_the_form_says_what_cannot_be_read(
    live_client: TestClient, field: str, value: str, expected: str
) -> None:
    """And keeps what was typed."""
    page = live_client.post("/demo/1/349/steer", content=urlencode({"text": "abc", field: value}))
    assert page.status_code == 422
    assert expected in page.text
    assert ">\nabc</textarea>" in page.text
