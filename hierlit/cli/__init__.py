"""The command line: one plain LightningCLI, and commands on the same sections that run nothing."""

import sys
from collections.abc import Sequence
from importlib import import_module

from lightning.pytorch.cli import LightningCLI

from hierlit.cli.failures import explain_threads, failure_line, watch_launcher
from hierlit.cli.fit import run
from hierlit.cli.terminal import keep_quiet

COMMANDS = {
    "plan": "dry.PlanCLI",
    "describe": "dry.DescribeCLI",
    "discover": "discover.DiscoverCLI",
    "export": "export.export",
    "experiment": "experiment.experiment",
}
"""Beside fit, validate, test and predict; imported when asked for, since a fit should not wait for what they need."""


def main(args: Sequence[str] | None = None) -> LightningCLI | None:
    """Run a subcommand.

    Args:
        args: Command-line arguments; those of the process when None.

    Raises:
        SystemExit: With code 2 after a wrong argument, 1 after a failure that one line explains, 143 after SIGTERM.
    """
    given = sys.argv[1:] if args is None else list(args)
    watch_launcher()
    explain_threads()
    keep_quiet()
    try:
        if given and given[0] in COMMANDS:
            module, _, name = COMMANDS[given[0]].partition(".")
            made = getattr(import_module(f"hierlit.cli.{module}"), name)(given[1:])
            return made if isinstance(made, LightningCLI) else None
        return run(args)
    except Exception as error:
        if line := failure_line(error):
            raise SystemExit(line) from error
        raise


def script() -> None:
    """Run the console script `hierlit`, whose exit code a returned object would become."""
    main()
