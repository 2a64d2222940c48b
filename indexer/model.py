"""A model in memory: load it, know where its neurons are, and capture their activations.

With `indexer.model_layers`, which finds the neurons, this is the only importer of transformer_lens.
Models of the Hugging Face kind run as plain transformers models, without their unembedding, with a
hook on the modules TransformerLens names; TransformerLens's own models run through their bridge.
"""

from __future__ import annotations

import copy
import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.sources.tl_legacy import derive_tl_legacy_config
from transformer_lens.model_bridge.supported_architectures.native import NativeArchitectureAdapter

from indexer.errors import NeurariumError
from indexer.model_errors import out_of_memory, quiet, told_in_one_line
from indexer.model_layers import Layout, Place, hooked, layout_of_adapter, layout_of_config
from indexer.model_source import (
    LoadedTokenizer,
    ModelSource,
    choose_device,
    choose_dtype,
    hash_weights,
    legacy_config,
    load_causal_lm,
    load_config,
    load_tokenizer,
    resolve_model,
)
from indexer.vocabulary import known_tokens, token_bytes

__all__ = [
    "Description",
    "LoadedModel",
    "LoadedTokenizer",
    "ModelSource",
    "check_ctx_len",
    "describe",
    "load_model",
    "load_native",
    "load_tokenizer",
    "resolve_model",
]

OnLayer = Callable[[int, Float[Tensor, "batch pos neurons"]], None]


class _Enough(Exception):
    """Raised by our own hook to end a forward pass once the last layer is captured."""


