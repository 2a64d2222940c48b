"""A logit as the sum of what each part of the model adds to it directly."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from indexer.heads.effects import head_effects, heads_of, logit_path
from indexer.models.loaded import LoadedModel
from indexer.models.modules import first_tensor, unwrap
from indexer.models.norms import ScaledNorm, scaled_norm
from indexer.models.units import first_of
from indexer.weights.embedding import position_embeddings, unembedding_module


@dataclass(frozen=True)
class Parts:
    """What each part adds to the logit of one target at every position."""

    embedding: Float[Tensor, " pos"]
    """Token embeddings."""
    positions: Float[Tensor, " pos"] | None
    """Positional embeddings; None where the model adds none."""
    heads: Float[Tensor, "pos layer head"]
    """All layers have as many columns as the widest; the others are 0."""
    attention_biases: Float[Tensor, "pos layer"]
    mlps: Float[Tensor, "pos layer"]
    biases: Float[Tensor, " pos"]
    """The final norm's and the unembedding's."""
    logit: Float[Tensor, " pos"]
    """The model's own, before a softcap."""

    @property
    def remainder(self) -> Float[Tensor, " pos"]:
        """The logit minus the sum of all parts: rounding, or a part that is not known."""
        heads = self.heads.sum((1, 2))
        layers = self.attention_biases.sum(1) + self.mlps.sum(1)
        positions = 0.0 if self.positions is None else self.positions
        return self.logit - (self.embedding + positions + heads + layers + self.biases)


@torch.inference_mode()
def decompose(
    model: LoadedModel, tokens: Int[Tensor, " pos"], targets: Int[Tensor, " pos"]
) -> Parts | None:
    """The parts of the logits of `targets` at every position of one text, in float32: see
    `indexer.heads.effects` for the sum. Raises `NeurariumError` if the model was loaded for other
    units.

    None where what a part adds is not known (models that normalise after each addition).
    """
    heads, path = heads_of(model), logit_path(model)
    if path is None:
        return None
    layout, root = model.layout, model.root
    directions = path.directions(targets[None])
    which = torch.arange(len(targets), device=directions.device)[None]
    seen: dict[str, Tensor] = {}
    head_parts: list[Tensor] = []
    bias_parts: list[Tensor] = []

    def along(vectors: Tensor, norm: ScaledNorm | None, scale: Tensor | None) -> Tensor:
        """Vectors [1, pos, d_model] times the directions, through a norm inside the block."""
        read = directions if norm is None else norm.back(directions)
        out = (vectors.float() * read).sum(-1)
        return out if scale is None else out / scale

    def on_heads(layer: int, captured: Any) -> None:
        head_parts.append(head_effects(heads, layer, captured, directions[0], which))
        norm, bias = heads.norms[layer], heads.weights(layer).out_bias
        added = torch.zeros_like(directions[..., 0])
        if bias is not None:
            added = added + along(bias.expand_as(directions), norm, captured.norm_scale)
        if norm is not None:
            added = added + directions @ norm.bias
        bias_parts.append(added * heads.residual_multiplier)

    head = unembedding_module(model)
    mlp_norms: list[ScaledNorm | None] = []
    for layer in range(layout.n_layers):
        norm_module = layout.mlp_norm(root, layer)
        mlp_norms.append(
            None if norm_module is None else scaled_norm(norm_module, layout.d_model, model.device)
        )

    with contextlib.ExitStack() as hooks:
        first = layout.component(root, "blocks.0")
        assert first is not None
        hooks.enter_context(_input(first, "embedding", seen))
        for positions in position_embeddings(model):
            hooks.enter_context(_output(positions, "positions", seen))
        for layer, norm in enumerate(mlp_norms):
            # A mixture of experts has no projection of its own.
            out = layout.component(root, f"blocks.{layer}.mlp.out")
            out = out or layout.component(root, f"blocks.{layer}.mlp")
            if out is not None:
                hooks.enter_context(_output(out, f"mlp.{layer}", seen))
            if norm is not None:
                hooks.enter_context(_input(norm.module, f"mlp_norm.{layer}", seen))
        if path.norm is not None:
            hooks.enter_context(_input(path.norm.module, "final", seen))
        hooks.enter_context(_output(head, "logits", seen))
        hooks.enter_context(heads.hooked((1, len(tokens)), on_heads))
        ids = tokens[None].to(model.device)
        root(input_ids=ids, attention_mask=torch.ones_like(ids))

    shape = directions.shape
    scale = torch.ones(shape[:2], device=model.device)
    biases = torch.zeros(shape[:2], device=model.device)
    if path.norm is not None:
        scale = path.norm.scale(seen["final"].reshape(shape))
        rows = path.unembedding[targets].float() * path.logit_scale
        biases = biases + (rows @ path.norm.bias)[None]
    bias = getattr(unwrap(head), "bias", None)
    if isinstance(bias, Tensor):
        biases = biases + bias[targets].float()[None] * path.logit_scale
    mlps = [
        _mlp(layer, norm, seen, along, directions) * heads.residual_multiplier
        for layer, norm in enumerate(mlp_norms)
    ]
    logits = seen["logits"].reshape(len(tokens), -1).float()
    widest = max(heads.widths)
    embedding, of_positions = along(seen["embedding"].reshape(shape), None, None) / scale, None
    if "positions" in seen:
        added = seen["positions"].reshape(-1, *shape[1:])[:1]
        of_positions = along(added, None, None) / scale
        embedding = embedding - of_positions
    padded = [nn.functional.pad(part, (0, widest - part.shape[-1])) for part in head_parts]
    return Parts(
        embedding=embedding[0],
        positions=None if of_positions is None else of_positions[0],
        heads=(torch.stack(padded, dim=2) / scale[..., None, None])[0],
        attention_biases=(torch.stack(bias_parts, dim=2) / scale[..., None])[0],
        mlps=(torch.stack(mlps, dim=2) / scale[..., None])[0],
        biases=biases[0],
        logit=logits.gather(1, targets[:, None])[:, 0] * path.logit_scale,
    )


