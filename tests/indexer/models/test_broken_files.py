"""Broken model files of every kind: one line for the user, in bounded time and memory."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import gguf
import pytest
import torch
from safetensors.torch import load_file

from indexer.errors import NeurariumError
from indexer.models.gguf_header import read_header
from indexer.models.load import describe
from indexer.models.pretrained import load_causal_lm, load_config, load_tokenizer
from indexer.models.sizes import safetensors_shapes
from indexer.models.source import resolve_model
from tests.helpers.broken_models import KINDS, SECONDS, attempts
from tests.helpers.tiny_models import LAYERS, VOCAB, WIDTH, save_tiny_gguf, save_tiny_model

ATTEMPTS = 12
"""Of each kind: the seeds are fixed, so that a failure is found again."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny Llama on disk."""
    return save_tiny_model(tmp_path / "m", "llama")


def test_files_broken_at_random_are_one_line(tmp_path: Path) -> None:
    """Whatever was changed, `neurarium index` reads the model, or ends with code 2 and one line
    that quotes no advice of a library to load it unsafely."""
    for kind in KINDS:
        if kind != "gguf":
            save_tiny_model(tmp_path / kind, "llama")
    (tmp_path / "gguf").mkdir()
    save_tiny_gguf(tmp_path / "gguf" / "model.gguf")
    weights = tmp_path / "pickle" / "model.safetensors"
    torch.save(load_file(weights), tmp_path / "pickle" / "pytorch_model.bin")
    weights.unlink()
    outcomes = attempts(tmp_path, 0, ATTEMPTS, timeout=len(KINDS) * ATTEMPTS * SECONDS)
    assert [found for found in outcomes if "traceback" in found] == []
    assert len(outcomes) == len(KINDS) * ATTEMPTS
    assert {found["kind"] for found in outcomes if found["code"]} == set(KINDS)
    for found in outcomes:
        assert found["code"] in (0, 2), found
        *notes, line = found["printed"].splitlines() or [""]
        assert line.startswith("Error: ") == (found["code"] == 2), found
        assert not any(note.startswith("Error") for note in notes), found
        assert "weights_only" not in line
        assert "Traceback" not in line
        assert len(line) < 900


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("num_hidden_layers", 10_000_000),
        ("num_hidden_layers", 1e7),
        ("hidden_size", 10**9),
        ("intermediate_size", 2**40),
        ("vocab_size", 5 * 10**8),
        ("num_attention_heads", 10**7),
        ("head_dim", 10**6),
        ("num_hidden_layers", -3),
        ("max_position_embeddings", 10**12),
    ],
)
def test_absurd_sizes_are_refused_before_anything_is_built(
    model: Path, entry: str, value: float
) -> None:
    """By the name of the entry, against what the weights hold."""
    path = model / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {entry: value}))
    with pytest.raises(NeurariumError, match=f"config.json .* says {entry} is .*restore the one"):
        describe(resolve_model(str(model)))


def test_sizes_that_fit_no_weights_are_refused_together(model: Path) -> None:
    """Each size is one of the checkpoint's, and the whole is a thousand times too large."""
    path = model / "config.json"
    large = {"hidden_size": VOCAB, "intermediate_size": VOCAB, "num_hidden_layers": 20}
    path.write_text(json.dumps(json.loads(path.read_text()) | large))
    source = resolve_model(str(model))
    with pytest.raises(NeurariumError, match=r"describes a model of [\d,]+ numbers|lacks"):
        load_causal_lm(source, load_config(source), dtype=None)


def test_positions_that_need_a_square_are_refused(tmp_path: Path) -> None:
    """GPT-2 holds a mask of positions × positions."""
    folder = save_tiny_model(tmp_path / "m", "gpt_neo")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_position_embeddings": 10**5}))
    source = resolve_model(str(folder))
    with pytest.raises(NeurariumError, match="number of positions cannot be right"):
        load_causal_lm(source, load_config(source), dtype=None)


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", '{"a": ' + "9" * 5000 + "}", "\x00", ""])
def test_a_config_that_is_no_object_is_refused(model: Path, text: str) -> None:
    """Nested without end, a list, a number without end, or nothing."""
    (model / "config.json").write_text(text)
    with pytest.raises(NeurariumError, match=r"config\.json of .* cannot be loaded"):
        load_config(resolve_model(str(model)))


