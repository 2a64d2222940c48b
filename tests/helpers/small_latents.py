"""Dictionaries of random directions for a tiny model, and a small run of their latents."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from indexer.config import IndexConfig
from tests.helpers.dictionary_files import save_own, some, weights
from tests.helpers.tiny_models import WIDTH
from tests.helpers.verify_cases import save_llama, write_corpus

LATENTS = 16
SILENT = 3
"""A latent of each layer that never fires."""
NAMES = json.dumps([f"Idea {'é' if unit == 5 else unit}" for unit in range(LATENTS)])
"""Names of the second layer's latents."""
FUNCTIONS = ("jumprelu", "topk")
"""What decides that a latent of each layer fires: a threshold, or being one of the largest."""


def save_dictionaries(folder: Path) -> str:
    """Two layers' dictionaries, whose latents fire at most positions, at few, or never."""
    paths = []
    for layer, function in enumerate(FUNCTIONS):
        tensors = weights(layer, WIDTH, LATENTS)
        tensors["threshold"] *= torch.linspace(0, 8, LATENTS)
        tensors["b_enc"][SILENT] = -1e6
        names = ["W_enc", "b_enc", "W_dec"] + ["threshold"] * (function == "jumprelu")
        said = {"k": "3", "names": NAMES} if function == "topk" else {}
        paths.append(
            save_own(
                folder / f"{layer}.safetensors",
                some(tensors, *names),
                hook_point=f"blocks.{layer}.hook_resid_post",
                activation=function,
                name="latents",
                **said,
            )
        )
    return ",".join(map(str, paths))


def latents_config(folder: Path) -> IndexConfig:
    """A run of both dictionaries over a small corpus, all saved in `folder`."""
    folder.mkdir(exist_ok=True)
    return IndexConfig(
        model=str(save_llama(folder / "llama")),
        corpus=str(write_corpus(folder / "corpus.jsonl")),
        dictionary=save_dictionaries(folder / "dictionaries"),
        force=True,  # they reconstruct nothing
        ctx_len=16,
        sample=24,
        top_k=5,
        batch_tokens=64,
    )
