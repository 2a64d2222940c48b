"""How well a set's dictionaries reconstruct what they should, measured on a part of the sample
before the scan: a dictionary that is read wrongly shows here, not after hours.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import cross_entropy

from indexer.corpus.batches import Batch, BatchPlan, fill_batch
from indexer.errors import NeurariumError
from indexer.interventions.hooks import changing, looking, replaced
from indexer.models.dictionaries.dictionary import Dictionary
from indexer.models.hook_places import find_place
from indexer.models.latents import DictionaryLatents
from indexer.models.loaded import LoadedModel
from indexer.models.units import Place, present_place
from indexer.scan.job import Job

CONTEXTS = 128
"""Contexts measured: the first of the sample."""
_POSITIONS = 2048
"""Positions in a forward pass: their logits are in memory."""

How = Literal["reconstruction", "zeros"]


@dataclass(frozen=True)
class Quality:
    """What a layer's dictionary is worth on the contexts measured, at included positions."""

    layer: int
    positions: int
    fvu: float
    """Fraction of variance unexplained: squared error ÷ squared distance from the mean vector."""
    l0: float
    """Latents that fire at a position, on average."""
    declared_l0: float | None
    silent_share: float
    """Share of latents that fire at none of the positions."""
    loss: float
    """The model's own mean loss of the tokens at included positions, in nats."""
    loss_with_reconstruction: float
    """The same with the reconstruction in place of the target."""
    loss_with_zeros: float
    """The same with zeros in place of the target."""


def as_provenance(job: Job, qualities: tuple[Quality, ...]) -> dict[str, Any]:
    """What a run's provenance says of its dictionaries; nothing for other sets of units."""
    units = job.model.units
    if not isinstance(units, DictionaryLatents):
        return {}
    named = any(found.names for found in units.dictionaries.values())
    return {
        "dictionary": {
            "files": [dictionary.label for dictionary in units.dictionaries.values()],
            "hash": units.identity,
            "layers": [
                {
                    "layer": layer,
                    "activation": one.function,
                    "target": str(one.target) if one.target else None,
                    "k": one.k,
                }
                for layer, one in units.dictionaries.items()
            ],
            **({"named": True} if named else {}),
            "quality": [asdict(quality) for quality in qualities],
        }
    }


