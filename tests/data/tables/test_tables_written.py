"""The same labels, numbers and files however people write them, or a line that says why not."""

from __future__ import annotations

import re
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hierlit import LabelTable

WHOLE = {"val_fraction": 0.0, "acceptance_fraction": 0.0, "scale": "none"}
LARGE = [2**53, 2**53 + 1, 2**53 + 2]
pytestmark = pytest.mark.filterwarnings("ignore:.* in (all|the) training rows")


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def table(text: str | None = None, name: str = "t.csv", **arguments: object) -> LabelTable:
    if text is not None:
        Path(name).write_text(text)
    data = LabelTable(name, **{**WHOLE, **arguments})
    data.setup()
    return data


def labels(data: LabelTable) -> list[list[float]]:
    return data.tables["train"].labels[:, 0].tolist()


@pytest.mark.parametrize("cell", ["('u', 'v')", "{'v', 'u'}", '["u", "v"]', "['u','v',]"])
def test_labels_in_a_cell_may_be_any_collection_of_python(cell: str) -> None:
    rows = pd.DataFrame({"a": [1, 2, 3], "p": [cell, "['v']", "(w)"]})
    data = table(rows.to_csv(index=False), path_column="p")
    assert data.label_names == ["(w)", "u", "v"] and labels(data) == [[-1, 1, 1], [-1, -1, 1], [1, -1, -1]]


@pytest.mark.parametrize("cell", ["{'u': 1}", "('u', 1)", "{'u' 'v'}", "['u', None]"])
def test_other_collections_are_refused(cell: str) -> None:
    rows = pd.DataFrame({"a": [1, 2], "p": ["['v']", cell]})
    with pytest.raises(ValueError, match=r"^t.csv, line 3, column 'p': labels must be separated by '@', or a list"):
        table(rows.to_csv(index=False), path_column="p")


@pytest.mark.parametrize("mark", ["; ", "|", ";"])
def test_classes_that_seem_to_be_several_labels_are_told(mark: str) -> None:
    text = f"a,tags\n1,u{mark}v\n2,v\n3,u\n4,w{mark}u\n5,w\n"
    with pytest.warns(
        UserWarning, match=r"^texts of label column 'tags' such as .* are one class each: name it in path"
    ):
        table(text, label_columns="tags")


def test_separated_labels_of_which_none_stands_alone_are_told() -> None:
    with pytest.warns(
        UserWarning, match=r"^no value of path_column 'p' has the separator '@', and texts such as 'u|v'"
    ):
        table("a,p\n1,u|v\n2,v|w\n3,w|u\n", path_column="p")


@pytest.mark.parametrize("argument", ["label_columns", "class_columns", "feature_columns", "ignore_columns"])
def test_names_of_columns_may_be_decomposed(argument: str) -> None:
    names = {form: unicodedata.normalize(form, "été") for form in ("NFC", "NFD")}
    arguments = {argument: [names["NFD"]]} | ({} if argument.startswith(("label", "class")) else {"label_columns": "y"})
    data = table(f"a,{names['NFC']},y\n1,2,0\n2,3,1\n", **arguments)
    assert (names["NFC"] in data.input_names) == (argument == "feature_columns")
    assert len(data.input_names) == {"feature_columns": 1, "ignore_columns": 1}.get(argument, 2)


