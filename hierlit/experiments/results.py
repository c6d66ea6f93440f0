"""The table of an experiment's runs: a row a run, written as soon as the run is over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from hierlit.files.atomic import replace_text

RESULTS = "results.csv"
Row = dict[str, Any]


class Results:
    """The rows of `results.csv`, by the name of their run; a row is written as soon as its run is over.

    Args:
        folder: The experiment's version folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / RESULTS
        self._rows: dict[str, Row] = {row["run"]: row for row in read_table(self.path).to_dict("records")}

    def add(self, row: Row) -> None:
        """Add a run's row, in the place of an earlier one."""
        self._rows[row["run"]] = row
        replace_text(self.path, pd.DataFrame(list(self._rows.values())).to_csv(index=False))

    def finished(self) -> set[str]:
        """Names of the runs that need not be run again."""
        return {name for name, row in self._rows.items() if not failure_of(row)}

    def table(self, runs: list[str]) -> pd.DataFrame:
        """Return the rows of some runs that did not fail, in that order."""
        finished = self.finished()
        return pd.DataFrame([self._rows[name] for name in runs if name in finished])

    def failures(self, runs: list[str]) -> dict[str, str]:
        """Return why runs failed, by name."""
        return {name: text for name in runs if name in self._rows and (text := failure_of(self._rows[name]))}


def failure_of(row: Row) -> str:
    """Return why a row's run failed, or nothing."""
    text = row.get("error", "")
    return text if isinstance(text, str) else ""


def read_table(path: Path) -> pd.DataFrame:
    """Return a results table, empty where there is no file."""
    return pd.read_csv(path, keep_default_na=False, na_values=[""]) if path.exists() else pd.DataFrame()
