"""Options of `index` come from its dataclasses, numbers are read as people write them, and mistakes
are refused before a model library is imported."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer.main

from app.cli import main as cli
from app.cli.options import build, parse_whole
from indexer.config import Execution, IndexConfig, option_of
from indexer.errors import NeurariumError

GROUP: Any = typer.main.get_command(cli.app)
PARAMETERS = {parameter.name: parameter for parameter in GROUP.commands["index"].params}
MODEL_LIBRARIES = ("torch", "transformers", "transformer_lens", "datasets", "tokenizers")
RUN = """
import sys
sys.argv = ["neurarium", *sys.argv[1:]]
from app.cli.main import main
try:
    main()
finally:
    print(*[name for name in {names} if name in sys.modules], flush=True)
"""


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
            also = option.also
            own = "--" + field.name.replace("_", "-")
            assert made.opts == [own, *([also] if also else [])]


def test_index_has_its_options_in_this_order() -> None:
    """Those of the run, the database among them, then those of its execution."""
    assert " ".join(PARAMETERS) == (
        "model corpus name revision hook_point dictionary force set_name neurons heads split "
        "text_column source_column ctx_len bos max_tokens top_k bottom_k sample window "
        "batch_tokens dtype device database seed connections trust_remote_code restart state "
        "memory shard workers ray_address"
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
        Execution(**{name: 0})


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, -math.inf, 1e300, 9.3e9])
def test_gigabytes_are_a_number_of_bytes(value: float) -> None:
    """Nothing else gets as far as the run; the largest number of bytes has 64 bits."""
    with pytest.raises(NeurariumError, match=r"it must be a number above 0 .*--memory"):
        build(Execution, {"memory": value})
    assert build(Execution, {"memory": 9.2e9}).memory == 9_200_000_000_000_000_000


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1e6", 1_000_000),
        ("2.5e6", 2_500_000),
        ("1E3", 1000),
        ("10_000", 10_000),
        ("1,000,000", 1_000_000),
        (" 12 ", 12),
        ("-3", -3),
        ("1.0", 1),
        ("1.5", None),
        ("1e-1", None),
        ("1,5", None),
        ("10,00", None),
        ("1e999", None),
        ("9" * 5000, None),
        ("1e", None),
        ("٣", None),
        ("0x10", None),
        ("nan", None),
        ("inf", None),
        ("", None),
    ],
)
def test_whole_numbers(text: str, number: int | None) -> None:
    """Powers of ten and groups of three are understood; anything else is no whole number."""
    assert parse_whole(text) == number


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["demo", "--max-tokens", "1e6x"], "'1e6x' is not a whole number"),
        (["demo", "--max-tokens", "1.5"], "'1.5' is not a whole number"),
        (["demo", "--workers", "0"], "must be 1 or more"),
        (["demo", "--top-k", "0"], "top_k is 0"),
        (["./nowhere"], "There is no model './nowhere'"),
        (["demo", "--corpus", "nowhere.csv"], "There is no file or folder 'nowhere.csv'"),
        (["demo", "--corpus", "{folder}/pipe.txt"], "is a link to nothing"),
        (["demo", "--text-column", "words"], "no column 'words'"),
        (["demo", "--hook-point", "mlp.hook_nothing"], "There is no hook point"),
        (["demo", "--dtype", "int7"], "dtype 'int7' is not one of"),
        (["demo", "--device", "gpu"], "The device 'gpu' cannot be used"),
        (["demo", "--name", "a/b"], "cannot be used in URLs"),
        (["demo", "--shard", "9/8"], "--shard 9/8 is not recognised"),
        (["demo", "--database", "mysql://x/y"], "only sqlite:/// and postgresql"),
    ],
)
def test_mistakes_need_no_model_library(tmp_path: Path, words: list[str], message: str) -> None:
    """One line, exit code 2, and none of the libraries that take seconds."""
    (tmp_path / "pipe.txt").symlink_to(tmp_path / "gone")
    script = RUN.format(names=MODEL_LIBRARIES)
    done = subprocess.run(
        [sys.executable, "-c", script, "index", *(w.format(folder=tmp_path) for w in words)],
        capture_output=True,
        text=True,
        timeout=120,
        env={"NEURARIUM_DATABASE_URL": f"sqlite:///{tmp_path / 'a.db'}", "PATH": ""},
        check=False,
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout.strip() == ""


def test_the_version(tmp_path: Path) -> None:
    """`--version` prints it, without a command."""
    script = RUN.format(names=MODEL_LIBRARIES)
    done = subprocess.run(
        [sys.executable, "-c", script, "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("neurarium 0.")
