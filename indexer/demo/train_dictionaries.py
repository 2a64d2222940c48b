"""Makes the bundled dictionaries: `python -m indexer.demo.train_dictionaries --sources DIR --out
DIR`.

Trains a sparse autoencoder on the bundled model's residual stream and a transcoder on one of its
MLPs, on the text the model was trained on, measures both on the held-out corpus, and writes
`dictionaries/`. Using Neurarium does not need it: the results are included.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import GPT2LMHeadModel

from indexer.demo import MODEL_DIR
from indexer.demo.sources import SourceMissing
from indexer.demo.train import (
    Recipe,
    model_loss,
    parser_of,
    prepared_text,
)


@dataclass(frozen=True)
class Schedule:
    """All numbers that determine the result, in addition to the model's own recipe."""

    seed: int = 0
    latents: int = 2048
    active: int = 24
    """Latents that may fire per position, on average over a batch."""
    steps: int = 120
    batch: int = 16
    """Contexts in a step."""
    learning_rate: float = 2e-3
    """Falls linearly to 0 over the last third."""
    warmup: int = 100
    """Steps."""
    dead_after: int = 100
    """Steps without firing after which a latent also learns from the error of the others."""
    auxiliary: int = 64
    """Such latents used per position, at most."""
    auxiliary_weight: float = 1 / 32


@dataclass(frozen=True)
class Task:
    """What one dictionary reads and reconstructs."""

    name: str
    noun: str
    hook_point: str
    hook_point_out: str | None
    """None: it reconstructs what it reads."""
    layer: int


TASKS = (
    Task("residual-sae", "latent", "hook_resid_post", None, 0),
    Task("mlp-transcoder", "latent", "mlp.hook_in", "mlp.hook_out", 1),
)


class Coder(nn.Module):
    """An encoder with ReLU and a decoder: a sparse autoencoder or a transcoder.

    Input and target are divided by one scalar each, so that a vector's mean squared length is its
    width.
    """

    def __init__(self, task: Task, reads: Tensor, target: Tensor, latents: int) -> None:
        super().__init__()
        self.task = task
        width = reads.shape[1]
        self.scale_in = float(reads.square().mean().sqrt())
        self.scale_out = float((target - target.mean(0)).square().mean().sqrt())
        rows = torch.randn(latents, width)
        rows /= rows.norm(dim=1, keepdim=True)
        self.W_dec = nn.Parameter(rows)
        self.W_enc = nn.Parameter(rows.T.clone())
        self.b_enc = nn.Parameter(torch.zeros(latents))
        self.b_dec = nn.Parameter(target.mean(0) / self.scale_out)
        self.threshold = 0.0
        self.silent = torch.zeros(latents, dtype=torch.int64)

    def encode(self, reads: Tensor) -> Tensor:
        """Activations `[positions, latents]` before the smallest are removed."""
        given = reads / self.scale_in
        if self.task.hook_point_out is None:
            given = given - self.b_dec
        return torch.relu(given @ self.W_enc + self.b_enc)

    def loss(self, reads: Tensor, target: Tensor, schedule: Schedule) -> Tensor:
        """Squared error with the batch's `active` largest activations per position, and, for
        latents that have become silent, of the error that is left (Gao et al. 2024, Bussmann et al.
        2024)."""
        target = target / self.scale_out
        acts = self.encode(reads)
        least = acts.detach().flatten().topk(schedule.active * len(acts)).values[-1]
        kept = acts * (acts >= least)
        self.threshold += 0.02 * (float(least) - self.threshold)
        error = target - kept @ self.W_dec - self.b_dec
        loss = error.square().sum(1).mean()
        fired = (kept > 0).any(0)
        self.silent = torch.where(fired, 0, self.silent + 1)
        dead = torch.nonzero(self.silent > schedule.dead_after).flatten()
        if len(dead) == 0:
            return loss
        of_dead = acts[:, dead]
        count = min(schedule.auxiliary, len(dead))
        best, which = of_dead.topk(count, dim=1)
        sparse = torch.zeros_like(of_dead).scatter(1, which, best)
        rest = error.detach() - sparse @ self.W_dec[dead]
        return loss + schedule.auxiliary_weight * rest.square().sum(1).mean()

    @torch.no_grad()
    def normalise(self) -> None:
        """Give each decoder row length 1, so that activations have a scale of their own."""
        self.W_dec.div_(self.W_dec.norm(dim=1, keepdim=True))

    @torch.no_grad()
    def folded(self) -> dict[str, Tensor]:
        """The dictionary in units of the model, as x·(x > threshold), in float16: the scalars are
        folded into the weights."""
        shift = self.b_dec @ self.W_enc if self.task.hook_point_out is None else 0.0
        # Each latent's activation is in units of the target, so it tells how much is written.
        tensors = {
            "W_enc": self.W_enc / self.scale_in * self.scale_out,
            "b_enc": (self.b_enc - shift) * self.scale_out,
            "threshold": torch.full((len(self.W_dec),), self.threshold * self.scale_out),
            "W_dec": self.W_dec,
            "b_dec": self.b_dec * self.scale_out,
        }
        return {name: tensor.half().contiguous() for name, tensor in tensors.items()}


