"""Positions that must not count: padding on either side, special tokens inside rows, the BOS."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sqlalchemy import select

from indexer.config import IndexConfig
from indexer.models.vocabulary import token_bytes
from indexer.run.index import index
from indexer.store import schema
from indexer.store.database import changing, open_store
from indexer.store.text import index as text_index
from indexer.store.text.words import words_of
from indexer.store.writing.run import finish_run
from tests.conftest import Silent, serving
from tests.helpers.tiny_models import LAYERS, VOCAB
from tests.helpers.verify_cases import SmallRun, check, make, save_llama

PAD, BOS = 0, 1
Row = dict[str, Any]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("model"))


def texts() -> list[list[int]]:
    """Rows of ordinary tokens of several lengths."""
    numbers = np.random.default_rng(5)
    return [numbers.integers(2, 300, size).tolist() for size in (3, 9, 5, 12, 7, 4, 12, 8)]


def run_of(folder: Path, model: Path, rows: Sequence[Row], **settings: Any) -> SmallRun:
    """Index rows of token ids."""
    folder.mkdir()
    corpus = folder / "rows.jsonl"
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    small = {"ctx_len": 16, "sample": 6, "top_k": 3, "bottom_k": 2, "connections": False}
    config = IndexConfig(model=str(model), name="tiny", corpus=str(corpus), **(small | settings))
    made = SmallRun(folder, config, f"sqlite:///{folder / 'store.db'}")
    index(config, made.url, made.cache, Silent())
    return made


def content_of(small: SmallRun) -> str:
    engine = open_store(small.url, create=False)
    with engine.connect() as connection:
        content: str = connection.scalar(select(schema.runs.c.content_hash))  # type: ignore[assignment]
    engine.dispose()
    return content


def padded(ids: list[int], pad: int, left: int, right: int, mask: bool) -> Row:
    row: Row = {"input_ids": [pad] * left + ids + [pad] * right}
    if mask:
        row["attention_mask"] = [0] * left + [1] * len(ids) + [0] * right
    return row


@pytest.mark.parametrize(
    ("pad", "mask"), [(PAD, False), (PAD, True), (BOS, True), (77, True)], ids=str
)
def test_padding_changes_nothing(tmp_path: Path, llama: Path, pad: int, mask: bool) -> None:
    """Rows padded on either side, with whatever token a mask says, give the run of plain rows."""
    rows = [[BOS, *ids] for ids in texts()]
    plain = run_of(tmp_path / "plain", llama, [{"input_ids": ids} for ids in rows])
    odd = [padded(ids, pad, *((0, 5), (4, 0), (2, 3))[i % 3], mask) for i, ids in enumerate(rows)]
    changed = run_of(tmp_path / "padded", llama, odd)
    assert content_of(changed) == content_of(plain)


def test_special_tokens_inside_rows_are_in_no_number(tmp_path: Path, llama: Path) -> None:
    """Of packed rows, the model sees every token, and special ones count nowhere."""
    pieces = texts()
    rows = [[BOS, *a, BOS, *b][:16] for a, b in zip(pieces[::2], pieces[1::2], strict=True)]
    small = run_of(tmp_path / "packed", llama, [{"tokens": row} for row in rows])
    check(small)
    model = transformers.AutoModelForCausalLM.from_pretrained(llama).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(llama)
    truth = [_activations(model, row) for row in rows]  # [layer, included, neuron] each
    with serving(small.url) as client:
        run = client.get("/api/v1/runs/1").json()
        assert run["tokens"] == sum(token != BOS for row in rows for token in row)
        assert run["provenance"]["corpus"]["special_token_ids"] == [BOS]
        for layer, neuron in ((0, 2), (1, 7)):
            page = client.get(f"/api/v1/models/tiny/layers/{layer}/neurons/{neuron}").json()
            values = [activations[layer, :, neuron] for activations in truth]
            peaks = sorted((float(each.max()) for each in values), reverse=True)
            assert [e["peak"] for e in page["examples"]["top"]] == pytest.approx(
                peaks[:3], rel=1e-4
            )
            lowest = min(float(each.min()) for each in values)
            assert page["stats"]["min"] == pytest.approx(lowest, rel=1e-4)
            sampled = [each for each, row in zip(values, rows, strict=True) if len(row) == 16]
            mean = np.concatenate(sampled).mean()
            assert page["stats"]["mean"] == pytest.approx(mean, rel=1e-3, abs=1e-5)
            for example in page["examples"]["top"] + page["examples"]["bottom"]:
                shown = zip(example["token_ids"], example["activations"], strict=True)
                assert all((token == BOS) == (value is None) for token, value in shown)
                address = f"/api/v1/models/tiny/layers/{layer}/neurons/{neuron}/contexts"
                whole = client.get(f"{address}/{example['context_id']}").json()["example"]
                shown = zip(whole["token_ids"], whole["activations"], strict=True)
                assert all((token == BOS) == (value is None) for token, value in shown)
                text = client.get(f"{address}/{example['context_id']}").json()["text"]
                context = client.get(f"/api/v1/models/tiny/contexts/{example['context_id']}").json()
                assert context["text"] == text
                assert "<bos>" not in text
                ids = enumerate(context["token_ids"])
                inside = [place for place, token in ids if token == BOS and place]
                assert context["special"] == inside
                for page_of in (f"{layer}/{neuron}/contexts", "contexts"):
                    shown = client.get(f"/tiny/{page_of}/{example['context_id']}").text
                    apart = re.findall(r'<span class="(?:bos|x)"[^>]*>&lt;bos&gt;</span>', shown)
                    assert len(apart) == 1 + len(inside), page_of
        marked = client.get("/tiny/1/7").text
        assert marked.count("&lt;bos&gt;") > 2 * 3  # the one inside a context as well
    _special_names_are_no_text(small, token_bytes(tokenizer, VOCAB))


def _special_names_are_no_text(small: SmallRun, spelled: list[bytes]) -> None:
    """No search finds them, also in a run whose words an older version wrote, with the names."""

    def text(token_ids: list[int]) -> str:
        return b"".join(spelled[one] for one in token_ids).decode("utf-8", "replace")

    for old in (False, True):
        with serving(small.url) as client:
            every = range(client.get("/api/v1/runs/1").json()["contexts"])
            answers = {i: client.get(f"/api/v1/models/tiny/contexts/{i}").json() for i in every}
            ids = {i: one["token_ids"] for i, one in answers.items() if "token_ids" in one}
            halves = {
                i: [[word.word for word in words_of(text(half))] for half in (row[1:at], row[at:])]
                for i, row in ids.items()
                for at in answers[i]["special"]
            }
            i = next(i for i, (begin, end) in halves.items() if begin and len(end) > 1)
            before, (name, after) = halves[i][0][-1], halves[i][1][:2]
            assert name == "bos"
            found: dict[str, list[int]] = {}
            for q in (f"{before} {after}", f'"{before} {after}"', "bos", f'"{before} bos {after}"'):
                answer = client.get("/api/v1/models/tiny/search/text", params={"q": q}).json()
                found[q] = sorted(item["context_id"] for item in answer["items"])
            apart, joined, *named = found.values()
            assert i in apart, old
            assert i not in joined, old
            assert named == [[], []], old
        engine = open_store(small.url, create=False)
        with changing(engine) as connection:
            text_index.drop(connection, 1)
            text_index.create(connection, 1)
            whole = [(i, [text(row[1:])]) for i, row in sorted(ids.items())]
            text_index.put(connection, 1, text_index.rows_of(connection, whole))
            text_index.finish(connection, 1)
            finish_run(connection, 1, text_digest=text_index.digest(connection, 1))
        engine.dispose()


def _activations(model: Any, row: list[int]) -> np.ndarray[Any, Any]:
    """[layer, included position, neuron] of one row, by plain hooks."""
    seen: list[torch.Tensor] = []
    hooks = [
        block.mlp.down_proj.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        for block in model.model.layers
    ]
    with torch.no_grad():
        model(torch.tensor([row]))
    for hook in hooks:
        hook.remove()
    assert len(seen) == LAYERS
    return torch.cat(seen).numpy()[:, [token != BOS for token in row]]


def test_no_bos(tmp_path: Path, llama: Path) -> None:
    """--no-bos puts nothing in front of contexts of text, verifies, and the run says so."""
    small = make(tmp_path / "bare", llama, bos=False, name="tiny")
    check(small)
    with serving(small.url) as client:
        run = client.get("/api/v1/runs/1").json()
        page = client.get("/api/v1/models/tiny/layers/0/neurons/0").json()
    assert run["provenance"]["policy"]["bos"] == "none: left out (--no-bos)"
    assert run["provenance"]["settings"]["bos"] is False
    assert run["provenance"]["corpus"]["contexts_with_bos"] == 0
    for example in page["examples"]["top"]:
        assert BOS not in example["token_ids"]
        assert None not in example["activations"]


def test_no_bos_leaves_rows_as_they_are(tmp_path: Path, llama: Path) -> None:
    """A BOS that a row came with stays, and is not included either way."""
    rows = [{"input_ids": [BOS, *ids]} for ids in texts()]
    with_bos = run_of(tmp_path / "with", llama, rows)
    without = run_of(tmp_path / "without", llama, rows, bos=False)
    assert content_of(with_bos) == content_of(without)
