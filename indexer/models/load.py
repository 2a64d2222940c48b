"""Load a model into memory, after refusing what cannot be indexed.

`aliases`, `given`, `layout` and `load` are the only importers of transformer_lens.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.sources.tl_legacy import derive_tl_legacy_config
from transformer_lens.model_bridge.supported_architectures.native import NativeArchitectureAdapter

from indexer.errors import NeurariumError
from indexer.models import kinds, patterns
from indexer.models.asked import MODELS_OWN, Asked
from indexer.models.capture import Trunk, until_final_norm, without_unembedding
from indexer.models.claims import check_positions
from indexer.models.device import choose_device, choose_dtype
from indexer.models.failures import one_line_errors, quiet
from indexer.models.finite import check_weights
from indexer.models.hub import cached_commit
from indexer.models.layout import Layout, layout_of_adapter, layout_of_config
from indexer.models.loaded import LoadedModel
from indexer.models.matrices import number_format
from indexer.models.pretrained import (
    LoadedTokenizer,
    hash_config,
    hash_weights,
    load_causal_lm,
    load_config,
    load_tokenizer,
    pin_revision,
)
from indexer.models.source import ModelSource
from indexer.models.vocabulary import known_tokens

STATE = "state:"
"""Begins a `weights_hash` of names, shapes and values, where there are no weight files."""


@dataclass(frozen=True)
class Description:
    """What is known about a model without its weights, so that mistakes show early."""

    source: ModelSource
    layout: Layout
    config: Any
    """The transformers configuration; None for a legacy model."""

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding: every token id is below it."""
        return int(self.layout.adapter.cfg.d_vocab)


def describe(source: ModelSource, *, trust_remote_code: bool = False) -> Description:
    """A model's description, from its configuration alone.

    Raises `NeurariumError` for kinds of model that cannot be indexed.
    """
    source = pin_revision(source)
    if source.kind != "legacy":
        config = load_config(source, trust_remote_code=trust_remote_code)
        with quiet(), one_line_errors(source):
            layout = layout_of_config(config, source.label)
        return Description(source, layout, config)
    with quiet(), one_line_errors(source):
        cfg = derive_tl_legacy_config(source.location)
        layout = _native_layout(NativeArchitectureAdapter(cfg), source)
    return Description(source, layout, None)


def describe_loaded(model: Any, source: ModelSource) -> Description:
    """The description of a transformers model, or of the bridge of one of TransformerLens's own,
    that is in memory. Raises `NeurariumError`."""
    if isinstance(model, TransformerBridge):
        return Description(source, _native_layout(model.adapter, source), None)
    with quiet():
        layout = layout_of_config(model.config, source.label)
    return Description(source, layout, model.config)


def check_ctx_len(model: LoadedModel | Description, ctx_len: int) -> None:
    """Refuse contexts longer than the model's positions. Raises `NeurariumError`."""
    check_positions(ctx_len, model.layout.max_context, model.source.label)


def load_model(
    source: ModelSource,
    *,
    asked: Asked = MODELS_OWN,
    dtype: str | None = None,
    device: str | None = None,
    trust_remote_code: bool = False,
    tokens: LoadedTokenizer | None = None,
    description: Description | None = None,
) -> LoadedModel:
    """Load a model and find the units that are asked for, by default its MLP neurons.

    `dtype` None is float32 on the CPU and the
    checkpoint's own elsewhere; `device` None is CUDA if there is a GPU. `tokens` and `description`
    save loading the tokenizer and the configuration again; the weights come from the commit that
    was described. Everything that can be refused is refused before the weights are read. Raises
    `NeurariumError`.
    """
    chosen_device = choose_device(device)
    chosen_dtype = choose_dtype(dtype, chosen_device)
    description = description or describe(source, trust_remote_code=trust_remote_code)
    source = description.source
    layout = description.layout
    chosen = kinds.choose(layout, asked)
    tokens = tokens or load_tokenizer(source, trust_remote_code=trust_remote_code)
    if source.kind == "legacy":
        bridge = _boot_legacy(source, tokens)
        return load_native(
            bridge, source, tokens, asked=asked, dtype=chosen_dtype, device=chosen_device
        )
    model, unused = load_causal_lm(
        source, description.config, dtype=chosen_dtype, trust_remote_code=trust_remote_code
    )
    with one_line_errors(source):
        model.to(chosen_device)
        weights_hash, config_hash = hash_weights(source, model), hash_config(source, model)
    loaded = use_loaded(model, description, tokens, chosen, weights_hash)
    return replace(loaded, config_hash=config_hash, unused_weights=unused)


