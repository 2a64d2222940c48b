"""The live box as HTML: a form that works by itself, and what it says."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient

from app.drawing.numbers import exact, number
from app.live.neuron import view as live_view
from app.neurons.schemas import Histogram, NeuronPage
from tests.helpers.html_reader import elements
from tests.helpers.live_servers import NEURON, TEXT, TRY, answer


def posted(client: TestClient, text: str, path: str = TRY) -> Any:
    """The page a plain form leads to."""
    body = urlencode({"text": text.replace("\n", "\r\n")})
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return client.post(path, content=body, headers=headers)


def test_the_form_works_by_itself(live_client: TestClient) -> None:
    """Without a script the form gives a page with the text coloured on the neuron's own scale."""
    response = posted(live_client, TEXT)
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    found = answer(live_client, TEXT)  # line ends came back as they were typed
    page = elements(response.text)
    (mark,) = page.all("mark")
    assert f"at {found['peak_position']}," in mark.attributes["title"]
    scale = live_client.get(NEURON).json()["scale"]
    tenths = int(found["peak"] / scale * 10 + 0.5)
    assert f"p{tenths}" in mark.attributes["class"].split()
    (peak,) = page.all("b", "value")
    assert peak.text == number(found["peak"])
    assert peak.attributes["title"] == exact(found["peak"])
    assert len(page.all("table", "choices")) == 3
    assert "at least" in page.text
    (field,) = page.all("textarea")
    assert field.text.lstrip("\n") == TEXT


def test_a_text_that_cannot_be_read_stays_in_the_form(live_client: TestClient) -> None:
    """The page says what was wrong, with the status, and gives the text back."""
    long = "the " * 300
    response = posted(live_client, long)
    assert response.status_code == 413
    page = elements(response.text)
    (notice,) = page.all("p", "notice")
    assert "the maximum is 128" in notice.text
    (field,) = page.all("textarea")
    assert field.text.lstrip("\n") == long
    assert posted(live_client, "").status_code == 422
    assert live_client.post(TRY, content=b"text=%E9").status_code == 422
    assert live_client.post(TRY, content=b"text=\xe9").status_code == 422
    assert live_client.post(TRY, content="&".join("abcdefghij")).status_code == 422


def test_hostile_text_is_only_text(live_client: TestClient) -> None:
    """Markup in a text is shown, wherever it is shown."""
    hostile = "</textarea><script>alert(1)</script><b>\u202ex\0\"'>"
    response = posted(live_client, hostile)
    page = elements(response.text)
    assert "alert" not in "".join(script.text for script in page.all("script"))
    assert not page.all("b", "x")
    assert "<script>alert" not in response.text
    (field,) = page.all("textarea")
    assert "</textarea><script>alert(1)</script>" in field.text


def test_the_box_is_on_the_neuron_s_page(live_client: TestClient) -> None:
    """A live server's page has the box, another's has not, and their tags differ."""
    page = elements(live_client.get("/demo/1/349").text)
    (form,) = [form for form in page.all("form") if form.attributes.get("data-neuron")]
    assert form.attributes["action"] == TRY
    assert form.attributes["data-neuron"] == NEURON
    named = elements(live_client.get("/demo/1/349?run=1").text)
    assert any(form.attributes.get("action") == TRY for form in named.all("form"))
    assert live_client.get(TRY).status_code == 200


def test_what_is_said_of_a_peak_is_never_too_much(live_client: TestClient) -> None:
    """A bound is rounded down, and the ends are said in words."""
    page = NeuronPage.model_validate(live_client.get(NEURON).json())
    peak = page.stats.max / 2
    assert "at least 99.2%" in live_view.standing(0.99299, peak, page)
    assert "at least 99.9%" in live_view.standing(0.99999, peak, page)
    assert "all of the sample" in live_view.standing(1.0, peak, page)
    assert "every peak of the whole corpus" in live_view.standing(1.0, 2 * page.stats.max, page)


def test_the_lowest_bin_of_peaks_is_not_called_low(live_client: TestClient) -> None:
    """Most contexts can share the first bin: a peak in it is said to be there, with how many."""
    page = NeuronPage.model_validate(live_client.get(NEURON).json())
    peaks = Histogram(edges=[0.0, 1.0, 2.0], counts=[90, 10])
    page = page.model_copy(update={"peak_histogram": peaks})
    assert live_view.standing(0.0, 0.9, page).startswith("in the lowest bin")
    assert "90.0% of the sample's contexts" in live_view.standing(0.0, 0.9, page)
    assert live_view.standing(0.0, -0.1, page).startswith("lower than the peaks of all")


def test_the_corpus_s_highest_peak_is_the_maximum(live_client: TestClient) -> None:
    """A neuron whose minimum is larger in magnitude has a scale that is no peak of it."""
    page = NeuronPage.model_validate(live_client.get(NEURON).json())
    stats = page.stats.model_copy(update={"max": 1.25, "min": -3.75})
    page = page.model_copy(update={"stats": stats, "scale": 3.75})
    assert "the highest is 1.25)" in live_view.standing(1.0, 2.0, page)


def test_the_box_promises_no_more_tokens_than_the_model_takes(live_client: TestClient) -> None:
    """The server's limit is 512 tokens, the demo's model has 128 positions: the box says both."""
    hints = elements(live_client.get(TRY).text).all("p", "hint")
    (found,) = (hint for hint in hints if hint.attributes.get("id") == "live-hint")
    assert "up to 512 tokens, or as many as the model takes" in " ".join(found.text.split())


@pytest.mark.parametrize("peak", [-1.0, 0.5, 2.0, 9.0])
def test_the_chart_holds_every_peak(peak: float) -> None:
    """Bars and mark are inside the picture, also where the peak is outside the sample's range."""
    chart = live_view.peaks_chart(Histogram(edges=[0.0, 1.0, 2.0], counts=[5, 1]), peak, "contexts")
    svg = elements(str(chart))
    for bar in svg.all("rect"):
        left = float(bar.attributes["x"])
        assert left >= 0
        assert left + float(bar.attributes["width"]) <= live_view.WIDTH
    (mark,) = svg.all("path", "here")
    assert 0 <= float(mark.attributes["d"].split()[0][1:]) <= live_view.WIDTH
    assert not live_view.peaks_chart(Histogram(edges=[], counts=[]), peak, "contexts")
    assert "nan" not in live_view.peaks_chart(
        Histogram(edges=[1.0, 1.0], counts=[3]), 1.0, "contexts"
    )