@dataclass(frozen=True)
class Seen:
    """Inputs and outputs of the model's modules at included positions [positions, width], by hook
    point."""

    reads: dict[str, Tensor]
    target: dict[str, Tensor]


def look(model: GPT2LMHeadModel, rows: Tensor) -> Seen:
    """Run the model over contexts `[n, context]` and return each task's input and target,
    `[positions, width]`, without BOS and padding."""
    captured: dict[str, Tensor] = {}
    handles = []
    for task in TASKS:
        block = model.transformer.h[task.layer]

        def keep(_: Any, given: Any, output: Any, name: str = task.name) -> None:
            captured[f"{name} reads"] = given[0]
            captured[f"{name} gives"] = output[0] if isinstance(output, tuple) else output

        module = block if task.hook_point_out is None else block.mlp
        handles.append(module.register_forward_hook(keep))
    with torch.no_grad():
        model.transformer(rows.clamp(min=0), use_cache=False)
    for handle in handles:
        handle.remove()
    included = rows >= 0
    included[:, 0] = False
    side = {task.name: "gives" if task.hook_point_out is None else "reads" for task in TASKS}
    return Seen(
        {name: captured[f"{name} {side[name]}"][included] for name in side},
        {name: captured[f"{name} gives"][included] for name in side},
    )


def train(model: GPT2LMHeadModel, rows: Tensor, schedule: Schedule) -> list[Coder]:
    """Train all dictionaries at once on shuffled contexts `[n_contexts, context]`."""
    first = look(model, rows[torch.randperm(len(rows))[:64]])
    coders = [
        Coder(task, first.reads[task.name], first.target[task.name], schedule.latents)
        for task in TASKS
    ]
    parameters = [parameter for coder in coders for parameter in coder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=schedule.learning_rate, betas=(0.9, 0.99))
    for step, batch in enumerate(batches(rows, schedule), start=1):
        seen = look(model, batch)
        losses = [
            coder.loss(seen.reads[coder.task.name], seen.target[coder.task.name], schedule)
            for coder in coders
        ]
        optimizer.zero_grad()
        torch.autograd.backward(losses)
        torch.nn.utils.clip_grad_norm_(parameters, 10.0)
        optimizer.param_groups[0]["lr"] = schedule.learning_rate * rate(step, schedule)
        optimizer.step()
        for coder in coders:
            coder.normalise()
        if step % 100 == 0:
            shown = ", ".join(
                f"{coder.task.name} {float(loss.detach()):.1f} "
                f"({int((coder.silent > schedule.dead_after).sum())} silent)"
                for coder, loss in zip(coders, losses, strict=True)
            )
            print(f"step {step}/{schedule.steps}  {shown}", flush=True)
    return coders


def rate(step: int, schedule: Schedule) -> float:
    """The factor of the learning rate: linear warm-up, constant, linear to 0 in the last third."""
    left = (schedule.steps - step) / (schedule.steps / 3)
    return min(1.0, step / schedule.warmup, left)


def batches(rows: Tensor, schedule: Schedule) -> Iterator[Tensor]:
    """`schedule.steps` batches [batch, pos] of contexts, in a new order each epoch."""
    left = schedule.steps
    while left > 0:
        groups = torch.split(torch.randperm(len(rows)), schedule.batch)[:left]
        yield from (rows[group] for group in groups)
        left -= len(groups)


# --- What they are worth ------------------------------------------------------------------------


@dataclass(frozen=True)
class Written:
    """A dictionary as it is written, for measuring: float16 weights in float32."""

    task: Task
    tensors: dict[str, Tensor]

    def encode(self, reads: Tensor) -> Tensor:
        """Activations `[..., latents]`."""
        before = reads @ self.tensors["W_enc"].float() + self.tensors["b_enc"].float()
        return before * (before > self.tensors["threshold"].float())

    def decode(self, acts: Tensor) -> Tensor:
        """Reconstructions `[..., width]`."""
        decoded: Tensor = acts @ self.tensors["W_dec"].float() + self.tensors["b_dec"].float()
        return decoded


