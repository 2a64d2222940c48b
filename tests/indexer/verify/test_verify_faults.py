"""Verification finds and names each fault planted in examples and lists of a small real run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, select

from indexer.store import schema
from indexer.store.database import open_store
from indexer.store.packing.codec import ExampleArrays
from tests.helpers.verify_cases import (
    HERE,
    NEURON,
    SmallRun,
    check,
    examples_of,
    lines_of,
    make,
    name_neuron,
    only,
    put,
    verified,
    with_value,
)


def edit(
    small: SmallRun, kind: str, work: Callable[[ExampleArrays], ExampleArrays]
) -> ExampleArrays:
    """Change a list of the neuron, and return it as it was."""
    before = examples_of(small, NEURON, kind)
    put(small, NEURON, kind, work(before))
    return before


# --- One example ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["top", "bottom", "random", "band", "source"])
def test_a_changed_activation(small: SmallRun, kind: str) -> None:
    """A change of two 8-bit steps exceeds the bound, in lists of all kinds."""
    before = examples_of(small, NEURON, kind)
    lengths = before.lengths.astype(int)
    middle = int(lengths[0]) + int(before.peak_positions[1]) - int(before.starts[1])
    steps = np.abs(before.quantized.astype(int))
    # A position in the second example other than its peak, trough and BOS.
    second = range(int(lengths[0]), int(lengths[0] + lengths[1]))
    trough = int(lengths[0]) + int(before.trough_positions[1]) - int(before.starts[1])
    place = next(p for p in second if p not in (middle, trough, second[0]) and steps[p] < 120)
    value = before.quantized[place] + (3 if before.quantized[place] < 0 else -3)
    put(small, NEURON, kind, with_value(before, "quantized", place, value))
    position = int(before.starts[1]) + place - int(lengths[0])
    check(
        small,
        f"{HERE}, {kind}, context {before.context_ids[1]}: the activation at position {position} (",
    )


def test_a_step_of_8_bits_is_no_fault(small: SmallRun) -> None:
    """Differences below 8-bit precision are within the bound."""
    before = examples_of(small, NEURON, "random")
    scale = float(before.scales[0])
    edit(small, "random", lambda e: with_value(e, "scales", 0, scale * (1 + 1e-5)))
    check(small)


def test_a_wrong_peak_position(small: SmallRun) -> None:
    """Moved to another position in the window."""
    top = examples_of(small, NEURON, "top")
    peak, start = int(top.peak_positions[2]), int(top.starts[2])
    other = start + int(top.lengths[2]) - 1 if peak == start + 4 else start + 4
    put(small, NEURON, "top", with_value(top, "peak_positions", 2, other))
    check(
        small,
        f"{HERE}, top, context {top.context_ids[2]}: the peak is at position {peak}, not {other}",
        f"{HERE}, top, context {top.context_ids[2]}: the gate at its centre (",
        f"{HERE}, top, context {top.context_ids[2]}: the linear part at its centre (",
    )


@pytest.mark.parametrize("position", [0, 16, 65535])
def test_a_position_that_cannot_be(small: SmallRun, position: int) -> None:
    """The BOS, just behind the context's end, and far behind it."""
    before = edit(small, "random", lambda e: with_value(e, "trough_positions", 0, position))
    context, place = before.context_ids[0], before.trough_positions[0]
    check(small, f"{HERE}, random, context {context}: the trough is at position {place}, not")


@pytest.mark.parametrize("field", ["peaks", "troughs"])
@pytest.mark.parametrize("change_of", [lambda v: v + 3e-4 * max(abs(v), 1), lambda v: np.nan])
def test_a_wrong_extreme(small: SmallRun, field: str, change_of: Callable[[float], float]) -> None:
    """A little beyond the bound, or NaN."""
    random = examples_of(small, NEURON, "random")
    value = float(getattr(random, field)[3])
    put(small, NEURON, "random", with_value(random, field, 3, change_of(value)))
    lines = lines_of(verified(small))
    wanted = f"{HERE}, random, context {random.context_ids[3]}: the {field[:-1]} (stored "
    assert any(line.startswith(wanted) for line in lines)
    assert all(f"context {random.context_ids[3]}: " in line for line in lines)


@pytest.mark.parametrize(("field", "name"), [("gates", "gate"), ("linears", "linear part")])
def test_a_wrong_gate_or_linear_part(small: SmallRun, field: str, name: str) -> None:
    """Another value, or NaN."""
    for value in (9.5, np.nan):
        bottom = examples_of(small, NEURON, "bottom")
        put(small, NEURON, "bottom", with_value(bottom, field, 1, value))
        check(small, f"{HERE}, bottom, context {bottom.context_ids[1]}: the {name} at its centre (")


