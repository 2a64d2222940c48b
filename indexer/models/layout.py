"""A model's layout: what TransformerLens knows about its architecture, and which modules of the
plain model its names stand for. Needs the configuration only, so models that cannot be indexed are
refused before any weight is read.

`aliases`, `given`, `layout` and `load` are the only importers of transformer_lens.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn
from transformer_lens.factories.architecture_adapter_factory import ArchitectureAdapterFactory
from transformer_lens.model_bridge.generalized_components.gated_mlp import GatedMLPBridge
from transformer_lens.model_bridge.generalized_components.joint_gate_up_mlp import (
    JointGateUpMLPBridge,
)
from transformer_lens.model_bridge.generalized_components.moe import MoEBridge
from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_config_from_hf
from transformer_lens.model_bridge.sources._hf_format import determine_architecture_from_hf_config
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from indexer.errors import NeurariumError
from indexer.models.claims import check_kind, not_causal, positions_of
from indexer.models.modules import unwrap
from indexer.models.units import Place

_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
_ACTIVATION = (
    "hidden_activation",
    "hidden_act",
    "activation_function",
    "afn",
    "activation",
    "activation_type",
    "activation_fn_name",
)
_SCALED = {"hook_attn_out": "scaled_attn_submodule", "hook_mlp_out": "scaled_mlp_submodule"}
"""Where TransformerLens's blocks name the module whose output times a constant is meant."""
_MLP_NORMS = ("post_feedforward_layernorm", "post_mlp_layernorm", "post_feedforward_norm")


