"""`discover`: levels and parents of labels, from rows and labels alone."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from jsonargparse import Namespace
from rich.console import Console
from rich.table import Table

from hierlit.cli.dry import DryCLI
from hierlit.data import HierarchyDataModule
from hierlit.discovery.options import DiscoverOptions
from hierlit.files.checkpoints import LOGS
from hierlit.models.proximity import Proximity

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 40
"""Labels, or edges, that are printed."""
PRINTED = ["label", "level", "level_low", "level_high", "explained", "by_one_wide_block", "by_parents", "parents"]
"""Columns of the labels that are, and the known level."""


class DiscoverCLI(DryCLI):
    """Look for a hierarchy. Of the model's section it reads the proximity, of the trainer's the root folder.

    Attributes:
        folder: Where it wrote.
    """

    name, options = "discover", DiscoverOptions
    description = (
        "The levels and parents of labels, from rows and labels alone. It takes the arguments of fit, so that their "
        "configs do, and of model reads the proximity alone: fits are set in the section discover."
    )
    of_linked: ClassVar[dict[str, Callable[[Any], Any]]] = {"n_inputs": lambda n_inputs: max(1, n_inputs)}
    folder: Path

    def __init__(self, args: Sequence[str]) -> None:
        self.command = shlex.join(["python", "-m", "hierlit", "discover", *args])
        super().__init__(args)

    def instantiate_classes(self) -> None:
        """Make the data, the proximity and the options, and search."""
        config = self.config.clone()
        for section in ("trainer", "layerwise", "checkpoint", "predictions"):
            config.pop(section)
        data = config.data
        if config[self.name].view == "labels" and str(data.class_path).endswith(".LabelTable"):
            data.init_args.feature_columns = []  # inputs are not looked at
        model = {**self.parser.get_defaults().model.as_dict(), "proximity": config.model.proximity, "n_blocks": 1}
        config.model = Namespace(model)  # type: ignore[no-untyped-call]
        try:
            made = self.parser.instantiate_classes(config)
            self.search(made.supervision, made[self.name], made.model.hparams["proximity"])
        except (ValueError, ImportError) as error:
            self.parser.error(str(error))

    def search(self, data: HierarchyDataModule, options: DiscoverOptions, proximity: Proximity | None) -> None:
        """Search, write and print.

        Args:
            data: Rows and labels.
            options: How to search.
            proximity: Windows E_g.
        """
        from hierlit.cli.experiment import version_folder
        from hierlit.discovery.report import write_discovery
        from hierlit.discovery.search import discover, discover_structure
        from hierlit.discovery.structure.report import summary_tables

        root = Path(self.config.trainer.default_root_dir or ".")
        structure = edges_found = found = None
        if options.view != "rows":
            structure, edges_found = discover_structure(data, options, proximity)
        if options.view != "labels":
            found = discover(data, options, proximity)
        self.folder = version_folder(root / LOGS / self.name, self.command, fresh=True)
        verdict = write_discovery(found, structure, edges_found, options, self.command, self.folder)
        console = Console(highlight=False)
        if structure is not None:
            for title, rows in summary_tables(structure).items():
                print_rows(console, title, rows)
        if found is not None:
            levels, edges = found.level_table(), found.edge_table()
            print_rows(console, "levels", levels.filter([*PRINTED, "known_level"]))
            print_rows(console, "edges", edges[edges["is_edge"]].drop(columns=["p", "is_edge"]))
        for sentence in verdict.text.rstrip(".").replace(". ", "; ").split("; "):
            console.print(sentence, soft_wrap=True)
        console.print(f"tables, figures and report.html in {self.folder}", soft_wrap=True)


def print_rows(console: Console, title: str, rows: pd.DataFrame) -> None:
    """Print a table's first rows."""
    table = Table(title=f"{title}, {MOST_ROWS} of {len(rows)}" if len(rows) > MOST_ROWS else title)
    for name in rows.columns:
        table.add_column(name.replace("_", " "), no_wrap=name in ("label", "parent"))
    for row in rows.head(MOST_ROWS).itertuples(index=False):
        table.add_row(*(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row))
    console.print(table)
