from __future__ import annotations

import gzip
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import lightning as L
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import StandardScaler

from hierlit import LabelTable, LayerwiseTask
from hierlit.data.tables.arff import split_row
from hierlit.data.tables.hierarchy import LabelHierarchy
from hierlit.files.checkpoints import CheckpointFiles
from hierlit.watching import PredictionWriter

pytestmark = pytest.mark.filterwarnings("ignore:.* training rows?")
WHOLE = {"val_fraction": 0.0, "acceptance_fraction": 0.0}


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, text: str) -> str:
    Path(name).write_text(text)
    return name


def table(name: str = "t.csv", text: str | None = None, **arguments: object) -> LabelTable:
    """A table that has been read, all its rows to train on unless the arguments say otherwise."""
    if text is not None:
        write(name, text)
    data = LabelTable(name, **{**WHOLE, **arguments})
    data.setup()
    return data


def inputs(data: LabelTable, split: str = "train") -> np.ndarray:
    return data.tables[split].inputs[:, 0].numpy()


def labels(data: LabelTable, split: str = "train") -> list[list[float]]:
    return data.tables[split].labels[:, 0].tolist()


def frame(n: int = 60, seed: int = 0) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    values = draw.normal(3, 2, (n, 2)).round(3)
    values[draw.random(values.shape) < 0.2] = np.nan
    columns = {"a": values[:, 0], "b": values[:, 1], "c": draw.choice(["u", "v", "w"], n)}
    return pd.DataFrame({**columns, "y": draw.integers(0, 2, n), "z": draw.integers(0, 2, n)})


def test_numbers_are_filled_and_scaled_as_scikit_learn_does_on_training_rows_alone() -> None:
    rows = frame()
    rows.to_csv("t.csv", index=False)
    data = table(label_columns=["y", "z"], val_fraction=0.3)
    numbers = rows[["a", "b"]].to_numpy()
    splits = data._splits.rows(60)
    assert [len(splits[split]) for split in ("train", "val", "test")] == [42, 18, 0]
    imputer, scaler = (kind().fit(numbers[splits["train"]]) for kind in (SimpleImputer, StandardScaler))
    for split in ("train", "val"):
        expected = scaler.transform(imputer.transform(numbers[splits[split]]))
        np.testing.assert_allclose(inputs(data, split)[:, :2], expected, atol=1e-5)
    assert data.input_names == ["a", "b", "c=u", "c=v", "c=w"]
    assert np.array_equal(inputs(data)[:, 2:], pd.get_dummies(rows["c"]).to_numpy()[splits["train"]])
    assert labels(data) == (2 * rows[["y", "z"]].to_numpy()[splits["train"]] - 1).tolist()


def test_the_most_frequent_value_fills() -> None:
    data = table(
        text="a,c,y\n1,u,0\n5,,1\n,v,1\n5,v,0\n2,v,1\n", label_columns="y", impute="most_frequent", scale="none"
    )
    assert inputs(data).tolist() == [[1, 1, 0], [5, 0, 1], [5, 0, 1], [5, 0, 1], [2, 0, 1]]


def test_scales() -> None:
    text = "a,b,y\n1,9,0\n2,3,1\n6,3,0\n"
    standard, unit, none = (inputs(table(text=text, label_columns="y", scale=s)) for s in ("standard", "unit", "none"))
    assert none.tolist() == [[1, 9], [2, 3], [6, 3]]
    np.testing.assert_allclose(standard, (none - none.mean(0)) / none.std(0), rtol=1e-6)
    np.testing.assert_allclose((unit**2).mean(1), 1, rtol=1e-6)
    np.testing.assert_allclose(unit[:, 0] / unit[:, 1], standard[:, 0] / standard[:, 1], rtol=1e-5)


def restored(data: LabelTable, **files: str) -> LabelTable:
    """A table that knows from a checkpoint what was fitted to another's training rows."""
    CheckpointFiles().save_checkpoint({"sizes": {}, "LabelTable": data.state_dict()}, "last.ckpt")
    return LabelTable(ckpt_path="last.ckpt", **files)


