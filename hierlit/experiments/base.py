"""What an experiment is: settings, each a `fit` command; an outcome of each run; figures and a verdict on all."""

from __future__ import annotations

import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd
import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser
from jsonargparse.typing import Path_fr
from matplotlib.figure import Figure
from torch import Tensor

from hierlit.data import HierarchyDataModule
from hierlit.data.supervision import NO_LEVEL
from hierlit.models.checks import raise_problems
from hierlit.training.logs import TABLES

if TYPE_CHECKING:
    from lightning.pytorch.cli import LightningCLI

ROWS_AT_ONCE = 256
Command = Callable[[list[str]], "LightningCLI | None"]
"""Runs a `fit` command of these arguments, and returns what ran it."""
Settings = dict[str, Any]
"""What distinguishes a run from the others of its experiment: values of `results.csv` by column, the seed aside."""


@dataclass
class Run:
    """A run that is over, in the process that it ran in.

    Attributes:
        settings: Its settings.
        seed: Its seed.
        cli: The command line that ran it: `cli.model` is trained, `cli.datamodule` set up.
    """

    settings: Settings
    seed: int
    cli: LightningCLI

    @property
    def folder(self) -> Path:
        """Its log folder."""
        return Path(self.cli.trainer.log_dir or ".")

    @cached_property
    def blocks(self) -> pd.DataFrame:
        """`blocks.csv`."""
        return pd.read_csv(self.folder / TABLES[0])

    @cached_property
    def levels(self) -> pd.DataFrame:
        """`levels.csv`."""
        return pd.read_csv(self.folder / TABLES[1])

    @cached_property
    def labels(self) -> pd.DataFrame:
        """`labels.csv`."""
        return pd.read_csv(self.folder / TABLES[2])

    @property
    def seconds(self) -> float:
        """Seconds of training, over all blocks."""
        return float(self.blocks["seconds"].sum())

    def test_scores(self) -> tuple[Tensor, Tensor]:
        """Scores and labels [rows·|G|, n] of the test rows."""
        task, table = self.cli.model, self.cli.datamodule.tables["test"]
        with torch.no_grad():
            scores = [task(inputs.to(task.device)).cpu() for inputs in table.inputs.split(ROWS_AT_ONCE)]
        return torch.cat(scores).flatten(0, 1), table.labels.flatten(0, 1)

    def accuracy(self, level: int | None = None) -> float:
        """Held-out accuracy of a level after the last block; of the least accurate one when None."""
        last = self.levels[self.levels["block"] == self.levels["block"].max()]
        found = last["val_accuracy"] if level is None else last["val_accuracy"][last["level"] == level]
        return float(found.min())


@dataclass(frozen=True)
class Verdict:
    """What the runs say of the prediction.

    Attributes:
        holds: Whether it holds; None where they do not decide.
        text: Why, with the figures.
    """

    holds: bool | None
    text: str

    @property
    def heading(self) -> str:
        """In a few words."""
        return {True: "As predicted", False: "Not as predicted", None: "Undecided"}[self.holds]


def decided(holds: Iterable[bool | None]) -> bool | None:
    """Return whether all parts of a prediction hold; None if none fails but some are not known, or there are none."""
    known = list(holds)
    return False if False in known else None if None in known or not known else True


