"""Several sets of units named at once, by a command or a program: the settings of each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from indexer.errors import NeurariumError
from indexer.models.names import TENSOR_HOOK_POINTS

_OF_ONE = ("hook_point", "set_name", "shard", "state")
"""Settings that mean one set of units."""


def settings_of_sets(
    given: Mapping[str, Any], *, neurons: bool, dictionaries: Sequence[str]
) -> list[dict[str, Any]]:
    """The settings of each set's run: neurons first, then dictionaries, heads last.

    `given` are the settings of all, with `heads` if heads are named. Raises NeurariumError where a
    setting could mean several sets.
    """
    if given.get("force") and not dictionaries:
        raise NeurariumError(
            "--force is for a dictionary, and none is named: leave it out, or add --dictionary."
        )
    if neurons + bool(given.get("heads")) + len(dictionaries) < 2:
        hook_point = given.get("hook_point")
        if neurons and hook_point in TENSOR_HOOK_POINTS:
            raise NeurariumError(
                f"--neurons are MLP neurons, and --hook-point {hook_point} is another set of "
                "units: leave one of them out, and index one set at a time."
            )
        return [{**given, "dictionary": dictionaries[0] if dictionaries else None}]
    for name in _OF_ONE:
        if given.get(name) is not None:
            option = "--" + name.replace("_", "-")
            raise NeurariumError(
                f"{option} {given[name]} is of one set of units, and several are named: leave it "
                "out, or index one set at a time."
            )
    none = {"heads": False, "dictionary": None, "force": False}
    forced = {"force": given.get("force", False)}
    named: list[dict[str, Any]] = [{"dictionary": each, **forced} for each in dictionaries]
    if neurons:
        named.insert(0, {})
    if given.get("heads"):
        named.append({"heads": True})
    return [{**given, **none, **of} for of in named]
