"""One dictionary's weights, how files of them are saved, and what its functions compute; layouts of
files are in `dictionary_cases`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

WIDTH, LATENTS, K = 8, 24, 5
HOOK = "blocks.1.hook_resid_post"


def weights(seed: int = 0, width: int = WIDTH, latents: int = LATENTS) -> dict[str, Tensor]:
    """Weights for all functions."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return {
        "W_enc": random(width, latents),
        "b_enc": 0.3 * random(latents),
        "W_dec": random(latents, width),
        "b_dec": 0.5 * random(width),
        "threshold": 0.5 + 0.5 * random(latents).abs(),
        "r_mag": 0.2 * random(latents),
        "b_gate": 0.3 * random(latents),
        "b_mag": 0.3 * random(latents),
        "W_skip": 0.3 * random(width, width),
    }


def some(tensors: dict[str, Tensor], *names: str) -> dict[str, Tensor]:
    """The tensors of these names."""
    return {name: tensors[name].contiguous() for name in names}


def save(folder: Path, name: str, tensors: dict[str, Any], settings: Any = None) -> Path:
    """Write weights, and settings `(file name, content)` beside them; returns the weights' path."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npz":
        np.savez(path, **{key: value.numpy() for key, value in tensors.items()})
    elif path.suffix == ".pt":
        torch.save(tensors, path)
    else:
        save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    if settings is not None:
        file, content = settings
        text = yaml.safe_dump(content) if file.endswith("yaml") else json.dumps(content)
        (folder / file).write_text(text)
    return path


def save_own(path: Path, tensors: dict[str, Tensor], **said: str) -> Path:
    """Write a file of our own layout."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in tensors.items()}, path, said or None)
    return path


# --- What each should compute, as plainly as it can be written -----------------------------------

Formula = Callable[[Tensor, dict[str, Tensor]], Tensor]


def relu(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    return torch.relu(x @ w["W_enc"] + w["b_enc"])


def relu_less(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    return relu(x - w["b_dec"], w)


def jumprelu(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    before = x @ w["W_enc"] + w["b_enc"]
    return torch.where(before > w["threshold"], before, 0.0)


def jumprelu_less(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    return jumprelu(x - w["b_dec"], w)


def topk(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    before = x @ w["W_enc"] + w["b_enc"]
    least = before.sort(dim=-1, descending=True).values[..., K - 1 : K]
    return torch.where(before >= least, torch.relu(before), 0.0)


def groupmax_less(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    before = torch.relu((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"])
    groups = [before[..., at : at + 4] for at in range(0, LATENTS, 4)]
    return torch.cat([torch.where(g == g.amax(-1, keepdim=True), g, 0.0) for g in groups], -1)


def topk_less(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    return topk(x - w["b_dec"], w)


def topk_by_norm(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    length = w["W_dec"].norm(dim=-1)
    before = ((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]) * length
    least = before.sort(dim=-1, descending=True).values[..., K - 1 : K]
    return torch.where(before >= least, torch.relu(before), 0.0)


def gated(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    product = (x - w["b_dec"]) @ w["W_enc"]
    sizes = torch.relu(product * torch.exp(w["r_mag"]) + w["b_mag"])
    return torch.where(product + w["b_gate"] > 0, sizes, 0.0)


def layer_norm(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    x = x - x.mean(-1, keepdim=True)
    return relu_less(x / (x.std(-1, keepdim=True) + 1e-5), w)


def constant_norm(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    return relu_less(x * WIDTH**0.5 / x.norm(dim=-1, keepdim=True), w)


def relu_after_first(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    acts = relu(x, w)
    acts[:, 0] = 0
    return acts


def jumprelu_after_first(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    acts = jumprelu(x, w)
    acts[:, 0] = 0
    return acts


def _whitening(w: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """A mean, and a matrix that can be inverted."""
    return w["b_dec"], torch.eye(WIDTH) + 0.3 * w["W_skip"]


def whitened(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    mean, matrix = _whitening(w)
    return relu((x - mean) @ matrix, w)


def whitened_out(_: Tensor, acts: Tensor, w: dict[str, Tensor]) -> Tensor:
    mean, matrix = _whitening(w)
    return acts @ w["W_dec"] @ torch.linalg.inv(matrix) + mean


def fold_whitening(root: Path, w: dict[str, Tensor]) -> Path:
    """Whitened inputs are what the weights were for, and what is decoded is turned back."""
    mean, matrix = _whitening(w)
    folded = {
        "W_enc": matrix @ w["W_enc"],
        "b_enc": w["b_enc"],
        "W_dec": w["W_dec"] @ torch.linalg.inv(matrix),
        "b_dec": mean,
    }
    return save_own(root / "own.safetensors", folded, hook_point=HOOK, activation="relu")


def projection(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    return x @ w["W_enc"]


Write = Callable[[Path], Path]
FULL = ("W_enc", "b_enc", "W_dec", "b_dec")


def own(*names: str, change: dict[str, Any] | None = None, **said: str) -> Write:
    """A file of our layout, with some tensors replaced."""

    def write(root: Path) -> Path:
        return save_own(root / "own.safetensors", some(weights(), *names) | (change or {}), **said)

    return write
