"""Records of neurons, and Neuronpedia's folders: files in the layouts of other programs."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest

from indexer.errors import NeurariumError
from tests.app.export.conftest import hashes
from tests.conftest import serving
from tests.helpers.commands import command
from tests.helpers.neuronpedia_schema import check


def test_neuron_records_have_their_fields(database: str, api: Any, tmp_path: Path) -> None:
    """Each file has the fields that OpenAI's classes declare, and no other."""
    command(
        *("export", "toy", "--format", "openai", "--out", tmp_path / "run"),
        *("--database", database),
    )
    record = json.loads((tmp_path / "run" / "0" / "0.json").read_text())
    assert set(record) == {
        *("dataclass_name", "neuron_id", "random_sample", "random_sample_by_quantile"),
        *("quantile_boundaries", "mean", "variance", "skewness", "kurtosis"),
        "most_positive_activation_records",
    }
    assert record["neuron_id"] == {
        "dataclass_name": "NeuronId",
        "layer_index": 0,
        "neuron_index": 0,
    }
    page = api("/models/toy/layers/0/neurons/0")
    first, wanted = record["most_positive_activation_records"][0], page["examples"]["top"][0]
    assert set(first) == {"dataclass_name", "tokens", "activations"}
    assert first["activations"] == [v for v in wanted["activations"] if v is not None]
    assert len(first["tokens"]) == len(first["activations"])
    assert math.isclose(record["variance"], page["stats"]["std"] ** 2)
    boundaries, samples = record["quantile_boundaries"], record["random_sample_by_quantile"]
    assert len(samples) == len(boundaries) + 1
    assert all(isinstance(boundary, float) for boundary in boundaries)
    for one in (
        *record["most_positive_activation_records"],
        *record["random_sample"],
        *(one for sample in samples for one in sample),
    ):
        assert one["dataclass_name"] == "ActivationRecord"
        assert all(isinstance(token, str) for token in one["tokens"])
        assert all(isinstance(value, float) for value in one["activations"])


@pytest.mark.parametrize("model", ["toy", "wide"])
def test_neuron_records_come_back(database: str, tmp_path: Path, model: str) -> None:
    """Exported records bring their run back. Without the file beside them, they make a run with the
    same examples; once more around, the same hash."""
    first, second = tmp_path / "first", tmp_path / "second"
    whole, other, third = (f"sqlite:///{tmp_path / name}.db" for name in ("whole", "other", "3rd"))
    command("export", model, "--format", "openai", "--out", first, "--database", database)
    command("import", first, "--format", "openai", "--database", whole)
    assert hashes(whole)[model] <= hashes(database)[model]
    record, beside = first / "0" / "0.json", first / "neurarium.jsonl.gz"
    for file, message in ((record, "is not as it was exported"), (beside, "is cut off")):
        content = file.read_bytes()
        file.write_bytes(content[:-30])
        with pytest.raises(NeurariumError, match=message):
            command("import", first, "--format", "openai", "--database", other)
        file.write_bytes(content)
    beside.unlink()
    command("import", first, "--format", "openai", "--name", "again", "--database", other)
    command("export", "again", "--format", "openai", "--out", second, "--database", other)
    (second / "neurarium.jsonl.gz").unlink()
    command("import", second, "--format", "openai", "--name", "again", "--database", third)
    assert hashes(third) == hashes(other)
    with serving(other) as client:
        for path in first.rglob("*.json"):
            page = client.get(f"/api/v1/models/again/layers/{path.parent.name}/neurons/{path.stem}")
            given = json.loads(path.read_text())["most_positive_activation_records"]
            peaks = [max(one["activations"]) for one in given]
            assert [e["peak"] for e in page.json()["examples"]["top"]] == peaks
            shown = client.get(f"/again/{path.parent.name}/{path.stem}")
            assert shown.status_code == 200


def test_neuronpedia_has_its_folders(database: str, api: Any, tmp_path: Path) -> None:
    """A source for each layer, with batches of features and of activations."""
    command(
        *("export", "toy", "--format", "neuronpedia", "--out", tmp_path / "run"),
        *("--layers", "1", "--database", database),
    )
    home = tmp_path / "run" / "v1" / "toy"
    assert [path.name for path in home.iterdir()] == ["1-neurons"]
    features = _batch(home / "1-neurons" / "features" / "batch-0.jsonl.gz")
    activations = _batch(home / "1-neurons" / "activations" / "batch-0.jsonl.gz")
    for record, file in (("Model", "model"), ("SourceSet", "sourceset"), ("Source", "source")):
        check(record, json.loads((home / "1-neurons" / f"{file}.jsonl").read_text()))
    for record, rows in (("Neuron", features), ("Activation", activations)):
        for row in rows:
            check(record, row)
    page = api("/models/toy/layers/1/neurons/1")
    (feature,) = [row for row in features if row["index"] == "1"]
    assert feature["maxActApprox"] == page["stats"]["max"]
    assert feature["frac_nonzero"] == page["stats"]["density"]
    assert feature["layer"] == "1-neurons"
    mine = [row for row in activations if row["index"] == "1" and row["binMin"] is None]
    assert [row["maxValue"] for row in mine] == [e["peak"] for e in page["examples"]["top"]]
    for row in activations:
        assert row["values"][row["maxValueTokenIndex"]] == row["maxValue"] == max(row["values"])
        assert len(row["tokens"]) == len(row["values"])
    assert len({row["id"] for row in activations}) == len(activations)


def _batch(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
