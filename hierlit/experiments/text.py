"""text: is there a hierarchy in real sentences, from characters over words to parts of speech and relations?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hierlit.experiments.base import Experiment, Run, Settings, Verdict, decided, product, tables_of
from hierlit.experiments.drawing import draw_lines, panels
from hierlit.experiments.statistics import means
from hierlit.metrics import AveragePrecision

FULL, OWN, WIDE, FAR = "none", "own labels alone", "one block, as wide", "one block that sees as far"
WITHHELD, ALONE, SHUFFLED, JOINT = "lower kinds withheld", "last kind alone", "shuffled labels", "trained jointly"
CONTROLS = (FULL, OWN, WIDE, FAR, WITHHELD, ALONE, SHUFFLED, JOINT)
KINDS = "kinds.csv"


@dataclass
class TextExperiment(Experiment):
    """Train on labels of sentences' characters as they are, and with controls that take a part of the hierarchy away.

    Args:
        configs: The file of `fit`, of `TokenLabels` with labels of several kinds, the lowest first.
        seeds: Number of seeds.
        train_files: Sentences to train on.
        test_files: Sentences to test on; a share of the others, another one for each seed, where there are none.
        test_fraction: That share.
        controls: Those to run.
        most_features: Features at most of a control's one block, which otherwise has those of all blocks together.
        joint_epochs: Epochs of joint training.
        margin: Least lead in average precision, in the last kind but one, over the one block that sees as far.
    """

    train_files: list[str] = field(default_factory=list)
    test_files: list[str] = field(default_factory=list)
    test_fraction: float = 0.2
    controls: list[str] = field(default_factory=lambda: list(CONTROLS))
    most_features: int = 7000
    joint_epochs: int = 4
    margin: float = 0.15

    question: ClassVar[str] = (
        "The paper's second open question: is the hierarchy that it assumes there in real data? Sentences have labels "
        "of several kinds, of characters, words, parts of speech and relations; does a deep network gain from its "
        "depth, and from the labels of lower kinds?"
    )
    prediction: ClassVar[str] = (
        "Ours: yes. Later kinds rise over more blocks than earlier ones; one block of the same total width, or one "
        "that sees all that the deep network sees, stays .15 or more behind on parts of speech; without the labels of "
        "lower kinds less is learned; of shuffled labels nothing beyond their frequency."
    )
    quick: ClassVar[dict[str, Any]] = {"seeds": 1, "overrides": {"model.n_features": 300}, "joint_epochs": 1}

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.train_files:
            raise ValueError("train_files must name files of sentences, got none")
        if unknown := [control for control in self.controls if control not in CONTROLS]:
            raise ValueError(f"controls must be of {', '.join(CONTROLS)}, got {', '.join(unknown)}")

    def settings(self) -> Iterator[Settings]:
        """Yield each control."""
        return product(control=self.controls)

    def fit_arguments(self, settings: Settings, seed: int) -> list[str]:
        """Return the command line of a run; without files to test on, its rows are others for each seed."""
        shares = {} if self.test_files else {"test_fraction": self.test_fraction}
        files = {"train_files": self.train_files, "test_files": self.test_files or None} | shares
        given = [f"--data.{name}={value}" for name, value in files.items() if value is not None]
        return [*super().fit_arguments(settings, seed), *given]

    def arguments(self, settings: Settings) -> dict[str, Any]:
        """Return the control's."""
        control, model = settings["control"], self.section(settings, "model")
        if control in (WIDE, FAR):
            width = min(model["n_blocks"] * model["n_features"], self.most_features)
            seen = model["proximity"]["init_args"]["size"]
            far = {"model.proximity.init_args.size": 1 + model["n_blocks"] * (seen - 1)} if control == FAR else {}
            return {"model.n_blocks": 1, "model.n_features": width, "model.neighbours": None} | far
        if control in (WITHHELD, ALONE):
            columns = self.section(settings, "data")["label_columns"]
            kinds = list(dict.fromkeys(kind_of(column) for column in columns))[-2 if control == WITHHELD else -1 :]
            kept = [column for column in columns if kind_of(column) in kinds]
            return {"data.label_columns": kept, "data.levels": None}
        if control == JOINT:
            return {"model.joint.epochs": self.joint_epochs}
        others: dict[str, dict[str, Any]] = {
            OWN: {"model.neighbours": None},
            SHUFFLED: {"supervision.shuffle_labels": True},
        }
        return others.get(control, {})

    def outcome(self, run: Run) -> dict[str, Any]:
        """Return the average precision of each kind of label on the test rows, its mean over labels."""
        found = by_block(run)
        found.to_csv(run.folder / KINDS, index=False)
        last = found[found["block"] == found["block"].max()].set_index("kind")
        names = {kind: float(value) for kind, value in last["average_precision"].items()}
        return names | {"training_seconds": run.seconds, "frequency": float(last["frequency"].iloc[-1])}

    def figures(self, results: pd.DataFrame, folder: Path) -> dict[str, Figure]:
        """Average precision of each kind by block, and after the last block with each control."""
        table, kinds = tables_of(results, folder, KINDS), kinds_of(results)
        figure, axes = panels(1, 2, 5.5, 4)
        draw_lines(axes[0, 0], table[table["run_control"] == FULL], "kind", kinds, "block", "average_precision")
        axes[0, 0].set(xlabel="block", ylabel="average precision, mean over labels", ylim=(0, 1.02))
        axes[0, 0].xaxis.set_major_locator(MaxNLocator(integer=True))
        axes[0, 0].legend()
        places = {control: -place for place, control in enumerate(self.controls)}
        for number, kind in enumerate(kinds):
            own = means(results.dropna(subset=[kind]), ["control"], kind)
            height = own["control"].map(places) + 0.12 * (1.5 - number)
            half = (own["high"] - own["mean"]).fillna(0)
            axes[0, 1].errorbar(own["mean"], height, xerr=half, fmt="o", markersize=4, capsize=2, label=kind)
        axes[0, 1].set_yticks(list(places.values()), list(places))
        axes[0, 1].set(xlabel="average precision after the last block", xlim=(0, 1.02), title="controls")
        axes[0, 1].grid(axis="y", alpha=0.3)
        return {"text": figure}

    def summary(self, results: pd.DataFrame) -> pd.DataFrame:
        """Return a row a control: means over seeds, and half of the 95% interval of the last two kinds."""
        rows, kinds = [], kinds_of(results)
        for control, own in results.groupby("control", sort=False):
            row: dict[str, Any] = {"control": control, "seeds": len(own)}
            row |= {kind: own[kind].mean() for kind in kinds}
            for kind in kinds[-2:]:
                interval = means(own, ["control"], kind).iloc[0]
                row[f"{kind} ±"] = (interval["high"] - interval["low"]) / 2
            row["seconds"] = own["training_seconds"].mean()
            rows.append(row)
        return pd.DataFrame(rows)

    def verdict(self, results: pd.DataFrame) -> Verdict:
        """Return what depth, and the labels of lower kinds, add to the last two kinds."""
        *_, kind, last = kinds_of(results)
        interval = {control: means(own, ["control"], kind).iloc[0] for control, own in results.groupby("control")}
        holds: list[bool | None] = []
        text = []
        for control in (WIDE, FAR, OWN, WITHHELD, JOINT):
            if control in interval and FULL in interval:
                deep, other = interval[FULL], interval[control]
                lead = deep["mean"] - other["mean"]
                text.append(f"{lead:+.3f} against {control} ({deep['mean']:.3f}, {other['mean']:.3f})")
                if control in (FAR, WITHHELD):
                    holds.append(bool(deep["low"] > other["high"]) if deep["n"] > 1 else None)
                    holds += [bool(lead >= self.margin)] if control == FAR else []
        if SHUFFLED in interval:
            shuffled = results[results["control"] == SHUFFLED]
            beyond = float((shuffled[last] - shuffled["frequency"]).max())
            holds.append(beyond <= 0.05)
            text.append(f"shuffled labels of {last} {beyond:+.3f} beyond their frequency")
        return Verdict(decided(holds), f"Average precision of {kind}: " + "; ".join(text) + ".")


