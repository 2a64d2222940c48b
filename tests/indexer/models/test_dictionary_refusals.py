"""Dictionaries that are refused because their files cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from indexer.errors import NeurariumError
from indexer.models.dictionaries.layouts import read_dictionaries
from tests.helpers.dictionary_files import (
    FULL,
    HOOK,
    LATENTS,
    WIDTH,
    Write,
    own,
    save,
    some,
    weights,
)


def lens(**said: Any) -> Write:
    """A folder of SAELens's."""

    def write(root: Path) -> Path:
        cfg = {"d_sae": LATENTS, "hook_name": HOOK, **said}
        return save(
            root, "sae_weights.safetensors", some(weights(), *FULL), ("cfg.json", cfg)
        ).parent

    return write


def text(name: str, content: bytes) -> Write:
    def write(root: Path) -> Path:
        (root / name).write_bytes(content)
        return root / name

    return write


def circuit(tensors: dict[str, Tensor], **said: Any) -> Write:
    return lambda root: save(
        root, "layer_1.safetensors", tensors, ("config.yaml", {"feature_input_hook": "x", **said})
    )


class Trap:
    """What a pickle could hold."""


def pickled(root: Path) -> Path:
    path = root / "layer1.sae.pt"
    torch.save({"W_enc": weights()["W_enc"], "more": Trap()}, path)
    return path


def scaled(factor: str) -> Write:
    """A folder of SAELens's with the scalar of its inputs beside it."""

    def write(root: Path) -> Path:
        lens(normalize_activations="expected_average_only_in")(root)
        (root / "activation_scaler.json").write_text(f'{{"scaling_factor": {factor}}}')
        return root

    return write


def two_of_a_layer(root: Path) -> Path:
    own("W_enc", hook_point=HOOK)(root / "a")
    own("W_enc", hook_point=HOOK)(root / "b")
    return root


def two_places(root: Path) -> Path:
    own("W_enc", hook_point=HOOK)(root / "a")
    own("W_enc", hook_point="blocks.0.hook_resid_pre")(root / "b")
    return root


def settings(content: str) -> Write:
    """A file of SAELens's with these settings beside it."""
    return lambda root: (lens()(root), (root / "cfg.json").write_text(content))[0]


def _names(last: str) -> str:
    """Names of all latents in JSON, the fourth of them this one."""
    return json.dumps([*"abc", last, *"x" * (LATENTS - 4)])


