"""Makes the bundled attention-only model: `python -m indexer.demo.train_heads --sources DIR --out
DIR`.

Trains two layers of attention without MLPs until they have induction heads, measures eight
checkpoints as `neurarium index --heads` measures a model, and writes the folder `--out`. Using
Neurarium does not need it: the results are included, in `induction/`.

Repeated random tokens teach induction within some hundred steps only while few tokens exist, so
that their embeddings are learned first: the vocabulary grows by stages, and text comes last.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from indexer.demo import MODEL_DIR
from indexer.demo.sources import SourceMissing
from indexer.demo.train import IGNORED, Recipe, inputs_and_labels, parser_of, prepared_text
from indexer.heads.effects import logit_path
from indexer.heads.losses import in_context, repeated_losses, token_losses
from indexer.heads.measure import repeated_of, repeated_scores
from indexer.heads.training import CHECKPOINTS
from indexer.models.heads import HEADS
from indexer.models.load import load_model
from indexer.models.pretrained import load_tokenizer
from indexer.models.source import resolve_model


@dataclass(frozen=True)
class Stage:
    """A part of the training."""

    name: str
    steps: int
    vocabulary: int
    """Most frequent tokens that random sequences are drawn from."""
    batch: int
    """Rows in a step."""
    length: int
    """Tokens of a row after its BOS."""
    text: float = 0.0
    """The share of rows that are text."""


@dataclass(frozen=True)
class Course:
    """All numbers that determine the result, in addition to the bundled model's recipe."""

    seed: int = 0
    width: int = 128
    layers: int = 2
    heads: int = 8
    d_head: int = 32
    learning_rate: float = 2e-3
    warmup: int = 50
    """Steps."""
    weight_decay: float = 0.05
    """On matrices only."""
    shortest: int = 6
    """The fewest random tokens before the sequence repeats."""
    longest: int = 48
    stages: tuple[Stage, ...] = (
        Stage("64 tokens", 225, 64, 32, 64),
        Stage("512 tokens", 200, 512, 32, 64),
        Stage("all tokens", 175, 4096, 32, 64),
        Stage("text", 200, 4096, 24, 127, 0.5),
    )
    measured: tuple[int, ...] = field(default=(0, 100, 150, 200, 425, 600, 700, 800))
    """Steps after which a checkpoint is measured."""


def new_model(course: Course, vocabulary: int, context: int, bos: int) -> LlamaForCausalLM:
    """Attention with rotary positions and biases of queries and keys; the MLPs are one neuron wide
    and add nothing."""
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=course.width,
            intermediate_size=1,
            num_hidden_layers=course.layers,
            num_attention_heads=course.heads,
            num_key_value_heads=course.heads,
            head_dim=course.d_head,
            attention_bias=True,
            max_position_embeddings=context,
            rms_norm_eps=1e-5,
            tie_word_embeddings=False,
            bos_token_id=bos,
            eos_token_id=bos,
        )
    )
    # Transformers' own start, 0.02, leaves patterns flat for thousands of steps.
    narrow = course.width**-0.5
    with torch.no_grad():
        nn.init.normal_(model.model.embed_tokens.weight, std=0.5)
        for layer in model.model.layers:
            attention = layer.self_attn
            for matrix in (attention.q_proj, attention.k_proj, attention.v_proj):
                nn.init.normal_(matrix.weight, std=narrow)
            for biased in (attention.q_proj, attention.k_proj):
                nn.init.normal_(biased.bias, std=0.5)
            nn.init.normal_(attention.o_proj.weight, std=0.5 * narrow)
            for unbiased in (attention.v_proj, attention.o_proj):
                unbiased.bias.zero_()
                unbiased.bias.requires_grad_(False)
            for name in ("gate_proj", "up_proj", "down_proj"):
                weight = getattr(layer.mlp, name).weight
                weight.zero_()
                weight.requires_grad_(False)
    return model


