"""Dictionaries that were made for another model are refused; one model has many names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from indexer.errors import NeurariumError
from indexer.models.aliases import why_another
from indexer.models.dictionaries.check import check_model
from indexer.models.dictionaries.dictionary import Dictionary
from indexer.models.dictionaries.layouts import read_dictionaries
from tests.helpers.dictionary_files import HOOK, LATENTS, WIDTH, own


def fitting(tmp_path: Path, **said: str) -> Dictionary:
    return read_dictionaries(str(own("W_enc", **{"hook_point": HOOK} | said)(tmp_path)))[0]


@pytest.mark.parametrize(
    ("said", "changed", "expected"),
    [
        ({"model": "gpt2"}, {}, "was made for 'gpt2', and the model is 'tiny'"),
        ({}, {"n_layers": 1}, "is of blocks.1.hook_resid_post, and 'tiny' has 1 layers"),
        ({}, {"widths": {"mlp.hook_post": 32}}, "has no such place: it has mlp.hook_post"),
        ({"hook_point": "hook_embed"}, {}, "is of hook_embed, and 'tiny' has no such place"),
        ({}, {"widths": {"hook_resid_post": 16}}, "has a width of 8 at blocks.1.hook_resid_post"),
        ({}, {"widths": {"hook_resid_post": LATENTS}}, "(is it transposed?)"),
    ],
)
def test_another_models_dictionary_is_refused(
    said: dict[str, str], changed: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    """Width, place and name have to be the model's."""
    model: dict[str, Any] = {
        "label": "tiny",
        "why_another": lambda named: why_another(named, "tiny", "LlamaForCausalLM"),
        "n_layers": 2,
        "widths": {"hook_resid_post": WIDTH},
    }
    check_model(fitting(tmp_path / "good", model="Tiny"), **model)
    with pytest.raises(NeurariumError) as refused:
        check_model(fitting(tmp_path / "bad", **said), **model | changed)
    assert expected in str(refused.value)


def test_one_model_has_many_names(tmp_path: Path) -> None:
    """A hub id with or without its owner, or TransformerLens's alias."""
    gpt2, neox = "GPT2LMHeadModel", "GPTNeoXForCausalLM"
    assert why_another("gpt2-small", "openai-community/gpt2", gpt2) is None
    assert why_another("pythia-70m-deduped", "EleutherAI/pythia-70m-deduped", neox) is None
    assert why_another("gpt2-medium", "gpt2", gpt2) == "the model is 'gpt2'"
    assert why_another(str(tmp_path), "gpt2", gpt2) is None


@pytest.mark.parametrize(
    ("named", "architecture", "saved", "reason"),
    [
        ("gpt2", "LlamaForCausalLM", None, "is no GPT2LMHeadModel"),
        ("gemma-2-2b", "GemmaForCausalLM", None, "is no Gemma2ForCausalLM"),
        ("google/gemma-3-4b-it", "Gemma3ForCausalLM", None, None),
        ("gpt2", "GPT2LMHeadModel", "gpt2-medium", "was saved from 'gpt2-medium'"),
        ("gpt2-small", "GPT2LMHeadModel", "openai-community/gpt2", None),
        ("gpt2", "GPT2LMHeadModel", "someone/mine", None),
        ("someone/mine", "GPT2LMHeadModel", "gpt2", None),
        ("gpt2-large", "GPT2LMHeadModel", "gpt2", None),
        ("gpt2", "GPT2LMHeadModel", "../gpt2-medium", None),
    ],
)
def test_a_folder_is_another_model_only_if_its_configuration_says_so(
    tmp_path: Path, named: str, architecture: str, saved: str | None, reason: str | None
) -> None:
    """Its own name says nothing against it, and what nobody knows is not refused."""
    folder = tmp_path / "gpt2-large"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"_name_or_path": saved} if saved else {}))
    found = why_another(named, str(folder), architecture)
    assert (found is None) if reason is None else (found and reason in found)
