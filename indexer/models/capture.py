"""A model in memory: its facts, and its activations captured as it reads tokens.

Apart from `load`, which loads it: what is here is all that the scan calls. Models of the
Hugging Face kind run as plain transformers models, without their unembedding, with a hook on the
modules TransformerLens names; TransformerLens's own models are stopped before theirs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from indexer.captured import Captured, OnLayer
from indexer.errors import NeurariumError
from indexer.models.failures import out_of_memory
from indexer.models.hook_points import Place, hooked, unwrap
from indexer.models.layout import Layout
from indexer.models.pretrained import LoadedTokenizer
from indexer.models.source import ModelSource
from indexer.models.vocabulary import known_tokens, token_bytes

_NONLINEARITIES = ("act_fn", "activation_fn", "act", "activation")
"""What models call the module or function that they put a gate through, where they hold it."""


class _Enough(Exception):
    """Raised by our own hook to end a forward pass once the last layer is captured."""


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
    """The commit of a hub or legacy repository; None for what is on this machine."""
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
    def model_id(self) -> str:
        """The hub id, or the name of the folder or file."""
        return self.source.model_id

    @property
    def checkpoint(self) -> str | None:
        """The number of a legacy model's training checkpoint, None for its final weights."""
        return self.source.revision if self.source.kind == "legacy" else None

    @property
    def tokenizer_name(self) -> str:
        """The hub id of the tokenizer, or its class where it came from this machine."""
        return self.tokens.name

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
    def knows_parts(self) -> bool:
        """Whether the gate and the linear part come with a neuron's activations."""
        return all(place.parts is not None for place in self.places)

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
        layers: range | None = None,
    ) -> None:
        """Run one forward pass and hand each layer's activations to `on_layer` as they happen.

        Of `layers` alone, if they are given: nothing after the last of them is computed.

        `tokens` are right-padded; `attention_mask` is 0 on padding, where the activations mean
        nothing. `on_layer(layer, captured)` is called once a layer, in order, with activations of
        shape [batch, pos, neurons] in the model's dtype, on its device, in inference mode, and for
        a gated model captured at `mlp.hook_post` the gate and the linear part, alike, where
        `knows_parts`: reduce or copy, do not keep longer than the pass. Nothing here waits for
        the device. Calls from several threads take turns. Raises `NeurariumError` when memory runs
        out.
        """
        batch, pos = tokens.shape

        def shaped(values: Tensor | None) -> Tensor | None:
            return None if values is None else values.reshape(batch, pos, values.shape[-1])

        def hand_over(layer: int, seen: Captured) -> None:
            acts = seen.activations.reshape(batch, pos, seen.activations.shape[-1])
            on_layer(layer, Captured(acts, shaped(seen.gate), shaped(seen.linear)))
            if layers is not None and layer == layers[-1]:
                raise _Enough

        with self._lock, torch.inference_mode(), hooked(self.places, hand_over, layers):
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


def without_unembedding(model: Any) -> Callable[..., Any]:
    """Call the base model, so that no logits are computed and nothing is cached."""
    base = model.base_model

    def run(tokens: Tensor, attention_mask: Tensor) -> None:
        base(input_ids=tokens, attention_mask=attention_mask, use_cache=False)

    return run


def until_final_norm(model: nn.Module, layout: Layout) -> Callable[..., Any]:
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


def look_at_layers(model: LoadedModel) -> None:
    """Count each layer's neurons on two tokens, and keep the places of gates and linear parts only
    if act(gate) · linear is what is captured. Refuses a model whose layers do not run once each.
    """
    seen: dict[int, list[int]] = {layer: [] for layer in range(model.n_layers)}
    products: list[bool] = []

    def look(layer: int, captured: Captured) -> None:
        seen[layer].append(captured.activations.shape[-1])
        acts = _nonlinearities(model, layer)
        products.append(any(_is_product(captured, act) for act in acts))

    tokens = torch.zeros((1, 2), dtype=torch.long)
    model.capture(tokens, torch.ones_like(tokens), look)
    for layer, widths in seen.items():
        if len(widths) != 1:
            raise NeurariumError(
                f"Layer {layer} of {model.source.label!r} ({model.architecture}) runs its MLP "
                f"{len(widths)} times in one pass, not once: such a model cannot be indexed."
            )
    model.widths = tuple(widths[0] for widths in seen.values())
    if not all(products):  # of some layers alone it would be half a story
        model.places = tuple(replace(place, parts=None) for place in model.places)


def _is_product(captured: Captured, act: Callable[[Tensor], Tensor]) -> bool:
    """Whether a layer's activations are those of its gate and linear part, up to rounding."""
    acts, gate, linear = captured.activations, captured.gate, captured.linear
    if gate is None or linear is None or gate.shape != acts.shape or linear.shape != acts.shape:
        return False
    product, largest = act(gate) * linear, float(acts.abs().max())
    return bool(torch.allclose(product, acts, rtol=0.02, atol=0.01 * largest))


def _nonlinearities(model: LoadedModel, layer: int) -> list[Callable[[Tensor], Tensor]]:
    """What an MLP may put its gate through: what the module holds, else the usual ones."""
    mlp = model.layout.component(model.root, f"blocks.{layer}.mlp")
    held = [getattr(unwrap(mlp), name, None) for name in _NONLINEARITIES] if mlp else []
    own: list[Callable[[Tensor], Tensor]] = [act for act in held if callable(act)]
    return own or [nn.functional.silu, nn.functional.gelu, nn.functional.relu]
