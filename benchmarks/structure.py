"""What `discover` finds in label tables alone: curated edges, tables by chance, many labels, many rows, mined rules.

Sets of files are read from a folder, and skipped where they are not there. Each search is a process of its own. Curated
edges are those of the transitive reduction between labels of ten positive rows or more; labels with equal columns are
one, and edges from a label that is always 1 are counted apart.
"""

import resource
import time
import warnings
from collections.abc import Iterable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from benchmarks.table import Row, write
from benchmarks.tables import real_files
from hierlit.data import LabelTable
from hierlit.discovery import DiscoverOptions, LabelStructure, StructureOptions, discover_structure, label_structure
from hierlit.discovery.structure import LabelColumns, table_by_chance

CURATED = ["cellcycle_FUN", "derisi_FUN", "Enron_corr", "ImCLEF07D", "cellcycle_GO"]
QUICK = {"sets": ["Enron_corr"], "shuffles": 2, "made": [20, 500]}


def run(
    out: Path,
    data: str = "data",
    sets: list[str] = CURATED,
    shuffled: list[str] = ["Enron_corr", "yeast"],  # noqa: B006
    shuffles: int = 200,
    margins: list[str] = ["columns", "both"],  # noqa: B006
    made: list[int] = [1000, 1_000_000],  # noqa: B006
    rules: str | None = "yeast_constraints.txt",
) -> list[Row]:
    """Searches each set, tables by chance for some, a made sparse table, and compares with rules mined by others.

    Args:
        out: Gets structure.csv, and rules.csv.
        data: Folder of the sets.
        sets: Sets with a curated hierarchy.
        shuffled: Sets of which tables are made by chance.
        shuffles: How many.
        margins: What chance keeps.
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
        for kept in margins:
            what = f"{name}: of {shuffles} tables by chance, margins {kept}, those in which something was found"
            count = apart(null, folder, name, shuffles, kept)
            rows.append(Row("structure", what, count, target=f"<= {shuffles // 20}"))
    n_labels, n_rows = made
    seconds, note = apart(made_table, n_labels, n_rows)
    rows.append(Row("structure", f"{n_labels:,} made labels, {n_rows:,} rows", seconds, "s", note=note))
    path = folder / "yeast" / rules if rules else None
    if path is not None and path.is_file():
        judged = judge_rules(folder, path)
        write(out / "rules.csv", judged.to_dict("records"), ["rule"])
        for verdict, own in judged.groupby("verdict"):
            note = f"{int((own['test_exceptions'] == 0).sum())} hold in the test rows"
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
        "by chance": found.null,
        "seconds": round(time.perf_counter() - start, 1),
        "gib": peak(),
    }


def null(folder: Path, name: str, shuffles: int, margins: str) -> int:
    """How many of the searches of tables made by chance found anything: implication, exclusion, function or rule."""
    columns = columns_of(table_of(folder, name))
    options = StructureOptions(margins=margins, resamples=0, null=False)
    made = (table_by_chance(columns, margins, seed) for seed in range(shuffles))
    return sum(any(label_structure(table, options).found.values()) for table in made)


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
    """Rules mined by others, head :- body (`n` before a label: not), beside those found, and the test rows' verdict.

    A rule is known by its literals, which are never all true: those of the body and the negation of the head.
    """
    train, test = (columns_of(table_of(folder, "yeast", files)) for files in (0, 1))
    found, known, rows = clauses_of(label_structure(train, StructureOptions(resamples=0, null=False))), set(), []

    def sizes(body: list[tuple[int, bool]]) -> tuple[int, int]:
        return len(rows_of(train, body)), len(rows_of(test, body))

    for line in path.read_text().splitlines():
        head, body = (part.split() for part in line.split(":-"))
        literals = [(int(text.lstrip("n")), not text.startswith("n")) for text in [*head[1:], *body]]
        (target, sign), conditions = literals[0], literals[1:]
        clause = frozenset([(target, not sign), *conditions])
        known.add(clause)
        verdict = "found" if clause in found else "holds; may be chance"
        if len(rows_of(train, clause)):
            verdict = "does not hold in the training rows"
        elif verdict != "found" and not len(rows_of(train, conditions)):
            verdict = "its body is true in no training row"
        elif verdict != "found" and len(clause) > 3:
            verdict = "holds; of more labels than are looked at"
        rows.append((line.strip(), verdict, *sizes(conditions), len(rows_of(test, clause))))
    for clause, text in found.items():
        if clause not in known:
            body = [own for own in clause if own[1]]
            rows.append((text, "found, not among the rules", *sizes(body), len(rows_of(test, clause))))
    return pd.DataFrame(rows, columns=["rule", "verdict", "train_rows", "test_rows", "test_exceptions"])


def clauses_of(found: LabelStructure) -> dict[frozenset[tuple[int, bool]], str]:
    """Literals that are never all true, by what was found, and their text."""
    names, implied = found.names, found.implications
    pairs = zip(implied.child.tolist(), implied.parent.tolist(), strict=True)
    clauses = {frozenset([(i, True), (j, False)]): f"{names[i]} implies {names[j]}" for i, j in pairs}
    clauses |= {
        frozenset([(i, True), (j, True)]): f"never {names[i]} and {names[j]}" for i, j in implied.excluded.tolist()
    }
    return clauses | {frozenset(zip(own.labels, own.signs, strict=True)): own.text(names) for own in found.rules or []}


def rows_of(labels: LabelColumns, literals: Iterable[tuple[int, bool]]) -> np.ndarray:
    """Numbers of the rows in which labels are 1, or not, as literals say."""
    signs = labels.positive.toarray() > 0
    every = np.ones(len(signs), bool)
    return np.flatnonzero(np.logical_and.reduce([every, *(signs[:, own] == wanted for own, wanted in literals)]))
