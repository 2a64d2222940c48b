"""Numbers as people write them, and mistakes answered before a model library is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from app.cli.options import parse_whole

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
    ("words", "told"),
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
        (["demo", "--name", "a/b"], "cannot be part of a URL"),
        (["demo", "--shard", "9/8"], "--shard 9/8 is not recognised"),
        (["demo", "--database", "mysql://x/y"], "only sqlite:/// and postgresql"),
    ],
)
def test_mistakes_need_no_model_library(tmp_path: Path, words: list[str], told: str) -> None:
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
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout.strip() == ""


def test_the_version(tmp_path: Path) -> None:
    """`--version` prints it, without a command."""
    script = RUN.format(names=MODEL_LIBRARIES)
    done = subprocess.run(
        [sys.executable, "-c", script, "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("neurarium 0.")
