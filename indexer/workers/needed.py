"""Whether what several workers need is installed. Imports nothing of it."""

from __future__ import annotations

from importlib.util import find_spec

from indexer.config import Execution
from indexer.errors import NeurariumError


def uses_ray(execution: Execution) -> bool:
    """Whether a run is carried out on Ray."""
    return execution.ray_address is not None or (execution.workers or 1) > 1


def check_ray() -> None:
    """Raises NeurariumError unless Ray is installed."""
    if find_spec("ray") is None:
        raise NeurariumError(
            "Several workers need Ray: pip install 'neurarium[ray]' ('.[ray]' in a copy of its "
            "source), or leave --workers out."
        )
