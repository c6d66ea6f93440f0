"""One idea of a value for all formats: numbers, true and false, codes, and what a file is called and made of."""

from __future__ import annotations

import bz2
import gzip
import lzma
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from hierlit import LabelTable

WHOLE = {"val_fraction": 0.0, "acceptance_fraction": 0.0}
BIG = 2**53
pytestmark = pytest.mark.filterwarnings("ignore:.* training rows?")


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def table(name: str | Path, **arguments: object) -> LabelTable:
    data = LabelTable(name, **{**WHOLE, **arguments})
    data.setup()
    return data


def write_all(rows: pd.DataFrame) -> list[str]:
    """The same rows as CSV and as Parquet."""
    rows.to_csv("t.csv", index=False)
    rows.to_parquet("t.parquet")
    return ["t.csv", "t.parquet"]


ROWS = pd.DataFrame(
    {
        "number": [1.5, 2.0, np.nan, 4.0],
        "flag": [True, None, False, True],
        "code": pd.array([BIG + 1, None, BIG, 3], dtype="Int64"),
        "kind": pd.Categorical(["u", "v", "u", None]),
        "nothing": [None] * 4,
        "y": [True, False, True, False],
    }
)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"categorical_columns": ["flag", "code"]}, {"class_columns": ["code", "flag", "kind"]}],
)
def test_the_same_rows_are_the_same_inputs_and_labels_in_every_format(arguments: dict[str, list[str]]) -> None:
    csv, parquet = (table(name, label_columns="y", **arguments) for name in write_all(ROWS))
    assert (csv.input_names, csv.label_names) == (parquet.input_names, parquet.label_names)
    for part in ("inputs", "labels"):
        assert torch.equal(getattr(csv.tables["train"], part), getattr(parquet.tables["train"], part))


def test_a_model_of_one_format_reads_another() -> None:
    names = write_all(ROWS)
    for train, test in (names, names[::-1]):
        data = table(train, test_files=test, label_columns="y")
        assert torch.equal(data.tables["train"].inputs, data.tables["test"].inputs)


def test_integers_beyond_a_doubles_are_exact() -> None:
    codes = np.array([BIG, BIG + 1, BIG + 2, 2**63 - 1])
    np.savez("t.npz", inputs=np.arange(8.0).reshape(4, 2), labels=codes[:, None])
    expected = [str(code) for code in codes]
    for name in write_all(pd.DataFrame({"a": range(4), "k": codes})):
        assert table(name, class_columns="k").label_names == [f"k={code}" for code in expected]
        data = table(name, label_columns="a", class_columns="a", categorical_columns="k")
        assert data.input_names == [f"k={code}" for code in sorted(expected)]
    assert table("t.npz", class_columns="label_0").label_names == [f"label_0={code}" for code in expected]


def test_whole_numbers_are_the_same_code_however_written() -> None:
    Path("t.csv").write_text("a,zone,kind\n1,1,0\n2,2,1\n3,1,2\n")
    Path("u.csv").write_text("a,zone,kind\n1,1.0,0.0\n2,2.,1.00\n3,,2.0\n")
    data = table("t.csv", test_files="u.csv", class_columns="kind", categorical_columns="zone")
    assert data.label_names == ["kind=0", "kind=1", "kind=2"] and data.input_names == ["a", "zone=1", "zone=2"]
    for part in ("inputs", "labels"):
        assert torch.equal(getattr(data.tables["train"], part), getattr(data.tables["test"], part))


def test_true_and_false_among_other_texts_are_texts() -> None:
    Path("t.csv").write_text("a,b,y\n1,true,0\n2,false,1\n3,maybe,0\n4,True,1\n")
    assert table("t.csv", label_columns="y").input_names == ["a", "b=True", "b=false", "b=maybe", "b=true"]


def test_a_path_that_looks_like_a_number_stays_what_it_is() -> None:
    Path("t.csv").write_text("a,p\n1,2.0\n2,2.0@1.1\n")
    assert table("t.csv", path_column="p").label_names == ["1.1", "2.0"]


