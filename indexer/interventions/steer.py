"""Steering: text generated while units' directions are added to the residual stream (activation
addition, Turner et al. 2023), beside the same text without them.

Nothing in this module may be called by several threads at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import transformers
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from indexer.errors import NeurariumError
from indexer.interventions.hooks import changing, last_position_only, looking
from indexer.models.failures import out_of_memory
from indexer.models.hook_places import stream_place
from indexer.models.loaded import LoadedModel
from indexer.models.units import Place, Writes, present_place
from indexer.weights.embedding import unembedding_module
from indexer.weights.units import writes_of

PLAIN, STEERED = 0, 1
"""Rows of each forward pass."""
ROWS = 2
_CHUNK = 16  # positions compared at once: their logits are large


@dataclass(frozen=True)
class Push:
    """How far to steer with one unit."""

    layer: int
    unit: int
    amount: float
    """Times the unit's vector in the residual stream: an activation."""


@dataclass(frozen=True)
class Steered:
    """Text generated without and with steering, and how far predictions differ."""

    plain: tuple[int, ...]
    """Generated token ids."""
    steered: tuple[int, ...]
    divergences: tuple[float, ...]
    """At each position of the text and of `plain`, Kullback–Leibler divergence of the steered
    prediction of the next token from the plain one, both after the same tokens, in nats."""


@torch.inference_mode()
def steer(
    model: LoadedModel,
    pushes: Sequence[Push],
    token_ids: list[int],
    *,
    positions: frozenset[int],
    generated: bool,
    new_tokens: int,
    seed: int,
    temperature: float = 1.0,
) -> Steered:
    """Generate up to `new_tokens` tokens after `token_ids`, without and with `pushes`.

    Vectors are added at `positions` of the text and, if `generated`, at every generated token, to
    the residual stream where the unit's own layer writes; a norm after the MLP (Gemma 2 and 3, OLMo
    2) is passed over, but for its weight. Those of a dictionary that normalises what it reads are
    multiplied by what it divides by at that position, so that they are in the model's own units.
    Both texts are sampled with the same random numbers of `seed`, so that they differ only where
    predictions do; at `temperature` 0 the likeliest token is taken. Raises `NeurariumError` where
    it is not known what a unit writes, or when memory runs out.
    """
    steering = _Steering(model, pushes, positions, generated, len(token_ids))
    rolls = np.random.default_rng(seed).random(new_tokens)
    try:
        with steering.active():
            made = _generate(model, steering, token_ids, rolls, temperature)
            plain, steered = (_until_end(model, made[row]) for row in (PLAIN, STEERED))
            divergences = _divergences(model, steering, [*token_ids, *plain])
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise NeurariumError(
            f"There is not enough memory on {model.device} to steer {model.source.label!r} for "
            f"{len(token_ids) + new_tokens} tokens: try fewer."
        ) from error
    return Steered(tuple(plain), tuple(steered), tuple(divergences))


