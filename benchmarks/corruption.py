"""Labels that are wrong, rare, beside the point or missing: how far the staircase climbs, by acceptance."""

from pathlib import Path

from benchmarks.supervised import SETTINGS, train
from benchmarks.table import Row, write

CORRUPTIONS = {
    "clean": {},
    "10% flipped": {"flip_probability": 0.1},
    "8 rare labels (1%)": {"n_rare": 8},
    "8 distractors": {"n_distractors": 8},
    "50% missing": {"observed": 0.5},
}
QUICK = {"settings": ["automaton"], "seeds": [0], "n_rows": 60, "acceptances": ["gain"]}


def run(
    out: Path,
    settings: list[str] = ["juntas", "automaton"],  # noqa: B006
    acceptances: list[str] = ["gain", "none", "strict"],  # noqa: B006
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    n_rows: int | None = None,
    max_epochs: int = 100,
) -> list[Row]:
    """Trains with each corruption and acceptance; levels are judged by the labels of the clean hierarchy.

    Args:
        out: Gets corruption.csv, a row a level of each run: mean accuracy and mean average precision of its labels.
        settings: Hierarchies.
        acceptances: Acceptances.
        seeds: Seeds.
        n_rows: Training rows, each hierarchy's own when None.
        max_epochs: Epochs of a block at most.
    """
    records, rows = [], []
    for name in settings:
        for corruption, supervision in CORRUPTIONS.items():
            for acceptance in acceptances:
                layerwise = {"acceptance": acceptance, "max_epochs_per_block": max_epochs}
                worst = []
                for seed in seeds:
                    found = by_level(*train(SETTINGS[name], seed, n_rows, supervision, layerwise=layerwise))
                    setting = {"hierarchy": name, "corruption": corruption, "acceptance": acceptance, "seed": seed}
                    records += [setting | level for level in found]
                    worst.append(min(level["accuracy"] for level in found if level["level"] > 0))
                note = f"{acceptance}; least accurate level, worst of {len(seeds)} seeds: {min(worst):.4f}"
                what = f"{name}, {corruption}, {acceptance}: least accurate level"
                rows.append(Row("corruption", what, sum(worst) / len(worst), note=note))
    write(out / "corruption.csv", records, ["hierarchy", "corruption", "acceptance", "seed", "level"])
    return rows


def by_level(levels: list[int], accuracy: list[float], precision: list[float]) -> list[dict[str, float]]:
    """Means over the labels of each level."""
    rows = []
    for level in sorted(set(levels)):
        labels = [label for label, own in enumerate(levels) if own == level]
        means = {key: sum(values[j] for j in labels) / len(labels) for key, values in
                 (("accuracy", accuracy), ("average_precision", precision))}  # fmt: skip
        rows.append({"level": level, "n_labels": len(labels), **means})
    return rows
