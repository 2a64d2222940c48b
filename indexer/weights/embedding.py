"""Both ends of the residual stream: what a token's embedding puts in, and how the unembedding turns
it into logits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from indexer.errors import NeurariumError
from indexer.models.loaded import LoadedModel
from indexer.models.matrices import rows_by_input
from indexer.models.modules import first_tensor, through_norm, unwrap


class _Reached(Exception):
    """Raised by our own hook once the first block's input is there."""


def embedded(model: LoadedModel, token_ids: Int[Tensor, " n"]) -> Float[Tensor, "n d_model"] | None:
    """What enters the first block for each token alone, in float32, without its position.

    The model's own code computes it, with the output of learned or sinusoidal positions set to 0:
    the embedding with the model's scale (Gemma), projection (OPT 350m) and norm (Bloom). None where
    there is no block to stop at.
    """
    first = model.layout.component(model.root, "blocks.0")
    if first is None:
        return None
    streams: list[Tensor] = []

    def stop(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        stream = first_tensor(args, kwargs)
        if stream is not None:
            streams.append(stream)
        raise _Reached

    with contextlib.ExitStack() as hooks:
        hooks.callback(first.register_forward_pre_hook(stop, with_kwargs=True).remove)
        for positions in position_embeddings(model):
            hooks.callback(positions.register_forward_hook(_zeros).remove)
        tokens = token_ids[:, None]
        with contextlib.suppress(_Reached):
            model.capture(tokens, torch.ones_like(tokens), lambda *_: None)
    return streams[0].reshape(len(token_ids), -1).float() if streams else None


def through_final_norm(
    model: LoadedModel, vectors: Float[Tensor, "n d_model"]
) -> Float[Tensor, "n d_out"]:
    """Residual stream vectors as the unembedding meets them, up to the final norm's scale."""
    norm = model.layout.final_norm(model.root)
    if norm is not None:
        vectors = through_norm(vectors, unwrap(norm))
    project = model.layout.component(model.root, "project_out")  # OPT 350m
    if project is not None:
        vectors = vectors @ rows_by_input(unwrap(project), vectors.shape[1]).float()
    return vectors


def unembedding_module(model: LoadedModel) -> nn.Module:
    """The module that turns the last residual stream into logits. Raises `NeurariumError` where it
    is not known."""
    root: Any = model.root
    head = model.layout.component(root, "unembed")
    if head is None and hasattr(root, "get_output_embeddings"):
        head = root.get_output_embeddings()
    if not isinstance(head, nn.Module):
        raise NeurariumError(
            f"The unembedding of {model.source.label!r} ({model.layout.architecture}) cannot be "
            "found: its logit effects are unknown."
        )
    return head


def unembedding(model: LoadedModel) -> Float[Tensor, "d_vocab d_out"]:
    """What the last residual stream is multiplied by, a view of the weight where it is stored as
    numbers. Raises `NeurariumError` where it is not known."""
    head = unwrap(unembedding_module(model))
    width = int(getattr(head, "in_features", model.layout.d_model))
    return rows_by_input(head, width).T


def position_embeddings(model: LoadedModel) -> Iterator[nn.Module]:
    """The modules whose output is added to the tokens' embeddings to mark their positions."""
    named = model.layout.component(model.root, "pos_embed")
    if named is not None:
        yield named
        return
    for name, module in model.root.named_modules():
        if name.endswith("embed_positions"):  # XGLM's sinusoids, which TransformerLens leaves out
            yield module


def _zeros(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
    return torch.zeros_like(output)