class _Steering:
    """Hooks that add vectors to row `STEERED` of every forward pass."""

    def __init__(
        self,
        model: LoadedModel,
        pushes: Sequence[Push],
        positions: frozenset[int],
        generated: bool,
        length: int,
    ) -> None:
        self.positions, self.generated, self.length = positions, generated, length
        self.first = 0
        """The position of the first token of the next forward pass."""
        self._units = model.units
        self._added: dict[int, tuple[Writes, Place, Float[Tensor, " d_model"]]] = {}
        for push in pushes:
            writes = writes_of(model, push.layer)
            vector = push.amount * writes.vectors[push.unit]
            if push.layer in self._added:
                vector = vector + self._added[push.layer][2]
            place = stream_place(model.layout, model.root, push.layer, writes.lands)
            read = present_place(model.units, push.layer)
            if writes.scale_at is not None and read.beside is not None:
                place = read  # what is read there comes after what attention adds
            self._added[push.layer] = (writes, place, vector)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Steer all forward passes meanwhile."""
        with contextlib.ExitStack() as stack:
            for layer, (writes, place, vector) in self._added.items():
                scales: list[Float[Tensor, " pos"]] = []
                if writes.scale_at is not None:
                    own = present_place(self._units, layer)
                    read = partial(self._scaled, own, writes.scale_at, scales)
                    stack.enter_context(looking(own, read))
                own_units = vector / place.factor
                stack.enter_context(changing(place, partial(self._pushed, own_units, scales)))
            yield

    def _scaled(
        self,
        place: Place,
        scale_at: Callable[[Tensor], Tensor],
        scales: list[Float[Tensor, " pos"]],
        values: Tensor,
    ) -> None:
        """Keep what the vectors of a place are multiplied by in row `STEERED`."""
        whole = values.reshape(ROWS, -1, values.shape[-1])
        scales.append(scale_at(place.own(whole)[STEERED]))

    def _pushed(
        self, vector: Float[Tensor, " d_model"], scales: list[Float[Tensor, " pos"]], stream: Tensor
    ) -> Tensor:
        stream = stream.clone()
        where = self._where(stream.shape[1]).to(stream.device)
        added = vector.to(stream.device)
        if scales:
            added = scales.pop()[where, None] * added
        stream[STEERED, where] += added.to(stream.dtype)
        return stream

    def _where(self, count: int) -> Bool[Tensor, " count"]:
        """Which of the pass's positions are steered."""
        places = range(self.first, self.first + count)
        return torch.tensor(
            [at in self.positions if at < self.length else self.generated for at in places]
        )


def _generate(
    model: LoadedModel,
    steering: _Steering,
    token_ids: list[int],
    rolls: Float64[np.ndarray, " new"],
    temperature: float,
) -> Int[np.ndarray, "2 new"]:
    """New tokens of both rows, one forward pass each. Keys and values of earlier positions are kept
    where the model can."""
    tokens = torch.tensor([token_ids] * 2, device=model.device)
    keeps = isinstance(model.root, transformers.PreTrainedModel)
    kept: Any = None
    steering.first = 0
    with last_position_only(unembedding_module(model)):
        for roll in rolls:
            known = 0 if kept is None else steering.first
            extra = {"past_key_values": kept, "use_cache": True} if keeps else {}
            out = model.root(
                input_ids=tokens[:, known:], attention_mask=torch.ones_like(tokens), **extra
            )
            kept = getattr(out, "past_key_values", None)
            if kept is not None:
                steering.first = tokens.shape[1]
            logits = getattr(out, "logits", out)[:, -1, : model.known_tokens].double()
            chosen = [sampled(row, float(roll), temperature) for row in logits]
            tokens = torch.cat([tokens, torch.tensor(chosen, device=model.device)[:, None]], dim=1)
    new: Int[np.ndarray, "2 new"] = tokens[:, len(token_ids) :].cpu().numpy()
    return new


def sampled(logits: Float64[Tensor, " d_vocab"], roll: float, temperature: float) -> int:
    """The token whose share of the probabilities, laid end to end, contains `roll` (0…1)."""
    if temperature == 0:
        return int(logits.argmax())
    # The largest is 0, so that no temperature makes an infinite number of it.
    ends = ((logits - logits.max()) / temperature).softmax(-1).cumsum(-1)
    at = int(torch.searchsorted(ends, roll * float(ends[-1]), right=True))
    return min(at, len(ends) - 1)


def _until_end(model: LoadedModel, made: Int[np.ndarray, " new"]) -> list[int]:
    """Generated tokens up to the end of the text, if the model ended it."""
    ids: list[int] = made.tolist()
    end = model.tokens.tokenizer.eos_token_id
    return ids[: ids.index(end)] if end in ids else ids


def _divergences(model: LoadedModel, steering: _Steering, token_ids: list[int]) -> list[float]:
    steering.first = 0
    tokens = torch.tensor([token_ids] * 2, device=model.device)
    out = model.root(input_ids=tokens, attention_mask=torch.ones_like(tokens))
    logits = getattr(out, "logits", out)
    found: list[float] = []
    for start in range(0, len(token_ids), _CHUNK):
        log_p = logits[:, start : start + _CHUNK].double().log_softmax(-1)
        p = log_p[PLAIN].exp()
        terms = torch.where(p > 0, p * (log_p[PLAIN] - log_p[STEERED]), 0.0)
        found += terms.sum(-1).clamp_min(0).tolist()
    return found
