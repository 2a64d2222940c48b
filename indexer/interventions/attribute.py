"""Direct logit attribution of one unit on one text: what it adds to a logit by itself, which is the
direct path of Elhage et al. 2021 ("A Mathematical Framework for Transformer Circuits")."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from indexer.models.loaded import LoadedModel
from indexer.models.modules import norm_scale, unwrap
from indexer.models.units import Writes
from indexer.weights.embedding import through_final_norm, unembedding


@dataclass(frozen=True)
class Attribution:
    """Direct logit attribution: `value` = `activation` × `logit_effect` ÷ `scale`."""

    token_id: int
    """The token predicted with the unit left alone."""
    activation: float
    """What the unit's write vector is multiplied by at the last position: its activation, or for a
    neuron captured before its activation function its value after it."""
    logit_effect: float
    """What one unit of activation adds to the token's logit, from the weights alone
    (`indexer.weights.effects`)."""
    scale: float
    """What the norms between the unit and the logits divide by at the last position: the final
    norm, and where the block has them those inside the MLP (SoLU) and after it (Gemma 2, 3); less
    what a dictionary divided its input by, which multiplies what it writes."""
    value: float
    """What the unit itself adds to the token's logit at the last position, in logits."""


@dataclass(frozen=True)
class LastPosition:
    """What some modules were given at the last position, in float32; None where there is none."""

    source: Float[Tensor, " units"]
    """The input of `Writes.source`."""
    inner_norm: Float[Tensor, " n"] | None
    """The input of `Writes.inner_norm`."""
    outer_norm: Float[Tensor, " d_model"] | None
    """The input of `Writes.outer_norm`."""
    final_norm: Float[Tensor, " d_model"] | None
    written_scale: float = 1.0
    """What `Writes.scale_at` gives."""


def attribution(
    model: LoadedModel, writes: Writes, unit: int, token_id: int, last: LastPosition
) -> Attribution:
    """Direct logit attribution of a unit at the last position, in logits: activation × (write
    vector, through the norms, · W_U[token]) ÷ every norm's scale there."""
    scale = 1 / last.written_scale if last.written_scale else 1.0
    for norm, given in (
        (writes.inner_norm, last.inner_norm),
        (writes.outer_norm, last.outer_norm),
        (model.layout.final_norm(model.root), last.final_norm),
    ):
        if norm is not None and given is not None:
            scale *= norm_scale(unwrap(norm), given)
    direction = through_final_norm(model, writes.vectors[unit][None])[0]
    effect = float(unembedding(model)[token_id].float() @ direction) * model.layout.logit_scale()
    written = float(last.source[unit])
    return Attribution(token_id, written, effect, scale, written * effect / scale)