def test_counts_become_square_roots_of_one_scale() -> None:
    draw = np.random.default_rng(0)
    rows = pd.DataFrame(
        {"often": draw.poisson(0.3, 80), "seldom": draw.poisson(0.05, 80), "flag": draw.integers(0, 2, 80)}
    )
    rows = rows.assign(number=draw.normal(size=80), whole=draw.integers(3, 9, 80), y=draw.integers(0, 2, 80))
    rows.loc[0, ["often", "seldom"]] = [4, 2]
    rows.to_csv("t.csv", index=False)
    data = table(label_columns="y", scale="auto")
    roots = np.sqrt(rows[["often", "seldom"]].to_numpy())
    expected = (roots - roots.mean(0)) / np.sqrt(roots.var(0).mean())
    np.testing.assert_allclose(inputs(data)[:, :2], expected, atol=1e-6)
    np.testing.assert_allclose(inputs(data)[:, 2:], inputs(table(label_columns="y"))[:, 2:], atol=1e-6)
    rows.drop(columns="y").to_csv("new.csv", index=False)
    again = restored(data, predict_files="new.csv")
    np.testing.assert_allclose(
        np.concatenate([batch.inputs[:, 0] for batch in again.predict_dataloader()]), inputs(data)
    )


def test_missing_counts_are_filled_before_their_roots_are_taken() -> None:
    text = "a,y\n0,0\n0,1\n0,0\n0,1\n,0\n4,1\n"
    fit, missing = table(text=text, label_columns="y", scale="auto"), 4 / 5
    roots = np.sqrt(np.array([0, 0, 0, 0, 4]))
    assert inputs(fit)[4, 0] == pytest.approx((np.sqrt(missing) - roots.mean()) / roots.std(), rel=1e-6)


def test_roots_of_counts_are_in_an_exported_encoder() -> None:
    data = table(text="a,b,y\n0,5,0\n0,1,1\n0,2,0\n0,7,1\n,4,0\n4,0,1\n", label_columns="y", scale="auto")
    exported = torch.export.export(data.encoder, data.encoder.examples()).module()
    numbers = torch.tensor([[float("nan"), 5.0], [9.0, -1.0]], dtype=torch.float64)
    torch.testing.assert_close(exported(numbers), data.encoder(numbers))
    roots = np.sqrt(np.array([0, 0, 0, 0, 4]))
    assert float(exported(numbers)[1, 0]) == pytest.approx((3 - roots.mean()) / roots.std(), rel=1e-6)


def test_numbers_far_from_zero_keep_their_spread() -> None:
    data = table(text="t,y\n" + "".join(f"{1_700_000_000 + i},{i % 2}\n" for i in range(5)), label_columns="y")
    np.testing.assert_allclose(inputs(data)[:, 0], np.array([-2, -1, 0, 1, 2]) / np.sqrt(2), rtol=1e-6)


def test_a_constant_or_empty_column_is_zeros_in_other_rows_alike() -> None:
    write("u.csv", "a,b,y\n7,8,1\n")
    data = table(text="a,b,y\n7,,0\n7,,1\n", label_columns="y", test_files="u.csv")
    assert inputs(data).tolist() == [[0, 0], [0, 0]]
    assert inputs(data, "test").tolist() == [[0, 8]]


def test_unseen_categories_are_zeros_and_missing_ones_the_most_frequent() -> None:
    write("u.csv", "c,y\nw,1\n,0\nu,1\n")
    with pytest.warns(UserWarning, match="^test_files: categories not seen in training are coded as zeros: c=w$"):
        data = table(text="c,y\nu,0\nv,1\nv,1\n", label_columns="y", test_files="u.csv")
    assert inputs(data, "test").tolist() == [[0, 0], [0, 1], [1, 0]]


