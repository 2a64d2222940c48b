"""Whether what several workers need is there. Imports nothing of Ray, which takes seconds."""

from __future__ import annotations

import os
import socket
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

from indexer.config import Execution
from indexer.errors import NeurariumError

_CONNECT_SECONDS = 5.0


def uses_ray(execution: Execution) -> bool:
    """Whether a run is carried out on Ray."""
    return execution.ray_address is not None or (execution.workers or 1) > 1


def check_workers(execution: Execution) -> None:
    """Raises NeurariumError if a run needs Ray and it is not installed, or nothing listens at the
    cluster's address."""
    if not uses_ray(execution):
        return
    if find_spec("ray") is None:
        raise NeurariumError(
            "Several workers need Ray: pip install 'neurarium[ray]' ('.[ray]' in a copy of its "
            "source), or leave --workers out."
        )
    _check_names()
    # Where a machine's own cluster is, only Ray can tell.
    if execution.ray_address not in (None, "auto"):
        _check_address(execution.ray_address)


def _check_names() -> None:
    """Raises NeurariumError if the workers, which look for packages in this folder and PYTHONPATH
    first, would find others of Neurarium's names."""
    home = Path(__file__).resolve().parents[2]
    folders = [str(Path.cwd()), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    for name in ("app", "indexer"):
        spec = PathFinder.find_spec(name, folders)
        if spec is None or spec.origin is None:  # a folder without __init__.py hides no package
            continue
        if Path(spec.origin).resolve().parent != home / name:
            raise NeurariumError(
                f"Several workers would take {spec.origin} for Neurarium's package {name!r}: start "
                "the command in another folder, without this one on PYTHONPATH, or leave --workers "
                "out."
            )


def _check_address(address: str) -> None:
    """Raises NeurariumError if nothing listens at the address; Ray itself would retry for long."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit() or not 0 < int(port) < 65536:
        raise NeurariumError(
            f"--ray-address {address} is not valid: use HOST:PORT of the cluster's head, "
            "as `ray start --head` prints it, or auto on a machine of the cluster."
        )
    try:
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
    except OSError as error:
        raise NeurariumError(
            f"There is no Ray cluster at {address} ({error.strerror or error}): start one there "
            "with `ray start --head`, or leave --ray-address out."
        ) from None
