"""Mistakes in arguments are answered before a model library is loaded, which takes seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from indexer.store.database import open_store
from tests.helpers.fixture_store import TOY_NEURONS, RunOf

INDEX = [
    (["owner/mistyped", "--corpus", "demo"], "'owner/mistyped'"),
    (["gpt22", "--corpus", "demo"], "'gpt22'"),
    (["NeelNanda/SoLU_9L", "--corpus", "demo"], "'NeelNanda/SoLU_9L'"),
    (["./nowhere"], "There is no model './nowhere'"),
    (["demo", "--corpus", "owner/mistyped"], "owner/mistyped"),
    (["demo", "--corpus", "nowhere.txt"], "There is no file or folder 'nowhere.txt'"),
    (["demo", "--corpus", "{corpus}", "--text-column", "words"], "words"),
    (["demo", "--dictionary", "nowhere.safetensors"], "no file or folder 'nowhere.safetensors'"),
    (["demo", "--hook-point", "hook_nothing"], "There is no hook point 'hook_nothing'"),
    (["demo", "--set-name", "a b"], "a b"),
    (["demo", "--neurons", "--heads", "--set-name", "a"], "--set-name a is of one set"),
    (["demo", "--neurons", "--hook-point", "hook_resid_post"], "--neurons are MLP neurons, and"),
    (["demo", "--force"], "--force is for a dictionary, and none is named"),
    (["demo", "--heads", "--force"], "--force is for a dictionary, and none is named"),
    (["demo", "--memory", "nan"], "memory is nan: it must be a number above 0"),
    (["demo", "--memory", "inf"], "memory is inf: it must be a number above 0"),
    (["demo", "--memory", "1e300"], "memory is 1e+300: it must be a number above 0"),
    (["demo", "--memory", "-1"], "memory is -1: it must be a number above 0"),
    (["demo", "--seed", "1e30"], "is too large: it must be below 2^63"),
    (["demo", "--top-k", "9" * 9_000], "is not a whole number"),
    (["demo", "--nothing" * 9_000], "No such option"),
    (["demo", "--dtype", "int7"], "dtype 'int7'"),
    (["demo", "--device", "cudda"], "cudda"),
    (["demo", "--shard", "3/2", "--state", "x"], "--shard 3/2"),
    (["demo", "--shard", "1/2"], "--state FOLDER"),
    (["demo", "--state", "{corpus}/state"], "Checkpoints cannot be written to"),
    (["demo", "--workers", "2", "--ray-address", "127.0.0.1:1"], "There is no Ray cluster at"),
    (["demo", "--top-k", "0"], "top_k is 0"),
    (["demo", "--topk", "3"], "No such option"),
    (["demo", "--ctx-len", "5000"], "ctx_len is 5000, but 'demo' has 128 positions"),
    (["{folder}/encoder", "--corpus", "demo"], "is an encoder (BertForMaskedLM)"),
    (["{folder}/both", "--corpus", "demo"], "is an encoder–decoder model (t5)"),
    (["{folder}/images", "--corpus", "demo"], "is a multimodal model (ViTModel)"),
    (["{folder}/nested", "--corpus", "demo"], "has 64 positions: choose --ctx-len 64 or less"),
    (["demo", "--name", "api"], "'api' is reserved"),
]
OTHERS = [
    (["verify", "9"], "There is no run 9"),
    (["verify", "1", "--neurons", "-1"], "-1 is too small: it must be 1 or more"),
    (["verify", "1", "--contexts", "0"], "0 is too small: it must be 1 or more"),
    (["verify", "1e30"], "is too large: it must be below 2^63"),
    (["merge", "nowhere", "--memory", "nan"], "memory is nan: it must be a number above 0"),
    (["verify", "1", "--model-path", "nowhere"], "--model-path nowhere"),
    (["verify", "1", "--corpus-path", "nowhere"], "--corpus-path nowhere"),
    (["verify", "1", "--dictionary-path", "nowhere"], "--dictionary-path nowhere"),
    (["merge", "nowhere"], "nowhere holds no shards"),
    (["check", "9"], "run 9"),
    (["export", "9"], "run 9"),
    (["export", "9" * 5_000], "There is no run '999"),
    (["copy", "9" * 25, "--to", "sqlite:///{folder}/other.db"], "There is no run 999"),
    (["export", "toy", "--format", "xml"], "There is no format 'xml'"),
    (["copy", "9", "--to", "sqlite:///{folder}/other.db"], "run 9"),
    (["serve", "--live", "--model-path", "toy=nowhere"], "there is no folder or file nowhere"),
    (["serve", "--live", "--dictionary-path", "toy"], "toy is not recognised: write NAME=PATH"),
    (["serve", "--dictionary-path", "toy/a=b"], "--dictionary-path needs --live"),
]
CONFIGS: dict[str, dict[str, object]] = {
    "encoder": {"architectures": ["BertForMaskedLM"], "model_type": "bert"},
    "both": {"model_type": "t5", "is_encoder_decoder": True},
    "images": {"architectures": ["ViTModel"], "image_size": 32},
    "nested": {"model_type": "x", "text_config": {"max_position_embeddings": 64}},
}
CODE = """
import contextlib, io, json, sys
from app.cli.main import main
answers = []
for words in json.load(sys.stdin):
    sys.argv, err = ["neurarium", *words], io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.suppress(SystemExit):
        main()
    loaded = [name for name in ("torch", "transformers", "transformer_lens") if name in sys.modules]
    answers.append([err.getvalue(), loaded])
print(json.dumps(answers))
"""


def test_no_mistake_waits_for_a_model_library(tmp_path: Path) -> None:
    """One line each; nothing is loaded, and no database is made for a model that is not there."""
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(json.dumps({"text": "The light was good.", "x": 1}))
    store = tmp_path / "store.db"
    engine = open_store(f"sqlite:///{store}", create=True)
    RunOf("toy", TOY_NEURONS).write(engine)
    engine.dispose()
    for name, facts in CONFIGS.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(facts))
    cases = [(["index", *words], message) for words, message in INDEX] + OTHERS
    commands = [
        [word.format(corpus=corpus, folder=tmp_path) for word in words] for words, _ in cases
    ]
    environment = {
        "NEURARIUM_DATABASE_URL": f"sqlite:///{store}",
        "NEURARIUM_CACHE_DIR": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "hub"),
    }
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        input=json.dumps(commands),
        capture_output=True,
        check=True,
        timeout=120,
        text=True,
        env=os.environ | environment,
    )
    for (words, message), (err, loaded) in zip(cases, json.loads(done.stdout), strict=True):
        line = " ".join(err.split())
        assert message in line, words
        assert line.startswith("Error: "), words
        assert "Traceback" not in err, words
        assert len(line) < 2_100
        assert loaded == [], words
    assert not (tmp_path / "other.db").exists()
