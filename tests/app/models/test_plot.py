"""The scatter plot of a layer: every live neuron a dot and a link, at the place of its values."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import pytest
from starlette.testclient import TestClient

from app.models import plot
from app.models.plot import axis
from tests.helpers.html_reader import read

API = "/api/v1/models"
AXES = ("max", "mean")


@pytest.mark.parametrize(
    ("stat", "values", "log", "heavy"),
    [
        ("max", [0.1, 0.2], False, False),
        ("max", [0.001, 0.5], True, False),
        ("max", [0.0, 0.5], False, False),
        ("max", [-1.0, 0.1, 0.2, 500.0], False, True),
        ("max", [3.0, 3.0], False, False),
        ("max", [0.0], False, False),
        ("density", [0.4, 0.5], True, False),
        ("density", [0.001, 0.5, 1.0], True, False),
        ("density", [0.0, 0.02, 0.5], True, False),
        ("density", [0.3, 0.3], True, False),
        ("density", [0.0], True, False),
        ("density", [0.0, 0.0], True, False),
    ],
)
def test_an_axis_holds_its_values(stat: str, values: list[float], log: bool, heavy: bool) -> None:
    """They lie inside it in their order, its ticks too; the scale fits their spread."""
    found = axis(stat, values)
    assert (found.log, found.heavy) == (log, heavy)
    shares = [found.share(value) for value in sorted(values)]
    assert all(0 < share < 1 for share in shares)
    assert all(a <= b for a, b in pairwise(shares))
    assert all(0 <= found.share(tick) <= 1 for tick in found.ticks())


def test_a_log_axis_is_logarithmic() -> None:
    """Equal ratios are equally far apart."""
    found = axis("max", [0.001, 1.0])
    steps = [found.share(value) for value in (0.001, 0.01, 0.1, 1.0)]
    assert [b - a for a, b in pairwise(steps)] == pytest.approx([(steps[3] - steps[0]) / 3] * 3)
    assert found.share(0.01) == pytest.approx(
        (math.log(0.01) - math.log(0.001 / 1.15)) / (math.log(1.15) - math.log(0.001 / 1.15))
    )


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.0, 0.0002, 0.3], [0.0, 0.001, 0.01, 0.1]),
        ([0.02, 0.3], [0.02, 0.05, 0.1, 0.2]),
        ([0.0, 0.40, 0.55], [0.0, 0.4, 0.5, 0.6]),
    ],
)
def test_densities_are_on_a_log_scale(values: list[float], ticks: list[float]) -> None:
    """Whatever their spread: values of 0 are at an edge of their own, which has its label; there
    are at least two others."""
    found = axis("density", values)
    assert found.ticks() == pytest.approx(ticks)
    above = [value for value in values if value]
    low, high = min(above), max(above)
    middle = found.share(math.sqrt(low * high))
    assert middle == pytest.approx((found.share(low) + found.share(high)) / 2)
    if 0.0 in values:
        places = [found.share(tick) for tick in found.ticks()]
        assert places[1] - places[0] > 0.03


def test_the_plot_labels_the_edge_of_zero(client: TestClient) -> None:
    """Where neurons have a density of 0, and only there; the axis says that it is logarithmic."""
    edges = set()
    for layer in ("wide/0", "toy/0", "toy/1"):
        (drawn,) = read(client, f"/{layer}").all("svg", "plot")
        labels = [text.text for text in drawn.all("text")]
        assert "density, log scale →" in labels
        dots = client.get(f"{API}/{layer.replace('/', '/layers/')}/scatter").json()["dots"]
        zeros = [dot for dot in dots if dot["x"] == 0 and dot["y"] is not None]
        assert ("0%" in labels) == bool(zeros)
        edges.add(bool(zeros))
    assert edges == {True, False}


@pytest.mark.parametrize("query", ["", "?x=max&y=mean", "?x=effect_kurtosis&y=min"])
def test_the_json_has_every_live_neuron(any_client: TestClient, query: str) -> None:
    """With the values that the list of the layer has."""
    found = any_client.get(f"{API}/wide/layers/0/scatter{query}").json()
    rows = any_client.get(f"{API}/wide/layers/0/neurons?limit=1000").json()["items"]
    live = [row for row in rows if not row["dead"]]
    assert found["n_dead"] == len(rows) - len(live)
    assert [(dot["neuron"], dot["x"], dot["y"], dot["peak_token"]) for dot in found["dots"]] == [
        (row["neuron"], row[found["x"]], row[found["y"]], row["peak_token"]) for row in live
    ]
    known = {dot["neuron"] for dot in found["dots"] if None not in (dot["x"], dot["y"])}
    assert set(found["outliers"]) <= known
    assert len(found["outliers"]) == min(len(known), 14)


def test_outliers_are_the_farthest() -> None:
    """One neuron far from all others comes first."""
    from app.models.schemas import LayerDot

    dots = [
        LayerDot(neuron=n, x=x, y=y, source=None, peak_token="t")
        for n, (x, y) in enumerate([(1.0, 1.0), (1.1, 1.2), (1.2, 0.9), (9.0, 1.0), (1.0, 1.1)])
    ]
    assert plot.outliers(dots, AXES, 1) == [3]
    assert len(plot.outliers(dots, AXES, 9)) == 5
    assert plot.outliers(dots[:1], AXES, 9) == []


def test_the_page_has_a_link_for_each_dot(client: TestClient) -> None:
    """Its address and its title name the neuron; the grid is a choice, and the table is there."""
    found = client.get(f"{API}/wide/layers/0/scatter").json()
    text = client.get("/wide/0").text
    drawn = re.findall(r'<a href="/wide/0/(\d+)" tabindex="-1"><title>(\d+) · ', text)
    known = [dot["neuron"] for dot in found["dots"] if None not in (dot["x"], dot["y"])]
    assert sorted(int(index) for index, _ in drawn) == known
    assert all(index == title for index, title in drawn)
    page = read(client, "/wide/0")
    (choice,) = page.all("nav", "choice")
    current = [link.text for link in choice.all("a") if "aria-current" in link.attributes]
    assert current == ["scatter"]
    assert page.all("table", "neurons")
    assert "cells" in client.get("/wide/0?picture=max").text


def test_what_cannot_be_drawn_is_refused(client: TestClient) -> None:
    """An unknown statistic, a place behind the end, a layer that is not there."""
    for query, status in (("?x=nothing", 422), ("?from=37", 404), ("?from=-1", 422)):
        assert client.get(f"{API}/wide/layers/0/scatter{query}").status_code == status
        assert client.get(f"/wide/0{query}").status_code == status
    assert client.get(f"{API}/wide/layers/9/scatter").status_code == 404
