"""The serving benchmark asks for what there is, and says what it could not do. Nothing is timed."""

from __future__ import annotations

import shutil

import pytest
import typer
from typer.testing import CliRunner

from benchmarks.pages import load, searches, serving
from benchmarks.pages.load import Case, Round
from tests.helpers.fixture_store import RUNS


def round_of(p50: float, requests: int = 10) -> Round:
    return Round(p50=p50, p95=2 * p50, requests=requests, bytes=100 * requests, failed=0)


def test_every_neuron_is_asked_for_once(sqlite_filled: str) -> None:
    """The addresses are all neurons of all runs, none twice; another seed has another order."""
    total, places = serving._places(sqlite_filled, 0)
    expected = {
        (run.model, layer, neuron)
        for run in RUNS
        for layer, neurons in enumerate(run.layers)
        for neuron in range(len(neurons))
    }
    assert total == len(places) == sum(len(layer) for run in RUNS for layer in run.layers)
    assert set(places) == expected
    assert serving._places(sqlite_filled, 0)[1] == places
    assert serving._places(sqlite_filled, 1)[1] != places


def test_rounds_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cases take turns; a case's figure is the median of its rounds, beside their range."""
    asked: list[str] = []
    times = {"a": iter([3.0, 1.0, 2.0]), "b": iter([30.0, 10.0, 50.0])}

    def fake(case: Case, seconds: int) -> Round:
        asked.append(case.name)
        return round_of(next(times[case.name]))

    monkeypatch.setattr(load, "_round", fake)
    cases = [Case("a", "", ["/1", "/2"], {}), Case("b", "", ["/1"] * 20, {})]
    first, second = load.interleaved(cases, rounds=3, seconds=1)
    assert asked == ["a", "b"] * 3
    assert (first.p50, first.lowest, first.highest, first.p95) == (2.0, 1.0, 3.0, 4.0)
    assert (second.p50, second.lowest, second.highest) == (30.0, 10.0, 50.0)
    assert (first.requests, first.bytes, first.rounds) == (30, 100, 3)
    assert first.repeated  # two addresses, ten requests a round
    assert not second.repeated


def database(name: str, page: float, unchanged: float, size: int) -> serving.Database:
    cases = {serving.PAGE: page, serving.UNCHANGED: unchanged, serving.JSON: 4.0}
    cases |= dict.fromkeys((*searches.SEARCHES, *searches.LISTINGS), 11.0)
    speeds = [
        load._together(Case(case, "", ["/"], {}), [round_of(p50)]) for case, p50 in cases.items()
    ]
    return serving.Database(name, 8, speeds, [serving.Sizes("zstd", size, size)])


def test_targets_are_compared_with_what_was_measured() -> None:
    """Every target stands beside its figure; the larger database is compared with the demo."""
    found = [database("demo", 8.0, 1.0, 30_000), database("synthetic", 10.0, 1.1, 41_000)]
    rows = {what: (value, limit) for what, value, limit, _ in serving.targets(found, [])}
    assert rows["demo: page"] == (8.0, 10.0)
    assert rows["synthetic: page, unchanged (304)"] == (1.1, 1.5)
    assert rows["synthetic: compressed (zstd)"] == (41.0, 40.0)
    assert rows["synthetic ÷ demo: page"] == (1.25, 1.2)
    assert rows["demo: words, p95"] == (22.0, 50.0)
    assert rows["synthetic: layer's page, p95"] == (22.0, 20.0)
    assert not any("÷" in what for what, *_ in serving.targets(found[:1], []))


def test_without_wrk_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where wrk is missing nothing is measured, and one line says how to get it."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    app = typer.Typer()
    app.command()(serving.main)
    result = CliRunner().invoke(app, ["--loads", "0"])
    assert result.exit_code == 2
    assert "wrk is not installed" in result.output
    assert "Traceback" not in result.output
