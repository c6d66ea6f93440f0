"""What `discover` finds in label tables alone: curated edges, shuffled columns, many labels, many rows, mined rules.

Sets of files are read from a folder, and skipped where they are not there. Each search is a process of its own. Curated
edges are those of the transitive reduction between labels of ten positive rows or more; labels with equal columns are
one, and edges from a label that is always 1 are counted apart.
"""

import resource
import time
import warnings
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from scipy.special import comb

from benchmarks.table import Row, write
from benchmarks.tables import real_files
from hierlit.data import LabelTable
from hierlit.discovery import DiscoverOptions, StructureOptions, discover_structure, label_structure
from hierlit.discovery.structure import LabelColumns
from hierlit.discovery.structure.counts import PairCounts, at, log_tail
from hierlit.discovery.structure.implications import find_implications

CURATED = ["cellcycle_FUN", "derisi_FUN", "Enron_corr", "ImCLEF07D", "cellcycle_GO"]
QUICK = {"sets": ["Enron_corr"], "shuffles": 2, "made": [20, 500]}


def run(
    out: Path,
    data: str = "data",
    sets: list[str] = CURATED,
    shuffled: list[str] = ["Enron_corr", "yeast"],  # noqa: B006
    shuffles: int = 200,
    made: list[int] = [1000, 1_000_000],  # noqa: B006
    rules: str | None = "yeast_constraints.txt",
) -> list[Row]:
    """Searches each set, shuffled columns of some, a made sparse table, and compares with rules mined by others.

    Args:
        out: Gets structure.csv, and rules.csv.
        data: Folder of the sets.
        sets: Sets with a curated hierarchy.
        shuffled: Sets whose columns are shuffled.
        shuffles: How often.
        made: Labels and rows of the made table.
        rules: File in the folder of yeast, with rules mined from its training labels.
    """
    rows, folder = [], Path(data)
    for name in (name for name in sets if (folder / name).is_dir()):
        own = apart(curated, folder, name)
        write(out / "structure.csv", [own], ["set"])
        note = "; ".join(f"{key} {value}" for key, value in own.items() if key != "set")
        rows.append(Row("structure", f"{name}: curated edges", own["found"], "found", own["edges"], note=note))
    for name in (name for name in shuffled if (folder / name).is_dir()):
        what = f"{name}: of {shuffles} shuffled tables, those in which something was found"
        rows.append(Row("structure", what, apart(null, folder, name, shuffles), target=f"<= {shuffles // 20}"))
    n_labels, n_rows = made
    seconds, note = apart(made_table, n_labels, n_rows)
    rows.append(Row("structure", f"{n_labels:,} made labels, {n_rows:,} rows", seconds, "s", note=note))
    path = folder / "yeast" / rules if rules else None
    if path is not None and path.is_file():
        judged = judge_rules(folder, path)
        write(out / "rules.csv", judged.to_dict("records"), ["rule"])
        for verdict, own in judged.groupby("verdict"):
            note = f"{int(own['holds_in_test'].sum())} hold in the test rows"
            rows.append(Row("structure", f"yeast, rules: {verdict}", len(own), note=note))
    return rows


def apart(function: Any, *arguments: Any) -> Any:
    """What a function returns in a process of its own, whose memory is then its own."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def table_of(folder: Path, name: str, files: int = 0) -> LabelTable:
    """The training rows of a set, or its test rows."""
    warnings.simplefilter("ignore")
    found = real_files(name, folder)
    return LabelTable(train_files=found[files], label_columns=found[2] or None, val_fraction=0.0)


def columns_of(data: LabelTable) -> LabelColumns:
    """Labels alone."""
    data.setup()
    rows = data.tables["train"]
    return LabelColumns.of_signs(rows[np.arange(len(rows))].labels.numpy(), data.label_names or [])


def curated(folder: Path, name: str) -> dict[str, Any]:
    """How the edges of a set that were found agree with its own."""
    data, start = table_of(folder, name), time.perf_counter()
    found, agreement = discover_structure(data, DiscoverOptions())
    assert agreement is not None
    return {
        "set": name,
        "labels": found.columns.n_labels,
        "found": agreement.recall.right,
        "edges": agreement.recall.of,
        "precision": str(agreement.precision),
        "recall": str(agreement.recall),
        "lineage": str(agreement.lineage),
        "between equal columns": agreement.between_equal,
        "from a constant label": agreement.from_constant,
        "functions": sum(own.is_kept for own in found.readings),
        "null": found.null,
        "seconds": round(time.perf_counter() - start, 1),
        "gib": peak(),
    }


def null(folder: Path, name: str, shuffles: int) -> int:
    """How many of the searches of tables with shuffled columns found anything: implication, exclusion or function."""
    columns = columns_of(table_of(folder, name))
    options, count = StructureOptions(resamples=0, null=False), 0
    for seed in range(shuffles):
        found = label_structure(columns.shuffled(np.random.default_rng(seed)), options)
        count += bool(len(found.implications.child) or len(found.implications.excluded) or found.readings)
    return count


def made_table(n_labels: int, n_rows: int) -> tuple[float, str]:
    """Seconds, and edges of a made sparse table: a tree of ten children a label; rows have three and all above."""
    draws = np.random.default_rng(0)
    parent = (np.arange(n_labels) - 1) // 10
    chosen = np.minimum(draws.geometric(5 / n_labels, size=(n_rows, 3)), n_labels) - 1
    chosen = n_labels - 1 - chosen
    places = [chosen]
    while (places[-1] > 0).any():
        places.append(np.where(places[-1] > 0, parent[places[-1]], places[-1]))
    columns = np.concatenate(places, 1)
    labels = csr_matrix(
        (np.ones(columns.size, np.int8), columns.ravel(), np.arange(0, columns.size + 1, columns.shape[1]))
    )
    labels.sum_duplicates()
    labels.data[:] = 1
    start = time.perf_counter()
    found = label_structure(labels)
    seconds = time.perf_counter() - start
    known = {(int(above), label) for label, above in enumerate(parent) if label and above > 0}
    own = found.implications.edges()
    return seconds, f"{len(own & known)} of {len(known)} edges, {len(own - known)} others; {peak()} GiB"


def peak() -> float:
    """Most memory that the process has had, in GiB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)


