"""Where the time of a cold neuron page goes: processor time of each part, without any server.

python -m benchmarks.pages.parts --database sqlite:///FILE --model demo
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer
import zstandard
from rich import print as show

from app.examples.lines import REACH
from app.neurons import view as present
from app.neurons.schemas import NeuronPage
from app.queries import Queries
from app.web import site, urls
from app.web.params import READINGS
from indexer.store.database import open_store

Made = TypeVar("Made")


def main(
    database: Annotated[str, typer.Option(help="A database with a run of the model.")],
    model: Annotated[str, typer.Option(help="The model's name in URLs.")] = "demo",
    pages: Annotated[int, typer.Option(min=1, help="Neurons drawn.")] = 60,
    seed: Annotated[int, typer.Option(help="Of the choice of neurons.")] = 0,
) -> None:
    """Print the median of each part over the pages, in milliseconds of this thread's time."""
    queries = Queries(open_store(database, create=False))
    template = site.templates().get_template("neuron.html")
    layers = queries.model(model, None).layers
    drawn = random.Random(seed).choices(layers, [layer.neurons for layer in layers], k=pages)
    choose = random.Random(seed)
    places = [(one.layer, choose.randrange(one.neurons)) for one in drawn]

    def read(place: tuple[int, int]) -> NeuronPage:
        return queries.neuron(model, *place, None, REACH["peak"])

    def view(page: NeuronPage) -> Any:
        contexts = urls.contexts(model, page.layer, page.neuron)
        return present.neuron(page, "peak", contexts, urls.neurons(model), urls.tokens(model))

    def render(both: tuple[NeuronPage, Any]) -> bytes:
        page, shown = both
        names: dict[str, Any] = dict.fromkeys(("run_query", "view_query", "live", "notes"))
        return template.render(
            page=page, view=shown, embed=False, json_url="/", canonical="/",
            reading="peak", readings=READINGS, **names,
        ).encode()  # fmt: skip

    for _ in range(2):  # the first round fills the caches of token texts
        read_in, found = _each(read, places)
        shown_in, views = _each(view, found)
        rendered_in, texts = _each(render, list(zip(found, views, strict=True)))
        packed_in, packed = _each(lambda text: zstandard.compress(text, 3), texts)
    for part, taken in (
        ("read from the store", read_in),
        ("markup of tokens, charts and tables", shown_in),
        ("template", rendered_in),
        ("zstd", packed_in),
    ):
        show(f"{part:40} {taken:6.2f} ms")
    sizes = [statistics.median(len(one) for one in some) / 1000 for some in (texts, packed)]
    show(f"{sizes[0]:.0f} kB, compressed {sizes[1]:.1f} kB")


def _each(work: Callable[[Any], Made], items: list[Any]) -> tuple[float, list[Made]]:
    """The median time of `work` over the items, in milliseconds, and what came of it."""
    taken, made = [], []
    for item in items:
        before = time.thread_time()
        made.append(work(item))
        taken.append((time.thread_time() - before) * 1000)
    return statistics.median(taken), made


if __name__ == "__main__":
    typer.run(main)
