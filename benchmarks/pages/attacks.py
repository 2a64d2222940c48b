"""How fast pages are served while others hold on to the server, or flood it with texts.

    python -m benchmarks.pages.attacks demo=sqlite:////tmp/demo.db

The server may have 1,024 files open. Every page is asked for on a new connection: a visitor who
comes in the middle of an attack, and has no place yet. Texts are for a model that is in memory.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Annotated

import typer

from app.web import urls
from benchmarks.pages import servers
from benchmarks.pages.asking import ask_all
from benchmarks.pages.attacking import attacked, post
from benchmarks.pages.serving import neuron_places
from benchmarks.results import Figure, Save, run
from benchmarks.tables import report
from indexer.errors import NeurariumError

FLOOD = "posts"
FILES = 1024
Case = tuple[str, str, int]
"""A row's name, the attack's, how many."""
CASES = (
    ("no attack", "", 0),
    ("4,000 half-open requests", "half-open", 4000),
    ("heads of 200 MB", "large head", 200_000_000),
    ("1,100 idle connections", "idle", 1100),
    ("500 live texts at once", FLOOD, 500),
    ("3,000 live texts at once", FLOOD, 3000),
)


def measure(
    store: str, database: str, seconds: float, pause: float, seed: int, cases: Sequence[Case]
) -> list[Figure]:
    """For each attack: the page that 99% of pages took at most, the slowest, and how many failed.
    A page is asked for every `pause` seconds, for so many `seconds`. Of floods of texts also the
    server's memory before and its largest meanwhile, and the answers to the texts by status."""
    figures: list[Figure] = []
    for case, name, count in cases:
        times: list[float] = []
        failed = 0
        with ExitStack() as stack:
            options = ["--live"] if name == FLOOD else []
            server = stack.enter_context(servers.neurarium(database, *options, files=FILES))
            address = server.address
            places = neuron_places(address, 1000, seed)
            paths = [urls.neuron(*place) for place in places]
            ask_all(address, paths[:20], {})
            target = address
            if name == FLOOD:
                target += urls.try_text(*places[0])
                post(target)  # loads the model
            before = most = server.memory()
            statuses = Counter[str]()
            if name:
                statuses = stack.enter_context(attacked(name, target, count))
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                path, began = paths[len(times) % len(paths)], time.perf_counter()
                try:
                    ask_all(address, [path], {"Accept-Encoding": "zstd"})
                except NeurariumError:
                    failed += 1
                # With the time to connect, which an attack makes long.
                times.append(1000 * (time.perf_counter() - began))
                most = max(most, server.memory())
                with suppress(ValueError):
                    time.sleep(pause - times[-1] / 1000)
        in_order = sorted(times)
        figures += [
            Figure(f"{case}, 99% of pages", store, in_order[int(0.99 * (len(times) - 1))], "ms"),
            Figure(f"{case}, slowest page", store, in_order[-1], "ms"),
            Figure(f"{case}, failed", store, 100 * failed / len(times), "%"),
        ]
        if name == FLOOD:
            # The counts are whole once the attack has ended.
            figures += [
                Figure(f"{case}, memory before", store, before / 1e6, "MB"),
                Figure(f"{case}, memory at most", store, most / 1e6, "MB"),
                *(
                    Figure(f"{case}, answered {status}", store, number)
                    for status, number in sorted(statuses.items())
                ),
            ]
    return figures


def main(
    stores: Annotated[list[str], typer.Argument(help="NAME=DATABASE.")],
    seconds: Annotated[float, typer.Option(min=1, help="How long each attack lasts.")] = 20,
    pause: Annotated[float, typer.Option(min=0, help="Seconds from a page to the next.")] = 0.05,
    seed: Annotated[int, typer.Option(help="Of the choice of pages.")] = 0,
    save: Save = None,
) -> None:
    """Measure pages under attack."""
    figures = []
    for name, database in servers.named(stores).items():
        figures += measure(name, database, seconds, pause, seed, CASES)
    report("pages.attacks", {"seconds": seconds, "pause": pause, "seed": seed}, figures, save)


if __name__ == "__main__":
    run(main)