def test_categories_of_rows_set_apart_are_unseen() -> None:
    text = "c,y\n" + "".join(f"{letter},{i % 2}\n" for i, letter in enumerate("abcdefghij"))
    with pytest.warns(UserWarning, match="^train_files, in rows set apart: categories not seen in training are"):
        data = table(text=text, label_columns="y", val_fraction=0.2)
    assert data.n_inputs == 8 and inputs(data, "val").tolist() == [[0] * 8] * 2


def test_a_column_of_texts_that_are_no_categories_is_told() -> None:
    rows = "".join(f"{row},5;{row % 2}\n" for row in range(40))
    with pytest.warns(UserWarning, match="a text of their own in a, each an input"):
        table(text="a;y\n" + rows, separator=";", label_columns="y").setup()


def test_a_label_column_that_is_ignored_is_no_label() -> None:
    text = "a,y_1,y_2,y_3\n1,0,1,0\n2,1,0,1\n3,0,0,1\n"
    data = table(text=text, label_columns="y_*", ignore_columns="y_2")
    assert data.label_names == ["y_1", "y_3"] and data.input_names == ["a"]


def test_numbers_may_be_named_categories() -> None:
    data = table(text="a,b,y\n10,1.5,0\n2,2,1\n10,1.5,1\n", label_columns="y", categorical_columns="*")
    assert data.input_names == ["a=10", "a=2", "b=1.5", "b=2"]


def test_columns_by_name_and_prefix() -> None:
    text = "id,f1,f2,g,l1,l2\n7,1,2,3,0,1\n8,2,3,5,1,0\n"
    assert table(text=text, label_columns="l*", ignore_columns=["id"]).input_names == ["f1", "f2", "g"]
    data = table(text=text, label_columns=["l2"], feature_columns=["g", "f*"], ignore_columns="f1")
    assert (data.input_names, data.label_names) == (["f2", "g"], ["l2"])
    starred = table(text="l*,l1,a\n0,1,2\n1,0,3\n", label_columns="l*")
    assert starred.label_names == ["l*"], "a column's own name goes before a prefix"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["0", "1", ""], [-1, 1, 0]),
        (["-1", "1", "?"], [-1, 1, 0]),
        (["-1.0", "+1", " 0 "], [-1, 1, 0]),
        (["true", "False", "NA"], [1, -1, 0]),
        (["TRUE", "0", "1"], [1, -1, 1]),
    ],
)
def test_codings_of_labels(values: list[str], expected: list[int]) -> None:
    rows = "".join(f"{i},{value}\n" for i, value in enumerate(values))
    assert labels(table(text=f"a,y\n{rows}", label_columns="y")) == [[value] for value in expected]


def test_zeros_as_told() -> None:
    text = "a,y,z\n1,0,0\n2,1,1\n3,-1,0\n"
    own = {
        zero: labels(table(text=text, label_columns=["y", "z"], zero_labels=zero))
        for zero in ("negative", "not_observed")
    }
    assert own["negative"] == [[-1, -1], [1, 1], [-1, -1]]
    assert own["not_observed"] == [[0, 0], [1, 1], [-1, 0]]


def test_classes_become_groups() -> None:
    text = "a,species,size,y\n1,setosa,2,0\n2,,10,1\n3,virginica,10,1\n"
    data = table(text=text, label_columns=["species", "y"], class_columns="size")
    assert data.label_names == ["species=setosa", "species=virginica", "size=2", "size=10", "y"]
    assert labels(data) == [[1, -1, 1, -1, -1], [0, 0, -1, 1, 1], [-1, 1, -1, 1, 1]]
    assert data.parents is None and data.levels is None


def test_slash_paths_imply_their_beginnings() -> None:
    text = "a,p\n1,01/03;02\n2,root\n3,\n4,root/02/01;\n"
    data = table(text=text, path_column="p", path_separator=";", levels="given")
    assert data.label_names == ["01", "01/03", "02", "02/01"]
    assert (data.parents, data.levels, data.top_level) == ([[], [0], [], [2]], [1, 2, 1, 2], 2)
    assert labels(data) == [[1, 1, 1, -1], [-1] * 4, [0] * 4, [-1, -1, 1, 1]]


