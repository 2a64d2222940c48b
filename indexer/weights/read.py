"""How a layer's neurons read the residual stream: the norm before the MLP, found by watching the
model run, and the matrices behind it. Apart from what is computed with them (`weights_input`,
`weights_links`), because finding them is the only part that depends on the architecture.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from indexer.models.capture import LoadedModel
from indexer.models.hook_points import Place, unwrap
from indexer.weights.write import norm_gain, rows_by_input

PARTS = ("in", "gate")
"""What a neuron may read with, by number: W_in (W_up), and in gated models W_gate."""

_PROBES = 4  # tokens in the one pass that is watched
_ROUNDING = 2.0**-6  # of the stream, in bfloat16 and a little more


class _Reached(Exception):
    """Raised by our own hook once the first block's input is there."""


@dataclass(frozen=True)
class Reader:
    """How the neurons of one layer read the residual stream."""

    norm: nn.Module | None
    """The model's own norm before the MLP, in float32; None: the MLP reads the stream itself."""
    gain: Float[Tensor, " d_model"]
    """The norm's elementwise weight."""
    centred: bool
    """Whether the norm subtracts the mean (LayerNorm)."""
    matrices: dict[str, Float[Tensor, "d_model neurons"]]
    """By part, `in` first, as stored: views, not copies."""

    def normed(self, stream: Float[Tensor, "n d_model"]) -> Float[Tensor, "n d_model"]:
        """Vectors of the residual stream as the matrices meet them, each normed by itself."""
        if self.norm is None:
            return stream
        out: Tensor = self.norm(stream[:, None])
        return out[:, 0]

    def folded(self, vectors: Float[Tensor, "n d_model"]) -> Float[Tensor, "n d_model"]:
        """Vectors of the residual stream as the matrices meet them, up to the norm's scale."""
        if self.centred:
            vectors = vectors - vectors.mean(dim=1, keepdim=True)
        return vectors * self.gain

    def directions(self, part: str) -> Float[Tensor, "neurons d_model"]:
        """The direction of the residual stream each neuron reads: the column of the matrix times
        the norm's weight, minus its mean if the norm centres, as when a norm is folded into it."""
        read = self.matrices[part].T.float() * self.gain
        return read - read.mean(dim=1, keepdim=True) if self.centred else read


@torch.inference_mode()
def readers(model: LoadedModel) -> tuple[Reader | None, ...]:
    """How each layer reads; None where the norm or a matrix cannot be found.

    Found by one pass over a few tokens: the norm is the module whose output is, in memory, what the
    input projections take. That holds for blocks with one norm for attention and MLP (GPT-J, Phi)
    and for those that norm after the attention (OPT 350m, GPT-1). Where no module made it, the MLP
    reads the residual stream itself (OLMo 2), if what the block adds to it says so.
    """
    layers = range(model.n_layers)
    places = [_places(model, layer) for layer in layers]
    blocks = [model.layout.component(model.root, f"blocks.{layer}") for layer in layers]
    traces = [
        _Trace(model, layer, block, place)
        for layer, block, place in zip(layers, blocks, places, strict=True)
    ]
    ids = torch.linspace(0, model.known_tokens - 1, _PROBES).long()[None]
    with contextlib.ExitStack() as hooks:
        for trace in traces:
            hooks.enter_context(trace)
        model.capture(ids, torch.ones_like(ids), lambda *_: None)
    return tuple(trace.reader() for trace in traces)


