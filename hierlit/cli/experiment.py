"""`experiment NAME`: many fits, one table, figures and a report."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ActionYesNo, ArgumentParser
from rich.console import Console

from hierlit.cli import main
from hierlit.cli.errors import parse_error_line
from hierlit.cli.versions import LOCK, add_run_options, engine_of, version_folder, working_in
from hierlit.cli.words import program
from hierlit.experiments import EXPERIMENTS, Experiment, key_of, run_all, write_report
from hierlit.experiments.report import versions
from hierlit.experiments.runner import Results, cells_of
from hierlit.files.checkpoints import LOGS

__all__ = ["LOCK", "experiment", "version_folder"]
CONFIG = re.compile("--config(=|$)")
NOT_OF_IDENTITY = ("seeds",)
"""Fields that may change from one call to the next that continues it."""


class ExperimentParser(ArgumentParser):
    """jsonargparse's parser, with its errors in one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the usage and one line, and exit with code 2."""
        super().error(parse_error_line(message, {}), ex)


def experiment(args: Sequence[str]) -> None:
    """Run the subcommand.

    Args:
        args: Its command-line arguments, the experiment's name first.

    Raises:
        SystemExit: With code 2 after a wrong argument, 1 if a run failed or the same command is running, 130 if
            interrupted.
    """
    name, chosen, given = asked(args)
    folder = version_folder(Path(given.root) / LOGS / name, identity(chosen), given.fresh)
    console = Console(highlight=False)
    console.print(f"{name}: {len(cells_of(chosen))} runs in {folder}", soft_wrap=True)
    with working_in(folder):
        results = run_all(chosen, folder, given.workers, console, main, **engine_of(given))
        tell(name, chosen, results, folder, console)


def asked(args: Sequence[str]) -> tuple[str, Experiment, Any]:
    """Return the experiment's name, the experiment, and all options given.

    Raises:
        SystemExit: With code 2 after a wrong argument, 0 after `--help`.
    """
    name, *others = args or [""]
    names = ", ".join(EXPERIMENTS)
    if name not in EXPERIMENTS:
        parser = ArgumentParser(prog=f"{program()} experiment", description=f"An experiment on the paper: {names}.")
        parser.add_argument("name", help=names)
        parser.parse_args([name] if name in ("-h", "--help") else ["--help"] if not name else [name])
        parser.error(f"name must be one of {names}, got {name!r}")
    kind = EXPERIMENTS[name]
    given, parser = parse(name, kind, others)
    try:
        chosen = kind(**{field.name: given[field.name] for field in fields(kind)})
        for cell in cells_of(chosen):
            chosen.fit_arguments(*cell)
    except (ValueError, KeyError) as error:
        parser.error(str(error))
    return name, chosen, given


def tell(name: str, chosen: Experiment, results: Results, folder: Path, console: Console) -> None:
    """Write the report, and print its table and verdict.

    Raises:
        SystemExit: With code 1 if runs failed.
    """
    runs = [key_of(*cell) for cell in cells_of(chosen)]
    table, failures = results.table(runs), results.failures(runs)
    verdict = write_report(name, chosen, table, failures, folder)
    if verdict is not None:
        console.print(chosen.summary(table).to_string(index=False), soft_wrap=True)
        console.print(f"{verdict.heading}: {verdict.text}", soft_wrap=True)
        console.print(f"report: {folder / 'report.html'}", soft_wrap=True)
    if failures:
        raise SystemExit(
            f"error: {len(failures)} of {len(runs)} runs failed, the first with: {next(iter(failures.values()))}"
        )


def parse(name: str, kind: type[Experiment], args: Sequence[str]) -> tuple[Any, ArgumentParser]:
    """Options of an experiment; `--quick` stands for values between those of config files and of the others."""
    parser = ExperimentParser(prog=f"{program()} experiment {name}", description=kind.question)
    parser.add_argument("--config", action="config", help="a YAML file of the options below")
    parser.add_class_arguments(kind)
    parser.add_argument("--quick", action=ActionYesNo, default=False, help="minutes instead of the full setting")
    add_run_options(parser)
    given = parser.parse_args(list(args))
    if given.quick:
        quick = ["--config", json.dumps(kind.quick)]
        ends = [i + (2 if word == "--config" else 1) for i, word in enumerate(args) if CONFIG.match(word)]
        place = max(ends, default=0)
        given = parser.parse_args([*args[:place], *quick, *args[place:]])
    return given, parser


def identity(chosen: Experiment) -> str:
    """Return what a version folder belongs to: all that decides what its runs are, the number of seeds aside."""
    options = {name: value for name, value in asdict(chosen).items() if name not in NOT_OF_IDENTITY}
    options["configs"] = {name: Path(path.absolute).read_text() for name, path in chosen.configs.items()}
    options["versions"] = versions()
    return json.dumps(options, default=str, indent=1)
