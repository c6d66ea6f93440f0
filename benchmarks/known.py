"""Label structure where the truth is known: levels by labels alone of made hierarchies, some labels wrong or missing.

    python -m benchmarks known --known.factors '[10]'

The hierarchies are those of tests/conf, of which each label above the first level is a function of others.
"""

from pathlib import Path
from typing import Any

import yaml

import hierlit.data
import hierlit.models
from benchmarks.table import Row, write
from hierlit.data import HierarchyDataModule, Supervision
from hierlit.discovery import DiscoverOptions, StructureOptions, discover_structure
from hierlit.models import Proximity

CONFIGS = Path(__file__).parents[1] / "tests" / "conf"
SETS = {
    "automata": ["automaton", "exact", "joint", "paper"],
    "thresholds": ["thresholds"],
    "tree": ["tree"],
    "parities": ["exact_juntas", "adaptive"],
    "majorities": ["juntas"],
    "random hierarchy": ["random_hierarchy"],
}
"""Configs by what their functions are."""
CORRUPTIONS = {"clean": (0.0, 1.0), "20% missing": (0.0, 0.8), "5% flipped": (0.05, 1.0), "both": (0.05, 0.8)}
"""Chance of a label being flipped, and share of labels that is observed."""
QUICK = {"sets": ["tree"], "factors": [1], "seeds": 1}


def run(
    out: Path,
    sets: list[str] = list(SETS),  # noqa: B006
    factors: list[int] = [1, 10],  # noqa: B006
    seeds: int = 5,
) -> list[Row]:
    """Searches each table for its structure, and counts those in which every level is right.

    Args:
        out: Gets known.csv.
        sets: Names of `SETS`.
        factors: Multiples of the configs' training rows.
        seeds: Of the hierarchy's data.
    """
    rows = []
    for name in sets:
        for factor in factors:
            for what, (flips, observed) in CORRUPTIONS.items():
                found = [
                    judged(config, factor, seed, flips, observed) for config in SETS[name] for seed in range(seeds)
                ]
                right, levels, n_labels = (sum(each) for each in zip(*found, strict=True))
                record = {"set": name, "rows": factor, "corruption": what, "tables": len(found), "right": right}
                write(out / "known.csv", [record | {"at_level": levels, "labels": n_labels}], list(record)[:3])
                title = f"{name}, {factor} × the rows, {what}"
                rows.append(Row("known", title, right, f"of {len(found)}", note=f"{levels} of {n_labels} labels"))
    return rows


def judged(config: str, factor: int, seed: int, flips: float, observed: float) -> tuple[bool, int, int]:
    """Whether all levels found are right, how many are, and how many labels there are."""
    given = yaml.safe_load((CONFIGS / f"{config}.yaml").read_text())
    options = given["data"]["init_args"]
    options |= {"n_train": factor * options["n_train"], "data_seed": seed}
    data: HierarchyDataModule = made(hierlit.data, given["data"])
    proximity: Proximity | None = made(hierlit.models, (given.get("model") or {}).get("proximity"))
    structure = StructureOptions(exceptions=flips, resamples=0, null=False)
    source = Supervision(data, observed=observed, flip_probability=flips)
    found, _ = discover_structure(source, DiscoverOptions(n_rows=2**20, structure=structure), proximity)
    assert data.levels is not None
    right = [level == known for level, known in zip(found.levels, data.levels, strict=True)]
    return all(right), sum(right), len(right)


def made(module: Any, given: dict[str, Any] | None) -> Any:
    """The object that a section of a config describes; None for none."""
    return None if given is None else getattr(module, given["class_path"])(**given.get("init_args", {}))
