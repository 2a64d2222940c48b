"""`import neurarium`: the same objects from a database and from a server, equal to the JSON."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from html import unescape

import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient

import neurarium
from indexer.store import notes
from indexer.store.database import open_store
from neurarium.objects import Store
from tests.helpers.fixture_store import RunOf, wide_layer
from tests.helpers.html_reader import elements
from tests.helpers.note_servers import keeping, write


@pytest.fixture(scope="module")
def opened(sqlite_filled: str) -> Iterator[Store]:
    """The hand-written store, read without a server."""
    with neurarium.open(sqlite_filled) as store:
        yield store


def test_a_server_beside_a_notebook_answers_to_this_machine_s_names(opened: Store) -> None:
    """Not to a name that DNS rebinding brought here."""
    with neurarium.serve(opened) as server:
        assert httpx.get(f"{server.url}/healthz").status_code == 200
        strange = httpx.get(f"{server.url}/healthz", headers={"Host": "evil.example"})
        assert strange.status_code == 400


def test_importing_loads_nothing_heavy() -> None:
    """`import neurarium` and its version need no web, database, model or array library."""
    heavy = "torch transformers transformer_lens fastapi sqlalchemy numpy pydantic typer pyarrow"
    program = (
        "import sys, neurarium; neurarium.__version__; "
        f"print([name for name in {heavy.split()} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_database_and_a_server_give_the_same(
    opened: Store, connected: Store, client: TestClient
) -> None:
    """A neuron and the rows of a layer, a query and a token are what the JSON says."""
    path = "/api/v1/models/toy"
    wanted = client.get(f"{path}/layers/0/neurons/0").json()
    layer = client.get(f"{path}/layers/0/neurons").json()["items"]
    found = client.get(f"{path}/neurons", params={"q": "max>1"}).json()["items"]
    token = client.get(f"{path}/search/token", params={"token_id": 3}).json()["items"]
    for store in (opened, connected):
        model = store.model("toy")
        assert store.models == opened.models
        assert model.neuron(0, 0).to_dict() == wanted
        assert model.layer(0).to_dicts() == layer
        assert model.find("max>1").to_dicts() == found
        assert model.search(token_id=3).to_dicts() == token
        assert model.run.content_hash == wanted["run"]["content_hash"]


def test_notes_are_read_where_there_are_any(store_url: str) -> None:
    """As a server with notes gives them; reading makes no table for them."""
    engine = open_store(store_url, create=True)
    RunOf("only", (wide_layer(3),)).write(engine)
    with neurarium.open(store_url) as store:
        assert store.model("only").neuron(0, 1).to_dict()["notes"] is None
    assert not notes.exist(engine)
    engine.dispose()
    path = "/api/v1/models/only/layers/0/neurons/1"
    with keeping(store_url) as client:
        write(client, "first", path=f"{path}/notes")
        write(client, "second", path=f"{path}/notes")
        wanted = client.get(path).json()["notes"]
        rows = client.get("/api/v1/models/only/layers/0/neurons").json()["items"]
    with neurarium.open(store_url) as store:
        found = store.model("only").neuron(0, 1).to_dict()["notes"]
        assert found == wanted
        assert [note["text"] for note in found] == ["second", "first"]
        assert store.model("only").neuron(0, 0).to_dict()["notes"] == []
        layer = store.model("only").layer(0)
        assert layer.to_dicts() == rows
        assert [row.note for row in store.model("only").find("sort:neuron")] == [
            None,
            "second",
            None,
        ]
        assert layer.to_pandas()["note"].fillna("").tolist() == ["", "second", ""]
        assert layer.to_polars()["note"].to_list() == [None, "second", None]
        assert "<th>note</th>" in layer._repr_html_()


def test_arrays_are_numpy(opened: Store) -> None:
    """Activations are float32 with NaN where nothing is included; so with other arrays."""
    neuron = opened.model("toy").neuron(0, 0)
    example, stored = neuron.top[0], neuron.page.examples.top[0]
    values = example.activations
    assert values.dtype == np.float32
    assert [None if np.isnan(v) else v for v in values.tolist()] == [
        None if v is None else float(np.float32(v)) for v in stored.activations
    ]
    assert np.nanmax(values) == np.float32(example.peak)
    assert example.token_ids.tolist() == stored.token_ids
    counts, edges = neuron.histogram
    assert len(edges) == len(counts) + 1
    whole = neuron.context(stored.context_id)
    assert whole.tokens[stored.start : stored.start + len(stored.tokens)] == stored.tokens


def test_frames_equal_the_json(opened: Store) -> None:
    """pandas, polars and Arrow have the rows of the JSON."""
    layer = opened.model("toy").layer(1)
    rows = layer.to_dicts()
    assert layer.to_arrow().to_pylist() == rows
    assert layer.to_polars().to_dicts() == rows
    frame = layer.to_pandas()
    assert list(frame.columns) == list(rows[0])
    assert frame["max"].tolist() == [row["max"] for row in rows]
    assert len(layer) == len(rows)


def test_cards_are_safe_and_self_contained(opened: Store) -> None:
    """A card is one frame that runs nothing and asks for nothing, and a token that looks like
    markup is text in it."""
    model = opened.model("toy")
    for layer in model.layers:
        for row in layer:
            card = layer.neuron(row.neuron)._repr_html_()
            assert card.startswith('<iframe sandbox="" srcdoc="')
            assert card.count("<") == 2  # the frame's own tags: all else is in its attribute
            document = unescape(card.partition('srcdoc="')[2].partition('" title=')[0])
            assert "<script" not in document
            assert 'href="' not in document
            assert "src=" not in document
            assert "url(http" not in document
            elements(document)


def test_mistakes_are_one_line(opened: Store, connected: Store) -> None:
    """What does not exist is said in the page's words, from either side."""
    for store in (opened, connected):
        with pytest.raises(neurarium.NeurariumError, match="There is no model 'nobody'"):
            store.model("nobody")
        with pytest.raises(neurarium.NeurariumError, match="there is no neuron 99"):
            store.model("toy").neuron(0, 99)
        with pytest.raises(neurarium.NeurariumError, match="At character 1 of the query"):
            len(store.model("toy").find("loud>3"))
        with pytest.raises(neurarium.NeurariumError, match="There is no role 'loud': use peak"):
            store.model("toy").search(token_id=3, role="loud")
    with pytest.raises(neurarium.NeurariumError, match="No server answers at http://127"):
        neurarium.connect("http://127.0.0.1:9")
    with pytest.raises(neurarium.NeurariumError, match="There is no database at") as raised:
        neurarium.open("/nowhere/at/all.db")
    assert "--" not in str(raised.value), "there is no command line here"
    with pytest.raises(neurarium.NeurariumError, match="is not a server's address"):
        neurarium.connect("localhost")


