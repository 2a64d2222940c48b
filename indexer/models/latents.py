"""Latents of dictionaries, and directions, as a set of units: one dictionary in each layer that has
one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor, nn

from indexer.captured import Captured
from indexer.errors import NeurariumError
from indexer.models.aliases import why_another
from indexer.models.asked import Asked
from indexer.models.capture import Trunk
from indexer.models.dictionaries.check import check_model
from indexer.models.dictionaries.dictionary import Dictionary, Hook
from indexer.models.dictionaries.layouts import in_order, read_dictionaries
from indexer.models.dictionaries.names import split
from indexer.models.hook_places import (
    HOOK_MLP_OUT,
    HOOK_RESID_MID,
    HOOK_RESID_POST,
    MLP_IN,
    MLP_OUT,
    READ_BY_PROJECTION,
    find_place,
    points_of,
    width_of,
)
from indexer.models.layout import Layout
from indexer.models.names import (
    HOOK_ATTN_OUT,
    HOOK_BEFORE_LN,
    HOOK_EMBED,
    HOOK_POST,
    HOOK_PRE,
    HOOK_PRE_LINEAR,
    HOOK_RESID_PRE,
    HOOK_Z,
)
from indexer.models.reading import Inputs, find_readers
from indexer.models.units import (
    Place,
    Reader,
    Target,
    Unknown,
    Writes,
    never_large,
    never_positive,
)
from indexer.models.written import STREAM, Way, way_to_stream
from indexer.store.units import MAX_SET_NAME, Units

_ORDER = (
    *((HOOK_EMBED,), (HOOK_RESID_PRE,), READ_BY_PROJECTION, (HOOK_Z,), (HOOK_ATTN_OUT,)),
    *((HOOK_RESID_MID,), (MLP_IN,), (HOOK_PRE, HOOK_PRE_LINEAR), (HOOK_BEFORE_LN,), (HOOK_POST,)),
    *((MLP_OUT,), (HOOK_MLP_OUT,), (HOOK_RESID_POST,)),
)
"""The order in which a forward pass comes to a layer's places."""


def takes(asked: Asked) -> bool:
    """Whether latents are asked for."""
    return asked.dictionary is not None


def no_problem(layout: Layout) -> str | None:
    """Every model has a residual stream."""
    return None


def choose_dictionary(layout: Layout, asked: Asked) -> Asked:
    """Read and check the dictionaries that are asked for. Raises `NeurariumError`."""
    read(layout, asked)
    return asked


def read(layout: Layout, asked: Asked) -> tuple[Dictionary, ...]:
    """The dictionaries that are asked for, checked against the model, in order of layers. Raises
    `NeurariumError`."""
    dictionaries = _read(str(asked.dictionary), asked.hook_point)
    widths = {point: width_of(layout, point) for point in points_of(layout)}

    def another(named: str) -> str | None:
        return why_another(named, layout.label, layout.architecture)

    for dictionary in dictionaries:
        check_model(
            dictionary,
            label=layout.label,
            n_layers=layout.n_layers,
            widths=widths,
            why_another=None if asked.force else another,
        )
    return dictionaries


@lru_cache(maxsize=1)
def _read(references: str, hook_point: str | None) -> tuple[Dictionary, ...]:
    """All dictionaries of references separated by commas; read once a run."""
    found = [one for part in split(references) for one in read_dictionaries(part, hook_point)]
    if not found:
        raise NeurariumError("--dictionary names no file, folder or hub repository.")
    return in_order(found)