def repeats(
    rows: int, length: int, pool: Tensor, course: Course, generator: torch.Generator
) -> Tensor:
    """Rows [rows, length] of random tokens of `pool` without repetition, then the same again and
    again."""
    most = min(course.longest, len(pool) // 2)
    periods = torch.randint(course.shortest, most, (rows,), generator=generator)
    made = [
        pool[torch.randperm(len(pool), generator=generator)[:period]].repeat(length // period + 1)
        for period in periods.tolist()
    ]
    return torch.stack([row[:length] for row in made])


def train(model: LlamaForCausalLM, rows: Tensor, course: Course, bos: int, after: Any) -> None:
    """Train on repeats and on shuffled contexts `rows` [contexts, pos]; `after(step, stage)` is
    called before the first step and after each."""
    generator = torch.Generator().manual_seed(course.seed)
    counts = torch.bincount(rows[rows > bos].flatten(), minlength=model.config.vocab_size)
    common = counts.argsort(descending=True)
    common = common[common != bos]
    common = torch.cat([common[:512][torch.randperm(512, generator=generator)], common[512:]])
    order, taken = torch.randperm(len(rows), generator=generator), 0
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in trained if p.dim() > 1], "weight_decay": course.weight_decay},
            {"params": [p for p in trained if p.dim() == 1], "weight_decay": 0.0},
        ],
        lr=course.learning_rate,
        betas=(0.9, 0.98),
    )
    model.train()
    step = 0
    after(step, course.stages[0])
    for stage in course.stages:
        pool = common[: stage.vocabulary]
        texts = round(stage.batch * stage.text)
        for number in range(stage.steps):
            batch = repeats(stage.batch - texts, stage.length, pool, course, generator)
            if texts:
                half = (stage.batch - texts) // 2
                batch[:half] = repeats(half, stage.length, common[:512], course, generator)
            batch = torch.cat([torch.full((len(batch), 1), bos), batch], dim=1)
            if texts:
                if taken + texts > len(order):
                    taken = 0
                batch = torch.cat([rows[order[taken : taken + texts]], batch])
                taken += texts
            inputs, labels = inputs_and_labels(batch)
            hidden = model.model(input_ids=inputs, use_cache=False).last_hidden_state
            if len(pool) < len(common):  # only the tokens of this stage compete
                places = torch.full((model.config.vocab_size,), IGNORED)
                places[pool] = torch.arange(len(pool))
                logits, labels = hidden @ model.lm_head.weight[pool].T, places[labels]
            else:
                logits = model.lm_head(hidden)
            loss = cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
            rate = min(1.0, (step + 1) / course.warmup)
            if stage is course.stages[-1]:
                rate *= 0.55 + 0.45 * math.cos(math.pi * number / stage.steps)
            for group in optimizer.param_groups:
                group["lr"] = course.learning_rate * rate
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            step += 1
            if step % 50 == 0:
                print(f"step {step} ({stage.name})  loss {loss.item():.3f}", flush=True)
            after(step, stage)


def measure(model: LlamaForCausalLM, held_out: Tensor, context: int) -> dict[str, Any]:
    """What a checkpoint does: its loss on whole held-out contexts [contexts, pos], its
    in-context-learning score, its losses on repeated random tokens (all in nats per token), and its
    heads' scores there."""
    with tempfile.TemporaryDirectory() as folder:
        save(model, Path(folder), torch.float32)
        loaded = load_model(resolve_model(folder), asked=HEADS)
    bos = loaded.tokens.tokenizer.bos_token_id
    repeated = repeated_of(loaded, bos, 0)
    sums = repeated_scores(loaded, logit_path(loaded), repeated)
    first, second = repeated_losses(loaded, repeated)
    learning = in_context(loaded, (row.numpy() for row in held_out), context)
    assert learning is not None  # the rows are whole
    scores = [sums.scores(layer) for layer in range(len(sums.widths))]

    def heads(name: str) -> list[list[float]]:
        return [[round(float(value), 4) for value in layer[name]] for layer in scores]

    return {
        "loss": round(float(token_losses(loaded, held_out[:64]).mean()), 4),
        "in_context": round(learning.score, 4),
        "first_loss": round(first, 4),
        "second_loss": round(second, 4),
        "induction": heads("induction"),
        "previous_token": heads("previous_token"),
    }


def save(model: LlamaForCausalLM, folder: Path, dtype: torch.dtype) -> None:
    """Write the model and the bundled tokenizer, which both share."""
    state = {name: value.detach().to(dtype) for name, value in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=state)
    (folder / "model.safetensors").chmod(0o644)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((MODEL_DIR / name).read_bytes())


def make(sources: Path, python_lib: Path, out: Path, course: Course) -> list[dict[str, Any]]:
    """Make everything; returns the measured checkpoints."""
    prepared = prepared_text(sources, python_lib, Recipe())
    rows, held_out = prepared.all_rows(prepared.train), prepared.all_rows(prepared.held_out)
    tokenizer = load_tokenizer(resolve_model(str(MODEL_DIR))).tokenizer
    assert tokenizer.get_vocab() == prepared.tokenizer.get_vocab()
    return teach(rows, held_out, prepared.bos, out, course)


def teach(
    rows: Tensor, held_out: Tensor, bos: int, out: Path, course: Course
) -> list[dict[str, Any]]:
    """As `make`, from contexts [contexts, pos], padded with −1."""
    recipe = Recipe()
    torch.manual_seed(course.seed)
    whole = held_out[(held_out >= 0).all(1)]
    whole = whole[torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))]
    model = new_model(course, recipe.vocabulary, recipe.context, bos)
    checkpoints: list[dict[str, Any]] = []

    def after(step: int, stage: Stage) -> None:
        if step in course.measured:
            figures = {"step": step, "stage": stage.name, **measure(model, whole, recipe.context)}
            checkpoints.append(figures)
            print(json.dumps(figures), flush=True)

    train(model, rows, course, bos, after)
    save(model, out, torch.float16)
    lines = ",\n  ".join(map(json.dumps, checkpoints))
    story = f'{{\n "course": {json.dumps(asdict(course))},\n "checkpoints": [\n  {lines}\n ]\n}}\n'
    (out / CHECKPOINTS).write_text(story, encoding="utf-8")
    return checkpoints


def main() -> None:
    """Read the command line and make everything."""
    parser = parser_of("indexer.demo.train_heads", __doc__)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    try:
        make(arguments.sources, arguments.python_lib, arguments.out, Course())
    except SourceMissing as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
