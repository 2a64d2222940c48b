"""Checkpoints of a model's training that its makers measured: `checkpoints.json` in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from indexer.errors import NeurariumError, quoted
from indexer.heads.effects import heads_of
from indexer.models.json_text import parsed
from indexer.models.loaded import LoadedModel

CHECKPOINTS = "checkpoints.json"
"""In a model's folder: the scores of its heads while it was trained."""
_NUMBERS = ("loss", "in_context", "first_loss", "second_loss")
_SCORES = ("induction", "previous_token")
_MEASURED = {"step", "stage", *_NUMBERS, *_SCORES}
_MOST_BYTES, _MOST_CHECKPOINTS = 16 << 20, 1_000
_MOST_STEP, _MOST_NUMBER, _MOST_STAGE = 10**12, 10**6, 100


def read_training(model: LoadedModel) -> list[dict[str, Any]] | None:
    """The checkpoints in a model folder's `checkpoints.json` (see `indexer.demo.train_heads`), in
    the order of training; None without that file. Raises `NeurariumError` for a file of another
    form: other programs may use its name."""
    if model.source.kind != "folder":
        return None
    file = Path(model.source.location) / CHECKPOINTS
    if not file.is_file():
        return None
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise ValueError(f"it has {file.stat().st_size:,} bytes")
        return _checked(parsed(file.read_bytes()), heads_of(model).widths)
    except (OSError, ValueError) as error:
        raise NeurariumError(
            f"{CHECKPOINTS} in the model's folder is left out: {error}. Its form is that of "
            "indexer/demo/train_heads.py."
        ) from error


def _checked(content: Any, widths: tuple[int, ...]) -> list[dict[str, Any]]:
    """The checkpoints of a file's content. Raises ValueError."""
    checkpoints = content.get("checkpoints") if isinstance(content, dict) else None
    if not isinstance(checkpoints, list):
        raise ValueError("it has no list `checkpoints`")
    if len(checkpoints) > _MOST_CHECKPOINTS:
        raise ValueError(f"it has {len(checkpoints):,} checkpoints, of at most 1,000")
    for index, checkpoint in enumerate(checkpoints):
        if not isinstance(checkpoint, dict) or checkpoint.keys() != _MEASURED:
            raise ValueError(
                f"checkpoint {index} does not have the keys {', '.join(sorted(_MEASURED))}"
            )
        for name, value in checkpoint.items():
            if not _fits(name, value, widths):
                raise ValueError(f"checkpoint {index} has {name} {quoted(value)}")
    return checkpoints


def _fits(name: str, value: Any, widths: tuple[int, ...]) -> bool:
    """Whether a value may be a checkpoint's entry of this name."""
    if name == "step":
        return type(value) is int and 0 <= value <= _MOST_STEP
    if name == "stage":
        return isinstance(value, str) and len(value) <= _MOST_STAGE and value.isprintable()
    if name in _NUMBERS:
        return _is_number(value)
    layers = isinstance(value, list) and len(value) == len(widths)
    return layers and all(
        isinstance(layer, list) and len(layer) == width and all(map(_is_number, layer))
        for layer, width in zip(value, widths, strict=True)
    )


def _is_number(value: Any) -> bool:
    """Whether a value is a number of a size that a chart can show."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= _MOST_NUMBER
