"""The benchmark of indexing, shown: a few tables for each model and length of context."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.scan.contestants import OTHERS, PLAIN, SCAN, TRUNK
from benchmarks.scan.results import LEAST_TOKENS, LONG_RUN, Measured, targets
from benchmarks.scan.rounds import PARTS, Quartiles
from indexer.memory import readable_bytes


def show(out: Console, one: Measured) -> None:
    """All tables of one model at one length of context."""
    loads = " and ".join("?" if load is None else f"{load:g}" for load in one.load)
    out.print(
        f"\n[bold]{one.shape}, contexts of {one.ctx_len}[/]: {one.layers} layers, "
        f"{one.neurons:,} neurons, {one.parameters / 1e6:.1f}M parameters, {one.attention}\n"
        f"{one.tokens:,} tokens in {one.contexts:,} contexts ({one.sample_contexts:,} of them the "
        f"sample's, {one.sources} sources), {one.batches} batches, {one.padding:.1%} padding; "
        f"the machine's load {loads}"
    )
    for dtype in one.dtypes:
        out.print(_speeds(one, dtype))
    out.print(_around(one))
    for dtype in one.dtypes:
        if any(piece.dtype == dtype for piece in one.pieces):
            out.print(_pieces(one, dtype))


def show_targets(out: Console, found: Sequence[Measured]) -> None:
    """Every target beside its figure, then what bfloat16 brings."""
    if any(one.tokens < 0.9 * LEAST_TOKENS for one in found):
        out.print(f"The aims are for runs of {LEAST_TOKENS:,} tokens: these were shorter.")
    for what, value, least in targets(found):
        verdict = "[green]met[/]" if value >= least else "[red]NOT met[/]"
        out.print(f"{verdict}: {what} {value:.3f} (at least {least:g})", soft_wrap=True)
    for one in found:
        trunk, scan = one.gain(TRUNK), one.gain(SCAN)
        if trunk is not None and scan is not None:
            out.print(
                f"{one.shape}, {one.ctx_len}: bfloat16 ÷ float32, trunk {trunk:.2f}, "
                f"scan {scan:.2f}",
                soft_wrap=True,
            )


def _speeds(one: Measured, dtype: str) -> Table:
    """Each way's speed, and its speed by the trunk's over the sample, the rest and the whole."""
    table = Table()
    table.add_column(dtype, no_wrap=True)
    for column in (
        "tokens/s",
        "by batch (quartiles)",
        "÷ trunk: sample",
        "rest",
        "late",
        "whole",
        "rest, by batch (quartiles)",
        f"at {LONG_RUN / 1e6:.0f}M",
        "processor",
        "wall s",
        "processor s",
    ):
        table.add_column(column, justify="right")
    for way in (TRUNK, PLAIN, SCAN, *OTHERS):
        whole = one.speed(way, dtype)
        if whole is None:
            continue
        fewer = "" if whole.batches == one.batches else f" ({whole.batches} batches)"
        in_rest = one.speed(way, dtype, "rest")
        by_batch = None if in_rest is None else in_rest.of_trunk_by_batch
        table.add_row(
            way + fewer,
            f"{whole.tokens_a_second:,.0f}",
            _quartiles(whole.by_batch, ",.0f"),
            *(_ratio(one.of_trunk(way, dtype, part)) for part in PARTS),
            "" if by_batch is None else _quartiles(by_batch, ".3f"),
            _ratio(one.of_trunk_in_a_long_run(way, dtype)),
            _ratio(whole.of_trunk_processor),
            f"{whole.wall:.1f}",
            f"{whole.processor:.1f}",
        )
    return table


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _quartiles(some: Quartiles, form: str) -> str:
    return f"{some.median:{form}} ({some.low:{form}}–{some.high:{form}})"


def _around(one: Measured) -> Table:
    """What is not in the speeds: loading, preparing, memory, and one whole run."""
    table = Table("beside the scan", "", title_justify="left")
    table.add_row("reading the configuration and the tokenizer", f"{one.described_in:.2f} s")
    table.add_row(
        "preparing the text",
        f"{one.prepared_in:.2f} s, {one.tokens / one.prepared_in:,.0f} tokens/s",
    )
    for dtype, seconds in one.loaded_in.items():
        table.add_row(f"loading the model, {dtype}", f"{seconds:.2f} s")
    for dtype, ways in one.held_bytes.items():
        for way, size in ways.items():
            table.add_row(f"kept from batch to batch, {way}, {dtype}", readable_bytes(size))
    table.add_row("the scan's, as expected before", readable_bytes(one.expected_bytes))
    table.add_row("peak memory of all that together", readable_bytes(one.peak_memory))
    if one.whole is not None:
        total = sum(one.whole.seconds.values())
        stages = ", ".join(
            f"{stage} {value:.1f} s ({value / total:.1%})"
            for stage, value in one.whole.seconds.items()
        )
        table.add_row(f"a run by itself, {one.whole.dtype}", stages)
        table.add_row("its peak memory", readable_bytes(one.whole.peak_memory))
    return table


def _pieces(one: Measured, dtype: str) -> Table:
    """The scan's parts as shares of the trunk's time, in the sample and in the rest."""
    own = [piece for piece in one.pieces if piece.dtype == dtype]
    table = Table(f"beyond the trunk, of its time, {dtype}", show_footer=True)
    shares: dict[str, list[str]] = {piece.name: [] for piece in own}
    for part in ("sample", "rest"):
        for clock in ("of_trunk", "of_trunk_processor"):
            found = {p.name: float(getattr(p, clock)) for p in own if p.part == part}
            name = part if clock == "of_trunk" else "processor"
            table.add_column(name, f"{sum(found.values()):.1%}", justify="right")
            for piece, cells in shares.items():
                cells.append(f"{found[piece]:.1%}" if piece in found else "")
    for piece, cells in shares.items():
        table.add_row(piece, *cells)
    return table