@dataclass(frozen=True, eq=False)
class DictionaryLatents:
    """All latents of a set of dictionaries in a loaded model: a `UnitSet`."""

    layout: Layout
    root: nn.Module
    trunk: Trunk
    dictionaries: Mapping[int, Dictionary]
    """By layer, on the model's device."""
    asked: Asked
    places: tuple[Place | None, ...]
    widths: tuple[int, ...]

    @property
    def any(self) -> Dictionary:
        """The dictionary of the first layer that has one; all are of one kind."""
        return next(iter(self.dictionaries.values()))

    @property
    def name(self) -> str:
        """The name in the file, or one made of its kind and hook point."""
        if self.any.name is not None:
            return self.any.name
        kind = "directions" if self.any.is_directions else "sae"
        kind = "transcoder" if self.any.target is not None else kind
        point = re.sub(r"[^a-z0-9]+", "-", self.hook_point.replace("hook_", ""))
        return f"{kind}-{point}"[:MAX_SET_NAME]

    @property
    def noun(self) -> str:
        """The noun in the file, or the default."""
        return self.any.noun or ("direction" if self.any.is_directions else "latent")

    @cached_property
    def described(self) -> Units:
        """Latents are sparse; directions are signed and dense."""
        way, reads = self._way(self.any), self._why_no_reads()
        before_block = self.hook_point in (HOOK_EMBED, HOOK_RESID_PRE)
        return Units(
            noun=self.noun,
            signed=self.signed,
            two_sided=self.signed,
            sparse=self.sparse,
            dead_by_magnitude=self.signed,
            blocks=self.layout.n_layers if before_block else None,
            no_writes=way.reason if isinstance(way, Unknown) else "",
            no_reads=reads,
        )

    @property
    def hook_point(self) -> str:
        """Where they read."""
        return self.any.hook.point

    @property
    def is_default(self) -> bool:
        """A dictionary has to be asked for."""
        return False

    @property
    def has_parts(self) -> bool:
        """A latent has no gate of the model's own."""
        return False

    @property
    def signed(self) -> bool:
        """A projection has either sign."""
        return self.any.is_directions

    @property
    def sparse(self) -> bool:
        """Latents are 0 at most positions."""
        return not self.any.is_directions

    @property
    def has_pairs(self) -> bool:
        """Latents are at one position."""
        return False

    @property
    def own_pass(self) -> bool:
        """Latents are computed from the model's activations, outside the model."""
        return False

    @property
    def remark(self) -> str:
        """Names the layers that have no dictionary."""
        missing = [str(layer) for layer, width in enumerate(self.widths) if not width]
        return f"no dictionary for layer {', '.join(missing)}" if missing else ""

    @property
    def identity(self) -> str:
        """SHA-256 over all tensors, in order of layers and names."""
        total = hashlib.sha256()
        for layer, dictionary in self.dictionaries.items():
            total.update(f"{layer} {dictionary.function} {dictionary.k}".encode())
            gate = dictionary.gate
            of_gate = [] if gate is None else [("gate", gate.scale), ("gate_bias", gate.bias)]
            for name, tensor in sorted([*dictionary.tensors(), *of_gate]):
                total.update(name.encode() + tensor.contiguous().cpu().numpy().tobytes())
        return total.hexdigest()

    def captured(
        self,
        layer: int,
        values: Float[Tensor, "batch pos n"],
        parts: tuple[Float[Tensor, "batch pos _"], ...],
    ) -> Captured:
        """The encoder's activations, in float32. Raises `NeurariumError` where the place has not
        the dictionary's width."""
        dictionary = self.dictionaries[layer]
        if values.shape[-1] != dictionary.d_in:
            raise NeurariumError(
                f"The dictionary {dictionary.label} has a width of {dictionary.d_in} at "
                f"{dictionary.hook}, and {self.layout.label!r} has {values.shape[-1]}."
            )
        return Captured(dictionary.activations(values))

    def between(
        self, layer: int, values: Float[Tensor, "batch pos n"], share: float
    ) -> tuple[Float[Tensor, "batch pos units"], Float[Tensor, "batch pos units"]]:
        """A latent is a sum, and fires where that passes a threshold."""
        dictionary = self.dictionaries[layer]
        lowest, highest = dictionary.between(values, share)
        if dictionary.first_zero:
            lowest[:, 0] = highest[:, 0] = 0
        return lowest, highest

    def set_unit(
        self, layer: int, values: Float[Tensor, "*batch n"], unit: int, value: float
    ) -> None:
        """Add (value − activation) × the latent's direction to the stream. Everything else stays,
        including the dictionary's error.

        Only where `target` is None.
        """
        dictionary = self.dictionaries[layer]
        change = value - dictionary.encode(values)[..., unit]
        values += dictionary.decoded_change(values, unit, change).to(values.dtype)

    def target(self, layer: int) -> Target | Unknown | None:
        """A transcoder's latents are set in what it approximates, whose error stays; directions
        without a decoder cannot be."""
        dictionary = self.dictionaries[layer]
        if dictionary.W_dec is None:
            return Unknown(
                f"It is not known what ablating one of these {self.noun}s would take away: their "
                "file has no decoder (W_dec)."
            )
        hook = dictionary.target
        if hook is None:
            return None
        place = find_place(self.layout, self.root, hook.layer, hook.point)
        if place is None or not _follows(hook, dictionary.hook):
            return Unknown(
                f"These {self.noun}s cannot be ablated: {hook}, which they approximate, cannot be "
                f"changed after {dictionary.hook} is read."
            )

        def change(
            read: Float[Tensor, "pos n"], unit: int, value: float
        ) -> Float32[Tensor, "pos m"]:
            acts = dictionary.activations(read[None])[0, :, unit]
            return dictionary.decoded_change(read, unit, value - acts)

        return Target(place, change)

    def writes(self, layer: int) -> Writes | Unknown:
        """The decoder's rows, as they reach the residual stream from the place that they belong
        to."""
        dictionary = self.dictionaries[layer]
        way = self._way(dictionary)
        if isinstance(way, Unknown):
            return way
        vectors = dictionary.W_dec
        assert vectors is not None  # else the way is not known
        if way.matrix is not None:
            vectors = vectors @ way.matrix
        scale = None if dictionary.norm == "none" else dictionary.scale_of
        return Writes(vectors, None, way.inner_norm, way.outer_norm, way.lands, scale)

    def _way(self, dictionary: Dictionary) -> Way | Unknown:
        if dictionary.d_out is None:
            return Unknown(
                f"These {self.noun}s are read from the model; nothing says what they write."
            )
        hook = dictionary.target or dictionary.hook
        return way_to_stream(self.layout, self.root, hook.layer, hook.point, dictionary.d_out)

    def _why_no_reads(self) -> str:
        if self.hook_point in (*STREAM, MLP_IN):
            return ""
        return f"What is at {self.hook_point} is not the residual stream that tokens are put into."

    def encoders(self, layer: int) -> Float[Tensor, "units d_in"]:
        """The encoder's columns."""
        return self.dictionaries[layer].W_enc.T

    def thresholds(self, layer: int) -> Float[Tensor, " units"] | None:
        """Of the dictionary's own file."""
        return self.dictionaries[layer].threshold

    def names(self, layer: int) -> tuple[str, ...]:
        """Of the dictionary's own file."""
        return self.dictionaries[layer].names

    def readers(self, token_ids: Int[Tensor, "1 pos"]) -> tuple[Reader | Unknown, ...]:
        """The encoder's columns; at an MLP's input, behind the norm in front of it."""
        if reason := self._why_no_reads():
            return (Unknown(reason),) * len(self.widths)
        if self.hook_point in STREAM:
            return tuple(self._reader(layer, None) for layer in range(len(self.widths)))
        layout, root = self.layout, self.root

        def inputs(layer: int) -> Inputs:
            part = "gate" if layout.gated else "in"
            linear = layout.input_projection(root, layer, part)
            norm = layout.mlp_norm(root, layer)
            last = layout.output_projection(root, layer) if norm is None else norm
            block = layout.component(root, f"blocks.{layer}")
            return Inputs(block, {} if linear is None else {"in": linear}, last)

        def run() -> None:
            self.trunk.capture(self, token_ids, torch.ones_like(token_ids), lambda *_: None)

        found = find_readers(
            [inputs(layer) for layer in range(layout.n_layers)], layout.d_model, run
        )
        return tuple(self._reader(layer, reader) for layer, reader in enumerate(found))

    def _reader(self, layer: int, of_mlp: Reader | Unknown | None) -> Reader | Unknown:
        """A layer's encoder, read behind the norm of the layer's MLP, or directly."""
        if layer not in self.dictionaries:
            return Unknown("This layer has no dictionary.")
        if isinstance(of_mlp, Unknown):
            return of_mlp
        matrices = {"in": self.dictionaries[layer].W_enc}
        if of_mlp is not None:
            return replace(of_mlp, matrices=matrices)
        gain = torch.ones(self.layout.d_model, device=self.trunk.device)
        return Reader(None, gain, False, matrices)

    def dead(
        self, maximum: Float32[np.ndarray, " n"], minimum: Float32[np.ndarray, " n"]
    ) -> Bool[np.ndarray, " n"]:
        """Latents that never fire; directions whose projections are never large in magnitude."""
        return (never_large if self.signed else never_positive)(maximum, minimum)


