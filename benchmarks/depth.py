"""How deep training goes and how long that takes: configs/deep.yaml with other rules, depths and seeds.

    python -m benchmarks depth --depth.cases '[110-32, 30-64]'

Seconds are those of training, summed from blocks.csv; a level is learned from 0.999 held-out accuracy on.
"""

import statistics
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib.pyplot as plt

from benchmarks.runs import fit
from benchmarks.table import Row, read, write

QUICK = {"cases": ["quick"]}
METHOD = "hierlit"
COLUMNS = ("method", "setting", "seconds", "learned", "wall")


@dataclass(frozen=True)
class Case:
    """One setting of the config, run with several seeds.

    Attributes:
        rule: Wolfram's number.
        n_levels: Levels declared; a quarter more blocks may be trained.
        n_seeds: Seeds 0, 1, …, of the data and of the weights.
        max_time: Limit of the training, DD:HH:MM:SS.
        target: Levels to learn with every seed, None where nothing is claimed.
        variant: What else is different, in words.
        overrides: What else is different, as arguments.
    """

    rule: int
    n_levels: int
    n_seeds: int
    max_time: str
    target: int | None = None
    variant: str = ""
    overrides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The setting in words."""
        return f"rule {self.rule}, {self.n_levels} levels{self.variant and ', '}{self.variant}"

    def arguments(self, seed: int) -> list[str]:
        """Overrides of the config."""
        blocks = self.n_levels + self.n_levels // 4
        data = [f"--data.rule={self.rule}", f"--data.n_levels={self.n_levels}", f"--data.data_seed={seed}"]
        model = [f"--model.n_blocks={blocks}", f"--model.weight_seed={seed}"]
        return [*data, *model, f"--trainer.max_time={self.max_time}", *self.overrides]


@dataclass
class Curve:
    """A run, from its start and after every block.

    Attributes:
        wall: Seconds of the whole process.
        seconds: Of training, so far.
        learned: Levels.
    """

    wall: float
    seconds: list[float] = field(default_factory=list)
    learned: list[int] = field(default_factory=list)

    @property
    def reached(self) -> float:
        """Seconds after which as many levels were learned as ever."""
        return self.seconds[self.learned.index(max(self.learned))]


SMALL = ("--data.n_train=120", "--model.n_features=200")
CASES = {
    "110-32": Case(110, 32, 5, "00:00:10:00", target=32),
    "110-64": Case(110, 64, 5, "00:00:20:00", target=64),
    "110-128": Case(110, 128, 3, "00:00:45:00", target=128),
    "110-256": Case(110, 256, 3, "00:02:00:00", target=256),
    "110-1000": Case(110, 1000, 1, "00:04:00:00", target=1000),
    "30-64": Case(30, 64, 3, "00:00:20:00", target=64),
    "110-32-window-5": Case(110, 32, 1, "00:00:15:00", 32, "window 5", ("--model.proximity.size=5",)),
    "110-32-unadapted": Case(110, 32, 1, "00:00:10:00", None, "no adaptation", ("--model.adaptation=null",)),
    "quick": Case(110, 2, 2, "00:00:01:00", 2, "small", SMALL),
}
USUAL = [name for name in CASES if name not in ("110-1000", "quick")]


def run(
    out: Path,
    cases: list[str] = USUAL,
    seeds: list[int] | None = None,
) -> list[Row]:
    """Trains every case with every seed, one process a run.

    Args:
        out: Gets depth.csv, a row a block of each run, in place of those of the same runs before, and depth.png.
        cases: Names of cases; without any, the figure alone is drawn, of what the file has.
        seeds: Seeds of all cases; each case's own when None.

    Raises:
        ValueError: There is no case of that name.
    """
    if unknown := [name for name in cases if name not in CASES]:
        raise ValueError(f"cases must be among {', '.join(CASES)}, got {', '.join(unknown)}")
    for name in cases:
        case = CASES[name]
        for seed in range(case.n_seeds) if seeds is None else seeds:
            one = fit("deep", out / "depth" / f"{name}-seed-{seed}", *case.arguments(seed))
            points = zip([0.0, *one.seconds], [0, *one.learned], strict=True)
            values = [(METHOD, f"{case.name}, seed {seed}", *point, one.wall) for point in points]
            write(out / "depth.csv", [dict(zip(COLUMNS, value, strict=True)) for value in values], COLUMNS[:2])
    _draw(out)
    return [row for name in cases for row in _rows(CASES[name], list(curves(out, CASES[name]).values()))]


def curves(out: Path, case: Case) -> dict[str, Curve]:
    """What depth.csv holds of a case, by setting: every seed run so far."""
    found: dict[str, Curve] = {}
    for record in read(out / "depth.csv"):
        if record["setting"].rpartition(", seed")[0] == case.name:
            curve = found.setdefault(record["setting"], Curve(float(record["wall"])))
            curve.seconds.append(float(record["seconds"]))
            curve.learned.append(int(record["learned"]))
    return found


def _rows(case: Case, fits: list[Curve]) -> list[Row]:
    most = [max(one.learned) for one in fits]
    times = [one.reached for one in fits]
    target = "" if case.target is None else f">= {case.target}"
    each = "; ".join(f"{levels} after {time:.1f} s" for levels, time in zip(most, times, strict=True))
    spent = statistics.median(times)
    a_level = statistics.median(time / max(1, levels) for time, levels in zip(times, most, strict=True))
    wall = f"median; {a_level:.2f} s a level; whole process {statistics.median(one.wall for one in fits):.1f} s"
    return [
        Row("depth", f"{case.name}: learned, worst of {len(fits)}", min(most), "levels", target=target, note=each),
        Row("depth", f"{case.name}: time of training until then", spent, "s", note=wall),
    ]


def _draw(out: Path) -> None:
    figure, axes = plt.subplots(figsize=(7, 5), layout="constrained")
    for number, case in enumerate(list(CASES.values())[:-1]):
        for index, one in enumerate(curves(out, case).values()):
            label = None if index else case.name
            axes.step(one.seconds, one.learned, where="post", color=f"C{number}", label=label)
    axes.set(xscale="log", yscale="log", xlabel="seconds of training", ylabel="levels learned")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(out / "depth.png", dpi=150)
    plt.close(figure)