def kind_of(column: str) -> str:
    """Return the kind of label that a name in `label_columns` asks for, as it is told from other kinds here."""
    return column.partition("=")[0].partition(":")[0]


def kinds_of(results: pd.DataFrame) -> list[str]:
    """Return the columns of results that are kinds of labels, the lowest first."""
    columns = list(results.columns)
    return columns[columns.index("seed") + 1 : columns.index("training_seconds")]


def by_block(run: Run) -> pd.DataFrame:
    """Return the average precision on the test rows, by block and kind of label, the mean over labels."""
    net, data = run.cli.model.net, run.cli.datamodule
    metrics = [AveragePrecision() for _ in range(run.cli.model.block)]
    for batch in data.test_dataloader():
        exists = net.exists(batch.inputs)[..., 0] > 0
        for metric, scores in zip(metrics, net.staged_scores(batch.inputs), strict=True):
            metric.update(scores[exists], batch.labels[exists])
    negative, _, positive = data.tables["test"].counts().double()
    rate, kinds = positive / (negative + positive), data.label_kinds
    rows = []
    for block, metric in enumerate(metrics, 1):
        for kind, value in metric.of_kinds(kinds).items():
            frequency = rate[torch.tensor([each == kind for each in kinds])].nanmean()
            rows.append((block, kind, value, float(frequency)))
    return pd.DataFrame(rows, columns=["block", "kind", "average_precision", "frequency"])
