"""One text read by the heads of a layer, and what one head does to the prediction at its end.

The prediction needs the whole model with its unembedding. Nothing in this module may be called by
several threads at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from indexer.captured import CapturedHeads
from indexer.heads.effects import EffectPass, heads_of, logit_path
from indexer.interventions.predict import AS_IS, Predicted, last_log_probabilities, predicted
from indexer.models.loaded import LoadedModel
from indexer.models.modules import first_tensor
from indexer.models.qkv import SPLITS, repeated

ZERO, MEAN, PATTERN, OUTPUT = 1, 2, 3, 4
"""Rows of the one forward pass in which a head's output is set to 0, to its mean, is computed with
another text's pattern, and is another text's; in the row `AS_IS` the head is left alone."""


@dataclass(frozen=True)
class Donor:
    """A head on another text of as many tokens, to be patched in."""

    pattern: Float[Tensor, "query key"]
    outputs: Float[Tensor, "pos d_head"]


@dataclass(frozen=True)
class HeadEffects:
    """What one head does to the prediction at the end of one text."""

    as_is: Predicted
    zero_ablated: Predicted
    mean_ablated: Predicted
    pattern_patched: Predicted | None
    """None without another text, like `output_patched`."""
    output_patched: Predicted | None


@dataclass(frozen=True)
class LayerOnText:
    """All heads of a layer on one text."""

    patterns: Float32[np.ndarray, "head query key"]
    effects: Float32[np.ndarray, "pos head"] | None
    """Each head's direct effect on the logit of the token that comes next; at the last position, of
    the token that was asked for. None where it is not known."""


def read_layer(
    model: LoadedModel, layer: int, token_ids: list[int], last_target: int
) -> LayerOnText:
    """The heads of a layer on one text. `last_target` is the token whose logit the effects at the
    last position are on. Raises `NeurariumError` when memory runs out."""
    heads, path = heads_of(model), logit_path(model)
    tokens = torch.tensor([token_ids], device=model.device)
    targets = torch.tensor([[*token_ids[1:], last_target]], device=model.device)
    effects = None if path is None else EffectPass(heads, path, targets)
    found: list[Float32[np.ndarray, "head query key"]] = []

    def on_heads(number: int, captured: CapturedHeads) -> None:
        if number != layer:
            return
        found.append(captured.pattern[0].float().cpu().numpy())
        if effects is not None:
            effects.on_heads(layer, captured)

    hooks = None if effects is None else effects.hooks()
    heads.capture_heads(tokens, torch.ones_like(tokens), on_heads, hooks)
    added = None
    if effects is not None:  # this layer is the only one that it was given
        added = effects.effects(0)[0].float().cpu().numpy()
    return LayerOnText(found[0], added)


def read_donor(model: LoadedModel, layer: int, head: int, token_ids: list[int]) -> Donor:
    """A head on the text that it is patched from."""
    found: list[Donor] = []

    def keep(captured: CapturedHeads) -> None:
        found.append(Donor(captured.pattern[0, head].clone(), captured.outputs[0, :, head].clone()))

    _read(model, layer, token_ids, keep)
    return found[0]


def mean_output(
    model: LoadedModel, layer: int, head: int, contexts: Sequence[tuple[list[int], list[int]]]
) -> Float[Tensor, " d_head"]:
    """A head's mean output over all included positions of contexts, which are pairs of token ids
    and included positions. 0 without contexts."""
    total = torch.zeros(heads_of(model).weights(layer).d_head, device=model.device)
    count = 0
    for token_ids, included in contexts:

        def add(captured: CapturedHeads, included: list[int] = included) -> None:
            total.add_(captured.outputs[0, included, head].float().sum(0))

        _read(model, layer, token_ids, add)
        count += len(included)
    return total / max(count, 1)


def _read(
    model: LoadedModel, layer: int, token_ids: list[int], use: Callable[[CapturedHeads], None]
) -> None:
    """Call `use` with the heads of one layer on one text."""
    tokens = torch.tensor([token_ids], device=model.device)
    heads_of(model).capture_heads(
        tokens,
        torch.ones_like(tokens),
        lambda number, captured: use(captured) if number == layer else None,
    )


@torch.inference_mode()
def head_effects_on_text(
    model: LoadedModel,
    layer: int,
    head: int,
    token_ids: list[int],
    *,
    first: int,
    mean: Float[Tensor, " d_head"],
    donor: Donor | None = None,
    k: int = 10,
) -> HeadEffects:
    """The next token predicted after `token_ids` with a head left alone, its output set to 0 and to
    `mean` from position `first` (the first included one) on; and with a `donor`, with the donor's
    pattern over this text's values, and with the donor's output.

    The predictions are rows of one forward pass; each names the `k` most likely tokens. Raises
    `NeurariumError` when memory runs out, or where the unembedding is not known.
    """
    rows = 3 if donor is None else 5
    tokens = torch.tensor([token_ids] * rows, device=model.device)
    with _changed(model, layer, head, rows, first, mean, donor):
        log_p = last_log_probabilities(model, tokens)

    def of(row: int) -> Predicted | None:
        return None if row >= rows else predicted(log_p, row, k)

    return HeadEffects(
        as_is=predicted(log_p, AS_IS, k),
        zero_ablated=predicted(log_p, ZERO, k),
        mean_ablated=predicted(log_p, MEAN, k),
        pattern_patched=of(PATTERN),
        output_patched=of(OUTPUT),
    )


@contextlib.contextmanager
def _changed(
    model: LoadedModel,
    layer: int,
    head: int,
    rows: int,
    first: int,
    mean: Float[Tensor, " d_head"],
    donor: Donor | None,
) -> Iterator[None]:
    """Change a head's output, at the input of the output projection, in every row but `AS_IS`."""
    heads = heads_of(model)
    width, d_head = heads.widths[layer], heads.weights(layer).d_head
    projection, module = heads.projections[layer], heads.places[layer].module
    held: dict[str, Tensor] = {}

    def on_values(_module: Any, _args: Any, output: Tensor) -> None:
        values = output.reshape(rows, -1, output.shape[-1])
        own = SPLITS[projection.split](values, width, d_head)[2]
        held["values"] = repeated(own, width)[PATTERN, :, head]

    def on_outputs(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = first_tensor(args, kwargs)
        assert given is not None
        outputs = given.clone(memory_format=torch.contiguous_format)
        own = outputs.view(rows, -1, width, d_head)[:, :, head]
        own[ZERO, first:] = 0
        own[MEAN, first:] = mean.to(own.dtype)
        if donor is not None:
            own[PATTERN] = donor.pattern.to(own.dtype) @ held.pop("values")
            own[OUTPUT] = donor.outputs.to(own.dtype)
        if args:
            return (outputs, *args[1:]), kwargs
        return args, kwargs | {next(iter(kwargs)): outputs}

    with contextlib.ExitStack() as hooks:
        if donor is not None:
            hook = projection.value_module.register_forward_hook(on_values)
            hooks.callback(hook.remove)
        hook = module.register_forward_pre_hook(on_outputs, with_kwargs=True)
        hooks.callback(hook.remove)
        yield
