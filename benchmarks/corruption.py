"""Labels that are wrong, rare, beside the point or missing: how far the staircase climbs, by acceptance and draw."""

import statistics
from pathlib import Path
from typing import Any

from benchmarks.supervised import SETTINGS, Tested, train
from benchmarks.table import Row, write
from hierlit.layerwise import SizedDraw

CORRUPTIONS = {
    "clean": {},
    "10% flipped": {"flip_probability": 0.1},
    "20% flipped": {"flip_probability": 0.2},
    "8 rare labels (1%)": {"n_rare": 8},
    "8 distractors": {"n_distractors": 8},
    "50% missing": {"observed": 0.5},
}
ADDED = "added"
SIZED = "sized"
"""Blocks that size themselves, with the acceptance `gain`, until they learn no more."""
MOST_BLOCKS = 24
QUICK = {"settings": ["automaton"], "seeds": [0], "n_rows": 60, "acceptances": ["gain"]}


def run(
    out: Path,
    settings: list[str] = ["juntas", "automaton"],  # noqa: B006
    acceptances: list[str] = ["gain", "none", "strict", SIZED],  # noqa: B006
    corruptions: list[str] = list(CORRUPTIONS),  # noqa: B006
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    n_rows: int | None = None,
    max_epochs: int = 100,
) -> list[Row]:
    """Trains with each corruption and acceptance; levels are judged by the labels of the clean hierarchy alone.

    Args:
        out: Gets corruption.csv, of each run a row a level of the hierarchy and one of the labels added: mean accuracy
            and mean average precision.
        settings: Hierarchies.
        acceptances: Acceptances, and `sized`, blocks that size themselves.
        corruptions: What is done to the training labels.
        seeds: Seeds.
        n_rows: Training rows, each hierarchy's own when None.
        max_epochs: Epochs of a block at most.
    """
    records, rows = [], []
    for name in settings:
        for corruption in corruptions:
            for acceptance in acceptances:
                is_sized = acceptance == SIZED
                layerwise = {"acceptance": "gain" if is_sized else acceptance, "max_epochs_per_block": max_epochs}
                model = {"adaptation": SizedDraw(), "n_blocks": MOST_BLOCKS} if is_sized else None
                worst, added = [], []
                for seed in seeds:
                    tested = train(SETTINGS[name], seed, n_rows, CORRUPTIONS[corruption], model, layerwise)
                    found = by_level(tested)
                    setting = {"hierarchy": name, "corruption": corruption, "acceptance": acceptance, "seed": seed}
                    records += [setting | level for level in found]
                    worst.append(min(level["accuracy"] for level in found if level["level"] != ADDED))
                    added += [level["average_precision"] for level in found if level["level"] == ADDED]
                note = f"mean of {len(seeds)} seeds, worst {min(worst):.4f}"
                note += f"; average precision of the labels added {statistics.fmean(added):.3f}" if added else ""
                what = f"{name}, {corruption}, {acceptance}: least accurate level"
                rows.append(Row("corruption", what, statistics.fmean(worst), note=note))
    write(out / "corruption.csv", records, ["hierarchy", "corruption", "acceptance", "seed", "level"])
    return rows


def by_level(tested: Tested) -> list[dict[str, Any]]:
    """Means over the hierarchy's labels of each level, and over the labels added."""
    of_group = [*tested.levels[: tested.n_own], *[ADDED] * (len(tested.levels) - tested.n_own)]
    rows = []
    for group in dict.fromkeys(of_group):
        labels = [label for label, own in enumerate(of_group) if own == group]
        means = {
            "accuracy": statistics.fmean(tested.accuracy[label] for label in labels),
            "average_precision": statistics.fmean(tested.precision[label] for label in labels),
        }
        rows.append({"level": group, "n_labels": len(labels), **means})
    return rows
