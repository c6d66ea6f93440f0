"""A table's CSV file read as `LabelTable` reads it, and its whole set-up, against pandas' `read_csv`."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from benchmarks.made_table import make
from benchmarks.table import Row, alternate
from hierlit.data import LabelTable
from hierlit.data.tables.files import open_table
from hierlit.data.tables.label_table import read_rows
from hierlit.data.tables.table_file import Reading

QUICK = {"n_rows": 2000, "repeats": 1}


def run(out: Path, n_rows: int = 180_000, repeats: int = 5) -> list[Row]:
    """Compares seconds.

    Args:
        out: Gets nothing: the table says all.
        n_rows: Of the made table, with 40 inputs and 42 labels.
        repeats: Timed reads of each, in turn.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder, "made.csv")
        make(n_rows, 0).to_csv(path, index=False)
        file = open_table(path, Reading())
        inputs = [name for name in file.names if name.startswith("x")]

        def set_up() -> None:
            LabelTable(path, label_columns="label_*").setup("fit")

        spent = alternate(
            {
                "pandas": lambda: pd.read_csv(path),
                "rows": lambda: read_rows([file], file.names, inputs),
                "set_up": set_up,
            },
            repeats,
        )
        size = f"{n_rows:,} x {len(file.names)}, {path.stat().st_size / 2**20:.0f} MiB"
    return [
        Row("reading", what, spent[name], "s", spent["pandas"], spent["pandas"] / spent[name], target, size)
        for what, name, target in (
            ("rows of a CSV file, against pandas' read_csv", "rows", ">= 0.5"),
            ("set-up of LabelTable, against the same", "set_up", ""),
        )
    ]