def test_a_window_that_does_not_hold_its_peak(small: SmallRun) -> None:
    """Moved, with the activations of its new positions."""
    top = examples_of(small, NEURON, "top")
    where = [
        i
        for i in range(5)
        if int(top.starts[i]) >= 1 and int(top.peak_positions[i]) == int(top.starts[i]) + 8
    ]
    index = where[0] if where else int(np.flatnonzero(top.starts >= 1)[0])
    put(small, NEURON, "top", with_value(top, "starts", index, 0))
    lines = lines_of(verified(small))
    assert any(f"context {top.context_ids[index]}: the activation at" in line for line in lines)


def test_a_shorter_window(small: SmallRun) -> None:
    """The last activation is missing."""

    def shorter(examples: ExampleArrays) -> ExampleArrays:
        lengths = examples.lengths.copy()
        lengths[-1] -= 1
        return replace(examples, lengths=lengths, quantized=examples.quantized[:-1])

    before = edit(small, "random", shorter)
    start, length = int(before.starts[-1]), int(before.lengths[-1])
    told_lines = lines_of(verified(small))
    wanted = f"the window covers positions {start} to {start + length - 2}"
    assert any(wanted in line for line in told_lines)


# --- A list --------------------------------------------------------------------------------------


def test_a_missing_example(small: SmallRun, tmp_path: Path) -> None:
    """Another context replaces it, so that the list looks complete: only comparing contexts finds
    it."""
    longer = make(tmp_path / "six", Path(small.config.model), window=9, top_k=6)
    six = examples_of(longer, NEURON, "top")
    before = edit(small, "top", lambda _: only(six, [0, 2, 3, 4, 5]))
    missing, new = int(before.context_ids[1]), int(six.context_ids[5])
    name_neuron(small, NEURON, missing, named=False)
    name_neuron(small, NEURON, new, named=True)
    wanted = f"{HERE}, top, context {missing}: should be in the list and is not ("
    check(small, wanted)
    # This does not depend on which neurons' examples are compared.
    lines = lines_of(verified(small, neurons=1, seed=1))
    assert [line.startswith(wanted) for line in lines] == [True]


@pytest.mark.parametrize(("kind", "most"), [("top", 5), ("bottom", 3), ("source", 9)])
def test_a_short_list(small: SmallRun, kind: str, most: int) -> None:
    """The last example is missing, found whichever neurons are compared."""
    edit(small, kind, lambda e: only(e, list(range(most - 1))))
    lines = lines_of(verified(small, neurons=1, contexts=1, seed=1))
    assert lines[0].startswith(
        f"{HERE}, {kind}: the list has {most - 1} examples, not {most}  LINK"
    )


@pytest.mark.parametrize("kind", ["top", "bottom", "source", "random", "band"])
def test_a_list_that_is_gone(small: SmallRun, kind: str) -> None:
    """A row of `examples` is missing."""
    put(small, NEURON, kind, None)
    lines = lines_of(verified(small))
    assert any(line.startswith(f"{HERE}, {kind}: the") for line in lines)


@pytest.mark.parametrize("kind", ["top", "random"])
@pytest.mark.parametrize(
    "packed", [b"", b"\x01", b"\x07abc", b"\x01\x28\xb5\x2f\xfd\x20\x01\x09\x00"]
)
def test_a_damaged_list(small: SmallRun, kind: str, packed: bytes) -> None:
    """Invalid bytes are a finding, and verification continues."""
    put(small, NEURON, kind, packed)
    lines = lines_of(verified(small))
    assert lines[0].startswith(f"{HERE}: its lists of examples cannot be read: ")
    # Contexts that list the neuron then disagree with its list.
    assert all(line.startswith((HERE, "context ")) for line in lines)


def test_a_wrong_order(small: SmallRun) -> None:
    """Two examples are swapped."""
    for kind in ("top", "bottom"):
        before = edit(small, kind, lambda e: only(e, [0, 2, 1, *range(3, len(e))]))
        lines = lines_of(verified(small))
        told_line = (
            f"{HERE}, {kind}: example 3 (context {before.context_ids[1]}) comes after a lower one"
        )
        assert any(line.startswith(told_line) for line in lines)