@pytest.mark.parametrize(
    ("name", "text"), [("h.csv", "parent,child\n{},v\n"), ("h.tsv", "parent\tchild\n{}\tv\n"), ("h.txt", "{}/v\n")]
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_hierarchies_in_any_file_and_form(name: str, text: str, form: str) -> None:
    Path(name).write_text(text.format(unicodedata.normalize(form, "é")))
    data = table("a,é,v\n1,1,0\n2,1,1\n", label_columns=["é", "v"], hierarchy_file=name)
    assert data.parents == [[], [0]]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_paths_of_an_arff_header_in_any_form(form: str) -> None:
    own = unicodedata.normalize(form, "é")
    header = f"@relation r\n@attribute a numeric\n@attribute p hierarchical {own},{own}/u\n@data\n"
    assert labels(table(f"{header}1,é/u\n2,é\n", "t.arff")) == [[1, 1], [1, -1]]


def test_zeros_beside_minus_ones_are_told_unless_settled(recwarn: pytest.WarningsRecorder) -> None:
    text = "a,y\n1,-1\n2,1\n3,0\n"
    said = (
        "^0 is taken for not observed in label columns that hold -1 too: y; set zero_labels to negative or not_observed"
    )
    with pytest.warns(UserWarning, match=said):
        assert labels(table(text, label_columns="y")) == [[-1], [1], [0]]
    recwarn.clear()
    assert labels(table(text, label_columns="y", zero_labels="negative")) == [[-1], [1], [-1]]
    assert not list(recwarn)


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_whole_numbers_beyond_a_doubles_are_exact_or_refused(name: str) -> None:
    rows = pd.DataFrame({"a": range(3), "y": LARGE})
    rows.to_csv(name, index=False) if name == "t.csv" else rows.to_parquet(name)
    assert table(None, name, class_columns="y").label_names == [f"y={code}" for code in LARGE]
    assert table(None, name, label_columns="y").label_names == [f"y={code}" for code in LARGE]
    rows.astype({"y": float}).to_parquet("u.parquet")
    with pytest.raises(ValueError, match=r"^u.parquet, row 1, column 'y': .* name the column in class_columns if it"):
        table(None, "u.parquet", label_columns="y")


def test_codes_of_any_length_are_categories_and_classes() -> None:
    code = "9" * 5000
    data = table(f"k,y\n{code},{code}\n-0,8\n+7.0,8\n", categorical_columns="k", class_columns="y")
    assert data.input_names == ["k=0", "k=7", f"k={code}"] and set(data.label_names) == {"y=8", f"y={code}"}


@pytest.mark.parametrize("beside", [{}, {"__MACOSX/._t.csv": "x"}, {"folder/": ""}])
def test_an_archive_of_one_file_is_that_file(beside: dict[str, str]) -> None:
    with zipfile.ZipFile("t.csv.zip", "w") as archive:
        for name, text in (beside | {"folder/t.csv": "a,y\n1,0\n2,1\n"}).items():
            archive.writestr(name, text)
    assert np.array_equal(table(None, "t.csv.zip", label_columns="y").tables["train"].inputs[:, 0, 0], [1, 2])


@pytest.mark.parametrize(("names", "got"), [(["a.csv", "b.csv"], "a.csv, b.csv"), ([], "none")])
def test_an_archive_of_other_than_one_file_is_refused(names: list[str], got: str) -> None:
    with zipfile.ZipFile("t.csv.zip", "w") as archive:
        for name in names:
            archive.writestr(name, "a,y\n1,0\n2,1\n")
    with pytest.raises(ValueError, match=f"t.csv.zip must hold one file, got {got}$"):
        LabelTable("t.csv.zip", label_columns="y")


@pytest.mark.parametrize("cell", ["2020-01-05", "5.1.2020", "10:30", "2020-01-05T10:30:00+02:00", "1/5/20"])
def test_times_are_told(cell: str) -> None:
    said = re.escape(
        f"column 'a' is taken for categories, but has texts such as {cell!r}: write times as numbers, or name"
    )
    with pytest.warns(UserWarning, match=said):
        table(f"a,y\n{cell},0\n{cell},1\n", label_columns="y")


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.parquet"])
def test_rows_without_any_value_are_told(name: str) -> None:
    rows = pd.DataFrame({"a": [1, 2, None, None], "y": [0, 1, None, None]})
    rows.to_parquet(name) if name.endswith("parquet") else rows.to_csv(name, index=False)
    place = f"{name}, {'row 3' if name.endswith('parquet') else 'line 4'}"
    with pytest.warns(UserWarning, match=f"^rows without any value: 2, the first in {place}: remove them$"):
        table(None, name, label_columns="y")


@pytest.mark.parametrize("comment", ["% made by hand", "  %{x}", "%"])
def test_comments_may_follow_declarations_of_arff(comment: str) -> None:
    header = f"@relation r {comment}\n@attribute a numeric {comment}\n@attribute b {{'x}} % ',y}} {comment}\n"
    rows = f"@data {comment}\n1,'x}} % ',0 {comment}\n2,y,1\n"
    data = table(f"{header}@attribute y {{0, 1}}{comment}\n{rows}", "t.arff", label_columns="y")
    assert data.input_names == ["a", "b=x} % ", "b=y"] or data.input_names == ["a", "b=x} %", "b=y"]
    assert labels(data) == [[-1], [1]]


@pytest.mark.parametrize(("listed", "written"), [("1,2", "1.0"), ("1.0,2.0", "1"), ("1,2", "+1")])
def test_values_that_arff_lists_may_be_written_otherwise(listed: str, written: str) -> None:
    header = f"@relation r\n@attribute b {{{listed}}}\n@attribute y {{0,1}}\n@data\n"
    assert table(f"{header}{written},0\n2,1\n", "t.arff", label_columns="y").input_names == ["b=1", "b=2"]


@pytest.mark.parametrize("text", ["<html/>", "no XML", ""])
def test_a_file_beside_that_is_none_of_mulan_is_left_alone(text: str) -> None:
    Path("t.xml").write_text(text)
    arff = "@relation r\n@attribute a numeric\n@attribute y {0,1}\n@data\n1,0\n2,1\n"
    assert table(arff, "t.arff", label_columns="y").label_names == ["y"]
    Path("t.xml").write_text("<labels><label name='y'>")
    with pytest.raises(ValueError, match=r"train_files: t.xml: no element found"):
        table(arff, "t.arff")
