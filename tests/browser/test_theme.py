"""The theme's colours: text can be read on every step, and the steps look evenly apart."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path

import pytest

from app.drawing.palette import STEPS


def _luminance(colour: str) -> float:
    """WCAG 2 relative luminance of `#rrggbb`."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _themes() -> dict[str, dict[str, str]]:
    css = (Path(__file__).parents[2] / "static" / "base" / "theme.css").read_text()
    found = re.findall(r"--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\);", css)
    return {
        "light": {name: light for name, light, _ in found},
        "dark": {name: dark for name, _, dark in found},
    }


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_contrast_at_every_step(theme: str) -> None:
    """At least 4.5 for tokens on every colour and for every colour of text on every ground."""
    colours = _themes()[theme]
    steps = [f"{sign}{i}" for sign in "pn" for i in range(1, STEPS + 1)]
    for ground in ["paper", "raised", "chip", *steps]:
        assert _contrast(colours["token"], colours[ground]) >= 4.5, ground
    for text in ("ink", "quiet", "link", "flag", "dim"):
        for ground in ("paper", "raised"):
            assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    assert _contrast(colours["dim"], colours["chip"]) >= 4.5
    for mark in ("focus", "tick", "bar-pos", "bar-neg"):
        assert _contrast(colours[mark], colours["paper"]) >= (2 if mark.startswith("bar") else 3)


def _oklab(colour: str) -> tuple[float, float, float]:
    """OKLab coordinates of `#rrggbb` (https://bottosson.github.io/posts/oklab/)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    long = math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b)
    medium = math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b)
    short = math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b)
    return (
        0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short,
    )


def test_oklab() -> None:
    """White, black and red are where its author has them."""
    assert _oklab("#ffffff") == pytest.approx((1, 0, 0), abs=1e-4)
    assert _oklab("#000000") == pytest.approx((0, 0, 0), abs=1e-4)
    assert _oklab("#ff0000") == pytest.approx((0.62796, 0.22486, 0.12585), abs=1e-4)


def _distances(theme: str, sign: str) -> list[float]:
    """How far each step looks from the one before; the first from the page's ground."""
    colours = _themes()[theme]
    names = ["paper", *(f"{sign}{i}" for i in range(1, STEPS + 1))]
    return [math.dist(a, b) for a, b in pairwise(_oklab(colours[name]) for name in names)]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("sign", ["p", "n"])
def test_steps_look_evenly_apart(theme: str, sign: str) -> None:
    """In OKLab all steps are equal, to what rounding to 8 bits leaves."""
    moves = _distances(theme, sign)
    assert max(moves) < 1.15 * min(moves)
    whole = math.dist(_oklab(_themes()[theme]["paper"]), _oklab(_themes()[theme][f"{sign}10"]))
    assert sum(moves) < 1.02 * whole, "they lie on one line"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_both_signs_go_as_far(theme: str) -> None:
    """The same magnitude looks as strong above zero as below."""
    positive, negative = (sum(_distances(theme, sign)) for sign in "pn")
    assert positive == pytest.approx(negative, rel=0.05)
