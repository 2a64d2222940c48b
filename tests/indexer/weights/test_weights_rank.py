"""Rankings against Python's sort."""

from __future__ import annotations

import pytest
import torch

from indexer.weights import rank as weights_rank
from indexer.weights.rank import NOTHING, best, largest, pack, unpack
from tests.helpers.weight_oracles import ranked


def test_a_key_holds_its_value_and_id() -> None:
    """Every float32 comes back, and every id below 2^32."""
    values = torch.tensor([-torch.inf, -3e38, -1.5, -1e-45, 0, 1e-45, 2.0, 3e38, torch.inf])
    ids = torch.tensor([0, 1, 2**32 - 1, 7, 8, 9, 2**31, 3, 4])
    back, back_ids = unpack(pack(values, ids))
    assert back.tolist() == values.tolist()
    assert back_ids.tolist() == ids.tolist()


def test_keys_are_in_the_order_of_values_then_ids() -> None:
    """A larger value has a larger key; of equal values, −0 and 0 among them, the lower id has."""
    values = torch.tensor([-torch.inf, -2.0, -1e-45, -0.0, 0.0, 1e-45, 1.0, 1.0, torch.inf])
    ids = torch.tensor([5, 5, 5, 6, 5, 5, 6, 5, 5])
    keys = pack(values, ids)
    assert (keys[1:] > keys[:-1]).all()
    assert (keys > NOTHING).all()


@pytest.mark.parametrize("shape", [(3, 1), (4, 7), (5, 700), (6, 1003)])
@pytest.mark.parametrize("levels", [2, 40, 10**6])
@pytest.mark.parametrize("k", [1, 5, 15])
def test_the_largest_are_a_sorts_first(
    shape: tuple[int, int], levels: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With many ties, few and none, with rows shorter than k and rows that do not fill groups."""
    monkeypatch.setattr(weights_rank, "_TIED", 2048)
    generator = torch.Generator().manual_seed(k)
    values = torch.randint(-levels, levels, shape, generator=generator).float() / 7
    found, columns = unpack(largest(values, k))
    for row, some, places in zip(values.tolist(), found.tolist(), columns.tolist(), strict=True):
        assert places == ranked(row, k)
        assert some == [row[place] for place in places]


def test_rankings_of_pieces_merge_to_that_of_the_whole() -> None:
    """Pieces, each with its first column, give what one ranking gives."""
    generator = torch.Generator().manual_seed(3)
    values = torch.randint(-3, 3, (8, 300), generator=generator).float()
    pieces = [largest(values[:, i : i + 40], 5) - i for i in range(0, 300, 40)]
    assert torch.equal(best(torch.cat(pieces, dim=1), 5), largest(values, 5))
