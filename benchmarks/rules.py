"""Every elementary automaton with configs/deep.yaml: which of its levels are learned, and how long that takes.

    python -m benchmarks rules --rules.rules '[30, 110]'

Of the 256 rules 88 differ by more than left and right, or 0 and 1; the least number stands for the others.
"""

from pathlib import Path

import matplotlib.pyplot as plt

from benchmarks.depth import Case
from benchmarks.runs import fit
from benchmarks.table import Row, read, write

LIMIT = "00:00:10:00"
"""Of the training of a rule, DD:HH:MM:SS."""
QUICK = {"rules": [90], "n_levels": 2}


def run(out: Path, rules: list[int] | None = None, n_levels: int = 32, seed: int = 0) -> list[Row]:
    """Trains one rule after another, each in a process of its own.

    Args:
        out: Gets rules.csv, a row a rule, and rules.png, of these rules.
        rules: Wolfram's numbers; the 88 that differ when None.
        n_levels: Levels of each.
        seed: Of the data and of the weights.
    """
    own = different() if rules is None else rules
    for rule in own:
        one = fit("deep", out / "rules" / str(rule), *Case(rule, n_levels, 1, LIMIT).arguments(seed))
        found = {"rule": rule, "n_levels": n_levels, "seed": seed, "learned": one.learned[-1]}
        found |= {"seconds": round(one.seconds[-1], 2), "wall": round(one.wall, 2), "blocks": len(one.blocks)}
        write(out / "rules.csv", [found], ["rule", "n_levels", "seed"])
        print(", ".join(f"{key} {value}" for key, value in found.items()), flush=True)
    wanted = {(str(rule), str(n_levels), str(seed)) for rule in own}
    records = [row for row in read(out / "rules.csv") if (row["rule"], row["n_levels"], row["seed"]) in wanted]
    if not records:
        return []
    draw(records, out / "rules.png")
    less = [f"rule {row['rule']}: {row['learned']}" for row in records if int(row["learned"]) < n_levels]
    seconds = sorted(float(row["wall"]) for row in records)
    times = f"whole process {seconds[len(seconds) // 2]:.0f} s at the median, {seconds[-1]:.0f} s at most"
    note = "; ".join([*less, times])
    return [
        Row(
            "rules",
            f"of {len(own)} rules, those with all {n_levels} levels, seed {seed}",
            len(records) - len(less),
            "rules",
            note=note,
        )
    ]


def different() -> list[int]:
    """The rules of which none is another with left and right, or 0 and 1, exchanged."""

    def rule_of(outputs: list[int]) -> int:
        return sum(output << window for window, output in enumerate(outputs))

    least = set()
    for rule in range(256):
        outputs = [rule >> window & 1 for window in range(8)]
        inverse = [1 - output for output in reversed(outputs)]
        mirrored = [[own[(w & 1) << 2 | w & 2 | w >> 2] for w in range(8)] for own in (outputs, inverse)]
        least.add(min(map(rule_of, (outputs, inverse, *mirrored))))
    return sorted(least)


def draw(records: list[dict[str, str]], path: Path) -> None:
    """Seconds of each rule's training, the quickest first, and the levels of those that lack some."""
    records = sorted(records, key=lambda row: float(row["seconds"]))
    figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
    for place, row in enumerate(records):
        is_whole, seconds = row["learned"] == row["n_levels"], float(row["seconds"])
        axes.bar(place, seconds, color="C0" if is_whole else "C3")
        text = row["rule"] if is_whole else f"{row['rule']}: {row['learned']} levels"
        axes.annotate(text, (place, seconds), (0, 2), textcoords="offset points", ha="center", fontsize=6, rotation=90)
    axes.set(yscale="log", ylabel="seconds of training", xticks=[], xlabel="rules, by their numbers")
    axes.margins(y=0.2)
    figure.savefig(path, dpi=150)
    plt.close(figure)
