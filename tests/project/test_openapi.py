"""The OpenAPI document is true: whatever it lets be asked is answered, and as it says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, assume, core, given, settings
from pydantic import SecretStr
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from tests.conftest import fill
from tests.helpers.note_servers import TOKEN

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
EXAMPLES = 8
"""Requests of each kind to each operation."""
LONGEST_URL = 65_000
"""Characters that the test's own client takes, nearly."""
THERE: dict[str, Any] = {
    "model": "toy",
    "layer": 0,
    "neuron": 0,
    "context": 2,
    "run": 3,
    "note": 1,
    "head": 0,  # of no run in this store: its 404 is checked here
}
ASKED: dict[str, dict[str, Any]] = {
    "/api/v1/compare": {"a": "toy/0/0", "b": "1/1"},
    "/api/v1/list": {"n": "toy/0/0,9/9"},
    "/api/v1/models/{model}/neurons": {"q": "max>-9 sort:-max", "run": 3},
    "/api/v1/models/{model}/search/text": {"q": "the", "run": 3},
    "/api/v1/models/{model}/search/token": {"token_id": 5, "run": 3},
    "/api/v1/models/{model}/tokens": {"prefix": "t", "run": 3},
}
"""What leads somewhere: at random hardly anything would."""


@pytest.fixture(scope="module", autouse=True)
def printing() -> Iterator[None]:
    """Schemathesis takes from Hypothesis what prints examples: it gets it back for other files."""
    kept = core.RepresentationPrinter
    yield
    core.RepresentationPrinter = kept


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A server over the hand-written store that takes notes and loads no models."""
    with fill(f"sqlite:///{tmp_path_factory.mktemp('openapi') / 'store.db'}") as url:
        app = create_app(Settings(database_url=url, notes=True, notes_token=SecretStr(TOKEN)))
        with TestClient(app, raise_server_exceptions=False) as client:
            yield client


def cases(operation: Any, kind: str) -> Any:
    """Requests to an operation: `there`, of what exists; `valid`, as the document lets them be;
    `invalid`, as it does not; `kept`, by somebody who has the answer already."""
    if kind == "invalid":
        return operation.as_strategy(GenerationMode.NEGATIVE)
    if kind == "valid":
        return operation.as_strategy()
    names = [parameter.name for parameter in operation.path_parameters]
    return operation.as_strategy(
        path_parameters={name: THERE[name] for name in names},
        query=ASKED.get(operation.path, {}),
    )


def sent(client: TestClient, case: Case, **headers: str) -> Any:
    """What the server answers, to the request as it goes over the wire."""
    request = requests.Request(**case.as_transport_kwargs(base_url="http://testserver"))
    wire = request.prepare()
    assert wire.url is not None
    assume(len(wire.url) < LONGEST_URL)
    return client.request(
        wire.method, wire.url, headers=dict(wire.headers) | headers, content=wire.body
    )


@pytest.mark.parametrize("kind", ["there", "valid", "invalid", "kept"])
def test_nothing_is_answered_but_as_documented(client: TestClient, kind: str) -> None:
    """No operation has another status, type or shape of answer than it documents, nor fails."""
    schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    wrong: list[str] = []
    answers: Counter[int] = Counter()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    if kind == "kept":
        headers["If-None-Match"] = "*"
    for found in schema.get_all_operations():
        operation = found.ok()
        if "{set}" in operation.path:
            continue  # the same handler, with the same documentation, as the path without a set
        if kind == "invalid" and operation.path == "/healthz":
            continue  # takes nothing, so nothing is wrong for it

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            deadline=None,
            phases=[Phase.generate],  # what fails is said as it is: there is little to shrink
            suppress_health_check=list(HealthCheck),
        )
        @given(case=cases(operation, kind))
        def check(case: Case) -> None:
            response = sent(client, case, **headers)
            answers[response.status_code] += 1
            case.validate_response(response, checks=CHECKS)

        try:
            check()
        except FailureGroup as error:
            wrong.append(f"{operation.label}: {error}")
    assert not wrong, "\n\n".join(wrong)
    expected = {"there": {200, 201}, "valid": {200, 404}, "invalid": {422}, "kept": {304}}
    assert expected[kind] <= set(answers)


def test_wrong_set_is_answered_as_documented(client: TestClient) -> None:
    """What is no name of a set is invalid, whatever the method: no other route answers for it."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    paths = client.get("/openapi.json").json()["paths"]
    statuses = {
        (method, path): client.request(
            method, path.format(**THERE | {"set": "%11"}), headers=headers
        ).status_code
        for path, operations in paths.items()
        if "{set}" in path
        for method in operations
    }
    assert {method for method, _ in statuses} == {"get", "post", "delete"}
    assert set(statuses.values()) == {422}, statuses
    note = "/api/v1/models/toy/sets/nobody/layers/0/neurons/0/notes"
    assert (
        client.post(note, headers=headers, json={"author": "A", "text": "Hm."}).status_code == 404
    )
