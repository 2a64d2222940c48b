"""Model files changed at random, and a process that indexes them under limits of time and memory.

`python -m tests.helpers.broken_models FOLDER SEED COUNT` prints a line of JSON for each
attempt. It is a program of its own because a limit of memory holds for a whole process.
"""

from __future__ import annotations

import io
import json
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from itertools import product
from pathlib import Path
from typing import Any

KINDS = ("config", "safetensors", "gguf", "tokenizer", "pickle")
SECONDS = 10
"""Of one attempt, after which it counts as endless."""
_MORE_MEMORY = 3 << 30
"""Bytes of address space that attempts may take beyond what the libraries take."""
_VALUES = (
    *(0, -1, 1, 3, 10_000_000, 2**31, 2**63, 10**30, 1e400, -0.5, float("nan")),
    *(None, True, False, "", "abc", [], {}, [1] * 5, [[[]]], {"a": 1}, "\ud800", 1e-400),
)


def change_json(facts: Any, numbers: random.Random) -> Any:
    """The same object with one entry, anywhere in it, removed or replaced."""
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        keys: Any = value.keys() if isinstance(value, dict) else range(min(len(value), 50))
        for key in keys:
            places.append((value, key))
            if isinstance(value[key], dict | list):
                walk(value[key])

    walk(facts)
    owner, key = numbers.choice(places)
    if numbers.random() < 0.2:
        del owner[key]
    elif isinstance(owner[key], int | float) and numbers.random() < 0.4:
        owner[key] = numbers.choice(
            (owner[key] * 1000, owner[key] + 1, -owner[key], owner[key] // 2)
        )
    else:
        owner[key] = numbers.choice(_VALUES)
    return facts


def change_bytes(data: bytes, numbers: random.Random) -> bytes:
    """The same bytes, cut, or with some of them replaced, mostly near the beginning."""
    if numbers.random() < 0.3:
        return data[: numbers.randrange(len(data))]
    changed = bytearray(data)
    reach = len(data) if numbers.random() < 0.2 else min(len(data), 2000)
    for _ in range(numbers.choice((1, 1, 2, 8))):
        at = numbers.randrange(max(1, reach - 8))
        new = numbers.choice(
            (b"\xff" * 8, bytes(8), numbers.randbytes(1), struct.pack("<Q", 10**9))
        )
        changed[at : at + len(new)] = new
    return bytes(changed[: len(data)])


def change(folder: Path, kind: str, numbers: random.Random) -> None:
    """Break the model in a folder, a fresh copy, in one way."""
    if kind == "gguf":
        path = folder / "model.gguf"
    elif kind == "pickle":
        path = folder / "pytorch_model.bin"
    elif kind == "safetensors":
        path = folder / "model.safetensors"
    elif kind == "config":
        path = folder / "config.json"
    else:
        path = folder / numbers.choice(
            ("tokenizer.json", "tokenizer.json", "tokenizer_config.json")
        )
    text = path.suffix == ".json"
    if text and numbers.random() < 0.8:
        facts = json.loads(path.read_text())
        for _ in range(numbers.choice((1, 1, 1, 3))):
            facts = change_json(facts, numbers)
        path.write_text(json.dumps(facts))
    elif kind == "safetensors" and numbers.random() < 0.6:
        data = path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        header = change_json(json.loads(data[8 : 8 + length]), numbers)
        new = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(new)) + new + data[8 + length :])
    else:
        path.write_bytes(change_bytes(path.read_bytes(), numbers))


def load(path: Path) -> None:
    """Everything a run does with a model before the scan, and one text."""
    import torch

    from indexer.corpus.tokens import TextTokenizer
    from indexer.models.load import describe, load_model
    from indexer.models.pretrained import load_tokenizer
    from indexer.models.source import resolve_model
    from indexer.run.before import before_scan
    from tests.conftest import Silent

    source = resolve_model(str(path))
    description = describe(source)
    tokens = load_tokenizer(source)
    ids, _ = TextTokenizer(tokens.tokenizer).tokenise(["the word, and the word\n"])
    model = load_model(source, tokens=tokens, description=description)
    before_scan(model, Silent())
    known = torch.from_numpy(ids[ids < model.d_vocab]).clamp(min=0)[None, :16]
    if known.numel():
        model.capture(known, torch.ones_like(known), lambda *_: None)


def command(path: Path) -> tuple[int, str]:
    """The exit code of `neurarium index` for a model, and what it printed on standard error. In
    place of the scan the model reads one text."""
    from app.cli import main as cli
    from indexer.run import index as run

    folder = path.parent
    (folder / "text.jsonl").write_text('{"text": "the word, and the word"}\n')
    database = f"sqlite:///{folder / 'store.db'}"
    corpus = str(folder / "text.jsonl")
    words = [str(path), "--corpus", corpus, "--database", database, "--ctx-len", "8"]
    sys.argv = ["neurarium", "index", *words]

    def read_only(*_: object) -> list[run.Outcome]:
        load(path)
        return []

    run.index_sets = read_only
    printed = io.StringIO()
    try:
        with redirect_stderr(printed), redirect_stdout(io.StringIO()):
            cli.main()
    except SystemExit as ended:
        return int(ended.code or 0), printed.getvalue()
    raise AssertionError("the command did not end")


def _attempts(root: Path, seed: int, count: int) -> None:
    for kind in KINDS:  # imports everything
        if (done := command(_named(root / kind, kind)))[0]:
            raise AssertionError(done)
    signal.signal(signal.SIGALRM, _too_long)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + _MORE_MEMORY,) * 2)
    for kind, number in product(KINDS, range(seed, seed + count)):
        folder = root / f"{kind}-{number}"
        shutil.copytree(root / kind, folder)
        outcome: dict[str, Any] = {"kind": kind, "number": number}
        try:
            change(folder, kind, random.Random(number))
            signal.alarm(SECONDS)
            outcome["code"], outcome["printed"] = command(_named(folder, kind))
        except BaseException as error:
            outcome["traceback"] = traceback.format_exception(error)[-12:]
        finally:
            signal.alarm(0)
        print(json.dumps(outcome), flush=True)
        shutil.rmtree(folder)


def _named(folder: Path, kind: str) -> Path:
    """What a user would name to load the model in a folder."""
    return folder / "model.gguf" if kind == "gguf" else folder


def _too_long(*_: object) -> None:
    raise TimeoutError("endless")


def attempts(root: Path, seed: int, count: int, timeout: float) -> list[dict[str, Any]]:
    """What came of indexing the sound model of each kind, in a folder of that name, `count` times,
    each time broken in another way. The outcome has the exit `code` and what was `printed` for the
    user, or a `traceback`."""
    command = [sys.executable, "-m", "tests.helpers.broken_models", root, seed, count]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=timeout, check=False
    )
    outcomes = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if len(outcomes) < count * len(KINDS):  # the process has died
        outcomes.append({"traceback": [done.stderr[-2000:]]})
    return outcomes


if __name__ == "__main__":
    _attempts(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