@dataclass
class Experiment(ABC):
    """A question to which a table of runs is the answer; subclasses add what they vary as fields.

    Args:
        configs: Files of `fit` by name; each run is one of them with some arguments replaced.
        seeds: Number of seeds, of data and weights, that each setting is run with.
        overrides: Arguments of `fit` replaced in all runs, by dotted name.
    """

    configs: dict[str, Path_fr]
    seeds: int = 5
    overrides: dict[str, Any] = field(default_factory=dict)

    question: ClassVar[str]
    """In a sentence or two."""
    prediction: ClassVar[str]
    """What the paper says, or what is our reading of it."""
    quick: ClassVar[dict[str, Any]] = {}
    """Fields of the setting that takes minutes."""
    needed: ClassVar[tuple[str, ...]] = ()
    """Names that `configs` must have."""

    def __post_init__(self) -> None:
        problems = [] if self.seeds >= 1 else [f"seeds must be a positive integer, got {self.seeds}"]
        missing = [name for name in self.needed if name not in self.configs]
        if missing or not self.configs:
            problems.append(
                f"configs must have {', '.join(missing) or 'a file'}, got {', '.join(self.configs) or 'none'}"
            )
        raise_problems(problems)

    @abstractmethod
    def settings(self) -> Iterator[Settings]:
        """Give the settings of all runs; the key `config` is a name in `configs`, of which there may be one."""

    @abstractmethod
    def arguments(self, settings: Settings) -> dict[str, Any]:
        """Return the arguments of `fit` that a run replaces, by dotted name."""

    @abstractmethod
    def outcome(self, run: Run) -> dict[str, Any]:
        """Return what a run adds to its row of `results.csv`."""

    @abstractmethod
    def figures(self, results: pd.DataFrame, folder: Path) -> dict[str, Figure]:
        """Figures by file name, of the rows that there are; `tables_of` has the tables of their runs."""

    @abstractmethod
    def summary(self, results: pd.DataFrame) -> pd.DataFrame:
        """Return the table of the report."""

    @abstractmethod
    def verdict(self, results: pd.DataFrame) -> Verdict:
        """Return what the rows say of the prediction."""

    def config(self, settings: Settings) -> Path_fr:
        """Return the file that a run starts from."""
        return self.configs[settings.get("config", next(iter(self.configs)))]

    def section(self, settings: Settings, name: str) -> dict[str, Any]:
        """Section of that file with the overrides, `init_args` where it names a class; empty where there is none."""
        found = yaml.safe_load(Path(self.config(settings).absolute).read_text()).get(name) or {}
        replaced = {key.partition(".")[2].removeprefix("init_args."): value
                    for key, value in self.overrides.items() if key.startswith(f"{name}.")}  # fmt: skip
        return dict(found.get("init_args", {}) if "class_path" in found else found) | replaced

    def levels_of(self, name: str) -> list[int]:
        """Return the levels that the data of a file knows; none where they are unknown.

        Raises:
            ValueError: If there is no such data.
        """
        parser = ArgumentParser(exit_on_error=False)
        parser.add_subclass_arguments(HierarchyDataModule, "data", required=True)
        given = yaml.safe_load(Path(self.configs[name].absolute).read_text()).get("data")
        own = [f"--{key}={argument(value)}" for key, value in self.overrides.items() if key.startswith("data.")]
        try:
            data = parser.instantiate_classes(parser.parse_args([f"--data={json.dumps(given)}", *own])).data
        except ArgumentError as error:
            raise ValueError(f"data of {name}: {error}") from error
        return sorted(set(data.levels or []) - {NO_LEVEL})

    def fit_arguments(self, settings: Settings, seed: int) -> list[str]:
        """Return the command line of a run, its folder and options of display aside."""
        own = {"data.data_seed": seed, "model.weight_seed": seed, **self.overrides, **self.arguments(settings)}
        overrides = [f"--{name}={argument(value)}" for name, value in own.items()]
        return ["fit", "--config", str(self.config(settings).absolute), *overrides]


def argument(value: Any) -> str:
    """Return a value as the command line takes it."""
    is_plain = not isinstance(value, bool | list | tuple | dict | None)
    return str(value) if is_plain else json.dumps(value, default=str)


def product(**axes: Sequence[Any]) -> Iterator[Settings]:
    """Yield settings of all combinations of the values of some axes."""
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def key_of(settings: Mapping[str, Any], seed: int) -> str:
    """Return a run's name, of its settings and seed, which is also its folder's."""
    parts = [f"{name}={argument(value)}" for name, value in settings.items()]
    return ",".join([*parts, f"seed={seed}"]).replace("/", "_").replace(" ", "")


def tables_of(results: pd.DataFrame, folder: Path, table: str) -> pd.DataFrame:
    """Return a table of every run one after another, such as `levels.csv`, with the columns of its row in `results`.

    Args:
        results: A row a run.
        folder: The experiment's version folder.
        table: Name of the file.
    """
    found = []
    for row in results.to_dict("records"):
        (path,) = (folder / "runs" / row["run"]).rglob(table)
        found.append(pd.read_csv(path).assign(**{f"run_{name}": value for name, value in row.items()}))
    return pd.concat(found, ignore_index=True)
