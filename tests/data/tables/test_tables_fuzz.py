"""Random tables that pandas writes, in random formats, dialects, types and missing patterns, are read back equal."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hierlit import LabelTable

pytestmark = pytest.mark.filterwarnings("ignore")
TEXTS = ["u", "v w", "it's", 'a "b"', "ä,ö", "x;y", "line\nend", "tab\there", "100%", "#1", "Zürich", "None such"]
SEPARATORS = [",", ";", "\t", "|"]


def column(draw: np.random.Generator, n_rows: int) -> tuple[pd.Series, bool]:
    """Values, some of them missing, and whether they are categories."""
    kind = draw.choice(["float", "float32", "int", "Int64", "big", "bool", "boolean", "text", "string", "category"])
    missing = draw.random(n_rows) < draw.choice([0, 0.1, 0.5])
    small = draw.integers(-50, 50, n_rows)
    if kind in ("float", "float32"):
        values = (draw.normal(size=n_rows) * 10.0 ** draw.integers(-6, 7)).astype(
            kind.replace("float", "float") or float
        )
        return pd.Series(np.where(missing, np.nan, values)).astype(kind), False
    if kind in ("int", "bool"):
        return pd.Series(small if kind == "int" else small > 0), False
    if kind in ("Int64", "big"):
        values = pd.array(small if kind == "Int64" else 2**62 + small % 5, dtype="Int64")
        values[missing] = pd.NA
        return pd.Series(values), kind == "big"
    if kind == "boolean":
        flags = pd.array(small > 0, dtype="boolean")
        flags[missing] = pd.NA
        return pd.Series(flags), False
    texts = pd.Series(draw.choice(TEXTS, n_rows), dtype=object).where(~missing, None)
    return texts.astype({"text": object}.get(kind, kind)), True


def write(rows: pd.DataFrame, draw: np.random.Generator) -> tuple[str, dict[str, Any]]:
    """Write a file in some way; return its name, and the arguments that tell which way."""
    if draw.random() < 0.3:
        index = [None, False][draw.integers(2)]
        rows.to_parquet("t.parquet", index=index, row_group_size=int(draw.integers(1, 30)))
        return "t.parquet", {}
    separator, encoding = draw.choice(SEPARATORS), draw.choice(["utf-8", "utf-8-sig", "utf-16", "latin-1"])
    name = "t" + draw.choice([".csv", ".CSV", ".csv.gz", ".csv.bz2", ".csv.xz", ".csv.zip"])
    if name.endswith((".bz2", ".xz")) and encoding == "utf-16":  # of which pandas cannot read its own
        encoding = "utf-8"
    rows.to_csv(
        name,
        sep=separator,
        index=False,
        encoding=encoding,
        quoting=int(draw.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])),
        na_rep=draw.choice(["", "NA", "nan", "?"]),
        lineterminator=draw.choice(["\n", "\r\n"]),
        compression="infer",
    )
    return name, {"separator": separator, "encoding": encoding}


def check(seed: int) -> None:
    """Write a table and compare what is read: values, classes, and what is missing."""
    draw = np.random.default_rng(seed)
    n_rows = int(draw.integers(3, 40))
    made = {f"c{number}": column(draw, n_rows) for number in range(draw.integers(1, 6))}
    classes = pd.Series(draw.choice(["k", "l m", "2", "2.5"], n_rows), dtype=object).where(draw.random(n_rows) < 0.8)
    rows = pd.DataFrame({name: values for name, (values, _) in made.items()} | {"y": classes})
    rows.loc[0, "y"] = "k"
    name, told = write(rows, draw)
    categories = [each for each, (_, is_category) in made.items() if is_category]
    whole = {"scale": "none", "val_fraction": 0, "acceptance_fraction": 0}
    data = LabelTable(name, class_columns="y", categorical_columns=categories, **whole, **told)
    data.setup()
    table, known = data.fitted, rows["y"].dropna().astype(str)
    assert sorted(data.label_names) == sorted({f"y={text}" for text in known})
    signs = data.tables["train"].labels[:, 0].numpy()
    for place, label in enumerate(data.label_names):
        truth = np.where(rows["y"].isna(), 0, np.where("y=" + rows["y"].astype(str) == label, 1, -1))
        assert np.array_equal(signs[:, place], truth)
    inputs = dict(zip(data.input_names, data.tables["train"].inputs[:, 0].numpy().T, strict=True))
    for each, (values, is_category) in made.items():
        present = values.notna().to_numpy()
        if is_category and present.any():
            own = values.astype(object)[present].astype(str).str.strip()
            assert table.categories[each] == sorted(set(own))
            for text in table.categories[each]:
                assert np.array_equal(inputs[f"{each}={text}"][present], (own == text).to_numpy())
        elif not is_category:
            truth = values.astype(object)[present].astype(float).to_numpy(np.float32)
            np.testing.assert_array_equal(inputs[each][present], truth)
            if present.any():
                expected = values.astype(object)[present].astype(float).mean()
                np.testing.assert_allclose(inputs[each][~present], expected, rtol=1e-5)


@pytest.mark.parametrize("first", range(0, 100, 25))
def test_tables_are_read_back_as_they_were_written(first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in range(first, first + 25):
        check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 2100, 100))
def test_many_tables_are_read_back(first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in range(first, first + 100):
        check(seed)
