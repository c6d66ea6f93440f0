"""What is not taken as a file has it is told before training: once, by column, with what changes it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hierlit import LabelTable

WHOLE = {"val_fraction": 0.0, "acceptance_fraction": 0.0}
N_MANY = 120_000
"""Rows that are read in more than one chunk."""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(rows: pd.DataFrame | pa.Table | str, name: str = "t.csv", **arguments: object) -> tuple[LabelTable, list[str]]:
    """A table, and what was warned of while it was read."""
    if isinstance(rows, str):
        Path(name).write_text(rows)
    elif isinstance(rows, pa.Table):
        pq.write_table(rows, name)
    elif name.endswith(".csv"):
        rows.to_csv(name, index=False)
    else:
        rows.to_parquet(name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = LabelTable(name, **{**WHOLE, **arguments})
        data.setup()
    return data, [str(warning.message) for warning in caught if "always positive" not in str(warning.message)]


def labels(data: LabelTable) -> list[list[float]]:
    return data.tables["train"].labels[:, 0].tolist()


def inputs(data: LabelTable) -> list[list[float]]:
    return data.tables["train"].inputs[:, 0].tolist()


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_label_columns_of_two_texts_become_two_labels_and_say_so(name: str) -> None:
    rows = pd.DataFrame({"a": [1, 2, 3], "u": ["yes", "no", "no"], "v": ["N", "Y", None], "w": ["k", "l", "m"]})
    data, said = read(rows, name, label_columns=["u", "v", "w"])
    assert data.label_names == ["u=no", "u=yes", "v=N", "v=Y", "w=k", "w=l", "w=m"]
    assert said == [
        "label columns of two classes become two labels each: u (no and yes), v (N and Y); "
        "write 1 and 0 to have one label a column, or name them in class_columns"
    ]
    assert read(rows, name, label_columns="w", class_columns=["u", "v"])[1] == []
    assert read(rows.assign(u=[1, 0, 0], v=["1", "0", None]), name, label_columns=["u", "v", "w"])[1] == []


@pytest.mark.parametrize("named", [{}, {"label_columns": "y"}, {"class_columns": "y"}])
def test_labels_of_two_texts_that_a_header_lists_are_told_too(named: dict[str, str]) -> None:
    header = "@relation r\n@attribute a numeric\n@attribute y {no,yes}\n@outputs y\n@data\n"
    said = read(header + "1,no\n2,yes\n", "t.arff", **named)[1]
    what = (
        "label columns of two classes become two labels each: y (no and yes); write 1 and 0 to have one label a column"
    )
    assert said == ([] if "class_columns" in named else [f"{what}, or name them in class_columns"])


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
@pytest.mark.parametrize("blank", ["", "  ", "\t"])
def test_texts_of_nothing_are_missing_in_parquet_as_in_csv(blank: str, kind: pa.DataType) -> None:
    texts = pa.array(["u", blank, "v", "u"]).cast(kind)
    rows = pa.table({"a": range(4), "c": texts, "k": texts})
    what = "t.parquet: {} cells with a blank text are taken for missing: {}; write a word where that is a category"
    data, said = read(rows, "t.parquet", class_columns="k", scale="none")
    assert (data.input_names, data.label_names) == (["a", "c=u", "c=v"], ["k=u", "k=v"])
    assert inputs(data) == [[0, 1, 0], [1, 1, 0], [2, 0, 1], [3, 1, 0]] and labels(data)[1] == [0, 0]
    assert said == [what.format(2, "c, k")]
    data, said = read(rows, "t.parquet", path_column="k", ignore_columns="c", empty_paths="negative")
    assert data.label_names == ["u", "v"] and labels(data)[1] == [-1, -1]
    assert said == [what.format(1, "k").partition(";")[0]], "an empty path is no category"
    kept = rows.to_pandas().astype({"c": str, "k": str})
    assert (
        read(kept, class_columns="k", scale="none")[0]
        .tables["train"]
        .inputs.equal(read(rows, "t.parquet", class_columns="k", scale="none")[0].tables["train"].inputs)
    )


@pytest.mark.parametrize("texts", [["1.5", "2", "-3.25"], ["1e5", "2.5E-3", ".5"], ["20", "30", "40"]])
def test_numbers_stored_as_texts_are_categories_and_say_so(texts: list[str]) -> None:
    rows = pa.table({"a": pa.array(texts), "y": [0, 1, 0]})
    data, said = read(rows, "t.parquet", label_columns="y")
    assert data.input_names == [f"a={text}" for text in sorted(texts)]
    assert said == [
        f"column 'a' is taken for categories, but has texts such as {sorted(texts)[0]!r}: "
        "store numbers as numbers, or name the column in categorical_columns"
    ]
    assert read(rows, "t.parquet", label_columns="y", categorical_columns="a")[1] == []


def test_more_numbers_stored_as_texts_than_categories_may_be_are_refused() -> None:
    rows = pa.table({"a": [f"{row}.5" for row in range(1500)], "y": [0, 1, 1] * 500})
    with pytest.raises(ValueError, match=r"^column 'a' has 1,500 categories, .*, or store numbers as numbers$"):
        read(rows, "t.parquet", label_columns="y")


@pytest.mark.parametrize("texts", [["007", "012", "120"], ["u", "v", "w"]])
def test_texts_that_are_codes_need_no_telling(texts: list[str]) -> None:
    rows = pa.table({"a": pa.array(texts), "y": [0, 1, 0]})
    assert read(rows, "t.parquet", label_columns="y")[1] == []
    assert (
        read("@relation r\n@attribute a {1,2}\n@attribute y {0,1}\n@data\n1,0\n2,1\n", "t.arff", label_columns="y")[1]
        == []
    )


def test_true_and_false_are_numbers_beside_0_and_1_alone() -> None:
    names = {"True,2,False": ["2", "False", "True"], "True,0,False": None, "true,1,": None, "True,x,False": list("FTx")}
    for cells, categories in names.items():
        data, _ = read(
            "a,y\n" + "".join(f"{cell},{row % 2}\n" for row, cell in enumerate(cells.split(","))), label_columns="y"
        )
        assert len(data.input_names) == (3 if categories else 1)
    with pytest.raises(
        ValueError, match=r"^t\.csv, line 4, column 'a': must be a number, got 'True'; name the column in cat"
    ):
        read("a,y\n2,0\n3,1\nTrue,0\n", label_columns="y")
    header = "@relation r\n@attribute a numeric\n@attribute y {0,1}\n@data\n"
    with pytest.raises(ValueError, match=r"^t\.arff, line 7, column 'a': must be a number, got 'True'"):
        read(header + "2,0\n3,1\nTrue,0\n", "t.arff", label_columns="y")


def test_true_in_further_rows_is_1_where_training_rows_were_0_and_1() -> None:
    Path("u.csv").write_text("a,y\nTrue,0\nFALSE,1\n")
    assert read("a,y\n1,0\n0,1\n", label_columns="y", scale="none", test_files="u.csv")[0].tables[
        "test"
    ].inputs.flatten().tolist() == [1, 0]
    with pytest.raises(ValueError, match=r"^u\.csv, line 2, column 'a': must be a number, got 'True'$"):
        read("a,y\n5,0\n0,1\n", label_columns="y", test_files="u.csv")


@pytest.mark.parametrize("row", [0, N_MANY - 2])
@pytest.mark.parametrize("beside", ["12", "+12", "none"])
def test_a_leading_zero_is_told_wherever_it_stands(row: int, beside: str) -> None:
    codes = np.array([str(12 + number % 50) for number in range(N_MANY)], dtype=object)
    codes[row], codes[row + 1] = "007", beside
    rows = pd.DataFrame({"zip": codes, "y": np.arange(N_MANY) % 2})
    arguments = {"label_columns": "y", "scale": "none", "missing": ["none"]}
    data, said = read(rows, **arguments)
    assert data.input_names == ["zip"] and inputs(data)[row] == [7]
    what = "t.csv: column 'zip' is taken for numbers, without the leading zero of '007'"
    said_of = f"{what}; name it in categorical_columns if it holds codes, ignore_columns if it identifies rows"
    assert said == [said_of]
    data, said = read(rows, categorical_columns="zip", **arguments)
    assert "zip=007" in data.input_names and said == []
    assert read("zip,y\n00,0\n01,1\nTrue,1\n", label_columns="y")[1] == [said_of.replace("007", "00")]


@pytest.mark.parametrize("row", [0, N_MANY - 1])
def test_classes_keep_their_leading_zeros_wherever_they_stand(row: int) -> None:
    codes = np.array([str(12 + number % 3) for number in range(N_MANY)], dtype=object)
    codes[row] = "007"
    rows = pd.DataFrame({"a": np.arange(N_MANY), "k": codes})
    rows.iloc[[row]].to_csv("u.csv", index=False)
    data, said = read(rows, label_columns="k", test_files="u.csv")
    assert data.label_names == ["k=007", "k=12", "k=13", "k=14"]
    assert data.tables["test"].labels.flatten().tolist() == [1, -1, -1, -1] and not any(
        "left out" in line for line in said
    )


def test_a_leading_zero_of_a_label_is_told() -> None:
    said = read("a,y\n1,00\n2,01\n3,1\n", label_columns="y")[1]
    assert said == [
        "t.csv: column 'y' is taken for numbers, without the leading zero of '00'; "
        "name it in class_columns if it holds codes"
    ]
    assert read("a,y\n1,00\n2,01\n3,1\n", class_columns="y")[0].label_names == ["y=00", "y=01", "y=1"]


def test_the_text_nan_is_no_label_where_nobody_says_that_it_is_missing() -> None:
    rows = pa.table({"a": range(3), "y": ["1", "0", "nan"]})
    with pytest.raises(ValueError, match=r"^t\.parquet, row 3, column 'y': a label must be .* or missing, got 'nan'"):
        read(rows, "t.parquet", label_columns="y")


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_large_numbers_that_are_not_scaled_are_told(name: str) -> None:
    rows = pd.DataFrame({"when": 1_700_000_000 + np.arange(4), "b": np.arange(4.0), "y": [0, 1] * 2})
    data, said = read(rows, name, label_columns="y", scale="none")
    assert len(set(data.tables["train"].inputs[:, 0, 0].tolist())) == 1
    assert said == ["1 of 2 columns of numbers vary too little for float32: set scale to standard: when"]
    for scale in ("standard", "auto", "unit"):
        assert read(rows, name, label_columns="y", scale=scale)[1] == []


LISTS = [["x' 'y", "u@v"], ['"q" "r"', "[a]"], ["it's", 'say "hi"', "a, b"], ["('u', 'v')", "line\nend"]]


@pytest.mark.parametrize("texts", LISTS)
def test_lists_in_parquet_hold_any_texts(texts: list[str]) -> None:
    data, _ = read(pa.table({"a": [1, 2], "p": [texts, texts[:1]]}), "t.parquet", path_column="p")
    assert data.label_names == sorted(texts)
    assert labels(data) == [[1] * len(texts), [1 if text == texts[0] else -1 for text in sorted(texts)]]


@pytest.mark.parametrize(
    ("cell", "rule"),
    [(["u", None], "labels must be separated by '@', or a list of texts"), ([""], "labels must not be empty")],
)
def test_lists_of_other_things_are_refused(cell: list[Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rf"^t\.parquet, row 2, column 'p': {rule}"):
        read(pa.table({"a": [1, 2], "p": [["u"], cell]}), "t.parquet", path_column="p")


@pytest.mark.parametrize("argument", ["label_columns", "class_columns"])
def test_words_taken_for_missing_are_counted_in_every_column_of_classes(argument: str) -> None:
    _, said = read("a,k\n1,None\n2,u\n3,v\n4,w\n", **{argument: "k"})
    assert said == [
        "t.csv: 1 cells with a word are taken for missing: k=None; set missing to [''] to take words as they are"
    ]


def test_columns_without_a_value_are_told() -> None:
    rows = pd.DataFrame(
        {"a": [1, 2, 3], "b": [np.nan] * 3, "c": pd.array([None] * 3, "string"), "d": [5] * 3, "y": [0, 1, 0]}
    )
    _, said = read(rows, "t.parquet", label_columns="y")
    assert said == [
        "2 of 4 input columns have no value in any training row: b, c; name them in ignore_columns",
        "1 of 3 inputs are the same in all training rows: d",
    ]


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_labels_without_a_value_are_told_or_refused(name: str) -> None:
    rows = pd.DataFrame({"a": [1, 2, 3], "y": [0, 1, 0], "z": [np.nan] * 3})
    data, said = read(rows, name, label_columns=["y", "z"])
    assert data.label_names == ["y", "z"]
    assert said == ["1 of 2 labels have no value in any training row: z; leave them out of label_columns"]
    with pytest.raises(ValueError, match=r"^labels must have values in training rows, got none for z$"):
        read(rows, name, label_columns="z", ignore_columns="y")


@pytest.mark.parametrize("given", ["u_a,u_b", "u_a, u_b", "u_a u_b", "[u_a,u_b]", "u_*,b", ["u_a,u_b"]])
def test_names_in_one_text_are_to_be_a_list(given: Any) -> None:
    (text,) = [given] if isinstance(given, str) else given
    parts = text.strip("[]").replace(",", " ").split()
    with pytest.raises(ValueError) as caught:
        read("a,b,u_a,u_b\n1,2,0,1\n", label_columns=given)
    assert str(caught.value) == f"label_columns: t.csv has no column {text!r}: write a list, [{','.join(parts)}]"
    with pytest.raises(ValueError, match=r"has no column 'u_a,u_c': did you mean 'u_a'"):
        read("a,b,u_a,u_b\n1,2,0,1\n", label_columns="u_a,u_c")


ROWS = pd.DataFrame({"a": [1.0, 2, 3, 4], "b": [4.0, 3, 2, 9], "c": list("uvuv"), "y": [0, 1] * 2, "z": [1, 0] * 2})
OTHERS: dict[str, tuple[pd.DataFrame, dict[str, Any], str]] = {
    "a mean": (ROWS.assign(a=[1, 2, 3, 5]), {}, "column 'a' has another mean"),
    "a spread": (ROWS.assign(a=[0, 2, 3, 5]), {}, "column 'a' has another standard deviation"),
    "means": (ROWS.assign(a=[1, 2, 3, 5], b=0), {}, "columns 'a', 'b' have another mean"),
    "a fill": (ROWS.assign(a=[1, 2, 3, 5]), {"scale": "none"}, "column 'a' has another value in place of missing ones"),
    "a label": (
        ROWS.rename(columns={"z": "x"}),
        {"label_columns": ["y", "x"]},
        "label 'x' is not in the checkpoint, 'z' is",
    ),
    "fewer labels": (ROWS.drop(columns="z"), {"label_columns": "y"}, "label 'z' is in the checkpoint alone"),
    "order": (ROWS[["a", "b", "c", "z", "y"]], {}, "labels have another order"),
    "inputs": (ROWS.assign(c=list("pqrs")), {}, "inputs 'c=p', 'c=q', 'c=r' and 1 more are not in the checkpoint, "
        "'c=u', 'c=v' are"),
    "frequent": (ROWS.assign(c=list("vvuv")), {}, "the most frequent category is another in 'c'"),
    "scale": (ROWS, {"scale": "unit"}, "scale is another"),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_what_differs_from_the_rows_of_a_checkpoint_is_said_in_words(kind: str) -> None:
    rows, changed, what = OTHERS[kind]
    arguments = {"label_columns": ["y", "z"]} | changed
    before = arguments | {"label_columns": ["y", "z"]} | ({"scale": "standard"} if kind == "scale" else {})
    saved = read(ROWS, **before)[0].state_dict()
    with pytest.raises(ValueError) as caught:
        read(rows, **arguments)[0].load_state_dict(saved)
    assert str(caught.value) == f"train_files and the splits must be those of the checkpoint, got others: {what}"


def test_one_fault_of_many_columns_is_one_line() -> None:
    names = [f"y{number}" for number in range(20)]
    labels = pd.DataFrame({name: ["00", "01", "1"] for name in names})
    what = "t.csv: column 'y0' is taken for numbers, without the leading zero of '00'; name it in class_columns"
    said = read(labels.assign(a=[1, 2, 3]), label_columns="y*")[1]
    assert said == [f"{what} if it holds codes; likewise 'y1', 'y2', 'y3' and 16 more"]
    said = read(labels.assign(a=["2 kg", "3 kg", "4 kg"], b=["1 %", "2 %", "3 %"]), class_columns="y*")[1]
    assert [line.partition("; ")[2] for line in said if "taken for categories" in line] == ["likewise 'b'"]
    times = pd.DataFrame({name: pd.to_datetime(["2020-01-01", "2020-01-02"]) for name in names})
    with pytest.raises(ValueError, match=r"^t\.parquet: column 'y0' holds timestamp\S+, no label; likewise 'y1', 'y2'"):
        read(times.assign(a=[1, 2]), "t.parquet", label_columns="y*")
    with pytest.raises(
        ValueError, match=r"^label_columns: t\.csv has no column 'b': its columns are .*; likewise 'c'$"
    ):
        read("first,second\n", label_columns=["b", "c"])


@pytest.mark.parametrize("given", ["topics_*", "Topic-*"])
def test_the_columns_nearest_to_a_pattern_of_none_are_named(given: str) -> None:
    columns = ",".join(["identifier_of_the_row", *(f"topic_{number}_of_the_collection" for number in range(9))])
    with pytest.raises(ValueError) as caught:
        read(f"{columns}\n", label_columns=given)
    what = f"label_columns: t.csv has no column {given!r}: none begins so, the nearest are 'topic_"
    assert str(caught.value).startswith(what)


def test_dates_may_be_no_input() -> None:
    rows = pd.DataFrame({"when": ["2001-01-01", "2001-01-02"], "a": [1, 2], "y": [0, 1]})
    (said,) = read(rows, label_columns="y")[1]
    assert "such as '2001-01-01': write times as numbers, or name dates that are no input in ignore_columns" in said
