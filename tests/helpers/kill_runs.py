"""Kills runs at random moments and resumes each: `python -m tests.helpers.kill_runs FOLDER 30 9`
kills a run of neurons 30 times, and runs of latents and of heads 9 times each.

Imports all modules before it forks, so that kills hit the run's own work: preparing, loading,
scanning, a checkpoint after every batch, writing. Prints JSON.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from indexer.config import Execution, IndexConfig
from indexer.run.index import index
from tests.conftest import Silent
from tests.helpers.small_latents import latents_config


def neurons_config(folder: Path) -> IndexConfig:
    """A run of a tiny model's neurons over a small corpus, both saved in `folder`."""
    latents = latents_config(folder)
    return replace(latents, dictionary=None, force=False, bottom_k=3, batch_tokens=256)


def run_once(folder: Path, config: IndexConfig) -> None:
    """Index once, in this process."""
    url = f"sqlite:///{folder / 'runs.db'}"
    index(config, url, folder / "cache", Silent(), Execution(checkpoint_seconds=0))


def attempt(folder: Path, config: IndexConfig, seconds: float | None) -> bool:
    """Index once in a process that is killed after `seconds`; returns whether it finished."""
    child = os.fork()
    if child == 0:
        try:
            run_once(folder, config)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    if os.WEXITSTATUS(status) != 0:
        raise SystemExit(f"a run failed by itself in {folder}")
    return True


def hashes(folder: Path) -> list[str]:
    """Content hashes of all runs in the folder's database."""
    connection = sqlite3.connect(folder / "runs.db")
    made = connection.execute("select name from sqlite_master where name = 'runs'").fetchall()
    if not made:  # killed before there was a table
        return []
    rows = connection.execute("select content_hash from runs where ready").fetchall()
    (all_rows,) = connection.execute("select count(*) from runs").fetchone()
    connection.close()
    assert len(rows) == all_rows, "an incomplete run is visible"
    return [row[0] for row in rows]


def is_over(folder: Path) -> bool:
    """Whether the run is written and its checkpoint deleted."""
    written = (folder / "runs.db").exists() and bool(hashes(folder))
    return written and not any((folder / "cache" / "runs").glob("*/*"))


def kill(folder: Path, config: IndexConfig, kills: int) -> dict[str, Any]:
    """Kill runs, resuming each, until there were `kills`: the hashes that were to be and are."""
    rng = random.Random(0)
    began = time.monotonic()
    assert attempt(folder / "plain", config, None)
    taken = time.monotonic() - began
    (expected,) = hashes(folder / "plain")
    killed, resumed, left = 0, [], []
    while killed < kills:
        place = folder / f"{killed}"
        while not attempt(place, config, rng.uniform(0, taken)):
            killed += 1
            if is_over(place):  # killed after its work
                break
        resumed.append(hashes(place))
        left += [str(path.name) for path in (place / "cache" / "runs").glob("*/*")]
        shutil.rmtree(place)
    return {"expected": expected, "found": resumed, "kills": killed, "left": left}


def main(folder: Path, of_neurons: int, of_others: int) -> None:
    """Kill runs of every kind; print what came of them."""
    torch.set_num_threads(1)
    neurons = neurons_config(folder / "small")
    results = [
        kill(folder / "neurons", neurons, of_neurons),
        kill(folder / "latents", latents_config(folder / "small"), of_others),
        kill(folder / "heads", replace(neurons, heads=True), of_others),
    ]
    print(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