@dataclass(frozen=True)
class Layout:
    """A model's architecture, known before its weights are loaded."""

    label: str
    architecture: str
    n_layers: int
    d_model: int
    max_context: int | None
    """Positions the model has, or None where nothing limits them."""
    activation_function: str
    """The name of the MLPs' nonlinearity."""
    gated: bool
    """Whether the MLPs multiply a gate with a linear part."""
    mlp_modules: frozenset[str]
    """TransformerLens's names of the modules in each MLP: some of `in`, `gate`, `ln`, `out`."""
    mlp_problem: str | None
    """Why its MLP neurons cannot be indexed, a full message; None if they can."""
    adapter: Any
    """TransformerLens's map from its names to the model's modules."""

    def component(self, root: nn.Module, path: str) -> nn.Module | None:
        """The module that TransformerLens calls `path`, such as `blocks.3.mlp.out`, or None."""
        try:
            module = self.adapter.get_component(root, path)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            return None
        return module if isinstance(module, nn.Module) else None

    def output_projection(self, root: nn.Module, layer: int) -> nn.Module:
        """The linear module that writes a layer's neurons to the residual stream.

        Raises `NeurariumError` if the layer has none.
        """
        module = self.component(root, f"blocks.{layer}.mlp.out")
        if module is None:
            raise NeurariumError(
                f"Layer {layer} of {self.label!r} ({self.architecture}) has no MLP: only models "
                "with a dense MLP in every layer can be indexed."
            )
        return module

    def input_projection(self, root: nn.Module, layer: int, name: str) -> Place | None:
        """The output of the linear module `in` or `gate` that a layer's neurons read with, which
        may be one half of a fused module; None where it is not known."""
        component = _mlp(self.adapter)
        if isinstance(component, JointGateUpMLPBridge):
            mlp = self.component(root, f"blocks.{layer}.mlp")
            module = getattr(unwrap(mlp), component.fused_attr, None) if mlp else None
            half = 0 if name == "gate" else 1
        else:
            module, half = self.component(root, f"blocks.{layer}.mlp.{name}"), None
        return Place(module, "output", half) if isinstance(module, nn.Module) else None

    def target_of(self, hook_point: str) -> tuple[str, Literal["input", "output"]] | None:
        """The module that a hook point is the input or output of: TransformerLens's path with `{}`
        for the layer. None where the architecture has none."""
        mapping = self.adapter.get_component_mapping()
        if hook_point == "hook_embed":
            after_norm = ("embed_ln", "embed")  # Bloom normalises its embedding
            found = next((name for name in after_norm if name in mapping), None)
            return None if found is None else (found, "output")
        component, path = mapping.get("blocks"), "blocks.{}"
        *inside, alias = hook_point.split(".")
        for name in inside:
            component = None if component is None else component.submodules.get(name)
            path = f"{path}.{name}"
        target = None if component is None else component.hook_aliases.get(alias)
        if (module := getattr(component, _SCALED.get(alias, ""), None)) is not None:
            target = f"{module}.hook_out"
        if not isinstance(target, str):
            return None
        *modules, end = target.split(".")
        first = modules[0] if modules else None
        fused = first in ("q", "k", "v") and "qkv" in component.submodules
        if first is not None and first not in component.submodules and not fused:
            return None
        sides: dict[str, Literal["input", "output"]] = {"hook_in": "input", "hook_out": "output"}
        side = sides.get(end)
        return None if side is None else (".".join([path, *modules]), side)

    def factor_of(self, hook_point: str) -> float:
        """What the model multiplies the numbers of the module of `target_of` by before it adds them
        to the residual stream, where the hook point means them as they are added (Granite)."""
        mapping = self.adapter.get_component_mapping()
        if hook_point == "hook_embed":
            embed = None if "embed_ln" in mapping else mapping.get("embed")
            return float(getattr(embed, "_output_contribution_scale", 1.0))
        if hook_point not in _SCALED:
            return 1.0
        return float(getattr(mapping.get("blocks"), "residual_contribution_scale", 1.0))

    def qkv_splitter(self) -> Callable[[nn.Module], Sequence[nn.Module]] | None:
        """TransformerLens's function from an attention module that computes queries, keys and
        values at once to a module for each; None where each has its own."""
        blocks = self.adapter.get_component_mapping().get("blocks")
        attention = None if blocks is None else blocks.submodules.get("attn")
        return getattr(attention, "split_qkv_matrix", None)

    @property
    def d_head(self) -> int:
        """Dimensions of an attention head."""
        return int(self.adapter.cfg.d_head)

    def attention_norm(self, root: nn.Module, layer: int) -> nn.Module | None:
        """The norm between attention and the residual stream (Gemma 2 and 3, OLMo 2, …)."""
        return self.component(root, f"blocks.{layer}.ln1_post")

    def mlp_norm(self, root: nn.Module, layer: int) -> nn.Module | None:
        """The norm between an MLP's output and the residual stream (Gemma 2 and 3, OLMo 2, …)."""
        norm = self.component(root, f"blocks.{layer}.ln2_post")
        if norm is not None:
            return norm
        block = self.component(root, f"blocks.{layer}")
        norms = (getattr(unwrap(block), name, None) for name in _MLP_NORMS) if block else ()
        return next((norm for norm in norms if isinstance(norm, nn.Module)), None)

    def final_norm(self, root: nn.Module) -> nn.Module | None:
        """The norm before the unembedding; in a post-norm model (OPT 350m, GPT-1) the last norm of
        the last layer."""
        if "ln_final" in self.adapter.get_component_mapping():
            return self.component(root, "ln_final")
        return self.component(root, f"blocks.{self.n_layers - 1}.ln2")

    def logit_scale(self) -> float:
        """The constant that multiplies the logits (Cohere, Granite), 1 for most; a softcap counts
        with its slope at 0, which is 1."""
        small = torch.full((1,), 1e-6, dtype=torch.float64)
        return float(self.adapter.apply_output_logits_transform(small) / small)


