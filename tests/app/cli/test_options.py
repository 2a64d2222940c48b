"""Options of a command made from a dataclass: nothing declared is lost, and values come back."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer.main

from app.cli import main as cli
from app.cli.options import build
from indexer.config import Execution, IndexConfig, option_of
from indexer.errors import NeurariumError

GROUP: Any = typer.main.get_command(cli.app)
PARAMETERS = {parameter.name: parameter for parameter in GROUP.commands["index"].params}


@pytest.mark.parametrize("declaration", [IndexConfig, Execution])
def test_index_has_an_option_for_every_field(declaration: type) -> None:
    """With the field's help and default; only the time between checkpoints is no option."""
    for field in fields(declaration):
        option = option_of(field)
        if option is None:
            assert field.name == "checkpoint_seconds"
            continue
        made = PARAMETERS[field.name]
        assert made.help == option.help
        assert made.required == (field.name == "model")
        if not made.required:
            assert made.default == field.default
            assert made.opts == ["--" + field.name.replace("_", "-")]


def test_index_has_its_options_in_this_order() -> None:
    """Those of the run, the database among them, then those of its execution."""
    assert " ".join(PARAMETERS) == (
        "model corpus name revision hook_point split text_column source_column ctx_len bos "
        "max_tokens top_k bottom_k sample window batch_tokens dtype device database seed "
        "connections trust_remote_code restart state memory shard workers ray_address"
    )
    negations = {name: made.secondary_opts for name, made in PARAMETERS.items()}
    assert negations.pop("connections") == ["--no-connections"]
    assert negations.pop("bos") == ["--no-bos"]
    assert not any(negations.values())


def test_values_become_the_dataclass() -> None:
    """Values of other dataclasses are left out, gigabytes become bytes, defaults stay."""
    values = {"model": "demo", "top_k": 3, "memory": 0.5, "state": Path("x"), "shard": None}
    assert build(IndexConfig, values) == IndexConfig(model="demo", top_k=3)
    assert build(Execution, values) == Execution(memory=500_000_000, state=Path("x"))
    assert build(Execution, {"memory": None}) == Execution()


@pytest.mark.parametrize("name", ["workers", "memory"])
def test_numbers_out_of_bounds_are_refused(name: str) -> None:
    """From Python as from the command line."""
    with pytest.raises(NeurariumError, match=f"{name} is 0: it must be 1 or more .--{name}."):
        build(Execution, {name: 0})
