"""Where a dictionary reads and what it approximates, from what its file, its folders and the user
say."""

from __future__ import annotations

import math
import re
from typing import get_args

from torch import Tensor

from indexer.errors import NeurariumError, quoted
from indexer.models.dictionaries.dictionary import Function, Hook
from indexer.models.dictionaries.files import WeightsFile
from indexer.models.names import HOOK_EMBED

_HOOK = re.compile(r"blocks\.([0-9]{1,6})\.([\w.]{1,100})")
_POINT = re.compile(r"[a-z][\w.]{0,99}")
_LAYER = re.compile(r"(?:^|[^a-z])(?:layers?|h|blocks)[._-]?([0-9]{1,6})(?![0-9])", re.IGNORECASE)


def parse_hook(name: str) -> Hook | None:
    """A place in a layer by its full name, or None."""
    if name == HOOK_EMBED:
        return Hook(0, name)
    match = _HOOK.fullmatch(name)
    return None if match is None else Hook(int(match[1]), match[2])


def layer_in_name(file: WeightsFile) -> int | None:
    """The layer that the names of the file and of its folders say, the innermost first; or None."""
    for part in reversed(file.names.split("/")):
        if match := _LAYER.search(part):
            return int(match[1])
    return None


def where(file: WeightsFile, declared: object, asked: str | None, layer: int | None = None) -> Hook:
    """Where a dictionary reads.

    `declared` is what the file says, such as `blocks.3.hook_resid_post`, or `hook_resid_post` where
    the layer is known otherwise; `asked` is the user's --hook-point, for files that do not say.
    Raises `NeurariumError` if nobody says, or they contradict each other.
    """
    if declared is not None:
        hook = _complete(file, declared, layer, "the file")
        if asked is not None and asked not in (hook.point, str(hook)):
            raise file.wrong(f"reads {hook}, not {quoted(asked)}: leave --hook-point out")
        return hook
    if asked is None:
        raise file.wrong(
            "does not say where it reads: name the place with --hook-point, such as "
            "blocks.3.hook_resid_post"
        )
    return _complete(file, asked, layer, "--hook-point")


def _complete(file: WeightsFile, name: object, layer: int | None, who: str) -> Hook:
    hook = parse_hook(name) if isinstance(name, str) else None
    if hook is not None:
        if layer is not None and layer != hook.layer:
            raise file.wrong(f"is named for layer {layer}, and {who} says {name}")
        return hook
    if not isinstance(name, str) or not _POINT.fullmatch(name) or name.startswith("blocks"):
        raise file.wrong(
            f"reads {quoted(name)} according to {who}, which is not a place in a layer such as "
            "blocks.3.hook_resid_post"
        )
    layer = layer if layer is not None else layer_in_name(file)
    if layer is None:
        raise file.wrong(
            f"does not say which layer's {name} it reads: name it with --hook-point "
            f"blocks.LAYER.{name}"
        )
    return Hook(layer, name)


def beside(hook: Hook, point: str) -> Hook:
    """Another place in the same layer."""
    return Hook(hook.layer, point)


def number(file: WeightsFile, value: object, what: str) -> int:
    """A whole number from 1 on that a file of settings gives. Raises `NeurariumError`."""
    found = decimal(file, value, what)
    if found != int(found):
        raise file.wrong(
            f"has {what} {quoted(value)} in its settings, and a whole number is needed"
        )
    if found < 1:
        raise file.wrong(f"has {what} {quoted(value)} in its settings, and it must be at least 1")
    return int(found)


def decimal(file: WeightsFile, value: object, what: str) -> float:
    """A finite number that a file of settings gives. Raises `NeurariumError`."""
    found = finite(value)
    if found is None:
        raise file.wrong(f"has {what} {quoted(value)} in its settings, and a number is needed")
    return found


def one_each(tensor: Tensor, latents: int) -> Tensor:
    """[latents], where a file may have a single number for all latents."""
    return tensor.expand(latents).contiguous() if tensor.numel() == 1 else tensor


def finite(value: object) -> float | None:
    """A finite number that a file of settings gives; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def text(file: WeightsFile, value: object, what: str) -> str:
    """A text that a file of settings gives. Raises `NeurariumError`."""
    if not isinstance(value, str) or not value:
        raise file.wrong(f"has {what} {quoted(value)} in its settings, and a text is needed")
    return value


def unknown_function(file: WeightsFile, name: object) -> NeurariumError:
    """The error that a nonlinearity is not one of ours."""
    return file.wrong(
        f"has the activation function {quoted(name)}, which is not known: "
        f"{', '.join((*get_args(Function), 'batchtopk'))} are"
    )


def cross_layer(file: WeightsFile) -> NeurariumError:
    """The error that a file writes to many layers."""
    return file.wrong(
        "is a cross-layer transcoder, which cannot be indexed yet: choose per-layer transcoders"
    )
