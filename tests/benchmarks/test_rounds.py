"""Turns are shared fairly, and ratios are of rounds that both had."""

from __future__ import annotations

import time

import pytest

from benchmarks.rounds import Turn, announced, interleave, quartiles, times_faster


def test_everything_has_a_turn_in_every_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders differ and come from the seed; what has every third round only gets that."""
    ticks = iter(range(10**6))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
    monkeypatch.setattr(time, "process_time", lambda: 2.0 * next(ticks))
    calls: list[tuple[str, int]] = []

    def play(seed: int) -> list[Turn[str, int]]:
        calls.clear()
        players = {
            name: lambda item, name=name: calls.append((name, item)) or item for name in "abc"
        }
        return list(interleave(players, range(10, 18), seed, every={"c": 3}))

    turns = play(0)
    assert [(turn.key, turn.item) for turn in turns] == calls
    assert sorted(calls) == sorted(
        [(name, item) for name in "ab" for item in range(10, 18)] + [("c", n) for n in (10, 13, 16)]
    )
    assert all(turn.result == turn.item == turn.round + 10 for turn in turns)
    assert {(turn.wall, turn.processor) for turn in turns} == {(2.0, 4.0)}
    order = [turn.key for turn in turns]
    assert [turn.key for turn in play(0)] == order
    assert [turn.key for turn in play(1)] != order


def test_ratios_are_of_rounds_that_both_had() -> None:
    """In the order of the rounds; without a common round there is none."""
    walls = {("a", 0): 1.0, ("a", 1): 2.0, ("b", 1): 3.0, ("b", 2): 5.0, ("c", 0): 0.5}
    turns = [Turn(key, number, None, wall, 0.0, None) for (key, number), wall in walls.items()]
    assert times_faster(turns, "a", "b") == [1.5]
    assert times_faster(turns, "c", "a") == [2.0]
    assert times_faster(turns, "c", "b") == []


def test_quartiles() -> None:
    """A single value is all three."""
    assert quartiles([50.0, 80.0, 25.0]) == (37.5, 50.0, 65.0)
    assert quartiles([2.0]) == (2.0, 2.0, 2.0)


def test_progress_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every turn is passed on; a line at most every five seconds, and one at the end."""
    clock = iter([0.0, 2.0, 6.0, 7.0, 8.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    turns = [Turn("a", number, None, 0.0, 0.0, None) for number in range(4)]
    assert list(announced(turns, 4, "turns")) == turns
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "turns: 2 of 4, 6 s\nturns: 4 of 4, 8 s\n"
