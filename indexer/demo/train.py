"""Makes the bundled model and corpus: `python -m indexer.demo.train --sources DIR --out DIR`.

Reads four sources, holds out a part of each, trains a tokenizer and a small GPT-2 on the rest,
measures the loss on the held-out part, and writes `model/`, `corpus.jsonl.gz` and `report.json`.
Using Neurarium does not need it: the results are included.
"""

import argparse
import json
import math
import platform
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel

from indexer.demo.prepare import Prepared, interleave, prepare, write_corpus
from indexer.demo.sources import SourceMissing, read_all

IGNORED = -100
"""The label of a position without a next token, which `cross_entropy` ignores."""


@dataclass(frozen=True)
class Recipe:
    """All numbers that determine the result."""

    seed: int = 0
    vocabulary: int = 4096
    """Tokens, including BOS and the 256 bytes."""
    context: int = 128
    """Positions in a context, including BOS."""
    layers: int = 2
    width: int = 160
    heads: int = 5
    held_out_tokens: int = 100_000
    """Most tokens held out of each source, in complete documents."""
    steps: int = 4000
    batch: int = 8
    """Contexts in a step."""
    learning_rate: float = 2e-3
    """The maximum, after warm-up; a cosine lowers it to a tenth."""
    warmup: int = 200
    """Steps."""
    weight_decay: float = 0.1
    """On matrices only."""


# --- The model ----------------------------------------------------------------------------------


def new_model(recipe: Recipe, bos: int) -> GPT2LMHeadModel:
    """A GPT-2 with GELU, no dropout and untied embeddings."""
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=recipe.vocabulary,
            n_positions=recipe.context,
            n_embd=recipe.width,
            n_layer=recipe.layers,
            n_head=recipe.heads,
            n_inner=4 * recipe.width,
            activation_function="gelu",
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            tie_word_embeddings=False,
            bos_token_id=bos,
            eos_token_id=bos,
        )
    )