def test_the_first_two_have_changed_places(small: SmallRun) -> None:
    """The maximum then differs from the first example as well."""
    before = edit(small, "top", lambda e: only(e, [1, 0, 2, 3, 4]))
    lines = lines_of(verified(small))
    assert f"{HERE}, top: example 2 (context {before.context_ids[0]})" in lines[0] + lines[1]
    assert any(line.startswith(f"{HERE}, top: the maximum is") for line in lines)


def test_ties_in_the_wrong_order(small: SmallRun) -> None:
    """Among equal peaks, the earlier context must come first."""
    top = examples_of(small, NEURON, "top")
    tied = with_value(top, "peaks", 1, top.peaks[2])
    later = max(int(top.context_ids[1]), int(top.context_ids[2]))
    ids = tied.context_ids.copy()
    ids[1], ids[2] = later, int(top.context_ids[1]) + int(top.context_ids[2]) - later
    put(small, NEURON, "top", replace(tied, context_ids=ids))
    lines = lines_of(verified(small))
    assert any(f"example 3 (context {ids[2]}) comes after a lower one" in line for line in lines)


@pytest.mark.parametrize("kind", ["top", "source", "random"])
def test_a_context_that_is_not_in_the_corpus(small: SmallRun, kind: str) -> None:
    """Ids below 0 and beyond the end."""
    for context_id in (-1, 10**12):
        edit(small, kind, lambda e, c=context_id: with_value(e, "context_ids", 0, c))
        lines = lines_of(verified(small))
        wanted = (
            "these are not the first" if kind == "random" else f"there is no context {context_id}"
        )
        assert any(line.startswith(f"{HERE}, {kind}: {wanted}") for line in lines)


def test_a_context_that_is_there_twice(small: SmallRun) -> None:
    """A list may have a context only once."""
    edit(small, "top", lambda e: only(e, [0, 1, 1, 2, 3]))
    assert any(
        line.startswith(f"{HERE}, top: it has a context twice")
        for line in lines_of(verified(small))
    )


def test_a_peak_that_is_not_its_own_in_a_list_of_any_neuron(small: SmallRun) -> None:
    """Found by comparing contexts, although the neuron's examples are not compared."""
    before = edit(small, "bottom", lambda e: with_value(e, "troughs", 2, e.troughs[1]))
    lines = lines_of(verified(small, neurons=1, seed=1))
    wanted = (
        f"{HERE}, bottom, context {before.context_ids[2]}: is in the list with another value "
        f"(stored {before.troughs[1]:.7g}, recomputed "
    )
    assert any(line.startswith(wanted) for line in lines), lines


def test_a_source_with_too_many(small: SmallRun) -> None:
    """Sources in another order, or a source in place of another."""
    edit(small, "source", lambda e: only(e, [3, 4, 5, 0, 1, 2, 6, 7, 8]))
    assert any("the sources are not in order" in line for line in lines_of(verified(small)))


def test_a_random_example_that_was_not_drawn(small: SmallRun) -> None:
    """Random examples in another order."""
    edit(small, "random", lambda e: only(e, [1, 0, *range(2, 12)]))
    check(
        small, f"{HERE}, random: these are not the first contexts of the sample's second half  LINK"
    )


def test_bands(small: SmallRun) -> None:
    """An example missing, another order, a peak of another band, a context of the first half."""
    before = examples_of(small, NEURON, "band")
    count = len(before)
    put(small, NEURON, "band", only(before, list(range(count - 1))))
    check(small, f"{HERE}, band: the list has {count - 1} examples, not {count}")
    put(small, NEURON, "band", only(before, [1, 0, *range(2, count)]))
    check(small, f"{HERE}, band: a band is not in hash order")
    put(small, NEURON, "band", with_value(before, "peaks", 0, 99.0))
    assert lines_of(verified(small))[0].startswith(f"{HERE}, band: it has a peak outside its band")
    top = examples_of(small, NEURON, "top")
    half = set(examples_of(small, NEURON, "random").context_ids.tolist())
    other = next(c for c in top.context_ids.tolist() if c not in half)
    put(small, NEURON, "band", with_value(before, "context_ids", 0, other))
    assert "a context that is not in the sample's second half" in lines_of(verified(small))[0]


def test_verification_changes_nothing(clean: SmallRun, small: SmallRun) -> None:
    """Verification does not change the store."""
    verified(small)
    counts = []
    for url in (clean.url, small.url):
        engine = open_store(url, create=False)
        with engine.connect() as connection:
            counts.append(
                [
                    connection.scalar(select(func.count()).select_from(table))
                    for table in schema.metadata.sorted_tables
                ]
            )
        engine.dispose()
    assert counts[0] == counts[1]
