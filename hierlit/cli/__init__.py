"""The command line: one plain LightningCLI, and commands on the same sections that run nothing."""

import sys
from collections.abc import Sequence

from lightning.pytorch.cli import LightningCLI

from hierlit.cli.discover import DiscoverCLI
from hierlit.cli.dry import DescribeCLI, PlanCLI
from hierlit.cli.experiment import experiment
from hierlit.cli.export import export
from hierlit.cli.fit import run
from hierlit.failures import explain_threads, failure_line, watch_launcher

ALONE = {"export": export, "experiment": experiment}
DRY = {command.name: command for command in (PlanCLI, DescribeCLI, DiscoverCLI)}


def main(args: Sequence[str] | None = None) -> LightningCLI | None:
    """Runs a subcommand.

    Args:
        args: Command-line arguments; those of the process when None.

    Raises:
        SystemExit: With code 2 after a wrong argument, 1 after a failure that one line explains, 143 after SIGTERM.
    """
    given = sys.argv[1:] if args is None else list(args)
    watch_launcher()
    explain_threads()
    try:
        if given and given[0] in DRY:
            return DRY[given[0]](given[1:])
        if given and given[0] in ALONE:
            ALONE[given[0]](given[1:])
            return None
        return run(args)
    except Exception as error:
        if line := failure_line(error):
            raise SystemExit(line) from error
        raise


def script() -> None:
    """The console script `hierlit`, whose exit code a returned object would become."""
    main()
