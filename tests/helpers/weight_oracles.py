"""What the weight facts are held against: modules measured by finite difference, and rankings by
Python's own sort."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.helpers.tiny_models import VOCAB

KNOWN = VOCAB - 4  # the last rows of the tiny models' unembedding are padding
LARGE = 1e4  # a residual stream so large that no norm's epsilon counts


def odd(module: Callable[[Tensor], Any], x: Tensor) -> Tensor:
    """The part of a module's output that changes sign with its input: biases drop out."""
    with torch.no_grad():
        out: Tensor = (module(x[None, None]) - module(-x[None, None]))[0, 0] / 2
    return out


def size(x: Tensor, *, centred: bool) -> Tensor:
    """What a norm divides by."""
    x = x - x.mean() if centred else x
    return x.square().mean().sqrt()


def ranked(values: Sequence[float], k: int) -> list[int]:
    """Indices of the k largest, largest first; ties: the lower index first."""
    return sorted(range(len(values)), key=lambda i: (-values[i], i))[:k]


def unit(vectors: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Rows of length 1; a row of zeros stays one."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)
