"""Makes `app` and `indexer` mean Neurarium's own packages, whatever else is on the path.

A project often has a folder `app` of its own, and Python takes the first on its path: a notebook's
folder and PYTHONPATH come before what is installed.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import PathFinder
from pathlib import Path

_NAMES = ("app", "indexer")


def claim_names() -> None:
    """Import both packages from the folder that holds this one; their modules then follow.

    Raises ImportError, in one line, if this process has already imported another package of one
    of these names.
    """
    home = Path(__file__).resolve().parent.parent
    for name in _NAMES:
        loaded = sys.modules.get(name)
        if loaded is not None:
            where = getattr(loaded, "__file__", None) or next(iter(loaded.__path__), "?")
            if home / name not in map(Path.resolve, map(Path, getattr(loaded, "__path__", ()))):
                raise ImportError(
                    f"Neurarium has a package {name!r}, and this process has already imported "
                    f"another one ({where}): import neurarium first, or rename yours."
                )
            continue
        spec = PathFinder.find_spec(name, [str(home)])
        if spec is None or spec.loader is None:
            raise ImportError(f"Neurarium's package {name!r} is missing in {home}: install again.")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
