"""What becomes of damaged tables: an error in one line that names file, line and column, or a warning, or nothing."""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from hierlit.data.tables import LabelTable

ARFF = "@relation r\n@attribute a numeric\n@attribute b {x,y}\n@attribute class hierarchical 1,1/1,2\n@data\n"
TRAIN = ARFF + "1,x,1/1\n2,y,2\n3,x,1\n4,y,2\n"
CSV = "a,b,y\n1,x,0\n2,y,1\n3,x,0\n4,y,1\n"
PATHS = "a,p\n1,1/1\n2,2\n3,1\n4,2\n"


class Damage(NamedTuple):
    """A kind of damage: files by name, arguments of LabelTable, and what a person reads.

    `error` begins the error's line, `warning` is one warning; neither means that the table is read in silence. `sizes`
    are the inputs and labels that are then read, of 4 training rows.
    """

    files: dict[str, Any]
    arguments: dict[str, Any] = {}  # noqa: RUF012
    error: str = ""
    warning: str = ""
    sizes: tuple[int, int] = (3, 1)


def csv(text: str | bytes, **arguments: Any) -> dict[str, Any]:
    return {"files": {"t.csv": text}, "arguments": {"train_files": "t.csv", "label_columns": "y"} | arguments}


def arff(text: str | bytes, **arguments: Any) -> dict[str, Any]:
    return {"files": {"t.arff": text}, "arguments": {"train_files": "t.arff"} | arguments}


def paths(text: str, **arguments: Any) -> dict[str, Any]:
    return csv(text, label_columns=None, path_column="p", **arguments)


def two(test: str, **arguments: Any) -> dict[str, Any]:
    """The CSV above to train on, and another one to test on."""
    given = csv(CSV, test_files="u.csv", **arguments)
    return given | {"files": given["files"] | {"u.csv": test}}