def layout_of_config(config: Any, label: str) -> Layout:
    """What TransformerLens knows about the architecture of a transformers configuration.

    Raises `NeurariumError`, naming what the model is, for all but decoder-only text models, and for
    architectures TransformerLens does not know.
    """
    config = copy.copy(config)
    kind = str(config.model_type)
    given = config.architectures or [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind, kind)]
    if not isinstance(given, list | tuple):
        raise NeurariumError(
            f"The config.json of {label!r} says architectures is {given!r}, which is no list of "
            "names: restore the one that belongs to the weights."
        )
    named = str(given[0])
    config.architectures = [named]  # a GGUF file's configuration has no architecture
    check_kind(config, named, label)
    experts = _experts(config, named, label)
    try:
        architecture = determine_architecture_from_hf_config(config)
        adapter = ArchitectureAdapterFactory.select_architecture_adapter(
            build_bridge_config_from_hf(config, architecture, label, torch.float32)
        )
    except (ValueError, ImportError, AttributeError, NotImplementedError) as error:
        raise NeurariumError(
            experts
            or f"The architecture of {label!r}, {named}, is not one that TransformerLens's "
            "TransformerBridge can take: choose a model of a known architecture, such as GPT-2, "
            "GPT-NeoX, Llama, Qwen, Gemma or OLMo."
        ) from error
    layout = layout_of_adapter(
        adapter,
        label,
        max_context=positions_of(config.get_text_config()),
        activation_function=_activation_function(config),
    )
    return replace(layout, mlp_problem=experts or layout.mlp_problem)


def layout_of_adapter(
    adapter: Any, label: str, *, max_context: int | None, activation_function: str
) -> Layout:
    """The layout an architecture adapter describes. Raises `NeurariumError` as above."""
    cfg = adapter.cfg
    component = _mlp(adapter)
    architecture = str(cfg.architecture)
    if int(cfg.n_layers) < 1:
        raise NeurariumError(f"{label!r} has {cfg.n_layers} layers, and nothing to index.")
    if not getattr(adapter, "supports_causal_loss", True):
        raise not_causal(label, architecture, "not an autoregressive model")
    fused = {"in", "gate"} if isinstance(component, JointGateUpMLPBridge) else set()
    return Layout(
        label=label,
        architecture=architecture,
        n_layers=int(cfg.n_layers),
        d_model=int(cfg.d_model),
        max_context=max_context,
        activation_function=activation_function,
        gated=isinstance(component, GatedMLPBridge),
        mlp_modules=frozenset(() if component is None else component.submodules) | fused,
        mlp_problem=_mlp_problem(cfg, component, f"{label!r} ({architecture})"),
        adapter=adapter,
    )


def _mlp(adapter: Any) -> Any:
    """The bridge component of the MLPs, or None."""
    blocks = adapter.get_component_mapping().get("blocks")
    return None if blocks is None else blocks.submodules.get("mlp")


def _mlp_problem(cfg: Any, component: Any, model: str) -> str | None:
    """Why a model's MLP neurons cannot be indexed, from the bridge component of its MLPs."""
    attention_only = getattr(cfg, "attn_only", False)
    if component is None or attention_only:
        what = "attention-only" if attention_only else "not a transformer"
        return (
            f"{model} has no MLP neurons, it is {what} or has no MLP of its own in each layer: "
            "choose a model with dense MLPs, such as gpt2 or solu-1l, or index its attention heads "
            "(--heads)."
        )
    if isinstance(component, MoEBridge):
        return _mixture_of_experts(model)
    if "out" not in component.submodules:
        return (
            f"TransformerLens does not say where the MLPs of {model} write: this architecture "
            "cannot be indexed yet."
        )
    return None


def _experts(config: Any, named: str, label: str) -> str | None:
    """Why the MLP neurons of a mixture of experts cannot be indexed; None for other models."""
    text = config.get_text_config()
    for name in _EXPERTS:
        try:
            experts = getattr(text, name, None)
        except Exception:  # transformers 5.15+ refuses to read a setting that differs by layer
            experts = None
        if isinstance(experts, int) and experts > 1:
            return _mixture_of_experts(f"{label!r} ({named}, {name} {experts})")
    return None


def _mixture_of_experts(model: str) -> str:
    return (
        f"{model} is a mixture-of-experts model: its neurons do not all see every token. Choose a "
        "model with dense MLPs."
    )


def _activation_function(config: Any) -> str:
    """The configuration's name of the nonlinearity; Bloom and MPT have none there."""
    text = config.get_text_config()
    names = (getattr(text, setting, None) for setting in _ACTIVATION)
    name = next((name for name in names if isinstance(name, str)), None)
    return name or ("gelu" if text.model_type in ("bloom", "mpt") else "unknown")