def test_numpy_s_integers_are_integers(opened: Store, connected: Store) -> None:
    """Numbers from a data frame or an array give what Python's own give."""
    for store in (opened, connected):
        model = store.model("toy")
        row = model.layer(np.int64(0)).to_pandas().iloc[0]
        neuron = model.neuron(row.layer, row.neuron)
        assert neuron.to_dict() == model.neuron(0, 0).to_dict()
        assert store.model("toy", run=np.int64(model.run.id)).run == model.run
        assert model.search(token_id=np.int32(3)).to_dicts() == model.search(token_id=3).to_dicts()
        found = neuron.top[0].data.context_id
        assert neuron.context(np.uint8(found)).text == neuron.context(found).text


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda store: store.model("toy").neuron(1, -1), "neuron -1 is out of range"),
        (lambda store: store.model("toy").neuron(-1, 1), "layer -1 is out of range"),
        (lambda store: store.model("toy").neuron(0, "1"), "neuron '1' is not a whole number"),
        (lambda store: store.model("toy").neuron(0, 2**63), "is out of range"),
        (lambda store: store.model("toy").neuron(9, 0), "there is no layer 9"),
        (lambda store: store.model("toy").layer(-1), "layer -1 is out of range"),
        (lambda store: store.model("toy").layer(1.0), "layer 1.0 is not a whole number"),
        (lambda store: len(store.model("toy").layer(9)), "there is no layer 9"),
        (lambda store: store.model("toy").layer(0).neuron(-1), "neuron -1 is out of range"),
        (lambda store: store.model("toy").head(-1, 0), "layer -1 is out of range"),
        (lambda store: store.model("toy").head(0, -1), "head -1 is out of range"),
        (lambda store: store.model("toy").search(token_id=-1), "token_id -1 is out of range"),
        (lambda store: store.model("toy").search(3), "token 3 is not a text"),
        (lambda store: store.model("toy").search(token_id="3"), "token_id '3' is not a whole"),
        (lambda store: len(store.model("toy").search(token_id=999)), "there is no token 999"),
        (lambda store: store.model("toy").find(3), "query 3 is not a text"),
        (lambda store: store.model("toy").neuron(0, 0).context(-1), "context_id -1 is out of"),
        (lambda store: store.model("toy").neuron(0, 0).context(0.5), "context_id 0.5 is not"),
        (lambda store: store.model("toy").neuron(0, 0).activations(5), "text 5 is not a text"),
        (lambda store: store.model("toy", run=0), "run 0 is out of range: .* from 1 on"),
        (lambda store: store.model("toy", run="1"), "run '1' is not a whole number"),
        (lambda store: store.model(3), "name 3 is not a text"),
    ],
)
def test_values_that_name_nothing(
    opened: Store, connected: Store, ask: Callable[[Store], object], message: str
) -> None:
    """A value that can name nothing raises one line, the same for a database and for a server."""
    said = []
    for store in (opened, connected):
        with pytest.raises(neurarium.NeurariumError, match=message) as raised:
            ask(store)
        said.append(str(raised.value))
    assert said[0] == said[1]
    assert "\n" not in said[0]


def test_what_is_shown_of_an_answer_is_one_short_line(opened: Store) -> None:
    """However many values it holds."""
    neuron = opened.model("toy").neuron(0, 0)
    for shown in (opened.model("toy").run, neuron.page, neuron.top[0].data, neuron.stats):
        line = repr(shown)
        assert line.startswith(f"{type(shown).__name__}(")
        assert "\n" not in line
        assert len(line) <= 200
