"""Situations that people met in the field, each with what is right, and variants of each of our own making."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hierlit import LabelTable

WHOLE = {"val_fraction": 0.0, "acceptance_fraction": 0.0}
pytestmark = pytest.mark.filterwarnings("ignore:.* training rows?")


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(name: str | Path, text: str | bytes | None = None, **arguments: object) -> tuple[LabelTable, list[str]]:
    """A table and what was warned of while it was read."""
    if text is not None:
        Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = LabelTable(name, **{**WHOLE, **arguments})
        data.setup()
    return data, [str(warning.message) for warning in caught if "training row" not in str(warning.message)]


def labels(data: LabelTable, split: str = "train") -> list[list[float]]:
    return data.tables[split].labels[:, 0].tolist()


@pytest.mark.parametrize("size", [2**16, 2**17, 2**19, 2**20])
def test_a_quoted_line_end_across_two_blocks_is_one_text(size: int) -> None:
    head, row = b"len,place,y\r\n", b'7,"north\r\nwing",1\r\n3,south,0\r\n'
    body = row * ((size - 200) // len(row))
    before = b'7,"north'
    filled = b"0" * (size - 1 - len(head) - len(body) - len(before))
    text = head + body + filled + before + b'\r\nwing",1\r\n' + row * 3
    assert text[size - 1 : size + 1] == b"\r\n"
    data, _ = read("t.csv", text, label_columns="y")
    assert data.input_names == ["len", "place=north\r\nwing", "place=south"]


@pytest.mark.parametrize("n_characters", [100_000, 700_000, 3_000_000, 20_000_000])
def test_long_values_in_columns_left_out(n_characters: int) -> None:
    rows = "".join(f"{row},{'x' * (n_characters if row == 3 else 9)},{row % 2}\n" for row in range(6))
    data, _ = read("t.csv", "a,notes,y\n" + rows, label_columns="y", ignore_columns="notes", scale="none")
    assert data.tables["train"].inputs.flatten().tolist() == list(range(6))


@pytest.mark.parametrize("word", ["None", "NA", "null", "nan"])
def test_words_taken_for_missing_are_counted(word: str) -> None:
    text = f"a,disorder,c\n1,{word},u\n2,Apnea,v\n3,{word},{word}\n4,Insomnia,u\n"
    data, said = read("t.csv", text, class_columns="disorder")
    assert data.label_names == ["disorder=Apnea", "disorder=Insomnia"]
    assert said == [
        f"t.csv: 3 cells with a word are taken for missing: c={word}, disorder={word}; "
        "set missing to [''] to take words as they are"
    ]
    data, said = read("t.csv", text, class_columns="disorder", missing=[""])
    assert f"disorder={word}" in data.label_names and said == []


EMPTIES = {
    "t.csv": "w,tags\n1,a/b@c\n2,\n3,a\n",
    "u.csv": "w,tags\n1,\"['a/b', 'c']\"\n2,[]\n3,['a']\n",
    "t.arff": "@relation x\n@attribute w numeric\n@attribute tags hierarchical a/b,c\n@data\n1,a/b@c\n2,?\n3,a\n",
    "v.csv": "w,tags\n1,a/b@c\n2,NA\n3,a@\n",
}


@pytest.mark.parametrize("name", EMPTIES)
def test_what_an_empty_list_of_labels_means(name: str) -> None:
    column = {} if name.endswith("arff") else {"path_column": "tags"}
    for empty, expected in ((None, 0), ("not_observed", 0), ("negative", -1)):
        data, said = read(name, EMPTIES[name], empty_paths=empty, **column)
        assert labels(data) == [[1, 1, 1], [expected] * 3, [1, -1, -1]]
        assert any(line.startswith("rows without a path: 1, the first in ") for line in said) == (empty is None)


LISTS = ["\"['haze', 'water']\"", '"[""haze"", ""water""]"', "\"['haze','water',]\"", "\"[ 'haze' , 'water' ]\""]


@pytest.mark.parametrize("cell", LISTS)
def test_lists_of_labels_are_lists(cell: str) -> None:
    data, _ = read("t.csv", f"a,tags\n1,{cell}\n2,['water']\n", path_column="tags")
    assert (data.label_names, labels(data)) == (["haze", "water"], [[1, 1], [-1, 1]])


@pytest.mark.parametrize("cell", ["['haze' 'water']", "[haze water]", "\"['haze', 1]\"", "\"['haze', 'water]\""])
def test_lists_written_otherwise_are_refused(cell: str) -> None:
    with pytest.raises(ValueError, match=r"^t\.csv, line 2, column 'tags': labels must be separated by '@', or a list"):
        read("t.csv", f"a,tags\n1,{cell}\n2,['water']\n", path_column="tags")
    with pytest.raises(ValueError, match=r"^t\.csv, line 2, column 'tags': a class must not be a list, got"):
        read("t.csv", f"a,tags\n1,{cell}\n2,['water']\n", label_columns="tags")


@pytest.mark.parametrize("separator", [" ", "  ", "\t", "; "])
def test_separators_of_labels_may_be_spaces(separator: str) -> None:
    data, _ = read("t.csv", f"a,tags\n1,haze{separator}water\n2,water\n", path_column="tags", path_separator=separator)
    assert labels(data) == [[1, 1], [-1, 1]]


@pytest.mark.parametrize("mark", [";", "|", ",", "\t", " "])
def test_a_separator_that_labels_seem_to_have_is_told(mark: str) -> None:
    cells = [mark.join(own) for own in ("xy", "yz", "x", "zxy", "z")]
    rows = "a,tags\n" + "".join(f'{number},"{cell}"\n' for number, cell in enumerate(cells))
    data, said = read("t.csv", rows, path_column="tags")
    assert len(data.label_names) == 5
    assert said == [
        f"no value of path_column 'tags' has the separator '@', and texts such as {cells[0]!r} are one label each: "
        f"set path_separator to {mark!r} if that separates labels"
    ]
    assert read("t.csv", path_column="tags", path_separator=mark)[1] == []


def test_labels_with_spaces_and_commas_are_not_taken_for_several() -> None:
    rows = 'a,tags\n1,"New York, NY"\n2,"Salt Lake City, UT@New York, NY"\n3,Salem\n'
    assert read("t.csv", rows, path_column="tags")[1] == []
    assert read("t.csv", rows.replace("@New York, NY", ""), path_column="tags")[1] == []
    pairs = "".join(f"1,{size} {animal}\n" for size in ("big", "small") for animal in ("cat", "dog", "cow"))
    assert read("t.csv", "a,tags\n" + pairs, path_column="tags")[1] == []


@pytest.mark.parametrize("cell", ["01234", "-0123", "+05", "00"])
def test_leading_zeros_of_numbers_are_told(cell: str) -> None:
    rows = "zip,b,y\n" + "".join(f"{cell if row == 3 else row},0.{row},{row % 2}\n" for row in range(6))
    _, said = read("t.csv", rows, label_columns="y")
    what = f"t.csv: column 'zip' is taken for numbers, without the leading zero of '{cell}'"
    assert said == [f"{what}; name it in categorical_columns if it holds codes, ignore_columns if it identifies rows"]
    assert read("t.csv", label_columns="y", categorical_columns="zip")[1] == []


@pytest.mark.parametrize("index", [pd.RangeIndex(1, 4), pd.Index(["p", "q", "r"]), pd.Index([2, 0, 1], name="animal")])
def test_the_index_of_pandas_is_no_input(index: pd.Index) -> None:
    pd.DataFrame({"a": [1, 2, 3], "y": [0, 1, 0]}, index=index).to_parquet("t.parquet")
    data, said = read("t.parquet", label_columns="y")
    assert data.input_names == ["a"]
    assert len(said) == (not isinstance(index, pd.RangeIndex))


@pytest.mark.parametrize("values", [["2", "1", "0"], ["2.0", "1.0", ""], ["+2", "1.", "0.00"], [" 2 ", "1.000", "-0"]])
def test_whole_numbers_are_the_same_class_however_written(values: list[str]) -> None:
    Path("u.csv").write_text("a,k\n" + "".join(f"{row},{value}\n" for row, value in enumerate(values)))
    data, said = read("t.csv", "a,k\n1,0\n2,1\n3,2\n", class_columns="k", test_files="u.csv")
    last = [0, 0, 0] if not values[2] else [1, -1, -1]
    assert labels(data, "test") == [[-1, -1, 1], [-1, 1, -1], last]
    assert not any("left out" in line for line in said)


@pytest.mark.parametrize("dtype", ["int64", "Int64", "category", "uint64"])
def test_integers_beyond_a_doubles_are_three_classes(dtype: str) -> None:
    codes = pd.Series([2**53, 2**53 + 1, 2**53 + 2] * 2).astype(dtype)
    rows = pd.DataFrame({"a": range(6), "k": codes})
    rows.to_parquet("t.parquet")
    rows.to_csv("t.csv", index=False)
    for name in ("t.parquet", "t.csv"):
        assert len(read(name, class_columns="k")[0].label_names) == 3
        assert len(read(name, label_columns="a", class_columns="a", categorical_columns="k")[0].input_names) == 3


@pytest.mark.parametrize("dtype", ["bool", "boolean", "object", "bool[pyarrow]"])
def test_true_and_false_are_the_same_in_every_format(dtype: str) -> None:
    values = [True, False, True, False] if dtype == "bool" else [True, None, True, False]
    rows = pd.DataFrame({"w": [1.0, 2, 3, 4], "woolly": pd.array(values, dtype=dtype), "y": [True, False, False, True]})
    rows.to_csv("t.csv", index=False)
    rows.to_parquet("t.parquet")
    for train, test in (("t.csv", "t.parquet"), ("t.parquet", "t.csv")):
        tables = read(train, test_files=test, label_columns="y")[0].tables
        assert np.array_equal(tables["train"].inputs, tables["test"].inputs)
        assert np.array_equal(tables["train"].labels, tables["test"].labels)


def test_composed_and_decomposed_letters_are_one_label_and_one_column() -> None:
    Path("u.csv").write_text("ro\u0302le,k,c\n1,\u00e9,\u00fc\n")
    data, said = read(
        "t.csv", "r\u00f4le,k,c\n1,e\u0301,u\u0308\n2,\u00e9,\u00fc\n3,x,x\n", label_columns="k", test_files="u.csv"
    )
    assert data.label_names == ["k=x", "k=\u00e9"] and data.n_inputs == 3
    assert labels(data, "test") == [[-1, 1]]
    assert not any("left out" in line or "zeros" in line for line in said)


ATTRIBUTES = "@attribute a numeric\n@attribute 'b c' {{0,1}}\n@attribute y {{0,1}}\n@attribute z {{0,1}}\n"
HEADER = "@relation {}\n" + ATTRIBUTES + "@data\n"
ROWS = ["1,0,1,0,{2}", "1,0,1,0,{0.5} % half", "{0 1, 2 1}, {2}", "{0 1,2 1} % sparse", "{2 1, 0 1}"]


@pytest.mark.parametrize("row", ROWS)
def test_weights_and_sparse_rows_of_arff(row: str) -> None:
    data, said = read("t.arff", HEADER.format("r") + f"{row}\n2,1,0,1\n", label_columns=["y", "z"], scale="none")
    assert data.tables["train"].inputs[:, 0].tolist() == [[1, 1, 0], [2, 0, 1]]
    assert labels(data) == [[1, -1], [-1, 1]]
    assert said == (["t.arff: weights of 1 rows are not used"] if row.count("{") - row.startswith("{") else [])


XML = '<?xml version="1.0"?><labels xmlns="http://mulan"><label name="z"></label><label name="y"/></labels>'


@pytest.mark.parametrize(
    ("relation", "name", "xml", "expected"),
    [
        ("'r: -C 1'", "t.arff", None, ["a"]),
        ("'r: -C -2'", "t.arff", None, ["y", "z"]),
        ("r", "t.arff", "t.xml", ["z", "y"]),
        ("r", "t-train.arff", "T.XML", ["z", "y"]),
        ("'r: -C 1 -I 0'", "t.arff", "t.xml", ["z", "y"]),
    ],
)
def test_labels_that_meka_and_mulan_name(relation: str, name: str, xml: str | None, expected: list[str]) -> None:
    if xml:
        Path(xml).write_text(XML)
    data, _ = read(name, HEADER.format(relation) + "1,0,1,0\n0,1,0,1\n")
    assert data.label_names == expected


@pytest.mark.parametrize("escaped", [r"'Shepherd\'s dog'", r'"Shepherd\'s dog"', '"Shepherd\'s dog"'])
def test_escapes_in_names_of_arff(escaped: str) -> None:
    header = f"@relation r\n@attribute {escaped} {{0,1}}\n@attribute y {{0,1}}\n@data\n"
    assert read("t.arff", header + "1,0\n0,1\n", label_columns="y")[0].input_names[1] == "Shepherd's dog=1"


@pytest.mark.parametrize("cell", ["1,5", "12 %", "1.234,5", "3'000"])
def test_numbers_written_otherwise_are_told(cell: str) -> None:
    rows = "".join(f"{cell.replace('1', str(row % 3 + 1))};{row % 2}\n" for row in range(12))
    _, said = read("t.csv", "a;y\n" + rows, separator=";", label_columns="y")
    assert len(said) == 1 and said[0].startswith("column 'a' is taken for categories, but has texts such as")
    assert read("t.csv", separator=";", label_columns="y", categorical_columns="a")[1] == []


def test_paths_may_be_objects_and_names_pandas() -> None:
    rows = pd.DataFrame({"a": [1, 2], "y": [0, 1], "z": [1, 0]})
    rows.to_csv("t.csv", index=False)
    for names in (rows.columns[1:], np.array(["y", "z"]), ("y", "z")):
        assert read(Path("t.csv"), label_columns=names)[0].label_names == ["y", "z"]


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.string()), pa.large_list(pa.large_string()), pa.list_(pa.dictionary(pa.int32(), pa.string()))]
)
@pytest.mark.parametrize(("empty", "expected"), [("negative", -1), ("not_observed", 0)])
def test_a_column_of_lists_in_parquet_holds_paths(kind: pa.DataType, empty: str, expected: int) -> None:
    lists = [["u, x", "v"], ["v"], [], None, ["it's"]]
    pq.write_table(pa.table({"a": range(5), "p": pa.array(lists, kind)}), "t.parquet")
    data, _ = read("t.parquet", path_column="p", empty_paths=empty)
    assert data.input_names == ["a"] and data.label_names == ["it's", "u, x", "v"]
    assert labels(data) == [[-1, 1, 1], [-1, -1, 1], [expected] * 3, [expected] * 3, [1, -1, -1]]
    with pytest.raises(ValueError, match=r"column 'p' holds (large_)?list<.*>, no label"):
        LabelTable("t.parquet", label_columns="p")


@pytest.mark.parametrize("word", ["#N/A", "n/a", "<NA>", "-NaN"])
def test_words_that_pandas_takes_for_missing_are_missing(word: str) -> None:
    data, said = read("t.csv", f"a,b,y\n1,u,0\n{word},{word},1\n3,v,0\n", label_columns="y", scale="none")
    assert data.tables["train"].inputs[:, 0].tolist() == [[1, 1, 0], [2, 1, 0], [3, 0, 1]]
    assert any(f"1 cells with a word are taken for missing: b={word}" in each for each in said)


@pytest.mark.parametrize(("missing", "row"), [("NA", 1), (["NA"], 1), ({-9, "NA"}, 3), (np.array([-9]), 3)])
def test_texts_for_missing_values_in_any_collection(missing: object, row: int) -> None:
    data, _ = read("t.csv", "a,y\n1,0\nNA,1\n3,0\n-9,1\n", missing=missing, label_columns="y", categorical_columns="a")
    categories = {name.removeprefix("a=") for name in data.input_names}
    assert data.tables["train"].inputs[row].sum() == 1 and categories == {"1", "3", "NA", "-9"} - set(as_texts(missing))


def as_texts(given: Any) -> list[str]:
    return [given] if isinstance(given, str) else [str(each) for each in given]


@pytest.mark.parametrize("kind", [list, pd.Index, np.array, tuple])
def test_names_of_inputs_may_be_in_any_collection(kind: Callable[[list[str]], Any]) -> None:
    text = "a,b,c,y\n1,2,3,0\n2,3,4,1\n"
    assert read("t.csv", text, feature_columns=kind(["b", "c"]), label_columns=kind(["y"]))[0].input_names == ["b", "c"]
    assert read("t.csv", feature_columns=kind([]), label_columns=kind(["y"]))[0].input_names == []


@pytest.mark.parametrize(
    "kinds", [("real", "integer"), ("real[0.0, 9.0]", "integer [0,9]"), ("Real [0,9]", "INTEGER[0,9]")]
)
@pytest.mark.parametrize("outputs", ["@outputs y, 'second one'", "@output y,'second one'"])
def test_labels_that_keel_names(kinds: tuple[str, str], outputs: str) -> None:
    names = [("a", kinds[0]), ("y", "{0,1}"), ("b", kinds[1]), ("'second one'", "{0, 1}")]
    header = "@relation r\n" + "".join(f"@attribute {name} {kind}\n" for name, kind in names)
    data, _ = read("t.arff", f"{header}@inputs a, b\n{outputs}\n@data\n0.5, 1, 3, 0\n1.5, 0, 4, 1\n", scale="none")
    assert (data.input_names, data.label_names) == (["a", "b"], ["y", "second one"])
    assert labels(data) == [[1, -1], [-1, 1]] and data.tables["train"].inputs[:, 0].tolist() == [[0.5, 3], [1.5, 4]]


@pytest.mark.parametrize("cell", ["$1.50", "1.50 €", "-£2", "3.5 kg", "12 %"])
def test_amounts_and_measures_are_told(cell: str) -> None:
    Path("t.csv").write_text(f"a,y\n{cell},0\n{cell},1\n")
    said = re.escape(f"column 'a' is taken for categories, but has texts such as {cell!r}: write numbers with a point")
    with pytest.warns(UserWarning, match=said):
        LabelTable("t.csv", label_columns="y", **WHOLE).setup()


def test_a_column_of_names_is_told_to_be_no_classes() -> None:
    rows = "".join(f"{row},name {row}\n" for row in range(40))
    Path("t.csv").write_text("a,y\n" + rows)
    with pytest.warns(UserWarning, match="^most training rows have a class of their own in y, each a label"):
        LabelTable("t.csv", label_columns="y", **WHOLE).setup()


def test_the_home_folder_may_be_a_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("t.csv").write_text("a,y\n1,0\n2,1\n")
    assert read("~/t.csv", label_columns="y")[0].n_rows["train"] == 2


def test_two_labels_of_one_name_are_refused() -> None:
    text = "a,k,k=1x\n1,1x,0\n2,2x,1\n3,1x,1\n"
    with pytest.raises(ValueError, match=r"^labels must have different names, two are called 'k=1x': rename a column$"):
        read("t.csv", text, label_columns=["k", "k=1x"])