def _follows(later: Hook, earlier: Hook) -> bool:
    """Whether a forward pass comes to one place after it has passed another."""
    rank = {point: at for at, points in enumerate(_ORDER) for point in points}
    return (earlier.layer, rank[earlier.point]) < (later.layer, rank[later.point])


def find_latents(trunk: Trunk, layout: Layout, root: nn.Module, asked: Asked) -> DictionaryLatents:
    """The latents that are asked for, with the dictionaries on the model's device.

    Raises `NeurariumError` where a place cannot be found in the model or has another width.
    """
    dictionaries = {
        dictionary.hook.layer: dictionary.to(trunk.device) for dictionary in read(layout, asked)
    }
    places: list[Place | None] = []
    for layer in range(layout.n_layers):
        dictionary = dictionaries.get(layer)
        if dictionary is None:
            places.append(None)
            continue
        place = find_place(layout, root, layer, dictionary.hook.point)
        if place is None:
            raise NeurariumError(
                f"The dictionary {dictionary.label} is of {dictionary.hook}, which cannot be found "
                f"in {layout.label!r} ({layout.architecture})."
            )
        places.append(place)
    widths = tuple(
        dictionaries[layer].latents if layer in dictionaries else 0
        for layer in range(layout.n_layers)
    )
    latents = DictionaryLatents(layout, root, trunk, dictionaries, asked, tuple(places), widths)
    trunk.widths(latents)  # refuses a place of another width
    return latents
