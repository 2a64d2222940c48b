"""A model's `checkpoints.json`: read if it is in our form, left out with the reason if not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from indexer.errors import NeurariumError
from indexer.heads.training import CHECKPOINTS, read_training
from indexer.models.loaded import LoadedModel
from indexer.run.before import before_scan
from tests.conftest import Silent
from tests.helpers.tiny_heads import shared_heads

_SCORES = [[0.1] * 4] * 2


def checkpoint(**changes: Any) -> dict[str, Any]:
    """A checkpoint of a model of two layers of four heads."""
    losses = dict.fromkeys(("loss", "in_context", "first_loss", "second_loss"), 1.5)
    scores = {"induction": _SCORES, "previous_token": _SCORES}
    return {"step": 3, "stage": "text", **losses, **scores} | changes


class Told(Silent):
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture
def model(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A tiny model, said to be of an empty folder."""
    _, model = shared_heads("gpt2", tmp_path_factory.getbasetemp())
    assert model.units.widths == (4, 4)
    return replace(model, source=replace(model.source, location=str(tmp_path)))


def test_checkpoints_are_read_as_they_are(model: LoadedModel, tmp_path: Path) -> None:
    """Without a file there are none."""
    assert read_training(model) is None
    story = [checkpoint(), checkpoint(step=9, loss=2)]
    (tmp_path / CHECKPOINTS).write_text(json.dumps({"course": {}, "checkpoints": story}))
    assert read_training(model) == story


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[" * 100_000, "inside each other without end"),
        ("9" * 5000, "a whole number of thousands of digits"),
        ("{", "Expecting property name"),
        (b"\xff", "not UTF-8"),
        ([1], "no list `checkpoints`"),
        ({"checkpoints": {}}, "no list `checkpoints`"),
        ({"checkpoints": [{"step": 1}]}, "checkpoint 0 does not have the keys"),
        ({"checkpoints": [checkpoint()] * 1_001}, "of at most 1,000"),
        *(
            ({"checkpoints": [checkpoint(), checkpoint(**{name: value})]}, f"1 has {name} {shown}")
            for name, value, shown in (
                ("step", "3", "'3'"),
                ("step", -1, "-1"),
                ("step", 10**300, "a whole number of"),
                ("stage", None, "None"),
                ("stage", "a\nb", r"'a\nb'"),
                ("loss", float("nan"), "nan"),
                ("loss", float("inf"), "inf"),
                ("in_context", True, "True"),
                ("second_loss", 1e300, "1e+300"),
                ("induction", [], "[]"),
                ("induction", [[0.1] * 4, [0.1] * 3], "[[0.1"),
                ("previous_token", [[0.1] * 4, [float("nan")] * 4], "[[0.1"),
            )
        ),
    ],
)
def test_another_form_is_left_out(
    content: Any, reason: str, model: LoadedModel, tmp_path: Path
) -> None:
    """One short line says why."""
    text = content if isinstance(content, str | bytes) else json.dumps(content)
    (tmp_path / CHECKPOINTS).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(NeurariumError, match="is left out: ") as error:
        read_training(model)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_the_user_is_told_before_the_scan(model: LoadedModel, tmp_path: Path) -> None:
    """A run goes on without the file."""
    (tmp_path / CHECKPOINTS).write_text("[]")
    told = Told()
    assert before_scan(model, told).training is None
    assert [line for line in told.lines if CHECKPOINTS in line] == [
        "Note: checkpoints.json in the model's folder is left out: it has no list `checkpoints`. "
        "Its form is that of indexer/demo/train_heads.py."
    ]