_BAD: dict[str, tuple[Write, str]] = {
    "not there": (lambda root: root / "no.safetensors", "There is no file or folder"),
    "not weights": (text("notes.txt", b"hello"), "not a file of weights"),
    "an empty folder": (lambda root: root, "has no dictionary"),
    "a damaged safetensors file": (text("a.safetensors", b"\x00" * 20), "cannot be read"),
    "a damaged npz file": (text("params.npz", b"PK\x03\x04 no"), "cannot be read"),
    "an npz file that is none": (text("params.npz", b"junk"), "it is no archive of arrays"),
    "a declared sparsity that is no number": (
        own("W_enc", hook_point=HOOK, l0="nan"),
        "has l0 'nan' in its metadata, and a number above 0 is needed",
    ),
    "a pickle with code": (pickled, "pickle with more than tensors"),
    "a damaged pickle": (text("layer1.sae.pt", b"\x80\x02no"), "pickle with more than tensors"),
    "no known layout": (
        lambda root: save(root, "x.safetensors", {"embedding": torch.ones(2, 2)}),
        "is of no known layout (tensors: embedding)",
    ),
    "settings that are not JSON": (settings("{"), "cfg.json beside the dictionary"),
    "no hook point": (own("W_enc"), "does not say where it reads"),
    "a hook point that is no name": (
        own("W_enc", hook_point="blocks.1"),
        "'blocks.1' according to the file, which is not a place in a layer",
    ),
    "no layer": (own("W_enc", hook_point="hook_resid_post"), "does not say which layer's"),
    "no decoder for a transcoder": (
        own(
            "W_enc",
            "b_enc",
            hook_point="blocks.1.mlp.hook_in",
            hook_point_out="blocks.1.hook_mlp_out",
            activation="relu",
        ),
        "is a transcoder without W_dec",
    ),
    "no activation function": (own(*FULL, hook_point=HOOK), "does not name its activation"),
    "an unknown activation function": (
        own(*FULL, hook_point=HOOK, activation="tanh"),
        "'tanh', which is not known: relu, jumprelu, topk, groupmax, gated, identity, batchtopk",
    ),
    "an unknown architecture": (lens(architecture="mystery"), "'mystery', which is not known"),
    "an unfolded scalar": (
        lens(normalize_activations="expected_average_only_in"),
        "multiplied by one scalar that is not in the file",
    ),
    "an unknown norm": (lens(normalize_activations="whitening"), "normalised by 'whitening'"),
    "no k": (lens(architecture="topk"), "has k None in its settings"),
    "top-k of more than there are": (
        own(*FULL, hook_point=HOOK, activation="topk", k="99"),
        "has k 99 for 24 latents",
    ),
    "groups of unequal size": (
        own(*FULL, hook_point=HOOK, activation="groupmax", k="7"),
        "has 24 latents, which are not 7 groups",
    ),
    "a transcoder that subtracts b_dec": (
        lens(
            architecture="transcoder",
            hook_name_out="blocks.1.hook_mlp_out",
            apply_b_dec_to_input=True,
        ),
        "is a transcoder that subtracts b_dec from its input",
    ),
    "one head alone": (lens(hook_head_index=3), "reads head 3 alone"),
    "a cross-layer transcoder": (
        circuit({"W_enc_0": torch.ones(2, 2)}, feature_output_hook="y"),
        "is a cross-layer transcoder, which cannot be indexed yet",
    ),
    "a missing tensor": (
        lambda root: save(
            *(root / "layers.1", "sae.safetensors", {"W_enc": torch.ones(4, 2)}),
            ("cfg.json", {"k": 2}),
        ),
        "no tensor",
    ),
    "a decoder of another size": (
        own(*FULL, change={"W_dec": torch.ones(3, WIDTH)}, hook_point=HOOK, activation="relu"),
        "has W_dec of shape (3, 8)",
    ),
    "a bias of another size": (
        own(*FULL, change={"b_enc": torch.ones(3)}, hook_point=HOOK, activation="relu"),
        "has b_enc of shape (3,), and (24,) belongs there",
    ),
    "values that are not finite": (
        own("W_enc", change={"W_enc": torch.full((WIDTH, 3), torch.nan)}, hook_point=HOOK),
        "not finite",
    ),
    "a misspelt tensor": (
        own("W_enc", change={"b_encoder": torch.ones(3)}, hook_point=HOOK),
        "tensors that mean nothing here: b_encoder",
    ),
    "too few names": (own("W_enc", hook_point=HOOK, names='["a"]'), "has 1 names for 24 columns"),
    **{
        f"{what} in its metadata": (own("W_enc", **({"hook_point": HOOK} | {key: value})), expected)
        for what, key, value, expected in (
            ("names nested too deeply", "names", "[" * 100_000, "not a JSON list"),
            ("a name of thousands of digits", "names", f"[{'1' * 5000}]", "not a JSON list"),
            ("half of a surrogate pair", "names", _names("\ud800"), "has the name '\\ud800' for 3"),
            ("a line break", "names", _names("a\nb"), r"has the name 'a\nb' for 3 (`names`)"),
            ("a NUL", "names", _names("a\0"), "no line breaks or other control"),
            ("a name without end", "names", _names("a" * 100_000), "at most 200 characters"),
            ("markup", "noun", "<b>x</b>", "calls its units '<b>x</b>' (`noun`): write at most 40"),
            ("a noun of two lines", "noun", "a\nb", r"calls its units 'a\nb'"),
            ("a noun without end", "noun", "x" * 3000, "at most 40 letters"),
            ("a flag that is no flag", "prepend_bos", "y" * 3000, "write true or false"),
            ("a layer of thousands of digits", "layer", "9" * 5000, "whole number from 0 on is"),
            ("a key without end", "k" * 9000, "1", "metadata that means nothing here: 'kkk"),
            ("a hook point's layer", "hook_point", f"blocks.{'9' * 5000}.x", "not a place in a"),
        )
    },
    "a k below 1": (
        own(*FULL, hook_point=HOOK, activation="topk", k="-2"),
        "has k '-2' in its metadata, and a positive whole number is needed",
    ),
    "settings nested too deeply": (settings("[" * 200_000), "inside each other without end"),
    "settings with thousands of digits": (
        settings(f'{{"d_sae": {"9" * 6000}}}'),
        "cannot be read (it has a whole number of thousands of digits)",
    ),
    "a kind without end": (
        circuit({"W_enc": torch.ones(2, 2)}, model_kind="x" * 100_000, feature_output_hook="y"),
        "which is not known: per-layer transcoders are",
    ),
    "a kind that is no text": (
        circuit({"W_enc": torch.ones(2, 2)}, model_kind=[["x"] * 99] * 99),
        "has model_kind [['x', 'x'",
    ),
    "settings without end": (
        lambda root: (lens()(root), (root / "cfg.json").write_text("[" * 100_000))[0],
        "cfg.json beside the dictionary",
    ),
    "YAML without end": (
        lambda root: (
            circuit(some(weights(), "W_enc"))(root).parent,
            (root / "config.yaml").write_text("[" * 5_000),
        )[0],
        "config.yaml beside the dictionary",
    ),
    "an infinite k": (lens(architecture="topk", k=float("inf")), "has k inf in its settings"),
    "arguments that are a list": (
        lens(activation_fn_str="topk", activation_fn_kwargs=[3]),
        "has k None in its settings",
    ),
    "a hook point that is a number": (lens(hook_name=3), "reads 3 according to the file"),
    "a model that is a number": (lens(model_name=3), "says model is 3, and a name is needed"),
    "a BOS that is a text": (lens(prepend_bos="yes"), "says prepend_bos is 'yes'"),
    "an encoder that is one number": (
        own(change={"W_enc": torch.tensor(1.0)}, hook_point=HOOK),
        "has W_enc of shape (), and it is a matrix",
    ),
    "a bias that is one number": (
        circuit(
            some(weights(), *FULL) | {"b_enc": torch.tensor(1.0)},
            feature_input_hook="mlp.hook_in",
            feature_output_hook="mlp.hook_out",
        ),
        "has b_enc of shape (), and it is a list of numbers",
    ),
    "a number of 5,000 digits": (
        own(*FULL, hook_point=HOOK, activation="topk", k="9" * 5000),
        "in its metadata, and a positive whole number is needed",
    ),
    "names without end": (
        own("W_enc", hook_point=HOOK, names="[" * 50_000),
        "`names` that are not a JSON list",
    ),
    "thresholds of another number": (
        own(*FULL, change={"threshold": torch.ones(3)}, hook_point=HOOK),
        "has threshold of shape (3,), and (24,) belongs there",
    ),
    "a layer of many digits": (lens(hook_name=f"blocks.{'9' * 5000}.hook_z"), "not a place in a l"),
    "an infinite scalar": (scaled("Infinity"), "multiplied by one scalar that is not in the file"),
    "a scalar that is true": (scaled("true"), "multiplied by one scalar that is not in the file"),
    "a name without end": (lambda root: Path("a" * 5000), "There is no file or folder"),
    "two of one layer": (two_of_a_layer, "are both of layer 1"),
    "two places": (two_places, "a set has one place in all its layers"),
}


@pytest.mark.parametrize("name", _BAD)
def test_bad_files_get_one_clear_line(name: str, tmp_path: Path) -> None:
    """What cannot be used is refused with the reason, before anything else happens."""
    write, expected = _BAD[name]
    with pytest.raises(NeurariumError) as refused:
        read_dictionaries(str(write(tmp_path)))
    message = str(refused.value)
    assert expected in message
    assert "\n" not in message
    assert len(message) < 400


def test_the_user_may_not_contradict_the_file(tmp_path: Path) -> None:
    """--hook-point is for files that do not say."""
    path = own("W_enc", hook_point=HOOK)(tmp_path)
    assert read_dictionaries(str(path), "hook_resid_post")[0].hook.layer == 1
    with pytest.raises(NeurariumError, match="leave --hook-point out"):
        read_dictionaries(str(path), "hook_resid_pre")
