"""The tables and lines that `plan` prints."""

import math
from itertools import chain

from rich.console import Console
from rich.table import Table

from hierlit.layerwise.auto import AutoSolver
from hierlit.layerwise.memory import FREE_SHARE
from hierlit.plan.options import PlanOptions, Run, rates_of, sizes_of
from hierlit.plan.sizes import Sizes
from hierlit.plan.work import BlockWork, Rates, Work, total
from hierlit.theory import depth_bound

RUN_BYTES = 38 * 2**20
"""Memory that the logger, figures and metrics of a run take beyond the libraries; measured."""
MIB = 2**20


def print_plan(run: Run, options: PlanOptions) -> None:
    """Print memory and seconds, or all that they are made of, what was taken for granted, and the depth bound.

    What `AutoSolver` will choose is not known: each of both is planned.
    """
    rates, console = rates_of(run, options), Console(highlight=False)
    chosen = {"radial units: ": False, "cosines: ": True} if isinstance(run.task.solver, AutoSolver) else {"": False}
    for title, cosines in chosen.items():
        sizes = [sizes_of(run, options, n_processes, cosines) for n_processes in (1, options.devices)]
        works = [[BlockWork(each) for each in (s, s.later)] for s in sizes]
        if not options.details:
            console.print(short_table(run, works, rates, title))
            continue
        console.print(size_table(run, sizes, title))
        console.print(*work_tables(works, rates, title), sep="")
        if messages := works[1][0].messages:
            console.print(message_table(messages, options, title))
    for line in (*assumptions(run, options, sizes[0], rates), depth_line(run, sizes[0], options.margin_growth)):
        console.print(f"- {line}", soft_wrap=True)
    if not options.details:
        console.print("- parts of memory, work and messages: --plan.details true")


def short_table(run: Run, works: list[list[BlockWork]], rates: Rates, title: str) -> Table:
    """Memory, and seconds of the first block, of a later one and of all, of works [processes][first, later]."""
    sizes = [first.sizes for first, _ in works]
    n_blocks = sizes[0].n_blocks
    table = table_of_processes(sizes, f"{title}a run of {n_blocks} blocks")
    table.add_row("rows fitted", *(f"{s.pairs('fit') // s.n_locations:,}" for s in sizes))
    table.add_row("MiB of memory at the peak", *(mib(sum(memory_of(run, s).values())) for s in sizes))
    names = ("the first block", "each block after it", "all blocks")
    for name, of_processes in zip(names, zip(*map(block_works, works), strict=True), strict=True):
        table.add_row(f"seconds of {name}", *(f"{rates.seconds(work):,.3g}" for work in of_processes))
    return table


def block_works(works: list[BlockWork]) -> tuple[Work, Work, Work]:
    """Return the work of the first block, of a later one, and of all."""
    first, later = (total(*work.parts.values()) for work in works)
    return first, later, total(first, later.times(works[0].sizes.n_blocks - 1))


def table_of_processes(sizes: list[Sizes], title: str) -> Table:
    """Return a table with a column for one process and one for each of several."""
    table = Table("", title=title.capitalize(), title_justify="left")
    for name in ("1 process", f"each of {sizes[1].n_processes}"):
        table.add_column(name, justify="right")
    return table


def memory_of(run: Run, sizes: Sizes) -> dict[str, float]:
    """Bytes of a process at its peak by part; of its GPU, if it has one, without what CUDA itself takes."""
    if run.device.type == "cpu":
        return {"libraries, logger": run.base + RUN_BYTES, **sizes.memory}
    return {part: size for part, size in sizes.memory.items() if part != "tables"}


def size_table(run: Run, sizes: list[Sizes], title: str) -> Table:
    """Parameters and rows, what the cache keeps and what not, and memory."""
    table = table_of_processes(sizes, f"{title}sizes")
    table.add_row("parameters trained at a time", *(f"{s.n_trained:,}" for s in sizes))
    table.add_row("parameters frozen in the end", *(f"{s.n_frozen:,}" for s in sizes), end_section=True)
    for split, name in {"fit": "rows fitted", "held": "rows set aside", "val": "rows to validate on"}.items():
        table.add_row(name, *(f"{s.pairs(split) // s.n_locations:,}" for s in sizes))
    table.add_section()
    table.add_row("MiB: budget of the cache", *(mib(s.budget) for s in sizes))
    table.add_row("MiB: streams and labels mapped to files", *(mib(s.cache.mapped) for s in sizes))
    table.add_row(
        "share of features computed at every visit", *(f"{recomputed(s):.0%}" for s in sizes), end_section=True
    )
    memory = [memory_of(run, s) for s in sizes]
    for part in memory[0]:
        table.add_row(f"MiB: {part}", *(mib(parts[part]) for parts in memory))
    table.add_section()
    table.add_row("MiB: memory at the peak", *(mib(sum(parts.values())) for parts in memory))
    return table


def recomputed(sizes: Sizes) -> float:
    """Share of the fitted and set-aside rows whose features the cache does not keep."""
    computed = sizes.cache.recomputed
    return (computed["fit"] + computed["held"]) / (sizes.pairs("fit") + sizes.pairs("held"))


def work_tables(works: list[list[BlockWork]], rates: Rates, title: str) -> list[Table]:
    """Return the table of all blocks, or of the first and of a later one, of works [processes][first, later]."""
    (first, later), n_blocks = works[0], works[0][0].sizes.n_blocks
    ends = {f"{n_blocks} blocks": [block_works(of)[2] for of in works]}
    if first.parts == later.parts or n_blocks == 1:
        return [work_table([of[0] for of in works], rates, f"{title}work", ends)]
    names = (f"{title}work of the first block", f"{title}work of each block after it")
    return [work_table([of[n] for of in works], rates, name, ends if n else {}) for n, name in enumerate(names)]