def test_a_known_beginning_of_an_unknown_path_counts() -> None:
    write("u.csv", "a,p\n1,1/2/7\n2,9\n")
    with pytest.warns(UserWarning, match="^test_files: labels that train_files do not have are left out: 1/2/7, 9$"):
        data = table(text="a,p\n1,1/2\n2,1\n", path_column="p", test_files="u.csv")
    assert labels(data, "test") == [[1, 1], [-1, -1]]


def test_terms_of_a_graph_imply_all_above_them() -> None:
    edges = "# the Gene Ontology, in small\nroot/GO0003674\nGO0003674/A\nGO0003674/B\nA/C\nB/C\nA/D\nC/D\n"
    text = "a,terms\n1,D\n2,C@B\n3,GO0003674\n4,A\n"
    data = table(text=text, path_column="terms", hierarchy_file=write("e.txt", edges), levels="given")
    assert data.label_names == ["A", "B", "C", "D"]
    assert data.parents == [[], [], [0, 1], [0, 2]]
    assert data.levels == [1, 1, 2, 3]
    assert labels(data) == [[1, 1, 1, 1], [1, 1, 1, -1], [-1] * 4, [1, -1, -1, -1]]


def test_levels_are_unknown_unless_asked_for() -> None:
    data = table(text="a,p\n1,1/2\n2,1\n", path_column="p")
    assert data.levels is None and data.parents == [[], [0]]
    with pytest.raises(ValueError, match=r"^levels needs a hierarchy of the labels: path_column or hierarchy_file$"):
        table(text="a,y\n1,0\n", label_columns="y", levels="given")


ARFF = """% a comment
@RELATION 'in small'

@attribute 'first value' REAL
@ATTRIBUTE b {x, 'y, or z',"w"}
@ATTRIBUTE class\thierarchical 1/1,2,1,1/1
@DATA
1.5,x,1/1@2 % a comment
% another
?,'y, or z',2

2,"w",?
"""


def test_arff_needs_no_options() -> None:
    data = table("t.arff", ARFF, scale="none")
    assert data.input_names == ["first value", "b=w", "b=x", "b=y, or z"]
    assert inputs(data).tolist() == [[1.5, 0, 1, 0], [1.75, 0, 0, 1], [2, 1, 0, 0]]
    assert data.label_names == ["1", "1/1", "2"] and data.parents == [[], [0], []]
    assert labels(data) == [[1, 1, 1], [-1, -1, 1], [0, 0, 0]]


def test_arff_of_a_graph() -> None:
    header = (
        "@relation go\n@attribute a numeric\n@attribute class hierarchical root/GO0008150,GO0008150/A,A/B,GO0008150/B\n"
    )
    data = table("t.arff", header + "@data\n1,B\n2,A\n3,GO0008150\n")
    assert data.label_names == ["A", "B"] and data.parents == [[], [0]]
    assert labels(data) == [[1, 1], [1, -1], [-1, -1]]


def test_arff_without_a_hierarchy_has_label_columns() -> None:
    header = "@relation r\n@attribute a numeric\n@attribute y1 {0,1}\n@attribute y2 {0,1}\n@data\n"
    data = table("t.arff", header + "1,0,1\n2,1,?\n", label_columns="y*")
    assert labels(data) == [[-1, 1], [1, 0]]


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("1,2,3", ["1", "2", "3"]),
        ("1,'a, b' , c % d", ["1", "a, b", "c"]),
        (r"'it\'s','100 %',3", ["it's", "100 %", "3"]),
        ("don't,2,", ["don't", "2", ""]),
        ('"",?', ["", "?"]),
    ],
)
def test_rows_of_arff(line: str, values: list[str]) -> None:
    assert split_row(line) == values


