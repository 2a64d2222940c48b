"""The largest numbers of each row, with ties always broken alike, so that rankings of chunks merge
into the ranking of the whole.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

NOTHING = torch.iinfo(torch.int64).min
"""The key of an empty place: below every other."""

_GROUP = 16
"""Numbers in a group, of which only the largest is looked at first."""
_TIED = 1 << 20
"""Numbers of tied rows ranked at once: 8 MiB a copy."""
_LAST_ID = (1 << 32) - 1
_MAGNITUDE = (1 << 31) - 1


def pack(
    values: Float[Tensor, " *shape"], ids: Int64[Tensor, " *shape"]
) -> Int64[Tensor, "*shape"]:
    """One integer for a float32 value and its id (below 2^32): larger for the larger value, and of
    equal values for the lower id."""
    bits = (values + 0.0).view(torch.int32).long()  # −0 and 0 are equal: both are 0 here
    rank = torch.where(bits < 0, bits ^ _MAGNITUDE, bits)
    return (rank << 32) | (_LAST_ID - ids)


def unpack(
    keys: Int64[Tensor, " *shape"],
) -> tuple[Float[Tensor, "*shape"], Int64[Tensor, "*shape"]]:
    """The inverse of `pack`: values and ids."""
    rank = keys >> 32
    bits = torch.where(rank < 0, rank ^ _MAGNITUDE, rank).to(torch.int32)
    return bits.view(torch.float32), _LAST_ID - (keys & _LAST_ID)


def best(keys: Int64[Tensor, "n size"], k: int) -> Int64[Tensor, "n k"]:
    """The k largest keys of each row (all, if there are fewer), largest first."""
    return keys.topk(min(k, keys.shape[1]), dim=1).values


def largest(values: Float[Tensor, "n size"], k: int) -> Int64[Tensor, "n k"]:
    """The k largest of each row (all, if there are fewer) as keys of value and column, largest
    first; ties, also at the k-th place: lower column first.

    A row is cut into groups, and only those with the k + 1 largest maxima are searched: the other
    groups hold no number above the (k + 1)-th largest. Where the k-th and (k + 1)-th are equal, the
    row is ranked without groups.
    """
    size = values.shape[1]
    k = min(k, size)
    wanted = min(k + 1, size)
    columns = _candidates(values, wanted)
    if columns is None:
        top, ids = values.topk(wanted, dim=1)
    else:
        top, places = values.gather(1, columns).topk(wanted, dim=1)
        ids = columns.gather(1, places)
    keys = best(pack(top[:, :k], ids[:, :k]), k)
    if wanted > k:
        tied = (top[:, k - 1] == top[:, k]).nonzero()[:, 0]
        all_ids = torch.arange(size, device=values.device)
        for rows in torch.split(tied, max(1, _TIED // size)):
            keys[rows] = best(pack(values[rows], all_ids), k)
    return keys


def _candidates(
    values: Float[Tensor, "n size"], wanted: int
) -> Int64[Tensor, "n candidates"] | None:
    """Columns that include the `wanted` largest of each row; None where grouping saves nothing.

    Group g has the columns g, g + groups, g + 2·groups, …; the last columns may be in no group and
    are always included.
    """
    rows, size = values.shape
    groups = size // _GROUP
    if groups <= 2 * wanted:
        return None
    maxima = values[:, : groups * _GROUP].reshape(rows, _GROUP, groups).amax(dim=1)
    chosen = maxima.topk(wanted, dim=1, sorted=False).indices
    steps = torch.arange(_GROUP, device=values.device) * groups
    columns = (chosen[:, :, None] + steps).flatten(1)
    rest = torch.arange(groups * _GROUP, size, device=values.device)
    return torch.cat([columns, rest.expand(rows, -1)], dim=1)
