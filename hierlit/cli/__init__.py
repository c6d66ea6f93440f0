"""The command line: one plain LightningCLI, and commands on the same sections that run nothing.

What needs torch or Lightning is imported once the options have been looked at: a misspelt one is met within a second.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

from hierlit.cli.misspelt import TRAINED, misspelt
from hierlit.cli.order import misordered
from hierlit.cli.words import broken_config, files_first, program

if TYPE_CHECKING:
    from lightning.pytorch.cli import LightningCLI

COMMANDS = {
    "plan": "dry.PlanCLI",
    "describe": "dry.DescribeCLI",
    "discover": "discover.DiscoverCLI",
    "export": "export.export",
    "experiment": "experiment.experiment",
    "sweep": "sweep.sweep",
    "compare": "sweep.compare",
}
"""Beside fit, validate, test and predict; imported when asked for, since a fit should not wait for what they need."""

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT."""


def main(args: Sequence[str] | None = None) -> "LightningCLI | None":
    """Run a subcommand.

    Args:
        args: Command-line arguments; those of the process when None.

    Raises:
        SystemExit: With code 2 after a wrong argument, 1 after a failure that one line explains, 130 after Ctrl-C, 143
            after SIGTERM.
    """
    given = files_first(sys.argv[1:] if args is None else list(args))
    if given in ([], ["help"]):
        given = ["--help"]
    if given[0] == "--version":
        print(f"hierlit {version('hierlit')}")
        return None
    try:
        return run(given)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def run(given: Sequence[str]) -> "LightningCLI | None":
    """Look at a command, then run it."""
    names = (*TRAINED, *COMMANDS)
    if line := misordered(given, names) or broken_config(given) or misspelt(given[0], given[1:]):
        asked = f" {given[0]}" if given[0] in names else ""
        print(f"tip: the options are listed by: {program()}{asked} --help\nerror: {line}", file=sys.stderr)
        raise SystemExit(2)
    from hierlit.cli.failures import explain_threads, failure_line, watch_launcher
    from hierlit.cli.terminal import keep_quiet

    watch_launcher()
    explain_threads()
    keep_quiet()
    try:
        module, _, door = COMMANDS.get(given[0], "fit.run").partition(".")
        made = getattr(import_module(f"hierlit.cli.{module}"), door)(given[1:] if given[0] in COMMANDS else given)
    except Exception as error:
        if line := failure_line(error):
            raise SystemExit(line) from error
        raise
    return made if hasattr(made, "parser") else None


def script() -> None:
    """Run the console script `hierlit`, whose exit code a returned object would become."""
    main()
