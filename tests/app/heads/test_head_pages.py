"""The pages and the JSON of attention heads, of a small run of the bundled model."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient
from transformers import AutoModelForCausalLM

from app.heads.circuits import circuits_of
from app.heads.scores import SCORES
from app.reading.store import Reading
from indexer.config import IndexConfig
from indexer.demo import ATTENTION_ONLY, MODEL_DIR
from indexer.errors import NeurariumError
from indexer.run.index import index
from indexer.store.database import open_store
from indexer.store.transfer.copying import copy_run
from indexer.store.units import HEADS, activation_of
from tests.app.heads.conftest import API
from tests.browser.test_accessibility import violations
from tests.browser.test_browser import PHONE, WIDE, visiting
from tests.conftest import Silent, serving, serving_live
from tests.helpers.html_reader import elements
from tests.helpers.tiny_heads import SMALL_RUN


@pytest.fixture(scope="module")
def model() -> Any:
    """The bundled model, as transformers loads it, with patterns."""
    return AutoModelForCausalLM.from_pretrained(MODEL_DIR, attn_implementation="eager").eval()


def test_heads_are_ticked_for_a_list(client: TestClient) -> None:
    """Each row of the table has a box, and the form sends what the list's page reads."""
    page = elements(client.get("/demo/heads").text)
    boxes = [box.attributes for box in page.all("input", "tick")]
    assert sorted(box["value"] for box in boxes) == sorted(
        f"demo/heads/{layer}/{head}" for layer in range(2) for head in range(5)
    )
    (form,) = page.all("form", "ticks")
    assert {box["form"] for box in boxes} == {form.attributes["id"]}
    added = [("add", box["value"]) for box in boxes[:2]]
    listed = client.get(form.attributes["action"], params=added, follow_redirects=True)
    assert listed.status_code == 200
    assert len(elements(listed.text).all("table")[0].all("tr")) == 3


def test_examples_are_the_models(
    client: TestClient, pages: dict[tuple[int, int], dict[str, Any]], model: Any
) -> None:
    """Attention, row and what is left out are those of an eager model on the whole context."""
    for (layer, head), page in pages.items():
        if head not in (0, 3):
            continue
        for name, examples in page["examples"].items():
            example = examples[0]
            address = f"{API}/{layer}/{head}/contexts/{example['context_id']}"
            context = client.get(address).json()
            with torch.no_grad():
                out = model(torch.tensor([context["token_ids"]]), output_attentions=True)
            pattern = out.attentions[layer][0, head]
            assert example["attention"] == pytest.approx(
                float(pattern[example["query"], example["key"]]), abs=1e-5
            ), name
            for shown, value in enumerate(example["row"]):
                truth = float(pattern[example["query"], example["start"] + shown])
                assert value == pytest.approx(truth, abs=2e-5) or (value == 0.0)
            for query, row in enumerate(context["rows"]):
                for key, value in row:
                    assert value == pytest.approx(float(pattern[query, key]), abs=2e-5)
                kept = sum(value for _, value in row)
                assert context["left_out"][query] == pytest.approx(max(0, 1 - kept), abs=1e-6)


def test_lists_are_in_order(pages: dict[tuple[int, int], dict[str, Any]]) -> None:
    """Best first; the random contexts are the same for every head."""
    random = [e["context_id"] for e in pages[0, 0]["examples"]["random"]]
    assert len(random) == 8  # half of the sample
    for page in pages.values():
        examples = page["examples"]
        for name in ("moved", "attention", "helps"):
            values = [example["value"] for example in examples[name]]
            assert values == sorted(values, reverse=True)
            assert len(values) == 3
        assert [e["context_id"] for e in examples["random"]] == random
        assert all(e["key"] < e["query"] for e in examples["moved"])
        hurts = [example["value"] for example in examples["hurts"]]
        assert hurts == sorted(hurts)