@pytest.mark.parametrize(
    ("entries", "names", "parents"),
    [
        (["1/1", "1/2"], ["1", "1/1", "1/2"], [[], [0], [0]]),
        (["a/x", "a/y", "b/x"], ["a", "a/x", "a/y", "b", "b/x"], [[], [0], [0], [], [3]]),
        (["root/A", "A/B"], ["A", "B"], [[], [0]]),
        (["A/B", "B/C", "A/C"], ["A", "B", "C"], [[], [0], [1, 0]]),
        (["1/1", "2/1", "1/2"], ["1", "1/1", "2", "2/1", "1/2"], [[], [0], [], [2], [0]]),
    ],
)
def test_paths_and_edges_are_told_apart(entries: list[str], names: list[str], parents: list[list[int]]) -> None:
    hierarchy = LabelHierarchy.of_entries(entries)
    assert (hierarchy.names, hierarchy.parents) == (names, parents)


def to_arff(rows: pd.DataFrame, name: str) -> None:
    kinds = {column: "{u,v,w}" if column == "c" else "numeric" for column in rows}
    header = "@relation r\n" + "".join(f"@attribute {column} {kind}\n" for column, kind in kinds.items())
    Path(name).write_text(header + "@data\n" + rows.to_csv(index=False, header=False, na_rep="?"))


def to_compressed(rows: pd.DataFrame, name: str) -> None:
    Path(name).write_bytes(gzip.compress(rows.to_csv(index=False).encode()))


WRITERS: dict[str, Callable[[pd.DataFrame, str], None]] = {
    "t.csv": lambda rows, name: rows.to_csv(name, index=False),
    "t.tsv": lambda rows, name: rows.to_csv(name, index=False, sep="\t"),
    "t.csv.gz": to_compressed,
    "t.parquet": lambda rows, name: rows.to_parquet(name, row_group_size=7),
    "categories.parquet": lambda rows, name: rows.astype({"c": "category"}).to_parquet(name),
    "t.arff": to_arff,
}


@pytest.mark.parametrize("name", WRITERS)
def test_formats_agree(name: str) -> None:
    rows = frame()
    WRITERS[name](rows, name)
    rows.to_csv("expected.csv", index=False)
    arguments = {"label_columns": ["y", "z"], "test_fraction": 0.2, "val_fraction": 0.1}
    data, expected = table(name, **arguments), table("expected.csv", **arguments)
    for split in ("train", "val", "test"):
        np.testing.assert_allclose(inputs(data, split), inputs(expected, split), rtol=1e-6)
        assert labels(data, split) == labels(expected, split)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_archives(save: Callable[..., None], order: str) -> None:
    draw = np.random.default_rng(0)
    x = np.array(draw.normal(size=(30, 3)).astype(np.float32), order=order)
    y = np.array(draw.integers(-1, 2, (30, 2)), order=order)
    save("t.npz", inputs=x, labels=y)
    data = table("t.npz", scale="none")
    assert data.input_names == ["input_0", "input_1", "input_2"] and data.label_names == ["label_0", "label_1"]
    assert np.array_equal(inputs(data), x) and labels(data) == y.tolist()
    save("t.npz", inputs=x, labels=y > 0, input_names=list("abc"), label_names=["y", "z"])
    named = table("t.npz", scale="none", ignore_columns="b")
    assert np.array_equal(inputs(named), x[:, [0, 2]]) and named.label_names == ["y", "z"]
    assert labels(named) == (2 * (y > 0) - 1).tolist()


def test_files_are_joined_by_the_names_of_their_columns() -> None:
    rows = frame()
    rows[:30].to_csv("t.csv", index=False)
    rows[30:][["z", "c", "a", "y", "b"]].to_parquet("u.parquet")
    rows.to_csv("whole.csv", index=False)
    data = LabelTable(["t.csv", "u.parquet"], label_columns=["y", "z"], **WHOLE)
    data.setup()
    assert np.array_equal(inputs(data), inputs(table("whole.csv", label_columns=["y", "z"])))