@torch.no_grad()
def measure(model: GPT2LMHeadModel, rows: Tensor, written: Written) -> dict[str, float]:
    """What a dictionary explains of held-out contexts [contexts, pos].

    `fvu` is Σ ‖error‖² ÷ Σ ‖target − mean‖², `l0` the mean number of latents that fire at a
    position, `dead_share` the share of latents that never fire; losses are in nats per token.
    """
    name = written.task.name
    error, acts_on, positions = 0.0, 0.0, 0
    total, squares = torch.zeros(model.config.n_embd), 0.0
    fired = torch.zeros(len(written.tensors["W_dec"]), dtype=torch.bool)
    for batch in torch.split(rows, 64):
        seen = look(model, batch)
        acts = written.encode(seen.reads[name])
        target = seen.target[name]
        error += (written.decode(acts) - target).square().sum().item()
        acts_on += (acts > 0).sum().item()
        fired |= (acts > 0).any(0)
        positions += len(acts)
        total += target.sum(0)
        squares += target.square().sum().item()
    variance = squares - (total.square().sum() / positions).item()
    return {
        "fvu": round(error / variance, 4),
        "l0": round(acts_on / positions, 2),
        "dead_share": round(1 - fired.float().mean().item(), 4),
        "loss": round(loss_with(model, rows, None, "own"), 4),
        "loss_with_reconstruction": round(loss_with(model, rows, written, "reconstruction"), 4),
        "loss_with_zeros": round(loss_with(model, rows, written, "zeros"), 4),
    }


@contextmanager
def replaced(model: GPT2LMHeadModel, written: Written, how: str) -> Iterator[None]:
    """The module's output replaced at all positions but BOS."""
    block = model.transformer.h[written.task.layer]
    residual = written.task.hook_point_out is None

    def instead(_: Any, given: Any, output: Any) -> Any:
        own = output[0] if isinstance(output, tuple) else output
        new = written.decode(written.encode(own if residual else given[0]))
        new = new if how == "reconstruction" else torch.zeros_like(own)
        new[:, 0] = own[:, 0]
        return (new, *output[1:]) if isinstance(output, tuple) else new

    handle = (block if residual else block.mlp).register_forward_hook(instead)
    try:
        yield
    finally:
        handle.remove()


def loss_with(model: GPT2LMHeadModel, rows: Tensor, written: Written | None, how: str) -> float:
    """Mean loss in nats per token of the model, with a part replaced (`how`) if `written` is
    given."""
    if written is not None:
        with replaced(model, written, how):
            return loss_with(model, rows, None, how)
    return model_loss(model, rows)


# --- The script ---------------------------------------------------------------------------------


def metadata(task: Task, l0: float) -> dict[str, str]:
    """The settings in a dictionary's file."""
    layer = f"blocks.{task.layer}"
    facts = {
        "name": task.name,
        "noun": task.noun,
        "model": "demo",
        "hook_point": f"{layer}.{task.hook_point}",
        "activation": "jumprelu",
        "apply_b_dec_to_input": "false",
        "l0": f"{l0:g}",
    }
    out = task.hook_point_out
    return facts if out is None else facts | {"hook_point_out": f"{layer}.{out}"}


def make(sources: Path, python_lib: Path, out: Path, schedule: Schedule) -> dict[str, object]:
    """Train, measure and write; returns the content of `report.json`."""
    prepared = prepared_text(sources, python_lib, Recipe())
    rows, held_out = prepared.all_rows(prepared.train), prepared.all_rows(prepared.held_out)
    model = GPT2LMHeadModel.from_pretrained(MODEL_DIR).eval()
    torch.manual_seed(schedule.seed)
    out.mkdir(parents=True, exist_ok=True)
    measured = {}
    for coder in train(model, rows, schedule):
        tensors = coder.folded()
        figures = measure(model, held_out, Written(coder.task, tensors))
        path = out / f"{coder.task.name}.safetensors"
        save_file(tensors, path, metadata(coder.task, figures["l0"]))
        path.chmod(0o644)  # by default only its owner may read it
        measured[coder.task.name] = figures
    report: dict[str, object] = {
        "schedule": asdict(schedule),
        "made_with": {"python": platform.python_version(), "torch": torch.__version__},
        "train_contexts": len(rows),
        "epochs": round(schedule.steps * schedule.batch / len(rows), 2),
        "held_out": measured,
    }
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def main() -> None:
    """Read the command line, make everything, print the report."""
    parser = parser_of("indexer.demo.train_dictionaries", __doc__)
    parser.add_argument("--steps", type=int, default=Schedule.steps, help="training steps")
    arguments = parser.parse_args()
    try:
        report = make(
            arguments.sources,
            arguments.python_lib,
            arguments.out,
            Schedule(steps=arguments.steps),
        )
    except SourceMissing as error:
        sys.exit(f"error: {error}")
    print(json.dumps(report["held_out"], indent=2))


if __name__ == "__main__":
    main()