def judge_rules(folder: Path, path: Path) -> pd.DataFrame:
    """Rules mined by others, head :- body (`n` before a label: not), beside what was found, and the test rows' verdict.

    Rules with one label in the body are implications or exclusions, which are looked for. Of others it is said whether
    chance would make them in the rows where all of the body but one label is true, at .05 over all rules of their size.
    """
    train, test = (columns_of(table_of(folder, "yeast", files)) for files in (0, 1))
    counts, rows = PairCounts(train), []
    found = find_implications(counts, 0.0, 0.05)
    implied = set(zip(found.child.tolist(), found.parent.tolist(), strict=True))
    excluded = {frozenset(pair) for pair in found.excluded.tolist()}
    known = set()
    for line in path.read_text().splitlines():
        head, body = (part.split() for part in line.split(":-"))
        literals = [(int(text.lstrip("n")), not text.startswith("n")) for text in [*head[1:], *body]]
        (target, sign), conditions = literals[0], literals[1:]
        held, of = holds(train, target, sign, conditions)
        tested, of_test = holds(test, target, sign, conditions)
        verdict = "does not hold in the training rows"
        if held:
            is_chance = log_p_of_rule(train, target, sign, conditions) > np.log(
                0.05 / n_rules(train.n_labels, conditions)
            )
            verdict = "holds; may be chance" if is_chance else "holds beyond chance; its body is a conjunction"
        if held and len(conditions) == 1 and conditions[0][1]:
            source = conditions[0][0]
            known.add((source, target, sign))
            is_found = (source, target) in implied if sign else frozenset((source, target)) in excluded
            verdict = "found" if is_found else "holds; may be chance"  # which the search decides for one label
        rows.append((line.strip(), verdict, of, tested, of_test))
    own = [(i, j, True) for i, j in implied] + [(*sorted(pair), False) for pair in excluded]
    for source, target, sign in sorted(own):
        if (source, target, sign) not in known and (target, source, sign) not in known:
            tested, of_test = holds(test, target, sign, [(source, True)])
            of = int(at(counts.both, np.array([source]), np.array([source]))[0])
            rows.append(
                (f"{'' if sign else 'n'}{target} :- {source}", "found, not among the rules", of, tested, of_test)
            )
    return pd.DataFrame(rows, columns=["rule", "verdict", "train_rows", "holds_in_test", "test_rows"])


def n_rules(n_labels: int, conditions: list[tuple[int, bool]]) -> float:
    """Rules with as many conditions."""
    return 2.0 * n_labels * comb(n_labels - 1, len(conditions)) * 2 ** len(conditions)


def log_p_of_rule(labels: LabelColumns, target: int, sign: bool, conditions: list[tuple[int, bool]]) -> float:
    """Log-probability of chance making a rule, in those rows of all its conditions but one that explain it best."""
    is_head = (labels.positive[:, [target]].toarray().ravel() > 0) == sign
    bodies = [rows_of(labels, conditions[:left] + conditions[left + 1 :]) for left in range(len(conditions))]
    drawn = int(rows_of(labels, conditions).sum())
    return max(float(log_tail(body.sum(), (body & is_head).sum(), drawn, 0)) for body in bodies)


def rows_of(labels: LabelColumns, conditions: list[tuple[int, bool]]) -> np.ndarray:
    """Rows in which labels are 1, or not, as conditions say."""
    signs = labels.positive.toarray() > 0
    return np.logical_and.reduce(
        [np.ones(len(signs), bool), *(signs[:, label] == wanted for label, wanted in conditions)]
    )


def holds(labels: LabelColumns, target: int, sign: bool, conditions: list[tuple[int, bool]]) -> tuple[bool, int]:
    """Whether a rule has no exception, and in how many rows its body is true."""
    body, is_head = rows_of(labels, conditions), labels.positive[:, [target]].toarray().ravel() > 0
    return bool((is_head[body] == sign).all()), int(body.sum())