def inputs_and_labels(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Padded ids `[batch, context]` → inputs and next tokens, both `[batch, context - 1]`.

    Padding becomes token 0 in the inputs, which causal attention hides from earlier positions, and
    `IGNORED` in the labels.
    """
    labels = rows[:, 1:]
    return rows[:, :-1].clamp(min=0), labels.masked_fill(labels < 0, IGNORED)


def train(model: GPT2LMHeadModel, rows: torch.Tensor, recipe: Recipe) -> None:
    """Train with AdamW on shuffled contexts `[n_contexts, context]` for `recipe.steps` steps.
    Raises ValueError if the contexts do not fill one batch."""
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, recipe))
    model.train()
    for step, batch in enumerate(shuffled_batches(rows, recipe), start=1):
        inputs, labels = inputs_and_labels(batch)
        logits = model(inputs, use_cache=False).logits
        loss = cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step}/{recipe.steps}  loss {loss.item():.3f}", flush=True)


def rate(step: int, recipe: Recipe) -> float:
    """The factor of the learning rate: linear warm-up, then a cosine from 1 to 0.1."""
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return 0.55 + 0.45 * math.cos(math.pi * done)


def shuffled_batches(rows: torch.Tensor, recipe: Recipe) -> Iterator[torch.Tensor]:
    """`recipe.steps` batches `[batch, context]`, in a new order each epoch; incomplete batches are
    dropped. Raises ValueError if the rows do not fill one batch."""
    generator = torch.Generator().manual_seed(recipe.seed)
    left = recipe.steps
    while left > 0:
        order = torch.randperm(len(rows), generator=generator)
        groups = torch.split(order, recipe.batch)
        complete = [group for group in groups if len(group) == recipe.batch][:left]
        if not complete:
            raise ValueError(f"{len(rows)} contexts do not fill one batch of {recipe.batch}.")
        yield from (rows[group] for group in complete)
        left -= len(complete)


# --- Losses -------------------------------------------------------------------------------------


@torch.no_grad()
def model_loss(model: GPT2LMHeadModel, rows: torch.Tensor) -> float:
    """Mean loss in nats per token over contexts `[n_contexts, context]`, without padding."""
    model.eval()
    total, count = 0.0, 0
    for batch in torch.split(rows, 64):
        inputs, labels = inputs_and_labels(batch)
        logits = model(inputs, use_cache=False).logits
        total += cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum"
        ).item()
        count += int((labels != IGNORED).sum())
    return total / count


def unigram_log_probabilities(rows: torch.Tensor, vocabulary: int) -> torch.Tensor:
    """Log frequencies `[vocabulary]` of the training tokens, with 1 added to each count."""
    counts = torch.bincount(rows[:, 1:][rows[:, 1:] >= 0], minlength=vocabulary) + 1
    return (counts / counts.sum()).log()


def unigram_loss(log_probabilities: torch.Tensor, rows: torch.Tensor) -> float:
    """Mean loss in nats of predicting each token of rows [contexts, pos] by its frequency;
    `log_probabilities` [vocabulary] are natural logarithms."""
    tokens = rows[:, 1:][rows[:, 1:] >= 0]
    return -log_probabilities[tokens].mean().item()


# --- The script ---------------------------------------------------------------------------------


def prepared_text(sources: Path, python_lib: Path, recipe: Recipe) -> Prepared:
    """The text of all sources. Raises SourceMissing."""
    return prepare(
        read_all(sources, python_lib),
        vocabulary=recipe.vocabulary,
        context=recipe.context,
        held_out_tokens=recipe.held_out_tokens,
        seed=recipe.seed,
    )


def make(sources: Path, python_lib: Path, out: Path, recipe: Recipe) -> dict[str, object]:
    """Make everything from the sources to the files; returns the content of `report.json`."""
    torch.manual_seed(recipe.seed)
    prepared = prepared_text(sources, python_lib, recipe)
    train_rows = prepared.all_rows(prepared.train)
    print(f"{len(train_rows)} contexts to train on", flush=True)
    model = new_model(recipe, prepared.bos)
    train(model, train_rows, recipe)

    model.save_pretrained(out / "model")
    (out / "model" / "model.safetensors").chmod(0o644)  # by default only its owner may read it
    prepared.tokenizer.save_pretrained(out / "model")
    write_corpus(out / "corpus.jsonl.gz", interleave(prepared.held_out))
    report: dict[str, object] = {
        "recipe": asdict(recipe),
        "made_with": {"python": platform.python_version(), "torch": torch.__version__},
        "parameters": sum(p.numel() for p in model.parameters()),
        "train_contexts": len(train_rows),
        "epochs": round(recipe.steps * recipe.batch / len(train_rows), 2),
        "sources": {name: sizes(prepared, name) for name in prepared.train},
        "held_out_loss_nats_per_token": losses(model, prepared, train_rows),
    }
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def sizes(prepared: Prepared, source: str) -> dict[str, int]:
    """Documents and tokens of one source, for training and held out."""
    return {
        "train_documents": len(prepared.train[source]),
        "train_tokens": prepared.count(prepared.train[source]),
        "held_out_documents": len(prepared.held_out[source]),
        "held_out_tokens": prepared.count(prepared.held_out[source]),
    }


def losses(
    model: GPT2LMHeadModel, prepared: Prepared, train_rows: torch.Tensor
) -> dict[str, dict[str, float]]:
    """Held-out losses in nats per token, of the model and of token frequencies, by source and for
    all."""
    unigram = unigram_log_probabilities(train_rows, model.config.vocab_size)
    rows = {name: prepared.rows(part) for name, part in prepared.held_out.items()}
    rows["all"] = torch.cat(list(rows.values()))
    return {
        name: {
            "model": round(model_loss(model, part), 4),
            "unigram": round(unigram_loss(unigram, part), 4),
        }
        for name, part in rows.items()
    }


def parser_of(program: str, description: str | None) -> argparse.ArgumentParser:
    """A parser of the arguments that every training script has."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument(
        "--sources", type=Path, default=Path("/"), help="where the Debian packages are unpacked"
    )
    parser.add_argument(
        "--python-lib",
        type=Path,
        default=Path(sysconfig.get_paths()["stdlib"]),
        help="CPython 3.11's Lib folder (default: the running interpreter's)",
    )
    parser.add_argument("--out", type=Path, required=True, help="the folder to write to")
    return parser


def main() -> None:
    """Read the command line, make everything, print the report."""
    parser = parser_of("indexer.demo.train", __doc__)
    parser.add_argument("--steps", type=int, default=Recipe.steps, help="training steps")
    arguments = parser.parse_args()
    recipe = Recipe(steps=arguments.steps)
    arguments.out.mkdir(parents=True, exist_ok=True)
    try:
        report = make(arguments.sources, arguments.python_lib, arguments.out, recipe)
    except SourceMissing as error:
        sys.exit(f"error: {error}")
    print(json.dumps(report["held_out_loss_nats_per_token"], indent=2))


if __name__ == "__main__":
    main()
