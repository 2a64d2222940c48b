"""One text through a model in memory: activations, and what a neuron does to the prediction.

Apart from the scan, which reads a corpus: what is here reads what somebody has just typed, and
needs the whole model with its unembedding. Nothing here may be called by several threads at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from indexer.errors import NeurariumError
from indexer.interventions.attribute import Attribution, Norms, attribution
from indexer.models.failures import out_of_memory
from indexer.models.hook_points import HOOK_POST, Place
from indexer.models.load import LoadedModel
from indexer.weights.write import unembedding

AS_IS, ZERO, MEAN = 0, 1, 2
"""Rows of the one forward pass in which a neuron is left alone, set to 0 and set to its mean."""


@dataclass(frozen=True)
class Predicted:
    """What the model expects next, most likely first."""

    token_ids: tuple[int, ...]
    probabilities: tuple[float, ...]
    as_is: tuple[float, ...]
    """The same tokens' probabilities with the neuron left alone."""
    divergence: float
    """Kullback–Leibler divergence from the prediction with the neuron left alone, in nats."""


@dataclass(frozen=True)
class Effects:
    """What one neuron does to the prediction at the end of one text."""

    as_is: Predicted
    zero_ablated: Predicted
    mean_ablated: Predicted
    attribution: Attribution


@torch.inference_mode()
def effects(
    model: LoadedModel,
    layer: int,
    neuron: int,
    token_ids: list[int],
    *,
    first: int,
    mean: float,
    k: int = 10,
) -> Effects:
    """The next token predicted after `token_ids`, with a neuron left alone, set to 0 and set to
    `mean` at every position from `first` (the first included one) on; and its direct logit
    attribution to the likeliest token.

    The three predictions are rows of one forward pass. Each names the `k` likeliest tokens. In a
    model that normalises after each addition (GPT-1, OPT 350m) the attribution is that of a neuron
    of the last layer; of earlier ones it leaves out the norms between. Raises `NeurariumError` when
    memory runs out, or where the unembedding cannot be found.
    """
    tokens = torch.tensor([token_ids] * 3, device=model.device)
    layout, root = model.layout, model.root
    norms = Norms(
        final=layout.final_norm(root),
        after_mlp=layout.mlp_norm(root, layer),
        inside_mlp=layout.component(root, f"blocks.{layer}.mlp.ln"),
    )
    if model.hook_point == HOOK_POST:
        norms.inside_mlp = None  # captured after it
    writer = norms.inside_mlp or layout.output_projection(root, layer)
    head = _unembedding_module(model)
    seen: dict[str, Tensor] = {}
    with (
        _ablated(model.places[layer], neuron, first, mean, tokens.shape[1]),
        _seeing(writer, "neurons", tokens.shape, seen),
        _seeing(norms.after_mlp, "after_mlp", tokens.shape, seen),
        _seeing(norms.final, "final", tokens.shape, seen),
        _last_position_only(head),
    ):
        try:
            out = root(input_ids=tokens, attention_mask=torch.ones_like(tokens))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise NeurariumError(
                f"There is not enough memory on {model.device} for 3 × {tokens.shape[1]} tokens "
                f"of {model.source.label!r}: try a shorter text."
            ) from error
    logits = getattr(out, "logits", out)[:, -1].double()  # small divergences need the digits
    log_p = logits.log_softmax(-1)
    as_is, zero, mean_ablated = (_predicted(log_p, row, k) for row in (AS_IS, ZERO, MEAN))
    direct = attribution(model, layer, neuron, as_is.token_ids[0], norms, seen)
    return Effects(as_is, zero, mean_ablated, direct)


def _unembedding_module(model: LoadedModel) -> nn.Module:
    """The module that turns the last residual stream into logits. Raises `NeurariumError`."""
    unembedding(model)  # raises where there is none
    root: Any = model.root
    head: nn.Module = model.layout.component(root, "unembed") or root.get_output_embeddings()
    return head


def _predicted(log_p: Float64[Tensor, "3 d_vocab"], row: int, k: int) -> Predicted:
    best, ids = log_p[row].topk(min(k, log_p.shape[1]))
    p = log_p[AS_IS].exp()
    # Where p is 0 nothing is added, whatever the other prediction says (0 × −inf is not a number).
    terms = torch.where(p > 0, p * (log_p[AS_IS] - log_p[row]), 0.0)
    return Predicted(
        token_ids=tuple(ids.tolist()),
        probabilities=tuple(best.exp().tolist()),
        as_is=tuple(p[ids].tolist()),
        divergence=max(0.0, float(terms.sum())),
    )


@contextlib.contextmanager
def _ablated(place: Place, neuron: int, first: int, mean: float, length: int) -> Iterator[None]:
    """Set a neuron to 0 in row `ZERO` and to `mean` in row `MEAN`, from position `first` on."""

    def changed(acts: Tensor) -> Tensor:
        acts = acts.clone(memory_format=torch.contiguous_format)
        rows = place.own(acts.view(3, length, acts.shape[-1]))
        rows[ZERO, first:, neuron] = 0
        rows[MEAN, first:, neuron] = mean
        return acts

    def before(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (changed(args[0]), *args[1:]), kwargs
        name, acts = next(iter(kwargs.items()))
        return args, kwargs | {name: changed(acts)}

    def after(_module: Any, _args: Any, output: Tensor) -> Tensor:
        return changed(output)

    if place.side == "input":
        handle = place.module.register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = place.module.register_forward_hook(after)
    with _removed(handle):
        yield


@contextlib.contextmanager
def _seeing(
    module: nn.Module | None, name: str, shape: tuple[int, ...], seen: dict[str, Tensor]
) -> Iterator[None]:
    """Keep a module's input at the last position of row `AS_IS`, in float32, as `seen[name]`."""
    if module is None:
        yield
        return

    def keep(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = args[0] if args else next(iter(kwargs.values()))
        seen[name] = x.reshape(*shape, x.shape[-1])[AS_IS, -1].float()

    with _removed(module.register_forward_pre_hook(keep, with_kwargs=True)):
        yield


@contextlib.contextmanager
def _last_position_only(head: nn.Module) -> Iterator[None]:
    """Unembed the last position alone: the logits of all would be the largest tensor there is."""

    def cut(_: Any, args: tuple[Any, ...]) -> Any:
        return (args[0][:, -1:], *args[1:])

    with _removed(head.register_forward_pre_hook(cut)):
        yield


@contextlib.contextmanager
def _removed(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()
