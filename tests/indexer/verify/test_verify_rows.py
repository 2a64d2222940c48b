"""Verification finds each fault planted in columns, in tables for searches and in contexts."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import delete, select, update

from indexer.store import schema
from indexer.store.database import open_store
from indexer.store.packing.codec import pack_token_ids, unpack_token_ids
from indexer.store.packing.postings import pack_tokens, unpack_token
from tests.helpers.verify_cases import (
    HERE,
    NEURON,
    WIDTH,
    SmallRun,
    change,
    check,
    examples_of,
    flat_of,
    lines_of,
    name_neuron,
    set_context,
    set_neuron,
    verified,
)


@pytest.mark.parametrize(("column", "sign"), [("max", 1), ("min", -1)])
def test_a_wrong_maximum_or_minimum(small: SmallRun, column: str, sign: int) -> None:
    """Too extreme, it differs from its list; too small, contexts exceed it as well."""
    name = {"max": "maximum", "min": "minimum"}[column]
    first = examples_of(small, NEURON, "top" if sign > 0 else "bottom")
    extreme = float((first.peaks if sign > 0 else first.troughs)[0])
    set_neuron(small, NEURON, **{column: extreme + sign})
    kind = "top" if sign > 0 else "bottom"
    check(
        small,
        f"{HERE}: searches have its {column} as ",
        f"{HERE}, {kind}: the {name} is {extreme + sign:.7g}, the ",
    )
    set_neuron(small, NEURON, **{column: extreme - sign})
    lines = lines_of(verified(small, neurons=1, seed=1))
    assert any(f"goes beyond the {name} (stored" in line for line in lines[1:])


def test_what_searches_read_is_another(small: SmallRun) -> None:
    """A changed number in a column, a token with a wrong or missing neuron, a truncated column."""
    columns, tokens = schema.neuron_columns, schema.token_neurons
    of_density = (columns.c.name == "density") & (columns.c.layer == NEURON[0])
    role = schema.ROLES.index("promoted")
    engine = open_store(small.url, create=False)
    with engine.connect() as connection:
        packed = connection.execute(select(columns.c.packed).where(of_density)).scalar_one()
        rows = connection.execute(select(tokens).where(tokens.c.role == role)).all()
    engine.dispose()
    values = np.frombuffer(packed, "<f8").copy()
    values[NEURON[1]] += 0.25
    for column, others in ((values.tobytes(), 0), (packed[: 8 * NEURON[1]], WIDTH - NEURON[1] - 1)):
        change(
            small,
            lambda c, column=column: c.execute(
                update(columns).where(of_density).values(packed=column)
            ),
        )
        lines = lines_of(verified(small, contexts=1))
        assert len(lines) == 1 + others
        assert lines[0].startswith(f"{HERE}: searches have its density as ")
    change(small, lambda c: c.execute(update(columns).where(of_density).values(packed=packed)))

    row = next(row for row in rows if flat_of(NEURON) in unpack_token(row.packed, row.neurons)[0])
    neurons, effects, _ = unpack_token(row.packed, row.neurons)
    nine = np.where(neurons == flat_of(NEURON), np.float32(9), effects)
    single, none = np.array([len(neurons)]), np.array([False])
    (changed,) = pack_tokens(neurons, nine, np.zeros_like(neurons), single, none)
    there = (tokens.c.token_id == row.token_id) & (tokens.c.role == role)
    change(small, lambda c: c.execute(update(tokens).where(there).values(packed=changed)))
    check(small, f"{HERE}: searches have token {row.token_id} as promoted by 9.0, its own list by ")
    change(small, lambda c: c.execute(delete(tokens).where(there)))
    lines = lines_of(verified(small, contexts=1))
    assert len(lines) == row.neurons
    assert f"{HERE}: searches have token {row.token_id} as promoted by None" in " ".join(lines)


def test_a_wrong_token_of_a_neuron(small: SmallRun) -> None:
    """A wrong token of a neuron; the column for searches then differs, too."""
    set_neuron(small, NEURON, peak_token_id=319)
    check(
        small,
        f"{HERE}: its token is 319, the token at its highest peak ",
        f"{HERE}: searches have its peak_token_id as ",
    )


def test_a_neuron_that_is_gone(small: SmallRun) -> None:
    """The neuron's row and all that belongs to it are missing."""
    key = schema.neuron_key(1, flat_of(NEURON))
    for table in (schema.examples, schema.neuron_arrays):
        change(small, lambda c, t=table: c.execute(delete(t).where(t.c.neuron_id == key)))
    change(small, lambda c: c.execute(delete(schema.neurons).where(schema.neurons.c.id == key)))
    lines = lines_of(verified(small))
    assert any(line.startswith(f"{HERE}, top: the list is missing") for line in lines)


def test_damaged_small_arrays(small: SmallRun) -> None:
    """Unreadable small arrays are a finding, since the list of bands needs them."""
    table, key = schema.neuron_arrays, schema.neuron_key(1, flat_of(NEURON))
    change(
        small,
        lambda c: c.execute(update(table).where(table.c.neuron_id == key).values(packed=b"\x02")),
    )
    check(small, f"{HERE}: its small arrays cannot be read")


def context_of(small: SmallRun) -> tuple[int, bytes]:
    """A context of the neuron's examples, and its stored tokens."""
    context_id = int(examples_of(small, NEURON, "top").context_ids[0])
    table = schema.contexts
    engine = open_store(small.url, create=False)
    with engine.connect() as connection:
        query = select(table.c.token_ids).where(table.c.context_id == context_id)
        packed: bytes = connection.execute(query).scalar_one()
    engine.dispose()
    return context_id, packed


def test_a_wrong_token(small: SmallRun) -> None:
    """A wrong token, or one token too few."""
    context_id, packed = context_of(small)
    ids = unpack_token_ids(packed).copy()
    was, ids[3] = int(ids[3]), 300
    set_context(small, context_id, token_ids=pack_token_ids(ids))
    check(small, f"context {context_id}: token 300 is stored at position 3, not {was}")
    set_context(small, context_id, token_ids=packed[:-4])
    check(small, f"context {context_id}: {len(ids) - 1} tokens are stored, not {len(ids)}")


@pytest.mark.parametrize("column", ["included_from", "document_index", "source_index"])
def test_a_context_in_a_wrong_place(small: SmallRun, column: str) -> None:
    """A wrong document, source or first included position."""
    context_id, _ = context_of(small)
    set_context(small, context_id, **{column: 7})
    check(small, f"context {context_id}: its {column} is 7, not ")


def test_a_context_that_names_other_neurons(small: SmallRun) -> None:
    """A context must list exactly the neurons it is a top example of."""
    context_id, _ = context_of(small)
    name_neuron(small, NEURON, context_id, named=False)
    check(small, f"context {context_id}: it lists ")


def test_a_context_that_is_gone(small: SmallRun) -> None:
    """Contexts of examples must be stored."""
    context_id, _ = context_of(small)
    table = schema.contexts
    change(small, lambda c: c.execute(delete(table).where(table.c.context_id == context_id)))
    check(small, f"context {context_id}: an example's context is not stored")