def to_zip(path: Path, data: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inside.csv", data)


COMPRESSED: dict[str, Callable[[Path, bytes], object]] = {
    "D.CSV": Path.write_bytes,
    "D.CSV.GZ": lambda path, data: path.write_bytes(gzip.compress(data)),
    "d.csv.bz2": lambda path, data: path.write_bytes(bz2.compress(data)),
    "d.csv.xz": lambda path, data: path.write_bytes(lzma.compress(data)),
    "d.csv.zip": to_zip,
}


@pytest.mark.parametrize("name", COMPRESSED)
def test_suffixes_in_either_case_and_compressions(name: str) -> None:
    COMPRESSED[name](Path(name), b"a,y\n1,0\n2,1\n")
    assert table(Path(name), label_columns="y").n_rows["train"] == 2


@pytest.mark.parametrize("name", ["d.csv.bz2", "d.csv.xz", "d.csv.zip", "d.csv.gz"])
def test_a_damaged_compressed_file_is_an_error_in_one_line(name: str) -> None:
    COMPRESSED.get(name, COMPRESSED["D.CSV.GZ"])(
        Path(name), b"a,y\n" + np.random.default_rng(0).bytes(9000).hex().encode()
    )
    whole = Path(name).read_bytes()
    Path(name).write_bytes(whole[: len(whole) // 3] + b"\xff" * 50 + whole[len(whole) // 3 + 50 : -100])
    with pytest.raises(ValueError, match=r"cannot read d\.csv") as caught:
        table(name, label_columns="y")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["t.pq", "t.parq"])
def test_the_index_of_pandas_is_no_input(name: str) -> None:
    pd.DataFrame({"a": [1, 2, 3], "y": [0, 1, 0]}, index=[2, 0, 1]).to_parquet(name)
    with pytest.warns(UserWarning, match="columns without a name are left out: __index_level_0__"):
        assert table(name, label_columns="y").input_names == ["a"]


def test_long_values_and_quoted_line_ends_are_read_as_they_are() -> None:
    lines = [f'{row},"north\r\nwing",{row % 2}\r\n' for row in range(5000)]
    Path("t.csv").write_bytes("".join(["a,place,y\r\n", *lines, f'7,"{"x" * 300_000}",1\r\n']).encode())
    data = table("t.csv", label_columns="y")
    assert data.input_names == ["a", "place=north\r\nwing", f"place={'x' * 300_000}"]
    with pytest.raises(ValueError, match=r"^t\.csv, line 4, column 'a': must be a number, got 'z'"):
        Path("t.csv").write_text('a,b,y\n"\n9",1,0\nz,1,0\n1,1,0\n')
        table("t.csv", label_columns="y")


def test_names_of_arff_may_have_escapes() -> None:
    header = "@relation r\n@attribute a numeric\n@attribute 'Shepherd\\'s dog' {0,1}\n@attribute y {0,1}\n@data\n"
    Path("t.arff").write_text(header + "1,0,1\n2,1,0\n")
    assert table("t.arff", label_columns="y").input_names == ["a", "Shepherd's dog=0", "Shepherd's dog=1"]


@pytest.mark.parametrize(
    ("value", "label", "arguments"),
    [
        ("007", "1", {}),
        ("-0012", "1", {"categorical_columns": "x"}),
        ("NA", "1", {}),
        ("nan", "1", {}),
        (" 3 ", " -0 ", {}),
        ("+4", "+1", {}),
        ("999", "1", {"missing": ["999"]}),
        (" 999", "1", {"missing": ["999"]}),
        ("1e3", "true", {}),
        ("5", "007", {"class_columns": "y"}),
        ("5", "0x1F", {"class_columns": "y"}),
        ("5", "1.0", {"class_columns": "y"}),
        ("5", "a", {"class_columns": "y"}),
        ("5", str(BIG + 1), {"class_columns": "y"}),
        ("5", "", {"class_columns": "y"}),
        ("5", "NA", {"class_columns": "y"}),
    ],
)
def test_a_value_is_the_same_at_the_end_of_a_long_file_as_at_its_start(
    value: str, label: str, arguments: dict[str, object]
) -> None:
    rest, n_rows = "z" * 600, 1500
    plain = [f"{row % 7}.5,{row % 2},{rest}" for row in range(n_rows)]
    found = []
    for name, rows in (("start", [f"{value},{label},{rest}", *plain]), ("end", [*plain, f"{value},{label},{rest}"])):
        Path(f"{name}.csv").write_text("\n".join(["x,y,rest", *rows]))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            data = table(f"{name}.csv", label_columns="y", ignore_columns="rest", **arguments)
        order = slice(None) if name == "end" else [*range(1, n_rows + 1), 0]
        train = data.tables["train"]
        notices = sorted({str(each.message).replace(name, "") for each in caught if "rows" not in str(each.message)})
        found.append((data.label_names, data.input_names, train.inputs[order], train.labels[order], notices))
    (*first, inputs, labels, told), (*last, own_inputs, own_labels, own_told) = found
    assert (first, told) == (last, own_told)
    assert torch.equal(inputs, own_inputs)
    assert torch.equal(labels, own_labels)


@pytest.mark.parametrize("text", ["conversion error to", "Empty CSV file", "straddling"])
def test_a_row_that_quotes_an_error_of_the_parser_is_named_by_its_line(text: str) -> None:
    Path("t.csv").write_text(f"x,y,z\n1,0,a\n2,1,b\n3,{text}\n")
    with pytest.raises(ValueError, match="line 4: 3 values expected, got 2"):
        table("t.csv", label_columns="y")


def test_codes_and_words_are_kept_whatever_separates_and_names_them() -> None:
    Path("t.csv").write_text("x-y\n5-01\n6-02\n7-03\n8-01\n")
    assert table("t.csv", label_columns="y", class_columns="y", separator="-").label_names == ["y=01", "y=02", "y=03"]
    Path("t.csv").write_text("x,y\n1,-0\n2,1\n3,2\n4,0\n")
    assert table("t.csv", path_column="y").label_names == ["-0", "0", "1", "2"]
    Path("t.csv").write_text("x,y\n1,0\n2,1\n999,1\n3,0\n")
    inputs = table("t.csv", label_columns="y", missing=["999"], scale="none").tables["train"].inputs
    assert inputs.flatten().tolist() == [1, 2, 2, 3]
