"""Dictionaries read from the files that others write: equal to the plain formulas."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from indexer.models.dictionaries.layouts import read_dictionaries
from tests.helpers.dictionary_cases import CASES, Case
from tests.helpers.dictionary_files import (
    FULL,
    HOOK,
    LATENTS,
    WIDTH,
    K,
    own,
    relu_less,
    save,
    save_own,
    some,
    weights,
)


def inputs(seed: int = 1) -> Tensor:
    return 1.5 * torch.randn(3, 7, WIDTH, generator=torch.Generator().manual_seed(seed)) + 0.3


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_equals_its_plain_formula(case: Case, tmp_path: Path) -> None:
    """Each layout's activations, their limits and the reconstruction are those of its formula."""
    w, x = weights(), inputs()
    path = case.write(tmp_path, w)

    (dictionary,) = read_dictionaries(str(path), case.asked)

    expected = case.acts(x, w)
    acts = dictionary.activations(x)
    torch.testing.assert_close(acts, expected, rtol=1e-5, atol=1e-5)
    assert ((acts > 0) == (expected > 0)).all()
    assert int((expected != 0).sum()) > 0
    anywhere = dictionary.encode(x)
    later = slice(int(dictionary.first_zero), None)
    assert torch.equal(acts[:, later], anywhere[:, later])
    low, high = dictionary.between(x, 1e-6)  # what rounding allows is all around it
    assert ((low <= anywhere + 1e-4) & (high >= anywhere - 1e-4)).all()
    assert ((low > 0) <= (anywhere > 0)).all()
    assert ((anywhere > 0) <= (high > 0)).all()
    assert str(dictionary.hook) == case.hook
    assert (dictionary.target and str(dictionary.target)) == case.target
    assert (dictionary.d_in, dictionary.latents) == (WIDTH, LATENTS)
    if dictionary.W_dec is None:
        assert dictionary.is_directions
        assert (acts < 0).any()
        return
    out = case.out(x, expected, w) if case.out else expected @ w["W_dec"] + w["b_dec"]
    torch.testing.assert_close(dictionary.decode(acts, x), out, rtol=1e-4, atol=1e-4)


def test_thresholds_may_be_below_0(tmp_path: Path) -> None:
    """The limits of activations are those of all preactivations in between, however rounded: an
    activation just above a negative threshold is lower than one that is off."""
    w = weights()
    threshold = torch.linspace(-1.5, 1.5, LATENTS)
    change = {"threshold": threshold}
    path = own(*FULL, change=change, hook_point=HOOK, activation="jumprelu")(tmp_path)
    (dictionary,) = read_dictionaries(str(path))
    x, share = inputs(), 0.05
    product = (x - w["b_dec"]) @ w["W_enc"]
    off = share * product.abs().amax(-1, keepdim=True)
    steps = torch.linspace(-1, 1, 2001)[:, None, None, None]
    values = product + w["b_enc"] + steps * off
    acts = torch.where(values > threshold, values, 0.0)

    low, high = dictionary.between(x, share)

    assert ((low <= acts + 1e-5) & (high >= acts - 1e-5)).all()
    step = float(off.max()) / 1000 + 1e-5
    torch.testing.assert_close(low, acts.amin(0), rtol=0, atol=step)
    torch.testing.assert_close(high, acts.amax(0), rtol=0, atol=step)


def test_top_k_is_taken_over_all_latents(tmp_path: Path) -> None:
    """A latent on its own would always be among the k largest."""
    case = next(case for case in CASES if case.name == "SAELens top-k")
    (dictionary,) = read_dictionaries(str(case.write(tmp_path, weights())))
    assert int((dictionary.encode(inputs()) > 0).sum(-1).max()) == K


def test_the_scalar_beside_a_file_is_folded(tmp_path: Path) -> None:
    """SAELens writes the input's factor into a file of its own."""
    w, x = weights(), inputs()
    cfg = {"d_sae": LATENTS, "hook_name": HOOK, "normalize_activations": "expected_average_only_in"}
    path = save(
        tmp_path,
        "sae_weights.safetensors",
        some(w, "W_enc", "b_enc", "W_dec", "b_dec"),
        ("cfg.json", cfg),
    )
    (tmp_path / "activation_scaler.json").write_text(json.dumps({"scaling_factor": 0.5}))

    (dictionary,) = read_dictionaries(str(path))

    acts = relu_less(0.5 * x, w)
    torch.testing.assert_close(dictionary.encode(x), acts, rtol=1e-5, atol=1e-5)
    out = (acts @ w["W_dec"] + w["b_dec"]) / 0.5
    torch.testing.assert_close(dictionary.decode(acts, x), out, rtol=1e-5, atol=1e-5)


def test_layers_of_a_folder_make_one_set(tmp_path: Path) -> None:
    """One dictionary a layer, in the order of layers."""
    for layer in (10, 2):
        save_own(
            tmp_path / f"{layer}.safetensors",
            some(weights(layer), "W_enc"),
            hook_point=f"blocks.{layer}.hook_resid_pre",
        )
    both = read_dictionaries(str(tmp_path))
    assert [dictionary.hook.layer for dictionary in both] == [2, 10]
    torch.testing.assert_close(both[0].W_enc, weights(2)["W_enc"])


def test_what_a_file_says_of_itself(tmp_path: Path) -> None:
    """Names, nouns, declared sparsity and the model come along."""
    names = [f"word {number}" for number in range(LATENTS)]
    path = save_own(
        tmp_path / "probes.safetensors",
        some(weights(), "W_enc"),
        hook_point=HOOK,
        noun="probe",
        name="words",
        names=json.dumps(names),
        model="demo",
        l0="3.5",
    )
    (dictionary,) = read_dictionaries(str(path))
    assert (dictionary.name, dictionary.noun, dictionary.model) == ("words", "probe", "demo")
    assert dictionary.names == tuple(names)
    assert dictionary.l0 == 3.5