def batches_of(job: Job) -> list[Batch]:
    """The contexts that are measured, in small batches."""
    chosen = job.shape.sample[:CONTEXTS]
    chosen = chosen[np.argsort(job.corpus.lengths[chosen], kind="stable")]
    rows = max(1, _POSITIONS // int(job.corpus.lengths[chosen].max()))
    return [
        fill_batch(BatchPlan("first_half", chosen[at : at + rows]), job.corpus, padding_id=0)
        for at in range(0, len(chosen), rows)
    ]


# --- Measuring ------------------------------------------------------------------------------------


class Sums:
    """Sums over positions of one layer."""

    def __init__(self, dictionary: Dictionary, device: torch.device) -> None:
        self.error = torch.zeros((), dtype=torch.float64, device=device)
        self.squares = torch.zeros_like(self.error)
        self.total = torch.zeros(dictionary.d_out or 0, dtype=torch.float64, device=device)
        self.fired = torch.zeros_like(self.error)
        self.ever = torch.zeros(dictionary.latents, dtype=torch.bool, device=device)
        self.count = 0

    def add(
        self, dictionary: Dictionary, inputs: Float[Tensor, "n d"], target: Float[Tensor, "n e"]
    ) -> None:
        """Add positions: what the dictionary reads there, and what it should reconstruct."""
        acts = dictionary.encode(inputs)
        wrong = dictionary.decode(acts, inputs) - target.float()
        self.error += wrong.double().square().sum()
        self.squares += target.double().square().sum()
        self.total += target.double().sum(0)
        self.fired += (acts > 0).sum()
        self.ever |= (acts > 0).any(0)
        self.count += len(inputs)

    @property
    def l0(self) -> float:
        """The mean number of latents that fire at a position."""
        return float(self.fired) / self.count

    @property
    def fvu(self) -> float:
        """Fraction of variance unexplained: Σ ‖error‖² ÷ Σ ‖target − mean‖²."""
        variance = self.squares - self.total.square().sum() / self.count
        return float(self.error / variance)


@torch.inference_mode()
def measure(
    model: LoadedModel, units: DictionaryLatents, batches: list[Batch]
) -> tuple[Quality, ...]:
    """Measure every layer's dictionary: one pass of the unchanged model, and two for each
    dictionary. Raises `NeurariumError` where a target has another width."""
    sums = {
        layer: Sums(dictionary, model.device) for layer, dictionary in units.dictionaries.items()
    }
    losses: dict[tuple[int, str], float] = {}
    own, tokens = 0.0, 0
    for batch in batches:
        included = torch.from_numpy(batch.included).to(model.device)
        with watched(units, batch.tokens.shape) as seen:
            loss, count = loss_of(model, batch)
        own, tokens = own + loss, tokens + count
        for layer, dictionary in units.dictionaries.items():
            inputs, target = seen[layer]
            counted = meant(dictionary, included)
            sums[layer].add(dictionary, inputs[counted], target[counted])
        for layer in units.dictionaries:
            for how in ("reconstruction", "zeros"):
                counted = meant(units.dictionaries[layer], included)
                with _spliced(units, layer, how, counted):
                    losses[layer, how] = losses.get((layer, how), 0.0) + loss_of(model, batch)[0]
    return tuple(
        Quality(
            layer=layer,
            positions=sums[layer].count,
            fvu=sums[layer].fvu,
            l0=sums[layer].l0,
            declared_l0=dictionary.l0,
            silent_share=1 - float(sums[layer].ever.double().mean()),
            loss=own / tokens,
            loss_with_reconstruction=losses[layer, "reconstruction"] / tokens,
            loss_with_zeros=losses[layer, "zeros"] / tokens,
        )
        for layer, dictionary in units.dictionaries.items()
    )


def meant(dictionary: Dictionary, included: Bool[Tensor, "batch pos"]) -> Bool[Tensor, "batch pos"]:
    """The included positions that a dictionary is meant to reconstruct."""
    if not dictionary.first_zero:
        return included
    later = included.clone()
    later[:, 0] = False
    return later


def loss_of(model: LoadedModel, batch: Batch) -> tuple[float, int]:
    """The summed loss of the tokens at included positions, in nats, and their number."""
    tokens = torch.from_numpy(batch.tokens).to(model.device).long()
    attention = torch.from_numpy(batch.attention).to(model.device).long()
    out = model.root(input_ids=tokens, attention_mask=attention)
    logits = getattr(out, "logits", out)[:, :-1].float()
    counted = torch.from_numpy(batch.included).to(model.device)[:, 1:]
    loss = cross_entropy(logits[counted], tokens[:, 1:][counted], reduction="sum")
    return float(loss), int(counted.sum())


def _target(units: DictionaryLatents, layer: int) -> Place:
    """Where what a layer's dictionary reconstructs is. Raises NeurariumError."""
    target = units.dictionaries[layer].target
    if target is None:
        return present_place(units, layer)
    place = find_place(units.layout, units.root, target.layer, target.point)
    if place is None:
        raise NeurariumError(
            f"The dictionary {units.dictionaries[layer].label} approximates {target}, which cannot "
            f"be found in {units.layout.label!r} ({units.layout.architecture})."
        )
    return place


def _own(place: Place, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The part of a module's input or output that is meant, [batch, pos, n]."""
    return place.own(values.reshape(*shape, values.shape[-1]))


@contextlib.contextmanager
def watched(
    units: DictionaryLatents, shape: tuple[int, ...]
) -> Iterator[dict[int, tuple[Tensor, Tensor]]]:
    """Each layer's input and target, [batch, pos, width], once the model has run over tokens of
    this shape, (batch, pos). Raises `NeurariumError` where a target has another width."""
    seen: dict[int, tuple[Tensor, Tensor]] = {}
    reads: dict[int, Tensor] = {}
    with contextlib.ExitStack() as stack:
        for layer, dictionary in units.dictionaries.items():
            place, target = present_place(units, layer), _target(units, layer)

            def keep_input(values: Tensor, layer: int = layer, place: Place = place) -> None:
                reads[layer] = _own(place, values, shape)

            def keep_target(
                values: Tensor,
                layer: int = layer,
                target: Place = target,
                dictionary: Dictionary = dictionary,
            ) -> None:
                approximated = _own(target, values, shape)
                if dictionary.d_out != approximated.shape[-1]:
                    raise NeurariumError(
                        f"The dictionary {dictionary.label} writes a width of {dictionary.d_out}, "
                        f"and {dictionary.target} of {units.layout.label!r} has "
                        f"{approximated.shape[-1]}."
                    )
                seen[layer] = (reads[layer], approximated)

            stack.enter_context(looking(place, keep_input))
            stack.enter_context(looking(target, keep_target))
        yield seen


@contextlib.contextmanager
def _spliced(
    units: DictionaryLatents,
    layer: int,
    how: How,
    included: Bool[Tensor, "batch pos"],
) -> Iterator[None]:
    """A layer's target replaced at all included positions."""
    dictionary, shape = units.dictionaries[layer], tuple(included.shape)
    place, target = present_place(units, layer), _target(units, layer)
    reads: list[Tensor] = []

    def keep(values: Tensor) -> None:
        reads.append(_own(place, values, shape))

    def instead(own: Tensor) -> Tensor:
        if how == "zeros":
            new = torch.zeros_like(own)
        else:
            inputs = reads.pop()
            new = dictionary.decode(dictionary.encode(inputs), inputs).to(own.dtype)
        return torch.where(included[:, :, None], new, own)

    with (
        looking(place, keep),
        changing(target, lambda values: replaced(target, values, shape, instead)),
    ):
        yield