def use_loaded(
    model: Any,
    description: Description,
    tokens: LoadedTokenizer,
    asked: Asked,
    weights_hash: str | None = None,
) -> LoadedModel:
    """A model that is in memory, as `describe_loaded` takes it, where it is and as precise as it
    is.

    `weights_hash` None: a hash of its state, so that the model is known again wherever it is loaded
    from. Raises `NeurariumError` as `load_model` does.
    """
    source, layout = description.source, description.layout
    if isinstance(model, TransformerBridge):
        root = model.original_model
        place, dtype = next(root.parameters()).device, number_format(root)
        native = load_native(model, source, tokens, asked=asked, dtype=dtype, device=place)
        return replace(native, weights_hash=f"{STATE}{native.weights_hash}")
    rows = int(model.get_input_embeddings().weight.shape[0])
    if rows < description.vocab_size:
        raise NeurariumError(
            f"The configuration of {source.label!r} promises {description.vocab_size} token ids, "
            f"but its embedding has {rows} rows: its config.json belongs to another checkpoint."
        )
    check_weights(model, source.label, known_tokens(tokens.tokenizer, rows), rows)
    device = next(model.parameters()).device
    trunk = Trunk(without_unembedding(model), device, source.label)
    with quiet(), one_line_errors(source):
        units = kinds.find(trunk, layout, model, kinds.choose(layout, asked))
    return LoadedModel(
        source=source,
        layout=layout,
        tokens=tokens,
        units=units,
        root=model,
        trunk=trunk,
        weights_hash=weights_hash or state_hash(model),
        config_hash=None,
        d_vocab=rows,
        dtype=number_format(model),
    )


def with_units(loaded: LoadedModel, asked: Asked) -> LoadedModel:
    """The same model in memory, with another set of its units. If those need a pass of their own,
    the model is left as it was, and they cannot be captured. Raises `NeurariumError`."""
    chosen, usual = kinds.choose(loaded.layout, asked), patterns.implementation(loaded.root)
    with quiet(), one_line_errors(loaded.source):
        units = kinds.find(loaded.trunk, loaded.layout, loaded.root, chosen)
        if units.own_pass:
            patterns.use(loaded.root, usual)
    return replace(loaded, units=units)


def load_native(
    bridge: Any,
    source: ModelSource,
    tokens: LoadedTokenizer,
    *,
    asked: Asked = MODELS_OWN,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> LoadedModel:
    """The same for a TransformerLens model (`boot_native`, `boot_tl_legacy`) booted in float32.

    Raises `NeurariumError` as `load_model` does.
    """
    layout = _native_layout(bridge.adapter, source)
    chosen = kinds.choose(layout, asked)
    model = bridge.original_model.eval()
    place = device or torch.device("cpu")
    with one_line_errors(source):
        weights_hash = _hash_state(model)
        model.to(device=place, dtype=dtype or torch.float32)
    rows = int(bridge.cfg.d_vocab)
    check_weights(model, source.label, known_tokens(tokens.tokenizer, rows), rows)
    trunk = Trunk(until_final_norm(model, layout), place, source.label)
    return LoadedModel(
        source=source,
        layout=layout,
        tokens=tokens,
        units=kinds.find(trunk, layout, model, chosen),
        root=model,
        trunk=trunk,
        weights_hash=weights_hash,
        config_hash=None,
        d_vocab=rows,
        dtype=dtype or torch.float32,
    )


def _native_layout(adapter: Any, source: ModelSource) -> Layout:
    cfg = adapter.cfg
    return layout_of_adapter(
        adapter,
        source.label,
        max_context=int(cfg.n_ctx),
        activation_function=str(cfg.act_fn),
    )


def _boot_legacy(source: ModelSource, tokens: LoadedTokenizer) -> Any:
    checkpoint = None if source.revision is None else int(source.revision)
    with quiet(), one_line_errors(source):
        bridge = TransformerBridge.boot_tl_legacy(
            source.location,
            checkpoint_value=checkpoint,
            device="cpu",
            tokenizer=copy.deepcopy(tokens.tokenizer),  # booting changes it
        )
    # TransformerLens reads the main branch, whatever its commit; the cache knows which it read.
    if cached_commit(source.location, None) not in (None, source.commit):
        raise NeurariumError(
            f"The repository of {source.label!r} changed on the hub while it was being loaded: run "
            "it again."
        )
    return bridge


def state_hash(model: nn.Module) -> str:
    """The `weights_hash` of a model that was not loaded from files by this program."""
    return f"{STATE}{_hash_state(model)}"


def _hash_state(model: nn.Module) -> str:
    total = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        total.update(f"{name}{tuple(value.shape)}".encode())
        total.update(value.detach().float().contiguous().cpu().numpy().tobytes())
    return total.hexdigest()
