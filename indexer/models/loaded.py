"""A model in memory, ready to capture one set of its units."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from indexer.captured import OnLayer
from indexer.models.capture import Trunk, capturing
from indexer.models.layout import Layout
from indexer.models.pretrained import LoadedTokenizer
from indexer.models.source import ModelSource
from indexer.models.units import UnitSet
from indexer.models.vocabulary import known_tokens, token_bytes


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model in memory, its tokenizer, and the units to capture."""

    source: ModelSource
    layout: Layout
    tokens: LoadedTokenizer
    units: UnitSet
    root: nn.Module
    """The whole model: transformers' causal language model, or TransformerLens's native one."""
    trunk: Trunk
    weights_hash: str
    """SHA-256 over the SHA-256 of each weight file in order of name (hub, folder, GGUF), or over
    names, shapes and float32 values of the state dict (legacy and native models)."""
    config_hash: str | None
    """SHA-256 over the configuration and the code of the repository, as far as they shape the
    model; None where the weights' hash covers all."""
    d_vocab: int
    dtype: torch.dtype
    unused_weights: tuple[str, ...] = ()
    """Weights of the checkpoint that the configuration leaves no place for."""

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.trunk.device

    @property
    def known_tokens(self) -> int:
        """How many rows of the (un)embedding can be tokens; the rest is padding."""
        return known_tokens(self.tokens.tokenizer, self.d_vocab)

    def vocabulary(self) -> list[bytes]:
        """The exact bytes of every token id below `d_vocab`."""
        return token_bytes(self.tokens.tokenizer, self.d_vocab)

    def capture(
        self,
        tokens: Int[Tensor, "batch pos"],
        attention_mask: Bool[Tensor, "batch pos"] | Int[Tensor, "batch pos"],
        on_layer: OnLayer,
        layers: range | None = None,
    ) -> None:
        """One forward pass that hands each layer's units to `on_layer`: see `Trunk.capture`."""
        self.trunk.capture(self.units, tokens, attention_mask, on_layer, layers)

    def capturing(
        self, shape: tuple[int, ...], on_layer: OnLayer
    ) -> contextlib.AbstractContextManager[None]:
        """Hand each layer's units to `on_layer` during any forward pass over tokens of this shape,
        (batch, pos): for passes that several sets of units share."""
        return capturing(self.units, shape, on_layer)
