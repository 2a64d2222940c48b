"""The set of units that MLP neurons are: what it declares, and how a unit is set and read."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from indexer.config import IndexConfig
from indexer.errors import NeurariumError
from indexer.models import kinds
from indexer.models.asked import MODELS_OWN, Asked
from indexer.models.load import describe, load_model
from indexer.models.names import HOOK_POINTS
from indexer.models.source import resolve_model
from indexer.models.units import Reader, Unknown, Writes
from tests.helpers.tiny_models import captured, save_tiny_model, some_tokens
from tests.indexer.models.test_model_native import native_model


@pytest.mark.parametrize(
    ("architecture", "hook_point", "signed", "parts", "is_default", "dead"),
    [
        ("gpt2", None, False, False, True, [True, False]),
        ("gpt2", "mlp.hook_pre", False, False, False, [True, False]),
        ("llama", None, True, True, True, [False, True]),
        ("llama", "mlp.hook_pre", False, False, False, [False, True]),
    ],
)
def test_a_set_declares_what_it_is(
    tmp_path: Path,
    architecture: str,
    hook_point: str | None,
    signed: bool,
    parts: bool,
    is_default: bool,
    dead: list[bool],
) -> None:
    """Signs, parts and what dead means follow from the hook point and from whether MLPs are gated;
    a unit with values −1…0 is dead only in models that are not, one within 1e-6 only in others."""
    folder = save_tiny_model(tmp_path / "model", architecture)
    units = load_model(resolve_model(str(folder)), asked=Asked(hook_point)).units
    assert (units.name, units.noun, units.sparse) == ("neurons", "neuron", False)
    assert (units.signed, units.has_parts, units.is_default) == (signed, parts, is_default)
    maximum, minimum = np.float32([0, 1e-7]), np.float32([-1, 0])
    assert units.dead(maximum, minimum).tolist() == dead
    assert units.remark == ""


def test_units_at_other_hook_points_write_and_read_alike(tmp_path: Path) -> None:
    """The hook point changes where a neuron is captured, not what it writes and reads."""
    folder = str(save_tiny_model(tmp_path / "model", "llama"))
    ids = some_tokens(1, 4)
    at = [load_model(resolve_model(folder), asked=Asked(h)).units for h in HOOK_POINTS[:2]]
    for one, other in zip(at[0].readers(ids), at[1].readers(ids), strict=True):
        assert isinstance(one, Reader)
        assert isinstance(other, Reader)
        assert list(one.matrices) == ["in", "gate"]
        assert torch.equal(one.directions("gate"), other.directions("gate"))
    for layer in range(2):
        one_writes, other_writes = (units.writes(layer) for units in at)
        assert isinstance(one_writes, Writes)
        assert isinstance(other_writes, Writes)
        assert torch.equal(one_writes.vectors, other_writes.vectors)


def test_a_unit_is_set_in_the_captured_tensor() -> None:
    """Only that unit changes, in memory."""
    _, model = native_model()
    values = captured(model, some_tokens(1, 5))[0]
    changed = values.clone()
    model.units.set_unit(0, changed[0, 2:], 3, 7.0)
    assert (changed[0, 2:, 3] == 7).all()
    changed[0, 2:, 3] = values[0, 2:, 3]
    assert torch.equal(changed, values)


def test_a_norm_that_cannot_be_found_has_a_reason(tmp_path: Path) -> None:
    """Without the block's modules the answer is a sentence, not a guess."""
    model = load_model(resolve_model(str(save_tiny_model(tmp_path / "model", "gpt2"))))
    component = model.layout.component
    hidden: Any = lambda root, path: None if path == "blocks.1" else component(root, path)  # noqa: E731
    object.__setattr__(model.layout, "component", hidden)
    first, second = model.units.readers(some_tokens(1, 4))
    assert isinstance(first, Reader)
    assert isinstance(second, Unknown)
    assert second.reason.endswith(".")


def test_settings_know_the_hook_points() -> None:
    """A hook point of no model is refused before anything is loaded, with those there are."""
    for hook_point in HOOK_POINTS:
        assert IndexConfig(model="demo", hook_point=hook_point).hook_point == hook_point
    with pytest.raises(NeurariumError, match=r"no hook point 'mlp.hook_mid': choose mlp.hook_pre"):
        IndexConfig(model="demo", hook_point="mlp.hook_mid")


def test_a_wrong_hook_point_is_refused_without_pytorch() -> None:
    """A mistyped option is answered at once."""
    code = (
        "import sys\n"
        "from app.cli.index import index\n"
        "from indexer.config import IndexConfig\n"
        "try:\n    IndexConfig(model='demo', hook_point='mlp.hook_mid')\n"
        "except Exception as error:\n    print(error, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "There is no hook point 'mlp.hook_mid'" in done.stdout
    assert done.stdout.endswith("False\n")


def test_a_kind_takes_what_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another kind serves its own hook points in any model; MLP neurons are the default."""
    layout = describe(resolve_model(str(save_tiny_model(tmp_path, "gpt2")))).layout
    without = replace(layout, mlp_problem="It has no MLP neurons.")

    def find(*_: Any) -> Any:
        raise AssertionError("not called")

    def takes(asked: Asked) -> bool:
        return asked.hook_point == "attn.hook_new"

    new = kinds.Kind(takes, lambda _: None, lambda _, asked: asked, find)
    monkeypatch.setattr(kinds, "KINDS", (new, *kinds.KINDS))
    assert kinds.choose(layout, MODELS_OWN) == Asked("mlp.hook_post")
    for some in (layout, without):
        assert kinds.choose(some, Asked("attn.hook_new")) == Asked("attn.hook_new")
    for asked in (MODELS_OWN, Asked("mlp.hook_post")):
        with pytest.raises(NeurariumError, match="no MLP neurons"):
            kinds.choose(without, asked)
