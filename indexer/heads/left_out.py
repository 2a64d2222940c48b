"""What the circuits of a model's heads do not take into account, in words."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from indexer.heads.effects import heads_of, logit_path
from indexer.heads.folded import has_query_norms
from indexer.heads.neurons import ModelNeurons, model_neurons
from indexer.models.loaded import LoadedModel
from indexer.models.units import Unknown
from indexer.weights.embedding import position_embeddings


def left_out(model: LoadedModel) -> list[str]:
    """What the circuits of this model do not take into account, sentences."""
    lines = [
        *_positions(model),
        "Queries · keys are not divided by the model's own scale.",
        *_attention(model),
    ]
    if has_query_norms(model):
        lines.append("The QK circuit is left out: this model normalises queries and keys.")
    if any(norm is not None for norm in heads_of(model).norms):
        lines.append("What a head writes is taken up to the scale of the norm after the attention.")
    if _has_biases(model):
        lines.append(
            "Biases are in the QK circuit alone: those of values and outputs add the same whatever "
            "is attended to, and composition has none."
        )
    if logit_path(model) is None:
        lines.append(
            "Direct effects and the OV circuit are left out: this model normalises after each "
            "addition to the residual stream, which composition leaves out too."
        )
    return [*lines, *_neurons(model_neurons(model))]


def _positions(model: LoadedModel) -> list[str]:
    """How positions enter the model's attention."""
    rotations = heads_of(model).rotations
    if any(True for _ in position_embeddings(model)):
        return [
            "Positional embeddings are left out: circuits are those of tokens alone, and the same "
            "at every distance."
        ]
    if _has_alibi(model):
        return [
            "ALiBi is left out of the QK circuit: it lowers the scores of all pairs at a distance "
            "by the same amount, so that the largest pairs are the same at every distance."
        ]
    if has_query_norms(model):
        return []
    if any(isinstance(rotation, Unknown) for rotation in rotations):
        return [
            "Positions are left out of the QK circuit: scores are those at relative distance 0, "
            "and how this model's positions enter queries and keys is not known."
        ]
    turned = [not isinstance(rotation, Unknown) and len(rotation.angles) for rotation in rotations]
    if not any(turned):
        return ["No layer's queries and keys depend on their positions."]
    still = [str(layer) for layer, turns in enumerate(turned) if not turns]
    lines = [
        "Rotary positions (RoPE) turn queries and keys: the QK circuit is given at relative "
        "distance 0 (a token and itself) and 1 (the key right before the query) alone."
    ]
    if still:
        lines.append(f"Layers without rotary positions: {', '.join(still)}.")
    return lines


def _has_alibi(model: LoadedModel) -> bool:
    kind = model.layout.architecture.lower()
    optional = bool(getattr(getattr(model.root, "config", None), "alibi", False))
    return kind.startswith(("bloom", "mpt")) or optional


def _attention(model: LoadedModel) -> list[str]:
    """What else the model applies between queries · keys and the pattern."""
    config: Any = getattr(model.root, "config", None)
    lines = []
    if any(name.endswith("sinks") for name, _ in model.root.named_parameters()):
        lines.append(
            "Sink logits, which take a share of every row's attention, are not in the QK circuit."
        )
    native = getattr(model.layout.adapter.cfg, "attn_scores_soft_cap", None) or 0
    if getattr(config, "attn_logit_softcapping", None) or native > 0:
        lines.append("The soft cap of attention scores is left out: it keeps their order.")
    windows = getattr(config, "layer_types", None) or getattr(config, "attention_layers", None)
    in_layers = any(kind in ("sliding_attention", "local") for kind in windows or ())
    everywhere = windows is None and bool(getattr(config, "sliding_window", None))
    if in_layers or everywhere:
        lines.append(
            "Sliding windows are left out: heads of such layers cannot attend beyond their window."
        )
    return lines


def _has_biases(model: LoadedModel) -> bool:
    def biased(path: str) -> bool:
        module = model.layout.component(model.root, path)
        bias = getattr(module, "bias", None)
        return isinstance(bias, Tensor) and bool(bias.any())

    parts = ("ln1", *(f"attn.{name}" for name in ("q", "k", "v", "qkv", "o")))
    return any(biased(f"blocks.0.{part}") for part in parts)


def _neurons(neurons: ModelNeurons | Unknown) -> list[str]:
    if isinstance(neurons, Unknown):
        return [
            "Composition with MLP neurons is left out: this model has none that can be indexed."
        ]
    lines = [
        "The heads of a layer reach the neurons of later layers and of their own."
        if neurons.same_layer
        else "Attention and MLP of a layer read the same input (parallel attention): its heads "
        "reach the neurons of later layers only."
    ]
    if reason := neurons.unknown():
        lines.append(f"Some neurons are left out of the composition with heads. {reason}")
    return lines