def work_table(works: list[BlockWork], rates: Rates, title: str, ends: dict[str, list[Work]]) -> Table:
    """Operations, memory traffic and time of a block's parts, and of what comes at the end."""
    table = Table("", title=title.capitalize(), title_justify="left")
    for name in ("1 process\nGFLOP", "\nMiB", "\ns", f"each of {works[1].sizes.n_processes}\nGFLOP", "\nMiB", "\ns"):
        table.add_column(name, justify="right")

    def add(name: str, parts: list[Work], end_section: bool = False) -> None:
        cells = ([gflop(part.operations), mib(part.moved), f"{rates.seconds(part):,.3g}"] for part in parts)
        table.add_row(name, *chain(*cells), end_section=end_section)

    for name in works[0].parts:
        add(name, [work.parts[name] for work in works], end_section=name == list(works[0].parts)[-1])
    add("an epoch", [work.epoch for work in works])
    add("a block", [total(*work.parts.values()) for work in works])
    for name, ended in ends.items():
        add(name, ended)
    return table


def message_table(messages: dict[str, float], options: PlanOptions, title: str) -> Table:
    """Bytes that a process adds up with the others for a block, the first one, and the time of a ring of processes."""
    n, link = options.devices, options.link
    table = Table("", title=f"{title}all-reduced for a block".capitalize(), title_justify="left")
    for name in (f"each of {n}\nMiB", "\ns")[: 2 if link else 1]:
        table.add_column(name, justify="right")
    for part, size in {**messages, "a block": sum(messages.values())}.items():
        table.add_row(part, mib(size), *([f"{2 * (n - 1) / n * size / link:,.3g}"] if link else []))
    return table


def depth_line(run: Run, sizes: Sizes, margin_growth: float | None) -> str:
    """Return the paper's depth bound, or what it would need."""
    depth, formula = f"depth: the network has D = {sizes.n_blocks + 1}", "D ≥ r·(⌈log(8m|G|/ξ)/γ⌉ + 1)"
    n_levels, n_pairs, robustness = run.data.top_level, run.data.n_pairs, run.task.robustness
    if n_levels is None:
        return f"{depth}; the paper's {formula} needs levels, which this data does not tell"
    bound = f"{n_levels}·(⌈{math.log(8 * n_pairs / robustness):.2f}/γ⌉ + 1)"
    if margin_growth is None:
        return f"{depth}; the paper's {formula} = {bound} needs --plan.margin_growth, by which a block grows margins"
    least = depth_bound(n_levels, n_pairs, robustness, margin_growth)
    return f"{depth}; the paper's {formula} = {bound} = {least} at γ = {margin_growth:g}"


def assumptions(run: Run, options: PlanOptions, sizes: Sizes, rates: Rates) -> list[str]:
    """Return what the config leaves open and the plan takes for granted."""
    lines, limit = [], f"the limit is {run.layerwise.stopping.max_epochs:,}"
    if options.epochs is None and sizes.epochs == 1:
        lines.append(f"epochs: 1 a block, enough if every label is observed ({limit}); --plan.epochs")
    elif options.epochs is None:
        lines.append(f"epochs: taken as {sizes.epochs} a block, no config tells ({limit}); --plan.epochs")
    if sizes.redraws:
        lines.append(f"draws: labels that W¹ is drawn for taken as {sizes.n_targets}; --plan.targets")
    if sizes.read_channels:
        size, most = sizes.n_features, run.task.net.n_features
        lines.append(f"blocks: each taken to learn from one channel with {size} of at most {most:,} features, at once")
    if candidates := max(sizes.n_candidates, sizes.draw_candidates):
        lines.append(f"factorisations: {candidates}, those of regularisations taken to be above rounding")
    if sizes.choice_pairs:
        few, more, pairs = sizes.few_trials, sizes.trials + sizes.label_trials, sizes.choice_pairs
        again = f"{sizes.stretched_trials} and {sizes.trials} again with inputs stretched"
        lines.append(
            f"choices: kernels and λ tried taken as {few} on {pairs // 2:,} pairs, {more} on {pairs:,}; {again}"
        )
        lines.append("λ: one for all labels of radial units; each further one is a factor more, of every fit")
        lines.append("blocks: a block that is not worth adding ends the run earlier")
    if run.layerwise.stop_when_learned:
        lines.append("blocks: stop_when_learned may end the run earlier")
    if run.task.rows.budget is None:
        lines.append(f"cache: without model.cache_budget_gib, {FREE_SHARE:.0%} of what is free on this machine now")
    speeds = [f"products {gflop(rates.products)}", f"factorisations {gflop(rates.cholesky)}"]
    speeds += [] if sizes.n_candidates and not sizes.gcv else [f"eigenvalues {gflop(rates.eigen)}"]
    speed = f"{', '.join(speeds)} GFLOP/s, memory {rates.bandwidth / 2**30:,.3g} GiB/s"
    return [*lines, f"seconds: {run.device.type}, {speed}; Lightning's own are not in them"]


def mib(size: float) -> str:
    """Bytes in MiB, to three digits."""
    return f"{size / MIB:,.0f}" if size >= 100 * MIB else f"{size / MIB:.3g}"


def gflop(operations: float) -> str:
    """Operations in 10⁹, to three digits."""
    return f"{operations / 1e9:,.0f}" if operations >= 1e11 else f"{operations / 1e9:.3g}"