def test_all_heads_have_the_scores_of_their_pages(
    client: TestClient, pages: dict[tuple[int, int], dict[str, Any]]
) -> None:
    """The list of heads says what each head's own JSON says."""
    listed = client.get(API).json()
    assert len(listed["heads"]) == 10
    for row in listed["heads"]:
        assert row["scores"] == pages[row["layer"], row["head"]]["scores"]
    assert (
        listed["facts"]["pairs"] == sum(n * (n - 1) // 2 for n in [127] * 31 + [63])
        or listed["facts"]["pairs"] > 100_000
    )


def test_the_picture_links_every_head_and_the_table_is_sorted(client: TestClient) -> None:
    """One cell a head; any score sorts; a name that is none is refused."""
    for by in ("induction", "effect_text", "copying"):
        text = client.get(f"/demo/heads?by={by}").text
        cells = re.findall(r'<a href="(/demo/heads/\d/\d)" class="\w+" tabindex', text)
        assert sorted(cells) == [f"/demo/heads/{a}/{b}" for a in range(2) for b in range(5)]
        listed = client.get(API).json()["heads"]
        ground = "text" if by.endswith("_text") else "repeated"

        def value(row: Any, by: str = by, ground: str = ground) -> float:
            scores = row["scores"]
            return float(
                scores["copying"] if by == "copying" else scores[ground][by.removesuffix("_text")]
            )

        order = sorted(listed, key=lambda row: -value(row))
        names = re.findall(r'class="name" href="[^"]+">(L\dH\d)<', text)
        assert names == [f"L{row['layer']}H{row['head']}" for row in order]
    assert client.get("/demo/heads?by=nothing").status_code == 422
    assert "induction" in SCORES


def test_a_line_reads_without_a_script(
    client: TestClient, pages: dict[tuple[int, int], dict[str, Any]]
) -> None:
    """The query is underlined, the key marked, keys shaded, and the distance is in words."""
    text = client.get("/demo/heads/1/2").text
    examples = pages[1, 2]["examples"]
    lines = re.findall(r'<li class="pair".*?</li>', text, re.DOTALL)
    assert len(lines) == sum(map(len, examples.values()))
    for line, example in zip(lines, examples["moved"], strict=False):
        assert re.search(rf'data-p="{example["query"]}"[^>]*><u>', line)
        assert re.search(rf'data-p="{example["key"]}"[^>]*><mark>', line)
        assert f"{example['query'] - example['key']} back" in line
        assert re.search(r'class="p\d+"', line)


def test_neurons_are_linked_where_they_are_indexed(
    pages: dict[tuple[int, int], dict[str, Any]],
    client: TestClient,
    heads_store: tuple[str, Path],
    demo_store: str,
    tmp_path: Path,
) -> None:
    """A head names the neurons it composes with; beside a run of neurons it links them with the
    tokens they peak on, and in a run of an older version it names none."""
    lists = pages[1, 2]["circuits"]["neurons"]
    assert {name: len(neurons) for name, neurons in lists.items()} == dict.fromkeys(
        ("queries", "keys", "values", "readers"), 5
    )
    assert all(n["peak_token"] is None for neurons in lists.values() for n in neurons)
    assert pages[1, 2]["circuits"]["matched_previous"] is None  # learned positions
    text = client.get("/demo/heads/1/2").text
    assert "The model’s neurons are not indexed here." in text
    assert "Neurons that read its output" in text
    url = f"sqlite:///{tmp_path / 'both.db'}"
    target = open_store(url, create=True)
    for store in (demo_store, heads_store[0]):
        source = open_store(store, create=False)
        copy_run(source, 1, target, lambda _: None)
        source.dispose()
    target.dispose()
    with serving(url) as both:
        for by in ("induction", "copying"):
            text = both.get(f"/demo?by={by}").text
            cells = re.findall(r'<a href="(/demo/heads/\d/\d)" class="\w+" tabindex', text)
            assert sorted(cells) == [f"/demo/heads/{a}/{b}" for a in range(2) for b in range(5)]
            current = re.findall(r'<a href="/demo\?by=(\w+)#heads" aria-current="true"', text)
            assert current == [by]
        assert both.get("/demo?by=nothing").status_code == 422
        assert "heads-cells" not in both.get("/demo?embed=1").text
        found = both.get(f"{API}/1/2").json()["circuits"]["neurons"]
        text = both.get("/demo/heads/1/2").text
        for name, neurons in found.items():
            for neuron, bare in zip(neurons, lists[name], strict=True):
                assert neuron | {"peak_token": None} == bare
                there = f"/demo/{neuron['layer']}/{neuron['neuron']}"
                assert f'href="{there}"' in text
        neuron = found["readers"][0]
        own = both.get(f"/api/v1/models/demo/layers/{neuron['layer']}/neurons/{neuron['neuron']}")
        top = own.json()["examples"]["top"][0]
        assert neuron["peak_token"] == top["tokens"][top["peak_position"] - top["start"]]
    stored = {
        name: pages[1, 2]["circuits"][name]
        for name in ("copying", "self_share", "queries", "keys", "values")
    }
    old = circuits_of(SimpleNamespace(vocabulary=[]), stored | {"promoted": None, "matched": None})
    assert (old.neurons, old.matched_previous) == (None, None)


@pytest.mark.parametrize(
    "address",
    [
        "/compare?a=demo/heads/1/2&b=demo/heads/0/3",
        "/demo/heads/search?text=the",
        "/demo/heads/differences?a=1&b=1",
    ],
)
def test_pages_say_what_heads_are_ranked_by(client: TestClient, address: str) -> None:
    """Where one number a position is needed, it is the length of what the head adds."""
    answer = client.get(address)
    assert answer.status_code == 200
    text = html.unescape(answer.text)
    assert text.count(activation_of(HEADS)) == 1


def test_a_page_says_what_its_circuits_leave_out(
    client: TestClient, pages: dict[tuple[int, int], dict[str, Any]]
) -> None:
    """Every line of the JSON stands on the page."""
    text = html.unescape(client.get("/demo/heads/0/0").text)
    lines = pages[0, 0]["facts"]["left_out"]
    assert any("Positional embeddings" in line for line in lines)
    assert all(line in text for line in lines)


def test_a_whole_context_has_its_grid(
    client: TestClient,
    pages: dict[tuple[int, int], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A cell for every entry that is not pale, or a line that says why there is no grid; contexts
    that are no example are not there."""
    example = pages[0, 1]["examples"]["moved"][0]
    text = client.get(f"/demo/heads/0/1/contexts/{example['context_id']}").text
    cells = re.search(r'<svg class="pattern".*?</svg>', text)
    assert cells is not None
    squares = cells.group(0).count("h7v7h-7z")
    context = client.get(f"{API}/0/1/contexts/{example['context_id']}").json()
    # The palest colour begins at a twentieth.
    assert squares == sum(value > 0.05 for row in context["rows"] for _, value in row)
    assert "Rows" in text
    assert "drawn as a grid" not in text
    monkeypatch.setattr("app.heads.grid.GRID_MOST", len(context["tokens"]) - 1)
    # With an address of its own, as the server keeps its answers.
    longer = client.get(f"/demo/heads/0/1/contexts/{example['context_id']}?run=1").text
    assert '<svg class="pattern"' not in longer
    assert f"this context has {len(context['tokens'])}: point at a token" in longer
    token = context["token_ids"][example["key"]]
    monkeypatch.setattr(Reading, "special_token_ids", frozenset({context["token_ids"][0], token}))
    marked = client.get(f"{API}/0/1/contexts/{example['context_id']}?run=1").json()["special"]
    assert marked == [at for at, each in enumerate(context["token_ids"]) if each == token]
    missing = client.get("/demo/heads/0/1/contexts/99999")
    assert missing.status_code == 404
    assert client.get("/demo/heads/0/9").status_code == 404
    assert client.get("/demo/heads/7/0").status_code == 404
    assert client.get("/nothing/heads").status_code == 404


def test_a_bundled_model_tells_how_its_heads_formed(
    heads_store: tuple[str, Path], tmp_path: Path
) -> None:
    """The attention-only model has induction heads, as its last checkpoint says, and its page
    shows all checkpoints."""
    url = f"sqlite:///{tmp_path / 'heads.db'}"
    config = replace(SMALL_RUN, model=str(ATTENTION_ONLY), corpus="demo", max_tokens=1_000)
    index(config, url, heads_store[1], Silent())
    story = json.loads((ATTENTION_ONLY / "checkpoints.json").read_text())["checkpoints"]
    with serving(url) as client:
        page = client.get("/api/v1/models/induction/heads").json()
        text = client.get("/induction/heads").text
        # The model has no neurons: its own addresses are those of its heads.
        assert client.get("/induction").headers["location"] == "/induction/heads"
        assert client.get("/induction/1/2").headers["location"] == "/induction/heads/1/2"
        home = client.get("/").text
    assert page["facts"]["training"] == story
    scores = [row["scores"]["repeated"]["induction"] for row in page["heads"]]
    measured = [score for layer in story[-1]["induction"] for score in layer]
    assert scores == pytest.approx(measured, abs=0.01)  # the file has 16-bit weights
    assert max(scores[:8]) < 0.05 < 0.8 < min(scores[8:])
    assert page["facts"]["repeated"]["second_loss"] < 0.3
    assert 'href="/induction"' in home
    assert "Neurons to start with" not in home
    assert text.count('<svg class="training"') == 2
    for checkpoint in story:
        assert f'<td class="num">{checkpoint["step"]}</td><td>{checkpoint["stage"]}</td>' in text


def test_heads_have_a_place_of_their_own() -> None:
    """--heads with another hook point or name is a mistake."""
    with pytest.raises(NeurariumError, match="leave out --hook-point"):
        IndexConfig(model="demo", heads=True, hook_point="mlp.hook_post")


def test_axe_finds_no_violation(browser: Any, heads_store: tuple[str, Path]) -> None:
    """All heads, one, and its pattern in a context; light and wide, dark and narrow."""
    found: list[str] = []
    with serving_live(heads_store[0]) as server:
        for size, scheme in ((WIDE, "light"), (PHONE, "dark")):
            with visiting(browser, server, viewport=size, color_scheme=scheme) as page:
                for path in ("/demo/heads", "/demo/heads/1/2"):
                    page.goto(path)
                    found += violations(page)
                href = page.locator("a[href*='/contexts/']").first.get_attribute("href")
                page.goto(href)
                found += violations(page)
    assert found == []
