"""Version folders of commands that make many runs, and the options of how runs are made."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from jsonargparse import ActionYesNo, ArgumentParser
from jsonargparse.typing import PositiveInt

from hierlit.cli import INTERRUPTED
from hierlit.files.atomic import replace_text

SETTINGS = "settings.json"
LOCK = "lock"
JOBS = "options of submitit's jobs, with --engine submitit: '{slurm_partition: gpu, timeout_min: 60}'"


def add_run_options(parser: ArgumentParser) -> None:
    """Add the options of how runs are made."""
    engines = Literal["joblib", "submitit"]
    parser.add_argument("--workers", type=PositiveInt | None, default=None, help="runs at a time")
    parser.add_argument("--engine", type=engines, default="joblib", help="processes here, or jobs of SLURM")
    parser.add_argument("--job", type=dict[str, Any] | None, default=None, help=JOBS)
    parser.add_argument("--fresh", action=ActionYesNo, default=False, help="start a new version")
    parser.add_argument("--root", default=".", help="the folder that has lightning_logs")


def engine_of(given: Any) -> dict[str, Any]:
    """Return the engine asked for and its options, as `run_all` takes them."""
    return {} if given.engine == "joblib" else {"engine": given.engine, "job_options": given.job}


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Keep other commands out of a version folder.

    Raises:
        SystemExit: With code 1 if another command works in it, 130 if interrupted.
    """
    try:
        with FileLock(folder / LOCK, timeout=0):
            yield
    except Timeout:
        raise SystemExit(f"error: another command works in {folder}; --fresh starts a version beside it") from None
    except KeyboardInterrupt:
        print("interrupted: finished runs are kept, and the same command goes on from them", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def version_folder(root: Path, settings: str, fresh: bool) -> Path:
    """Return the newest version folder of these settings, else a new one."""
    versions = sorted(int(path.name.partition("_")[2]) for path in root.glob("version_*") if path.name[8:].isdigit())
    for number in [] if fresh else reversed(versions):
        folder = root / f"version_{number}"
        if (folder / SETTINGS).is_file() and (folder / SETTINGS).read_text() == settings:
            return folder
    folder = root / f"version_{versions[-1] + 1 if versions else 0}"
    folder.mkdir(parents=True)
    replace_text(folder / SETTINGS, settings)
    return folder