def test_folds_part_the_rows() -> None:
    text = "a,y\n" + "".join(f"{i},{i % 2}\n" for i in range(23))
    seen = []
    for fold in range(4):
        data = table(text=text, label_columns="y", n_folds=4, fold=fold, val_fraction=0.1, scale="none")
        parts = [inputs(data, split)[:, 0].tolist() for split in ("train", "val", "test")]
        assert sorted(chain(*parts)) == list(range(23)) and len(parts[1]) == 2
        seen += parts[2]
    assert sorted(seen) == list(range(23))


def test_test_rows_are_those_of_validation_if_there_are_no_others() -> None:
    text = "a,y\n" + "".join(f"{i},{i % 2}\n" for i in range(20))
    data = table(text=text, label_columns="y", val_fraction=0.25)
    assert data.n_rows == {"train": 15, "val": 5, "test": 5}
    assert torch.equal(data.tables["val"].inputs, data.tables["test"].inputs)
    write("v.csv", "a,y\n3,1\n4,0\n")
    data = table(text=text, label_columns="y", val_files="v.csv", test_fraction=0.5)
    assert data.n_rows == {"train": 10, "val": 2, "test": 10}


def predicted(data: LabelTable) -> tuple[torch.Tensor, torch.Tensor]:
    data.setup("predict")
    batches = list(data.predict_dataloader())
    assert {len(batch.inputs) for batch in batches[:-1]} <= {data.batch_size}
    return torch.cat([batch.inputs for batch in batches]), torch.cat([batch.index for batch in batches])


def test_predicted_rows_are_streamed_as_the_test_table_has_them() -> None:
    frame().to_csv("t.csv", index=False)
    parts = [frame(n, seed) for n, seed in ((41, 1), (90, 2))]
    parts[0].to_csv("u.csv", index=False)
    parts[1].to_parquet("v.parquet", row_group_size=13)
    arguments = {"label_columns": ["y", "z"], "test_files": ["u.csv", "v.parquet"], "batch_size": 16}
    data = table(**arguments)
    streamed = LabelTable("t.csv", **WHOLE, **arguments)
    rows, index = predicted(streamed)
    assert streamed.tables == {}, "predict reads no test table into memory"
    assert torch.equal(rows, data.tables["test"].inputs) and index.tolist() == list(range(131))
    pd.concat(parts).drop(columns=["y", "z"]).to_csv("w.csv", index=False)
    unlabelled = LabelTable("t.csv", **WHOLE, label_columns=["y", "z"], predict_files="w.csv")
    assert torch.equal(predicted(unlabelled)[0], rows)


def test_predict_without_files_takes_the_test_table() -> None:
    frame().to_csv("t.csv", index=False)
    data = table(label_columns=["y", "z"], test_fraction=0.3)
    assert torch.equal(predicted(data)[0], data.tables["test"].inputs)


class Rank:
    world_size = 3

    def __init__(self, rank: int) -> None:
        self.global_rank = rank


def test_processes_share_each_streamed_batch() -> None:
    frame().to_csv("t.csv", index=False)
    shares = []
    for rank in range(3):
        data = LabelTable("t.csv", label_columns=["y", "z"], predict_files="t.csv", batch_size=13)
        data.trainer = Rank(rank)  # type: ignore[assignment]
        shares.append([batch.index.tolist() for batch in data.predict_dataloader()])
    assert [list(chain(*parts)) for parts in zip(*shares, strict=True)] == [
        list(range(first, min(first + 13, 60))) for first in range(0, 60, 13)
    ]


