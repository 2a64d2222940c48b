"""A user's model in memory, lent for a run: a plain transformers model, or the bridge of one of
TransformerLens's own, in eval mode, unchanged afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.supported_architectures.native import NativeArchitectureAdapter

from indexer.errors import NeurariumError
from indexer.models import patterns
from indexer.models.failures import quiet

_WRAPPED = "._original_component"
"""What a bridge puts into the names of the weights it wraps."""


@contextmanager
def borrowed(model: Any, name: str) -> Iterator[Any]:
    """The plain transformers model of `model`, in eval mode; its own mode and its way of computing
    attention are restored at the end.

    A bridge has replaced the modules of its model, so its weights are put into a new model, without
    copying them. A bridge of a TransformerLens model (`boot_native`, `boot_tl_legacy`) is lent as
    it is. Raises NeurariumError for anything else.
    """
    plain = _of_bridge(model, name) if isinstance(model, TransformerBridge) else model
    if not isinstance(plain, transformers.PreTrainedModel | TransformerBridge):
        raise NeurariumError(
            f"The model {name!r} is {type(model).__name__}: give a transformers causal language "
            "model or a TransformerBridge."
        )
    modes = [(module, module.training) for module in plain.modules()]
    attention = patterns.implementation(plain)
    plain.eval()
    try:
        yield plain
    finally:
        patterns.use(plain, attention)
        for module, training in modes:
            module.training = training


def _of_bridge(bridge: Any, name: str) -> Any:
    if getattr(bridge, "compatibility_mode", False):
        raise NeurariumError(
            f"The bridge {name!r} is in compatibility mode, in which its weights are changed: boot "
            "it again and index it before enable_compatibility_mode()."
        )
    wrapped = bridge.original_model
    if isinstance(bridge.adapter, NativeArchitectureAdapter):
        return bridge
    if not isinstance(wrapped, transformers.PreTrainedModel):
        raise NeurariumError(
            f"The bridge {name!r} holds {type(wrapped).__name__}, neither a transformers model nor "
            "one of TransformerLens: only those can be indexed from memory."
        )
    state = {key.replace(_WRAPPED, ""): value for key, value in wrapped.state_dict().items()}
    config = type(wrapped.config).from_dict(wrapped.config.to_dict())
    with quiet(), torch.device("meta"):
        plain = transformers.AutoModelForCausalLM.from_config(
            config, dtype=next(wrapped.parameters()).dtype
        )
    plain.load_state_dict(state, strict=False, assign=True)
    plain.tie_weights()
    own = dict(plain.named_buffers())
    for key, value in wrapped.named_buffers():
        key = key.replace(_WRAPPED, "")
        if key in own and own[key].is_meta:  # not saved with the weights, such as rotary angles
            parent, _, last = key.rpartition(".")
            plain.get_submodule(parent)._buffers[last] = value
    left = [
        key for key, value in (*plain.named_parameters(), *plain.named_buffers()) if value.is_meta
    ]
    if left:
        raise NeurariumError(
            f"The weights of the bridge {name!r} cannot be read ({left[0]}): give the transformers "
            "model it was made of."
        )
    return plain