def decompose_text(model: LoadedModel, token_ids: list[int], target: int) -> Parts | None:
    """The parts of the logit of one target at every position of a text. Raises `NeurariumError` as
    `decompose`."""
    tokens = torch.tensor(token_ids, device=model.device)
    return decompose(model, tokens, torch.full_like(tokens, target))


def _mlp(
    layer: int,
    norm: ScaledNorm | None,
    seen: dict[str, Tensor],
    along: Any,
    directions: Float[Tensor, "1 pos d_model"],
) -> Float[Tensor, "1 pos"]:
    """What a layer's MLP adds to the logits, up to the final norm's scale; 0 where there is
    none."""
    written = seen.get(f"mlp.{layer}")
    if written is None:
        return torch.zeros_like(directions[..., 0])
    vectors = written.reshape(directions.shape)
    if norm is None:
        part: Tensor = along(vectors, None, None)
        return part
    scale = norm.scale(seen[f"mlp_norm.{layer}"].reshape(directions.shape))
    through: Tensor = along(vectors, norm, scale)
    return through + directions @ norm.bias


@contextlib.contextmanager
def _input(module: nn.Module, name: str, seen: dict[str, Tensor]) -> Iterator[None]:
    """Keep what a module is given as `seen[name]`."""

    def keep(_m: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = first_tensor(args, kwargs)
        if x is not None:
            seen[name] = x.clone()

    handle = module.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def _output(module: nn.Module, name: str, seen: dict[str, Tensor]) -> Iterator[None]:
    """Keep what a module returns as `seen[name]`."""

    def keep(_m: nn.Module, _args: Any, output: Tensor | tuple[Tensor, ...]) -> None:
        seen[name] = first_of(output).clone()

    handle = module.register_forward_hook(keep)
    try:
        yield
    finally:
        handle.remove()