def test_scores_of_a_streamed_file_are_those_of_its_rows(tmp_path: Path) -> None:
    frame().to_csv("t.csv", index=False)
    frame(37, 1).to_csv("u.csv", index=False)
    data = table(label_columns=["y", "z"], test_files="u.csv", batch_size=10)
    task = LayerwiseTask(data.n_inputs, data.n_labels, n_blocks=1, n_features=20)
    task.net.n_trained += 1
    task.net.block(0).weight.copy_(torch.randn(2, 21, generator=torch.Generator().manual_seed(1)))
    trainer = L.Trainer(
        default_root_dir=tmp_path,
        callbacks=[PredictionWriter("scores.csv")],
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.predict(task, datamodule=data, return_predictions=False)
    scores = pd.read_csv("scores.csv")["score"].to_numpy().reshape(37, 2)
    np.testing.assert_allclose(scores, task(data.tables["test"].inputs)[:, 0].detach().numpy(), rtol=1e-5, atol=1e-6)


def test_unseen_categories_of_predicted_rows_are_told_once() -> None:
    frame().to_csv("t.csv", index=False)
    pd.concat([frame(5), frame(2).assign(c="q")] * 2).to_csv("u.csv", index=False)
    data = LabelTable("t.csv", label_columns=["y", "z"], predict_files="u.csv", batch_size=3)
    with pytest.warns(
        UserWarning, match=r"^predict_files: categories not seen in training are coded as zeros: c=q \(4 cells\)$"
    ) as said:
        predicted(data)
    assert len([each for each in said if "categories" in str(each.message)]) == 1


def test_columns_are_kept_with_the_model() -> None:
    frame().to_csv("t.csv", index=False)
    frame(9, 1).to_csv("u.csv", index=False)
    data = table(label_columns=["y", "z"], test_files="u.csv")
    kept = restored(data, predict_files="u.csv")
    assert torch.equal(predicted(kept)[0], data.tables["test"].inputs)
    assert (kept.n_inputs, kept.label_names, kept.input_names) == (5, ["y", "z"], data.input_names)
    kept.load_state_dict(data.state_dict())
    with pytest.raises(ValueError, match=r"^other\.csv lacks the columns b, c$"):
        restored(data, predict_files=write("other.csv", "a,q\n1,2\n"))


def test_a_checkpoint_of_other_training_rows_is_refused() -> None:
    frame().to_csv("t.csv", index=False)
    saved = table(label_columns=["y", "z"]).state_dict()
    table(label_columns=["y", "z"]).load_state_dict(saved)
    message = (
        "^train_files and the splits must be those of the checkpoint, got others: columns 'a', 'b' have another mean"
    )
    with pytest.raises(ValueError, match=message):
        table(label_columns=["y", "z"], test_fraction=0.5).load_state_dict(saved)
    with pytest.raises(ValueError, match=r"got others: label 'z' is in the checkpoint alone$"):
        table(label_columns=["y"], ignore_columns="z").load_state_dict(saved)


def test_says_how_to_install_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "pyarrow":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.delitem(sys.modules, "pyarrow")
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    with pytest.raises(ImportError, match=r"needs pyarrow: pip install hierlit\[tables\]"):
        table(text="a,y\n1,0\n", label_columns="y")
    np.savez("t.npz", inputs=np.eye(3), labels=np.eye(3))
    assert table("t.npz").n_inputs == 3, "archives of numbers need no pyarrow"


CELL = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=6)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(CELL, st.floats(-1e6, 1e6) | st.none(), st.booleans()), min_size=2, max_size=20))
@example(rows=[("", None, False), ("\u09dc", None, False)])  # a letter whose composed form is two characters
def test_what_pandas_writes_is_read(rows: list[tuple[str, float | None, bool]]) -> None:
    written = pd.DataFrame(rows, columns=["c", "a", "y"])
    written["c"] = "c" + written["c"]
    written.to_csv("t.csv", index=False)
    data = table(label_columns="y", scale="none")
    texts = sorted(set(written["c"].str.strip().str.normalize("NFC")))
    assert [name for name in data.input_names if name != "a"] == [f"c={text}" for text in texts]
    assert labels(data) == [[1.0 if row[2] else -1.0] for row in rows]
    numbers = written["a"].astype(float)
    expected = numbers.fillna(numbers.mean() if numbers.notna().any() else 0)
    np.testing.assert_allclose(inputs(data)[:, 0], expected, rtol=1e-5, atol=1e-6)