def embedded(model: LoadedModel, token_ids: Int[Tensor, " n"]) -> Float[Tensor, "n d_model"] | None:
    """What enters the first block for each token alone, in float32, without its position.

    The model's own code makes it, with the output of learned or sinusoidal positions set to 0: the
    embedding with the model's scale (Gemma), projection (OPT 350m) and norm (Bloom). None where
    there is no block to stop at.
    """
    first = model.layout.component(model.root, "blocks.0")
    if first is None:
        return None
    found: list[Tensor] = []

    def stop(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        stream = _first_tensor(args, kwargs)
        if stream is not None:
            found.append(stream)
        raise _Reached

    with contextlib.ExitStack() as hooks:
        hooks.callback(first.register_forward_pre_hook(stop, with_kwargs=True).remove)
        for positions in _position_embeddings(model):
            hooks.callback(positions.register_forward_hook(_zeros).remove)
        tokens = token_ids[:, None]
        with contextlib.suppress(_Reached):
            model.capture(tokens, torch.ones_like(tokens), lambda *_: None)
    return found[0].reshape(len(token_ids), -1).float() if found else None


class _Trace:
    """What is seen of one layer while the model runs: hooks as long as it is entered."""

    def __init__(
        self, model: LoadedModel, layer: int, block: nn.Module | None, places: dict[str, Place]
    ) -> None:
        self._model = model
        self._layer = layer
        self._block = block
        self._places = places
        self._handles: list[Any] = []
        self._made: list[tuple[nn.Module, Tensor, Tensor]] = []
        self._taken: list[Tensor] = []
        self._written: Tensor | None = None
        self._output: Tensor | None = None

    def __enter__(self) -> _Trace:
        if self._block is None or not self._places:
            return self
        for module in self._block.modules():
            if all(weight.ndim <= 1 for weight in module.parameters()):
                self._after(module, self._made_by)
        for place in self._places.values():
            self._handles.append(
                place.module.register_forward_pre_hook(self._take, with_kwargs=True)
            )
        layout, root = self._model.layout, self._model.root
        norm = layout.mlp_norm(root, self._layer)
        last = layout.output_projection(root, self._layer) if norm is None else norm
        self._after(last, self._write)
        self._after(self._block, self._leave)
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def reader(self) -> Reader | None:
        """What the pass has shown."""
        if not self._taken or any(not _same(taken, self._taken[0]) for taken in self._taken):
            return None
        made = next((made for made in self._made if _same(made[2], self._taken[0])), None)
        if made is None and not self._reads_the_stream():
            return None
        if made is not None and any(_same(out, made[1]) for _, _, out in self._made):
            return None  # the last of several steps: the stream is not what it was given
        norm = None if made is None else made[0]
        width, device = self._model.d_model, self._model.device
        gain, centred = torch.ones(width, device=device), False
        if norm is not None:
            norm = copy.deepcopy(unwrap(norm)).to(device=device, dtype=torch.float32)
            gain, centred = norm_gain(norm, width, device)
        matrices = {
            part: place.own(rows_by_input(unwrap(place.module), width))
            for part, place in self._places.items()
        }
        return Reader(norm, gain, centred, matrices)

    def _reads_the_stream(self) -> bool:
        """Whether the block's output is what the MLP took plus what the MLP wrote."""
        if self._output is None or self._written is None:
            return False
        taken = self._taken[0].reshape(-1).float()
        output, written = self._output.reshape(-1).float(), self._written.reshape(-1).float()
        if not output.shape == written.shape == taken.shape:
            return False
        return bool((output - taken - written).abs().max() <= _ROUNDING * output.abs().max())

    def _after(self, module: nn.Module, hook: Callable[..., None]) -> None:
        self._handles.append(module.register_forward_hook(hook, with_kwargs=True))

    def _made_by(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        given = _first_tensor(args, kwargs)
        if given is None or not isinstance(output, Tensor) or given.shape != output.shape:
            return
        if not _same(given, output):  # as dropout does, and TransformerLens's hook points
            self._made.append((module, given, output))

    def _take(self, _module: nn.Module, args: Any, kwargs: Any) -> None:
        taken = _first_tensor(args, kwargs)
        if taken is not None:
            self._taken.append(taken)

    def _write(self, _module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> None:
        self._written = output

    def _leave(self, _module: nn.Module, _args: Any, _kwargs: Any, output: Any) -> None:
        self._output = output if isinstance(output, Tensor) else output[0]


def _places(model: LoadedModel, layer: int) -> dict[str, Place]:
    """The input projections of a layer by part; empty where one is not found."""
    wanted = PARTS if model.gated else PARTS[:1]
    found = {part: model.layout.input_projection(model.root, layer, part) for part in wanted}
    places = {part: place for part, place in found.items() if place is not None}
    return places if len(places) == len(wanted) else {}


def _position_embeddings(model: LoadedModel) -> Iterator[nn.Module]:
    """The modules whose output is added to the tokens' embeddings to say where they stand."""
    named = model.layout.component(model.root, "pos_embed")
    if named is not None:
        yield named
        return
    for name, module in model.root.named_modules():
        if name.endswith("embed_positions"):  # XGLM's sinusoids, which TransformerLens leaves out
            yield module


def _zeros(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
    return torch.zeros_like(output)


def _first_tensor(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    return next((given for given in (*args, *kwargs.values()) if isinstance(given, Tensor)), None)


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same numbers in memory, whatever their shape."""
    return one.data_ptr() == other.data_ptr() and one.numel() == other.numel()
