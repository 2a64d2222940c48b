"""The addresses that the benchmark of searches asks for: each is answered, and finds something."""

from __future__ import annotations

from fastapi.testclient import TestClient

from benchmarks.pages import searches


def test_every_address_is_answered(client: TestClient, sqlite_filled: str) -> None:
    """Of each kind; the same seed gives the same."""
    cases = searches.cases("http://127.0.0.1", sqlite_filled, 0)
    assert {case.name for case in cases} == {*searches.SEARCHES, *searches.LISTINGS}
    again = searches.cases("http://127.0.0.1", sqlite_filled, 0)
    assert [case.paths for case in cases] == [case.paths for case in again]
    for case in cases:
        for path in list(dict.fromkeys(case.paths))[:8]:
            answer = client.get(path)
            assert answer.status_code == 200, path
            if case.name in (searches.WORDS, searches.PHRASE, searches.BEGIN):
                assert "/contexts/" in answer.text, path
