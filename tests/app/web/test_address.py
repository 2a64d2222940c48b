"""Addresses that readers type: each way of writing a place, and nothing that leads off the site."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.drawing.quoting import quoted
from app.web import urls
from app.web.address import FORMS, LONGEST, Address, parse
from indexer.config import check_name

INDICES = st.integers(0, 10**9 - 1)
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", fullmatch=True)
HOOK_POINTS = st.sampled_from(["mlp.hook_post", "mlp.hook_pre", "mlp.ln.hook_in"])


@pytest.mark.parametrize(
    "text",
    [
        "3/45",
        "L3N45",
        "l3 n45",
        "3 45",
        "3.45",
        "3,45",
        "3:45",
        "l3n45",
        "L3 / N45",
        "layer 3 neuron 45",
        "Layer 3, neuron 45",
        "  3 /  45 ",
        "3\N{NO-BREAK SPACE}45",
        "03/045",
    ],
)
def test_a_place_in_the_model_at_hand(text: str) -> None:
    """Layer and neuron, however they are kept apart."""
    assert parse(text) == Address(layer=3, neuron=45)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("blocks.3.mlp.hook_post 45", Address(None, 3, 45, "mlp.hook_post")),
        ("blocks.3.mlp.hook_post/45", Address(None, 3, 45, "mlp.hook_post")),
        ("blocks.3.mlp.hook_pre neuron 45", Address(None, 3, 45, "mlp.hook_pre")),
        ("Blocks.3.MLP.ln.hook_in 45", Address(None, 3, 45, "mlp.ln.hook_in")),
        ("blocks.3.mlp.hook_post", Address(None, 3, None, "mlp.hook_post")),
        ("demo/blocks.3.mlp.hook_post 45", Address("demo", 3, 45, "mlp.hook_post")),
        ("L3", Address(layer=3)),
        ("layer 3", Address(layer=3)),
        ("demo", Address("demo")),
        ("demo/", Address("demo")),
        ("gelu-1l", Address("gelu-1l")),
        ("Zebra_2.0/3", Address("Zebra_2.0", 3)),
        ("demo/L3", Address("demo", 3)),
        ("demo/3/45", Address("demo", 3, 45)),
        ("demo 3 45", Address("demo", 3, 45)),
        ("demo L3N45", Address("demo", 3, 45)),
        ("demo / layer 3 neuron 45", Address("demo", 3, 45)),
        ("L3H5", Address(None, 3, 5, set="heads")),
        ("layer 3 head 5", Address(None, 3, 5, set="heads")),
        ("demo L3H5", Address("demo", 3, 5, set="heads")),
        ("demo/heads/L3H5", Address("demo", 3, 5, set="heads")),
        ("demo/heads/3/5", Address("demo", 3, 5, set="heads")),
        ("3/45/7", Address("3", 45, 7)),
        ("/demo/3/45", Address("demo", 3, 45)),
        ("https://neurons.example/demo", Address("demo")),
        ("http://127.0.0.1:8000/demo/3/", Address("demo", 3)),
        ("http://127.0.0.1:8000/demo/3/45?run=7&view=context#top", Address("demo", 3, 45, run=7)),
        ("HTTPS://neuroscope.io/gelu-1l/0/45.html", Address("gelu-1l", 0, 45)),
        ("https://neurons.example/demo/3?run=x&sort=max", Address("demo", 3)),
    ],
)
def test_a_place_named_in_full(text: str, address: Address) -> None:
    """With its hook point, with its model, or as the address of its page."""
    assert parse(text) == address


def test_what_reads_as_a_place_is_one() -> None:
    """A model called as a place is written has to be named with a slash, or by its page."""
    assert parse("3.45") == Address(layer=3, neuron=45)
    assert parse("3.45/") == parse("/3.45") == Address("3.45")
    assert parse("L3") == Address(layer=3)
    assert parse("L3/") == Address("L3")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "-3/45",
        "3/-45",
        "3/45/7/9",
        "demo/x!",
        "demo/3/x",
        "two words",
        "../etc",
        "<script>",
        "3/45?run=1",
        "٣/٤٥",
        "3 4567891234",
        "http://[/demo",
        "http://example.org/",
        "http://example.org/a/b!",
        "ftp://example.org/demo",
        "javascript:alert(1)",
        "\u212a3/45 x",  # a Kelvin sign is no k
        "d" * 101,
        "3/45" + " " * LONGEST + "x",
    ],
)
def test_what_names_no_place(text: str) -> None:
    """Anything else is refused rather than guessed at."""
    assert parse(text) is None


@given(NAMES, INDICES, INDICES, st.none() | st.integers(1, 10**9 - 1))
def test_a_page_s_own_address_leads_back_to_it(
    name: str, layer: int, neuron: int, run: int | None
) -> None:
    """The path of each page, and its full address on any host, name what the page shows."""
    for host in ("", "https://neurons.example", "http://127.0.0.1:8000"):
        assert parse(host + urls.model(name, run=run)) == Address(name, run=run)
        assert parse(host + urls.layer(name, layer, run=run)) == Address(name, layer, run=run)
        of_neuron = parse(host + urls.neuron(name, layer, neuron, run=run, view="context"))
        assert of_neuron == Address(name, layer, neuron, run=run)


@given(
    INDICES,
    INDICES,
    HOOK_POINTS,
    st.sampled_from(
        [
            "{layer}/{neuron}",
            "{layer} {neuron}",
            "{layer}.{neuron}",
            "L{layer}N{neuron}",
            "l{layer} n{neuron}",
            "layer {layer} neuron {neuron}",
            "blocks.{layer}.{hook} {neuron}",
            "blocks.{layer}.{hook}/{neuron}",
        ]
    ),
)
def test_every_form_says_its_numbers(layer: int, neuron: int, hook: str, form: str) -> None:
    """Whatever the numbers, each form gives the two back, alone and behind a model's name."""
    text = form.format(layer=layer, neuron=neuron, hook=hook)
    hooked = hook if "{hook}" in form else None
    assert parse(text) == Address(None, layer, neuron, hooked)
    assert parse(f"demo/{text}") == Address("demo", layer, neuron, hooked)


def test_every_name_a_model_can_have_is_read() -> None:
    """What indexing takes for a name, a slash behind it makes an address."""
    for name in ("a", "7", "L3N45", "gpt2-xl", "SmolLM2-135M", "x" * 100, "a.b_c-d"):
        check_name(name)
        assert parse(f"{name}/") == Address(name)


@given(st.text() | st.text("0123456789lLnN /.,:blocks", max_size=30))
def test_nothing_leads_off_the_site(text: str) -> None:
    """Whatever is typed is refused or names a place whose path is plain segments on this server."""
    address = parse(text)
    if address is None:
        return
    assert address.neuron is None or address.layer is not None
    assert address.model is not None or address.layer is not None
    if address.model is not None:
        assert re.fullmatch("/[A-Za-z0-9][A-Za-z0-9._-]*", urls.model(address.model))


@given(st.text())
def test_what_is_said_back_can_be_seen(text: str) -> None:
    """An error quotes what was typed: cut, on one line, with nothing invisible in it."""
    said = quoted(text)
    assert said.isprintable()
    assert len(said) <= 101
    if text.isprintable() and len(text) <= 100:
        assert said == text


def test_the_forms_are_forms() -> None:
    """Each example in the sentence for readers is read."""
    examples = re.split(r", | or ", FORMS)
    assert examples[-1] == "the full address of a page"
    for example in examples[:-1]:
        assert parse(example) is not None, example