@dataclass(frozen=True)
class Description:
    """What can be told about a model without its weights, so that mistakes show early."""

    source: ModelSource
    layout: Layout
    config: Any
    """The transformers configuration; None for a legacy model."""

    @property
    def max_context(self) -> int | None:
        """Positions the model has, or None where nothing limits them."""
        return self.layout.max_context

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding: every token id is below it."""
        return int(self.layout.adapter.cfg.d_vocab)


@dataclass
class LoadedModel:
    """A model in memory, ready to capture at one hook point."""

    source: ModelSource
    layout: Layout
    root: nn.Module
    """The whole model: transformers' causal language model, or TransformerLens's native one."""
    trunk: Callable[..., Any]
    """What `capture` calls: the model without its unembedding, where it can be called so."""
    revision: str | None
    """The commit of a hub model, the checkpoint of a legacy one."""
    weights_hash: str
    """SHA-256 over the SHA-256 of each weight file in order of name (hub, folder, GGUF), or over
    names, shapes and float32 values of the state dict (legacy and native models)."""
    hook_point: str
    d_model: int
    d_vocab: int
    dtype: torch.dtype
    device: torch.device
    tokens: LoadedTokenizer
    places: tuple[Place, ...]
    widths: tuple[int, ...] = ()
    """Neurons of each layer, counted on captured tensors."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def architecture(self) -> str:
        """The architecture's class name, such as `LlamaForCausalLM`."""
        return self.layout.architecture

    @property
    def n_layers(self) -> int:
        """How many layers the model has."""
        return self.layout.n_layers

    @property
    def max_context(self) -> int | None:
        """Positions the model has, or None where nothing limits them."""
        return self.layout.max_context

    @property
    def default_hook_point(self) -> str:
        """Where this model is captured unless the user chooses."""
        return self.layout.default_hook_point

    @property
    def activation_function(self) -> str:
        """The name of the MLPs' nonlinearity."""
        return self.layout.activation_function

    @property
    def gated(self) -> bool:
        """Whether a neuron is the product of a gate and a linear projection."""
        return self.layout.gated

    @property
    def tokenizer(self) -> Any:
        """The tokenizer, untouched."""
        return self.tokens.tokenizer

    @property
    def bos_token_id(self) -> int | None:
        """The BOS put in front of every context, or None."""
        return self.tokens.bos_token_id

    @property
    def pad_token_id(self) -> int | None:
        """The tokenizer's own padding token, or None. Padding is masked, so any id will do."""
        return self.tokens.pad_token_id

    @property
    def tokenizer_identity(self) -> str:
        """Class and hash: equal for tokenizers that give equal ids."""
        return self.tokens.identity

    @property
    def known_tokens(self) -> int:
        """How many rows of the (un)embedding can be tokens; the rest is padding."""
        return known_tokens(self.tokenizer, self.d_vocab)

    def vocabulary(self) -> list[bytes]:
        """The exact bytes of every token id below `d_vocab`."""
        return token_bytes(self.tokenizer, self.d_vocab)

    def capture(
        self,
        tokens: Int[Tensor, "batch pos"],
        attention_mask: Bool[Tensor, "batch pos"] | Int[Tensor, "batch pos"],
        on_layer: OnLayer,
    ) -> None:
        """Run one forward pass and hand each layer's activations to `on_layer` as they happen.

        `tokens` are right-padded; `attention_mask` is 0 on padding, where the activations mean
        nothing. `on_layer(layer, acts)` is called once a layer, in order, with acts of shape
        [batch, pos, neurons] in the model's dtype, on its device, in inference mode: reduce or
        copy, do not keep. Calls from several threads take turns. Raises `NeurariumError` when
        memory runs out.
        """
        batch, pos = tokens.shape

        def hand_over(layer: int, acts: Tensor) -> None:
            if self.places[layer].first_half:
                acts = acts[..., : acts.shape[-1] // 2]
            on_layer(layer, acts.reshape(batch, pos, acts.shape[-1]))

        with self._lock, torch.inference_mode(), hooked(self.places, hand_over):
            try:
                self.trunk(
                    tokens.to(self.device, torch.long),
                    attention_mask=attention_mask.to(self.device, torch.long),
                )
            except _Enough:
                pass
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                raise NeurariumError(
                    f"There is not enough memory on {self.device} for {batch} × {pos} tokens of "
                    f"{self.source.label!r}: lower --batch-tokens."
                ) from error


def describe(source: ModelSource, *, trust_remote_code: bool = False) -> Description:
    """Tell what a model is, from its configuration alone; refuse the kinds that cannot be indexed.

    Raises `NeurariumError`.
    """
    if source.kind != "legacy":
        config = load_config(source, trust_remote_code=trust_remote_code)
        with quiet():
            layout = layout_of_config(config, source.label)
        return Description(source, layout, config)
    with quiet(), told_in_one_line(source):
        if legacy_config(source).get("attn_only"):
            raise NeurariumError(
                f"{source.label!r} is an attention-only model: it has no MLP neurons. Choose a "
                "model with MLPs, such as solu-1l."
            )
        cfg = derive_tl_legacy_config(source.location)
        layout = layout_of_adapter(
            NativeArchitectureAdapter(cfg),
            source.label,
            max_context=int(cfg.n_ctx),
            activation_function=str(cfg.act_fn),
        )
    return Description(source, layout, None)


def check_ctx_len(model: LoadedModel | Description, ctx_len: int) -> None:
    """Refuse contexts longer than the model's positions. Raises `NeurariumError`."""
    most = model.max_context
    if most is not None and ctx_len > most:
        raise NeurariumError(
            f"ctx_len is {ctx_len}, but {model.source.label!r} has {most} positions: choose "
            f"--ctx-len {most} or less."
        )


def load_model(
    source: ModelSource,
    *,
    hook_point: str | None = None,
    dtype: str | None = None,
    device: str | None = None,
    trust_remote_code: bool = False,
    tokens: LoadedTokenizer | None = None,
) -> LoadedModel:
    """Load a model and find its neurons.

    `hook_point` None is the model's default place; `dtype` None is float32 on the CPU and the
    checkpoint's own elsewhere; `device` None is CUDA where there is one. `tokens` saves loading the
    tokenizer again. All that can be refused is refused before the weights are read. Raises
    `NeurariumError`.
    """
    place = choose_device(device)
    wanted = choose_dtype(dtype, place)
    description = describe(source, trust_remote_code=trust_remote_code)
    layout = description.layout
    chosen = layout.choose_hook_point(hook_point)
    tokens = tokens or load_tokenizer(source, trust_remote_code=trust_remote_code)
    if source.kind == "legacy":
        bridge = _boot_legacy(source, tokens)
        return load_native(
            bridge, source, tokens, hook_point=hook_point, dtype=wanted, device=place
        )
    model = load_causal_lm(
        source, description.config, dtype=wanted, trust_remote_code=trust_remote_code
    )
    with told_in_one_line(source):
        model.to(place)
    embedding = model.get_input_embeddings().weight
    loaded = LoadedModel(
        source=source,
        layout=layout,
        root=model,
        trunk=_without_unembedding(model),
        revision=getattr(model.config, "_commit_hash", None) if source.kind == "hub" else None,
        weights_hash=hash_weights(source, model),
        hook_point=chosen,
        d_model=int(layout.adapter.cfg.d_model),
        d_vocab=int(embedding.shape[0]),
        dtype=next(model.parameters()).dtype,
        device=place,
        tokens=tokens,
        places=description.layout.places(model, description.layout.choose_hook_point(hook_point)),
    )
    loaded.widths = _count_neurons(loaded)
    return loaded


def load_native(
    bridge: Any,
    source: ModelSource,
    tokens: LoadedTokenizer,
    *,
    hook_point: str | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> LoadedModel:
    """Take a TransformerLens model (`boot_native`, `boot_tl_legacy`), booted in float32.

    Raises `NeurariumError` as `load_model` does.
    """
    cfg = bridge.cfg
    layout = layout_of_adapter(
        bridge.adapter,
        source.label,
        max_context=int(cfg.n_ctx),
        activation_function=str(cfg.act_fn),
    )
    chosen = layout.choose_hook_point(hook_point)
    model = bridge.original_model.eval()
    weights_hash = _hash_state(model)
    place = device or torch.device("cpu")
    model.to(device=place, dtype=dtype or torch.float32)
    loaded = LoadedModel(
        source=source,
        layout=layout,
        root=model,
        trunk=_until_final_norm(model, layout),
        revision=source.revision,
        weights_hash=weights_hash,
        hook_point=chosen,
        d_model=int(cfg.d_model),
        d_vocab=int(cfg.d_vocab),
        dtype=dtype or torch.float32,
        device=place,
        tokens=tokens,
        places=layout.places(model, chosen),
    )
    loaded.widths = _count_neurons(loaded)
    return loaded


def _boot_legacy(source: ModelSource, tokens: LoadedTokenizer) -> Any:
    checkpoint = None if source.revision is None else int(source.revision)
    with quiet(), told_in_one_line(source):
        return TransformerBridge.boot_tl_legacy(
            source.location,
            checkpoint_value=checkpoint,
            device="cpu",
            tokenizer=copy.deepcopy(tokens.tokenizer),  # booting changes it
        )


def _without_unembedding(model: Any) -> Callable[..., Any]:
    """Call the base model, so that no logits are computed and nothing is cached."""
    base = model.base_model

    def run(tokens: Tensor, attention_mask: Tensor) -> None:
        base(input_ids=tokens, attention_mask=attention_mask, use_cache=False)

    return run


def _until_final_norm(model: nn.Module, layout: Layout) -> Callable[..., Any]:
    """Call a native model, which has no base model, and stop it before its unembedding."""
    norm = layout.final_norm(model)

    def stop(*_: Any) -> None:
        raise _Enough

    def run(tokens: Tensor, attention_mask: Tensor) -> None:
        handle = norm.register_forward_pre_hook(stop) if norm is not None else None
        try:
            model(input_ids=tokens, attention_mask=attention_mask)
        finally:
            if handle is not None:
                handle.remove()

    return run


def _count_neurons(model: LoadedModel) -> tuple[int, ...]:
    """Each layer's width, on two tokens. Refuses a model whose layers do not run once each."""
    seen: dict[int, list[int]] = {layer: [] for layer in range(model.n_layers)}
    tokens = torch.zeros((1, 2), dtype=torch.long)
    model.capture(
        tokens, torch.ones_like(tokens), lambda layer, acts: seen[layer].append(acts.shape[-1])
    )
    for layer, widths in seen.items():
        if len(widths) != 1:
            raise NeurariumError(
                f"Layer {layer} of {model.source.label!r} ({model.architecture}) runs its MLP "
                f"{len(widths)} times in one pass, not once: such a model cannot be indexed."
            )
    return tuple(widths[0] for widths in seen.values())


def _hash_state(model: nn.Module) -> str:
    total = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        total.update(f"{name}{tuple(value.shape)}".encode())
        total.update(value.detach().float().contiguous().cpu().numpy().tobytes())
    return total.hexdigest()