RULE = "a label must be 0, 1, -1, true, false or missing"
KINDS = {
    # files
    "missing file": Damage({}, {"train_files": "no.csv"}, "train_files: no such file: no.csv"),
    "directory": Damage({"d.csv/x": ""}, {"train_files": "d.csv"}, "train_files: d.csv is a directory"),
    "wrong suffix": Damage(
        {"t.xlsx": "a"},
        {"train_files": "t.xlsx"},
        "train_files: the suffix must be one of .csv, .tsv, .arff, .parquet, .npz, .csv.gz, .tsv.gz, .arff.gz, got "
        "t.xlsx",
    ),
    "empty file": Damage(**csv(""), error="train_files: t.csv is empty"),
    "a file of blank lines": Damage(**csv("\n\n"), error="train_files: t.csv is empty"),
    "empty compressed file": Damage(
        {"t.csv.gz": gzip.compress(b"")}, {"train_files": "t.csv.gz"}, "train_files: t.csv.gz is empty"
    ),
    "header without data": Damage(**csv("a,b,y\n"), error="t.csv has a header but no rows"),
    "ARFF header without data": Damage(**arff(ARFF), error="t.arff has a header but no rows"),
    "no @data": Damage(**arff(ARFF.replace("@data\n", "")), error="train_files: t.arff has no line @data"),
    "a file given twice": Damage(
        **csv(CSV, train_files=["t.csv", "t.csv"]), error="train_files must not name a file twice, got t.csv"
    ),
    "compressed": Damage({"t.csv.gz": gzip.compress(CSV.encode())}, {"train_files": "t.csv.gz", "label_columns": "y"}),
    "compressed but not named so": Damage(
        **csv(gzip.compress(CSV.encode())),
        error="train_files: t.csv is not a text file of its suffix, but compressed: its name should end in .gz",
    ),
    "named so but not compressed": Damage(
        {"t.csv.gz": CSV}, {"train_files": "t.csv.gz"}, "train_files: cannot read t.csv.gz: Not a gzipped file (b'a,')"
    ),
    "truncated compressed file": Damage(
        {"t.arff.gz": gzip.compress(TRAIN.encode())[:-9]},
        {"train_files": "t.arff.gz"},
        "cannot read t.arff.gz: Compressed file ended before the end-of-stream marker was reached",
    ),
    "a workbook called CSV": Damage(
        **csv(b"PK\x03\x04rest"),
        error="train_files: t.csv is not a text file of its suffix, but a zip archive (a workbook?)",
    ),
    "no Parquet file": Damage(
        {"t.parquet": "PAR1 and no more"}, {"train_files": "t.parquet"}, "train_files: t.parquet is not a Parquet file"
    ),
    "no archive": Damage({"t.npz": "PK"}, {"train_files": "t.npz"}, "train_files: t.npz is not an archive of np.savez"),
    "archive without inputs": Damage(
        {"t.npz": {"x": np.ones((2, 2))}},
        {"train_files": "t.npz"},
        "train_files: t.npz must hold the array inputs, and labels to train on; it holds x",
    ),
    "archive of unequal lengths": Damage(
        {"t.npz": {"inputs": np.ones((2, 2)), "labels": np.ones((3, 1))}},
        {"train_files": "t.npz"},
        "train_files: t.npz: inputs and labels must have equally many rows, got 2 and 3",
    ),
    "archive of objects": Damage(
        {"t.npz": {"inputs": np.array([["a"]], dtype=object)}},
        {"train_files": "t.npz"},
        "train_files: t.npz: inputs must be numbers [rows, columns], got object [1, 1]",
    ),
    "names that are objects": Damage(
        {"t.npz": {"inputs": np.ones((2, 1)), "input_names": np.array(["a"], dtype=object)}},
        {"train_files": "t.npz"},
        "train_files: t.npz: input_names must be texts: np.array(names, dtype=str)",
    ),
    "a data frame in place of a path": Damage(
        {},
        {"train_files": pd.DataFrame({"a": [1], "y": [0]}), "label_columns": "y"},
        "train_files must be paths of files, got a DataFrame",
    ),
    "texts for missing values of a format that has its own": Damage(
        {"t.npz": {"inputs": np.arange(4.0)[:, None], "labels": np.array([[0], [1], [0], [1]])}},
        {"train_files": "t.npz", "missing": ["-9"]},
        warning="t.npz: missing is for text files, and not used: what is NaN is missing here",
        sizes=(1, 1),
    ),
    # bytes
    "UTF-16 without a mark": Damage(
        **csv(CSV.encode("utf-16-le")),
        error="train_files: t.csv has zero bytes as text in UTF-16 has: set encoding to utf-16-le or utf-16-be",
    ),
    "UTF-16 without a mark, named": Damage(**csv(CSV.encode("utf-16-le"), encoding="utf-16-le")),
    "no encoding": Damage(
        **csv(CSV, encoding=None), error="encoding must be one that Python knows, such as utf-8 or latin-1, got None"
    ),
    "byte order mark": Damage(**csv(b"\xef\xbb\xbf" + CSV.encode(), feature_columns=["a", "b"])),
    "byte order mark in ARFF": Damage(**arff(b"\xef\xbb\xbf" + TRAIN.encode()), sizes=(3, 3)),
    "CRLF": Damage(**csv(CSV.replace("\n", "\r\n"))),
    "CRLF in ARFF": Damage(**arff(TRAIN.replace("\n", "\r\n")), sizes=(3, 3)),
    "another encoding": Damage(
        **csv((CSV * 3000 + "3,é,1\n").replace("1\na,b,y", "1").encode("latin-1")),
        error="t.csv, line 12002: byte 0xe9 is not utf-8: set encoding, for example to latin-1",
    ),
    "another encoding in ARFF": Damage(
        **arff(TRAIN.replace("{x", "{é").encode("latin-1")),
        error="train_files: t.arff, line 3: byte 0xe9 is not utf-8: set encoding, for example to latin-1",
    ),
    "another encoding, named": Damage(**csv(CSV.replace("x", "é").encode("latin-1"), encoding="latin-1")),
    "UTF-16": Damage(
        **csv(CSV.encode("utf-16")),
        error="train_files: t.csv is not a text file of its suffix, but text in UTF-16: set encoding to utf-16",
    ),
    "UTF-16, named": Damage(**csv(CSV.encode("utf-16"), encoding="utf-16")),
    "unknown encoding": Damage(
        **csv(CSV, encoding="utf-9"),
        error="encoding must be one that Python knows, such as utf-8 or latin-1, got 'utf-9'",
    ),
    # rows
    "too few values": Damage(**csv(CSV + "5,x\n"), error="t.csv, line 6: 3 values expected, got 2"),
    "too many values": Damage(**csv(CSV + "5,x,1,1\n"), error="t.csv, line 6: 3 values expected, got 4"),
    "a separator at the end of one row": Damage(
        **csv(CSV + "5,x,1,\n"), error="t.csv, line 6: 3 values expected, got 4 (a separator at its end?)"
    ),
    "a separator at the end of every row": Damage(
        **csv(CSV.replace("\n", ",\n")), warning="t.csv: columns without a name are left out: column 4"
    ),
    "ragged after blank lines and quoted line breaks": Damage(
        **csv('a,b,y\n\n1,"x\nz",0\n2,y\n'), error="t.csv, line 5: 3 values expected, got 2"
    ),
    "too few values in ARFF": Damage(
        **arff(TRAIN + "% a comment\n\n5,x\n"), error="t.arff, line 12: 3 values expected, got 2"
    ),
    "a comma at the end in ARFF": Damage(
        **arff(TRAIN + "5,x,1,\n"), error="t.arff, line 10: 3 values expected, got 4 (a comma at its end?)"
    ),
    "sparse ARFF": Damage(
        **arff(TRAIN + "{0 5, 9 x}\n"),
        error="t.arff, line 10: a sparse row must have places below 3 and values, as in {0 1.5, 7 yes}, got",
    ),
    "a place twice in a sparse row": Damage(
        **arff(TRAIN + "{0 5, 1 x, 0 6}\n"),
        error="t.arff, line 10: a sparse row must have each place once, got 0 twice",
    ),
    "a line for spreadsheets": Damage(
        **csv("sep=;\n" + CSV.replace(",", ";")),
        error="train_files: t.csv, line 1: 'sep=;' is for spreadsheets: remove the line, and set separator to ';'",
    ),
    "a tab as it is typed": Damage(**csv(CSV.replace(",", "\t"), separator=r"\t")),
    "two characters as a separator": Damage(
        **csv(CSV, separator="::"), error="separator must be one character, got '::'"
    ),
    "outputs of KEEL that are no attributes": Damage(
        **arff(TRAIN.replace("@data", "@inputs a, b\n@outputs c\n@data")),
        error="train_files: t.arff: @outputs names no attribute: 'c'",
    ),
    "quoted commas": Damage(**csv('a,b,y\n1,"x, or y",0\n2,z,1\n3,"x, or y",0\n4,z,1\n')),
    "a quote never closed": Damage(
        **csv('a,b,y\n1,x,0\n2,y,1\n3,x,"0\n4,y,1\n'), error="t.csv: a quote opened after line 3 is never closed"
    ),
    "another separator": Damage(
        **csv(CSV.replace(",", ";")),
        error="train_files: t.csv, line 1: one column 'a;b;y' with separator ',': set it to ';'",
    ),
    "another separator, named": Damage(**csv(CSV.replace(",", ";"), separator=";")),
    # columns
    "duplicate names": Damage(
        **csv("a,a,y\n1,2,0\n2,1,1\n3,4,0\n4,5,1\n"),
        warning="t.csv: columns of the same name are numbered: a",
        sizes=(2, 1),
    ),
    "duplicate label names": Damage(
        **csv("a,y,y\n1,0,1\n"), error="t.csv: label columns must have names of their own, got more than one y"
    ),
    "unnamed index": Damage(
        **csv(",a,y\n0,1,0\n1,2,1\n2,3,0\n3,4,1\n"),
        warning="t.csv: columns without a name are left out: column 1",
        sizes=(1, 1),
    ),
    "unknown label column": Damage(
        **csv(CSV.replace("y\n", "target\n", 1), label_columns=["tarjet"]),
        error="label_columns: t.csv has no column 'tarjet': did you mean 'target'?",
    ),
    "unknown prefix": Damage(
        **csv(CSV, label_columns=["q*"]), error="label_columns: t.csv has no column 'q*': its columns are a, b, y"
    ),
    "path column missing": Damage(**paths(CSV), error="path_column: t.csv has no column 'p': its columns are a, b, y"),
    "no labels named": Damage(
        **csv(CSV, label_columns=None),
        error="label_columns or path_column must name columns of t.csv that are not ignored: a, b, y",
    ),
    "no inputs left": Damage(**csv("y\n1\n0\n"), error="t.csv has no column left for inputs: y"),
    "an input that is a label": Damage(
        **csv(CSV, feature_columns=["a", "y"]), error="columns must be inputs or labels, not both, got y"
    ),
    "train files that disagree": Damage(
        {"t.csv": CSV, "u.csv": "a,c,y\n1,x,0\n"},
        {"train_files": ["t.csv", "u.csv"], "label_columns": "y"},
        "u.csv lacks the columns b; u.csv has columns that t.csv has not: c",
    ),
    "a test file that lacks a column": Damage(**two("a,y\n1,0\n"), error="u.csv lacks the columns b"),
    "a test file with more columns": Damage(
        **two("c,y,b,a\n1,0,x,9\n"), warning="u.csv: columns that t.csv has not are left out: c"
    ),
    "a type that no input has": Damage(
        {"t.parquet": pd.DataFrame({"when": pd.to_datetime(["2020-01-01", "2020-01-02"]), "y": [0, 1]})},
        {"train_files": "t.parquet", "label_columns": "y"},
        "t.parquet: column 'when' holds timestamp[",
    ),
    "a type that no label has": Damage(
        {"t.parquet": pd.DataFrame({"a": [0, 1], "y": [["u"], ["v"]]})},
        {"train_files": "t.parquet", "label_columns": "y"},
        "t.parquet: column 'y' holds list<",
    ),
    "an ARFF string": Damage(
        **arff(TRAIN.replace("a numeric", "a string")),
        error="t.arff: column 'a' holds string, no input: name it in ignore_columns",
    ),
    "an ARFF attribute without a type": Damage(
        **arff(TRAIN.replace("a numeric", "a")),
        error="train_files: t.arff, line 2: must be @attribute name type, got '@attribute a'",
    ),
    # inputs
    "a text among numbers": Damage(
        **csv(CSV.replace("3,x", "3 kg,x")),
        error="t.csv, line 4, column 'a': must be a number, got '3 kg'; name the column in categorical_columns if it "
        "holds categories",
    ),
    "mixed types, named": Damage(**csv(CSV.replace("3,x", "3 kg,x"), categorical_columns=["a"]), sizes=(6, 1)),
    "a text in an ARFF number": Damage(
        **arff(TRAIN.replace("3,x", "3e,x")), error="t.arff, line 8, column 'a': must be a number, got '3e'"
    ),
    "a text in a test file's numbers": Damage(
        **two("a,b,y\n5,x,0\n\nsix,x,0\n"), error="u.csv, line 4, column 'a': must be a number, got 'six'"
    ),
    "a value that the ARFF header does not list": Damage(
        **arff(TRAIN.replace("3,x", "3,z")), error="t.arff, line 8, column 'b': must be one of x, y, got 'z'"
    ),
    "inf": Damage(
        **csv(CSV.replace("3,x", "-inf,x")),
        error="t.csv, line 4, column 'a': a number must be finite and below 3.4e38, got -inf",
    ),
    "inf in Parquet": Damage(
        {"t.parquet": pd.DataFrame({"a": [1.0, np.inf], "y": [0, 1]})},
        {"train_files": "t.parquet", "label_columns": "y"},
        "t.parquet, row 2, column 'a': a number must be finite and below 3.4e38, got inf",
    ),
    "huge integers": Damage(**csv(CSV.replace("3,x", f"{10**30},x"))),
    "too huge integers": Damage(
        **csv(CSV.replace("3,x", "1" * 400 + ",x")),
        error="t.csv, line 4, column 'a': a number must be finite and below 3.4e38, got inf",
    ),
    "NaN everywhere": Damage(
        **csv("a,b,y\nNaN,1,0\n,2,1\nNA,3,0\n?,4,1\n"),
        warning="1 of 2 input columns have no value in any training row: a; name them in ignore_columns",
        sizes=(2, 1),
    ),
    "constant column": Damage(
        **csv("a,b,y\n7,1,0\n7,2,1\n7,3,0\n7,4,1\n"),
        warning="1 of 2 inputs are the same in all training rows: a",
        sizes=(2, 1),
    ),
    "unseen categories": Damage(
        **two("a,b,y\n5,z,0\n6,w,1\n"),
        warning="test_files: categories not seen in training are coded as zeros: b=z, b=w",
    ),
    "a category for each row": Damage(
        **csv("a,b,y\n" + "".join(f"1,name {i},{i % 2}\n" for i in range(1500))),
        error="column 'b' has 1,500 categories, more than 1,000: name it in ignore_columns if it identifies rows",
    ),
    "test rows repeated in train": Damage(
        **two("a,b,y\n2,y,0\n9,x,0\n4,y,1\n"), warning="2 of 3 test rows have the inputs of a training row"
    ),
    # labels
    "label value outside": Damage(
        **csv(CSV.replace("3,x,0", "3,x,2")),
        error=f"t.csv, line 4, column 'y': {RULE}, got '2'; name the column in class_columns if it holds classes",
    ),
    "label value outside in a test file": Damage(
        **two("a,b,y\n5,x,yes\n"), error=f"u.csv, line 2, column 'y': {RULE}, got 'yes'"
    ),
    "shares as labels": Damage(
        **csv(CSV.replace("0\n", "0.25\n").replace("1\n", "0.5\n")),
        error=f"t.csv, line 2, column 'y': {RULE}, got '0.25'; name the column in class_columns if it holds classes",
    ),
    "shares as labels in Parquet": Damage(
        {"t.parquet": pd.DataFrame({"a": [0, 1], "y": [0.25, 0.5]})},
        {"train_files": "t.parquet", "label_columns": "y"},
        f"t.parquet, row 1, column 'y': {RULE}, got '0.25'; name the column in class_columns if it holds classes",
    ),
    "shares as classes, named": Damage(
        **csv(CSV.replace("0\n", "0.25\n").replace("1\n", "0.5\n"), class_columns="y"), sizes=(3, 2)
    ),
    "label text": Damage(
        **csv(CSV.replace("3,x,0", "3,x,no")),
        error=f"t.csv, line 4, column 'y': {RULE}, got 'no'; name the column in class_columns if it holds classes",
    ),
    "label never positive": Damage(
        **csv(CSV.replace("1\n", "0\n")), warning="1 of 1 labels are never positive in the training rows: y"
    ),
    "label always positive": Damage(
        **csv(CSV.replace("0\n", "1\n")), warning="1 of 1 labels are always positive in the training rows: y"
    ),
    "label never observed": Damage(
        **csv(CSV.replace("0\n", "\n").replace("1\n", "\n")),
        error="labels must have values in training rows, got none for y",
    ),
    "zeros of two meanings": Damage(
        **csv("a,y,z\n1,0,0\n2,1,1\n3,-1,0\n4,1,1\n", label_columns=["y", "z"]),
        error="label column 'y' holds -1 and 0, 'z' holds 0 and no -1: set zero_labels to negative or not_observed",
    ),
    "zeros of two meanings, settled": Damage(
        **csv("a,y,z\n1,0,0\n2,1,1\n3,-1,-1\n4,1,1\n", label_columns=["y", "z"], zero_labels="not_observed"),
        sizes=(1, 2),
    ),
    "unknown class": Damage(
        **arff(TRAIN + "5,x,1/1@3\n"),
        error="t.arff, line 10, column 'class': unknown class '3': not in the hierarchy",
    ),
    "a label of test rows alone": Damage(
        {"t.csv": PATHS, "u.csv": "a,p\n5,1/2/1\n"},
        {"train_files": "t.csv", "test_files": "u.csv", "path_column": "p"},
        warning="test_files: labels that train_files do not have are left out: 1/2/1",
        sizes=(1, 3),
    ),
    "a class of test rows alone": Damage(
        {"t.csv": "a,y\n1,u\n2,v\n3,u\n4,v\n", "u.csv": "a,y\n5,w\n"},
        {"train_files": "t.csv", "test_files": "u.csv", "label_columns": "y"},
        warning="test_files: labels that train_files do not have are left out: y=w",
        sizes=(1, 2),
    ),
    "a label of the test header alone": Damage(
        {"t.arff": TRAIN, "u.arff": ARFF.replace("1/1,2", "1/1,2,3") + "5,x,1@3\n"},
        {"train_files": "t.arff", "test_files": "u.arff"},
        warning="test_files: labels that train_files do not have are left out: 3",
        sizes=(3, 3),
    ),
    "path with an empty part": Damage(
        **paths(PATHS.replace("3,1", "3,01//02")),
        error="t.csv, line 4, column 'p': a path must have no empty part, got '01//02'",
    ),
    "path with an empty part in ARFF": Damage(
        **arff(TRAIN.replace("1/1\n", "1//1\n")),
        error="t.arff, line 6, column 'class': a path must have no empty part, got '1//1'",
    ),
    "empty label between others": Damage(
        **paths(PATHS.replace("3,1", "3,1@@2")), error="t.csv, line 4, column 'p': labels must not be empty, got '1@@2'"
    ),
    "no path in any row": Damage(
        **paths("a,p\n1,\n2,\n"), error="path_column 'p' holds no path in any row of train_files"
    ),
    "repeated header entries": Damage(**arff(TRAIN.replace("1,1/1,2", "1,1/1,1,2,1,1/1")), sizes=(3, 3)),
    "repeated label in a row": Damage(**arff(TRAIN.replace("x,1/1", "x,1/1@1/1@1")), sizes=(3, 3)),
    "header with an empty path part": Damage(
        **arff(TRAIN.replace("1/1,2", "1//1,2")),
        error="t.arff, line 4, column 'class': a path must have no empty part, got '1//1'",
    ),
    "cycle in the header's graph": Damage(
        **arff(TRAIN.replace("1,1/1,2", "root/A,A/B,B/C,C/B")),
        error="t.arff, line 4, column 'class': a hierarchy must have no cycle, got B/C/B",
    ),
    "cycle in a hierarchy_file": Damage(
        {"t.csv": PATHS, "e.txt": "root/1\n1/2\n2/3\n3/1\n"},
        {"train_files": "t.csv", "path_column": "p", "hierarchy_file": "e.txt"},
        "e.txt: a hierarchy must have no cycle, got 1/2/3/1",
    ),
    "no edge": Damage(
        {"t.csv": PATHS, "e.txt": "# terms\nroot/1\n1/2/3\n"},
        {"train_files": "t.csv", "path_column": "p", "hierarchy_file": "e.txt"},
        "e.txt, line 3: an edge must be parent/child, got '1/2/3'",
    ),
    "a term that the graph has not": Damage(
        {"t.csv": PATHS.replace("1/1", "7"), "e.txt": "root/1\n1/2\n"},
        {"train_files": "t.csv", "path_column": "p", "hierarchy_file": "e.txt"},
        "t.csv, line 2, column 'p': unknown class '7': not in the hierarchy",
    ),
    "two kinds of labels": Damage(
        **csv(PATHS, label_columns=["a"], path_column="p"),
        error="label_columns and path_column exclude each other, got both; t.csv has no column left for inputs: a, p",
    ),
    # splits
    "zero rows after the split": Damage(
        **csv("a,y\n1,0\n", val_fraction=0.5),
        error="val_fraction 0.5 and 0 rows to test on leave none of the 1 rows of train_files to train on",
    ),
    "more folds than rows": Damage(
        **csv(CSV, n_folds=5), error="n_folds must be at most the 4 rows of train_files, got 5"
    ),
    "fold out of range": Damage(**csv(CSV, n_folds=3, fold=3), error="fold must be an integer in 0..2, got 3"),
    "test rows from two places": Damage(
        **two(CSV, test_fraction=0.2), error="test_files must be left out with test_fraction or n_folds"
    ),
    "all arguments at once": Damage(
        {},
        {"impute": "mode", "scale": "max", "val_fraction": 1.5, "batch_size": 0, "separator": ";;"},
        "impute must be one of mean, most_frequent, got 'mode'; "
        "scale must be one of standard, auto, unit, none, got 'max'; "
        "separator must be one character, got ';;'; val_fraction must be a number in [0, 1), got 1.5; "
        "batch_size must be an integer >= 1, got 0; "
        "train_files must be given, or, to predict, predict_files and a checkpoint",
    ),
}


def write(folder: Path, files: dict[str, Any]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if isinstance(content, dict):
            np.savez(path, **content)
        elif isinstance(content, pd.DataFrame):
            content.to_parquet(path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize("kind", KINDS)
def test_damage(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    damage = KINDS[kind]
    write(tmp_path, damage.files)
    arguments = {"val_fraction": 0.0, "acceptance_fraction": 0.0} | damage.arguments
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read = read_table(arguments)
    said = [str(warning.message) for warning in caught]
    if damage.error:
        assert isinstance(read, str) and "\n" not in read
        assert read == damage.error or read.startswith(damage.error)
    else:
        assert read == (4, *damage.sizes)
        assert damage.warning in said if damage.warning else said == []


def read_table(arguments: dict[str, Any]) -> tuple[int, int, int] | str:
    """Training rows, inputs and labels of a table; or the error of reading it."""
    try:
        table = LabelTable(**arguments)
        table.setup()
    except ValueError as error:
        return str(error)
    return table.n_rows["train"], table.n_inputs, table.n_labels
