"""`sweep` and `compare`: many fits of one config, a tidy table and a figure."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jsonargparse import ArgumentParser
from jsonargparse.typing import Path_fr, PositiveInt
from rich.console import Console

from hierlit.cli import main
from hierlit.cli.dry import CheckCLI
from hierlit.cli.experiment import ExperimentParser, identity
from hierlit.cli.misspelt import misspelt
from hierlit.cli.versions import add_run_options, engine_of, version_folder, working_in
from hierlit.cli.words import program
from hierlit.experiments.base import Experiment, key_of
from hierlit.experiments.compare import EVERY, LAST, LAYERWISE, CompareExperiment, joint_epochs
from hierlit.experiments.report import save_figures
from hierlit.experiments.results import Results
from hierlit.experiments.runner import cells_of, run_all
from hierlit.experiments.sweep import MEASURES, SweepExperiment, list_axes
from hierlit.files.atomic import replace_text
from hierlit.files.checkpoints import LOGS

SUMMARY = "summary.csv"
SWEEP = (
    "Fit a config with each of the values of some arguments, given as a list, and some seeds: "
    "--model.features.beta '[.1,.5]'. A list that is one value is a list in a list: '[[a.csv,b.csv]]'."
)
COMPARE = (
    "Train the network of a config layer by layer, and end to end for as long: the same draws, the same data. "
    "Other arguments are those of fit."
)


def sweep(args: Sequence[str]) -> None:
    """Run `sweep`.

    Args:
        args: Its command-line arguments.

    Raises:
        SystemExit: With code 2 after a wrong argument, 1 if a run failed, 130 if interrupted.
    """
    given, others, parser = parse("sweep", SWEEP, args)
    axes = list_axes(others)
    if not axes:
        parser.error("an argument must have a list of values, such as --model.features.beta '[.1,.5]'; got none")
    fixed = {name: value for name, value in others.items() if name not in axes}
    chosen = SweepExperiment({"config": given.config}, given.seeds, fixed, axes)
    check("sweep", chosen)
    folder, console = folder_of("sweep", chosen, given), Console(highlight=False)
    with working_in(folder):
        tell(chosen, run_all(chosen, folder, given.workers, console, main, **engine_of(given)), folder, console)


def compare(args: Sequence[str]) -> None:
    """Run `compare`: the layerwise runs and a few joint epochs, whose times say how many joint epochs follow.

    Args:
        args: Its command-line arguments.

    Raises:
        SystemExit: With code 2 after a wrong argument, 1 if a run failed, 130 if interrupted.
    """
    given, fixed, parser = parse("compare", COMPARE, args)
    whole = CompareExperiment({"config": given.config}, given.seeds, fixed)
    if problem := whole.problem():
        parser.error(problem)
    check("compare", whole)
    folder, console = folder_of("compare", whole, given), Console(highlight=False)
    options = {"workers": given.workers or 1, "console": console, "command": main, **engine_of(given)}
    with working_in(folder):
        (folder / "probe").mkdir(exist_ok=True)
        layerwise, probe = replace(whole, ways=(LAYERWISE,)), replace(whole, ways=(EVERY,))
        first = finished(layerwise, run_all(layerwise, folder, **options))
        probes = finished(probe, run_all(probe, folder / "probe", **options))
        joint = replace(whole, ways=(LAST, EVERY), epochs=joint_epochs(first, probes))
        tell(whole, run_all(joint, folder, **options), folder, console)


def parse(name: str, description: str, args: Sequence[str]) -> tuple[Any, dict[str, Any], ArgumentParser]:
    """Return the command's own options, the arguments of `fit` by dotted name, and the parser."""
    parser = ExperimentParser(prog=f"{program()} {name}", description=description, allow_abbrev=False)
    parser.add_argument("--config", type=Path_fr, required=True, help="a config of fit")
    parser.add_argument("--seeds", type=PositiveInt, default=3, help="number of seeds of data and weights")
    add_run_options(parser)
    ours: list[str] = []
    theirs: list[list[str]] = []
    for word in args:
        option, is_whole, value = word.partition("=")
        if not word.startswith("--"):
            theirs[-1].append(word) if theirs and not theirs[-1][1:] else ours.append(word)
        elif "." in option:
            theirs.append([option, value] if is_whole else [option])
        else:
            ours.append(word)
            theirs += [["", ""]]  # what follows is its value
    pairs = [pair for pair in theirs if pair[0]]
    given = parser.parse_args(ours)
    if line := misspelt("fit", ["--config", str(given.config.absolute), *(word for pair in pairs for word in pair)]):
        parser.error(line)
    values: dict[str, Any] = {}
    for option, *texts in pairs:
        key = option.removeprefix("--")
        try:
            values[key] = yaml.safe_load(texts[0]) if texts else None
        except yaml.YAMLError:
            parser.error(f"{key} must be a value or a list in YAML, such as '[.1,.5]', got {texts[0]}")
        if values[key] == []:
            parser.error(f"{key} must have a value at least, got []")
    return given, values, parser


def check(name: str, chosen: Experiment) -> None:
    """Make what the arguments of fits say, each value in one at least.

    Raises:
        SystemExit: With code 2, if `fit` would not take them.
    """
    seen: set[str] = set()
    for settings in chosen.settings():
        values = {f"{name}={value}" for name, value in settings.items()}
        if not values <= seen:
            CheckCLI(name, chosen.fit_arguments(settings, 0)[1:])
        seen |= values


def folder_of(name: str, chosen: Experiment, given: Any) -> Path:
    """Return the version folder of these runs."""
    return version_folder(Path(given.root) / LOGS / name, identity(chosen), given.fresh)


def finished(chosen: Experiment, results: Results) -> Any:
    """Return the rows of an experiment's runs.

    Raises:
        SystemExit: With code 1 if one failed.
    """
    runs = [key_of(*cell) for cell in cells_of(chosen)]
    if failures := results.failures(runs):
        first = next(iter(failures.values()))
        raise SystemExit(f"error: {len(failures)} of {len(runs)} runs failed, the first with: {first}")
    return results.table(runs)


def tell(chosen: Experiment, results: Results, folder: Path, console: Console) -> None:
    """Write the table of means and the figure, and print the table and where all of it is.

    Raises:
        SystemExit: With code 1 if runs failed.
    """
    runs = [key_of(*cell) for cell in cells_of(chosen)]
    table = results.table(runs)
    if len(table):
        summary = chosen.summary(table)
        replace_text(folder / SUMMARY, summary.to_csv(index=False))
        names = [f"{name}.png" for name in save_figures(chosen.figures(table, folder), folder)]
        console.print(in_brief(summary).to_string(index=False), soft_wrap=True)
        console.print(f"results.csv, {SUMMARY} and {', '.join(names)} in {folder}", soft_wrap=True)
    finished(chosen, results)


def in_brief(summary: pd.DataFrame) -> pd.DataFrame:
    """Return a table of means with the intervals of what is measured in the columns of the means."""
    shown = summary.copy()
    for name in [name for name in MEASURES if name in summary]:
        ends = zip(summary[f"{name}_low"], summary[f"{name}_high"], strict=True)
        intervals = ["" if math.isnan(low) else f" [{low:.4g}, {high:.4g}]" for low, high in ends]
        shown[name] = [f"{mean:.4g}{interval}" for mean, interval in zip(summary[name], intervals, strict=True)]
        shown = shown.drop(columns=[f"{name}_low", f"{name}_high"])
    return shown
