"""One positive label an example, as the paper's first open question has it: what each treatment loses against all."""

import statistics
from pathlib import Path

from benchmarks.supervised import SETTINGS, train
from benchmarks.table import Row, write
from hierlit.unobserved import TREATMENTS

FULL = "all labels observed"
QUICK = {"settings": ["automaton"], "seeds": [0], "n_rows": 60}


def run(
    out: Path,
    settings: list[str] = list(SETTINGS),  # noqa: B006
    seeds: list[int] = [0, 1, 2, 3, 4],  # noqa: B006
    n_rows: int | None = None,
    max_epochs: int = 300,
) -> list[Row]:
    """Trains every hierarchy with all labels, and with one positive label an example under each treatment.

    Args:
        out: Gets single_positive.csv, a row a run: mean accuracy and mean average precision over labels.
        settings: Hierarchies.
        seeds: Seeds.
        n_rows: Training rows, each hierarchy's own when None.
        max_epochs: Epochs of a block at most.
    """
    records, rows = [], []
    for name in settings:
        accuracy: dict[str, list[float]] = {}
        precision: dict[str, list[float]] = {}
        for seed in seeds:
            for treatment in (FULL, *TREATMENTS):
                single = treatment != FULL
                model = {"unobserved": treatment} if single else {}
                limits = {"max_epochs_per_block": max_epochs}
                tested = train(SETTINGS[name], seed, n_rows, {"single_positive": single}, model, limits)
                accuracy.setdefault(treatment, []).append(statistics.fmean(tested.accuracy))
                precision.setdefault(treatment, []).append(statistics.fmean(tested.precision))
                record = {"hierarchy": name, "treatment": treatment, "seed": seed}
                means = {"accuracy": accuracy[treatment][-1], "average_precision": precision[treatment][-1]}
                records.append(record | means)
        for treatment, values in accuracy.items():
            note = f"average precision {statistics.fmean(precision[treatment]):.3f}; mean of {len(values)} seeds"
            note += f", spread {max(values) - min(values):.3f}; against {FULL}"
            full = statistics.fmean(accuracy[FULL])
            rows.append(Row("single_positive", f"{name}: {treatment}", statistics.fmean(values), "", full, note=note))
    write(out / "single_positive.csv", records, ["hierarchy", "treatment", "seed"])
    return rows