@pytest.mark.parametrize(
    ("entry", "value", "words"),
    [
        ("architectures", 5, "architectures is 5, which is no list of names"),
        ("architectures", 1e400, "architectures is inf"),
        ("num_hidden_layers", 0, "has 0 layers, and nothing to index"),
    ],
)
def test_entries_that_say_nothing(model: Path, entry: str, value: object, words: str) -> None:
    """Of another type than they should be, or of a model without layers."""
    path = model / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {entry: value}))
    with pytest.raises(NeurariumError, match=words):
        describe(resolve_model(str(model)))


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
LLAMA3 = YARN | {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.mark.parametrize(
    ("entry", "value", "words"),
    [
        (
            "rope_scaling",
            YARN | {"factor": -4.0},
            "rope_scaling.factor is -4.0, not a number above 0",
        ),
        ("rope_scaling", YARN | {"factor": "4"}, "rope_scaling.factor is '4'"),
        ("rope_scaling", YARN | {"factor": float("nan")}, "rope_scaling.factor is nan"),
        ("rope_scaling", YARN | {"factor": True}, "rope_scaling.factor is True"),
        ("rope_scaling", YARN | {"factor": 10**400}, "rope_scaling.factor is 1000"),
        ("rope_scaling", YARN | {"attention_factor": -1}, "attention_factor is -1"),
        ("rope_scaling", YARN | {"beta_fast": 1, "beta_slow": 2}, "beta_slow is 2, not less than"),
        ("rope_scaling", LLAMA3 | {"low_freq_factor": 4}, "low_freq_factor is 4, not less than"),
        ("rope_scaling", YARN | {"long_factor": [1.0, 0.0]}, "long_factor is 0.0"),
        (
            "rope_parameters",
            {"full_attention": {"rope_theta": 0}},
            "full_attention.rope_theta is 0",
        ),
        ("rope_theta", float("inf"), "rope_theta is inf"),
        ("partial_rotary_factor", 10**7, "partial_rotary_factor is 10000000, not a number from 0"),
        ("rotary_pct", -0.5, "rotary_pct is -0.5, not a number from 0 to 1"),
        ("text_config", {"rope_theta": -1.0}, "text_config.rope_theta is -1.0"),
    ],
)
def test_absurd_rotary_numbers(model: Path, entry: str, value: object, words: str) -> None:
    """With them all angles would be NaN, or a library would fail over the weights."""
    path = model / "config.json"
    facts = json.loads(path.read_text())
    facts.pop("rope_parameters", None)
    path.write_text(json.dumps(facts | {entry: value}))
    with pytest.raises(NeurariumError, match=re.escape(words)):
        load_config(resolve_model(str(model)))
    path.write_text(json.dumps(facts | {"rope_scaling": YARN | {"beta_fast": 32, "beta_slow": 1}}))
    load_config(resolve_model(str(model)))


@pytest.mark.parametrize("shards", [1, 2])
def test_whole_numbers_in_a_pickle_are_no_weights(model: Path, shards: int) -> None:
    """As in a safetensors file, whose header says so."""
    weights = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    name = next(name for name in weights if name.endswith("down_proj.weight"))
    weights[name] = (100 * weights[name]).to(torch.int8)
    parts = [dict(list(weights.items())[first::shards]) for first in range(shards)]
    files = (
        [f"pytorch_model-{n}.bin" for n in range(shards)] if shards > 1 else ["pytorch_model.bin"]
    )
    for file, part in zip(files, parts, strict=True):
        torch.save(part, model / file)
    if shards > 1:
        index = {one: file for file, part in zip(files, parts, strict=True) for one in part}
        path = model / "pytorch_model.bin.index.json"
        path.write_text(json.dumps({"metadata": {}, "weight_map": index}))
    source = resolve_model(str(model))
    with pytest.raises(NeurariumError, match=rf"no plain numbers \({name} is I8\)"):
        load_causal_lm(source, load_config(source), dtype=None)


def test_a_shape_without_end_is_no_shape(tmp_path: Path) -> None:
    """In a safetensors header, which the library then refuses itself."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [1e400], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    assert safetensors_shapes(tmp_path / "a.safetensors") == {}


def test_token_ids_without_measure_are_refused(model: Path) -> None:
    """The library would make room for all ids below, and end the process."""
    path = model / "tokenizer.json"
    facts = json.loads(path.read_text())
    facts["model"]["vocab"]["!"] = 2**31
    path.write_text(json.dumps(facts))
    with pytest.raises(NeurariumError, match="token id 2,147,483,648"):
        load_tokenizer(resolve_model(str(model)))


def test_a_pickle_that_runs_code_is_not_unpickled(model: Path) -> None:
    """The user is not shown torch's advice to load it all the same."""
    (model / "model.safetensors").unlink()
    torch.save({"weight": Path("/")}, model / "pytorch_model.bin")
    source = resolve_model(str(model))
    with pytest.raises(NeurariumError, match=r"hold more than tensors.*safetensors") as caught:
        load_causal_lm(source, load_config(source), dtype=None)
    assert "weights_only" not in str(caught.value)


def test_a_header_is_what_the_library_reads(tmp_path: Path) -> None:
    """Shapes and facts of a sound GGUF file."""
    path = save_tiny_gguf(tmp_path / "model.gguf")
    header, reader = read_header(path, "m"), gguf.GGUFReader(path)
    assert header.shapes == {
        tensor.name: tuple(map(int, tensor.shape)) for tensor in reader.tensors
    }
    assert header.facts["llama.block_count"] == LAYERS
    assert header.facts["llama.embedding_length"] == WIDTH
    assert header.facts["tokenizer.ggml.tokens"] is None  # a long list is passed over
    assert set(header.facts) == {key for key in reader.fields if not key.startswith("GGUF.")}


def test_a_gguf_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    """In the magic, a count, a key, a list, the tensors' names, or their numbers."""
    path = save_tiny_gguf(tmp_path / "model.gguf")
    data = path.read_bytes()
    begin = len(data) - sum(int(t.n_bytes) for t in gguf.GGUFReader(path).tensors)
    cut = tmp_path / "cut.gguf"
    for length in (*range(4, begin, begin // 150), *range(begin, len(data), len(data) // 50)):
        cut.write_bytes(data[:length])
        with pytest.raises(NeurariumError, match=r"GGUF file .* cannot be read.*complete"):
            load_config(resolve_model(str(cut)))
