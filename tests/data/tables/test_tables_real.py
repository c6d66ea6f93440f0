"""The four real sets, as the table in their README has them; skipped where they are not.

They are looked for in the folder that the environment variable HIERLIT_DATA names, or in ../shared/data beside the
repository.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import NamedTuple

import pytest

from hierlit import LabelTable
from hierlit.cli.fit import run as main

DATA = Path(os.environ.get("HIERLIT_DATA", Path(__file__).parents[4] / "shared" / "data"))
pytestmark = pytest.mark.skipif(not (DATA / "README.md").exists(), reason=f"needs the real data sets, not in {DATA}")


class Expected(NamedTuple):
    files: tuple[list[str], list[str], str]
    rows: tuple[int, int, int]
    inputs: int
    labels: int
    depth: int
    labels_per_row: float
    repeated: int


FUN = ([".train"], [".valid"], ".test")
SETS = {
    "cellcycle_FUN": Expected(FUN, (1628, 848, 1281), 77, 499, 6, 8.8, 0),
    "derisi_FUN": Expected(FUN, (1608, 842, 1275), 63, 499, 6, 8.8, 0),
    "Enron_corr": Expected((["_trainvalid"], [], "_test"), (988, 0, 660), 1001, 56, 3, 5.3, 7),
    "ImCLEF07D": Expected((["_Train"], [], "_Test"), (10000, 0, 1006), 80, 46, 3, 3.0, 6),
}


def read(name: str, train: list[str], val: list[str], test: str) -> tuple[LabelTable, list[str]]:
    """A set with what was warned of; files are named by their ends."""
    path = f"{DATA / name / name}{{}}.arff".format
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = LabelTable(
            [path(end) for end in train], [path(end) for end in val], path(test), val_fraction=0, levels="given"
        )
        data.setup()
    return data, [str(warning.message) for warning in caught]


@pytest.mark.parametrize("name", SETS)
def test_the_published_sizes(name: str) -> None:
    expected = SETS[name]
    data, said = read(name, *expected.files)
    assert tuple(data.n_rows.values()) == expected.rows
    assert (data.n_inputs, data.n_labels, data.top_level) == (expected.inputs, expected.labels, expected.depth)
    assert len(set(data.label_names)) == expected.labels
    positives = sum(int((table.labels > 0).sum()) for table in data.tables.values())
    assert positives / sum(expected.rows) == pytest.approx(expected.labels_per_row, abs=0.05)
    assert all(bool((table.labels != 0).all()) for table in data.tables.values())
    repeated = f"{expected.repeated} of {expected.rows[2]:,} test rows have the inputs of a training row"
    assert (repeated in said) == (expected.repeated > 0)


@pytest.mark.parametrize("name", SETS)
def test_every_label_of_a_row_has_its_ancestors(name: str) -> None:
    data, _ = read(name, *SETS[name].files)
    labels = data.tables["test"].labels[:, 0] > 0
    assert data.parents is not None and data.levels is not None
    for label, parents in enumerate(data.parents):
        assert [data.levels[parent] for parent in parents] == [data.levels[label] - 1] * len(parents)
        assert all(bool((labels[:, parent] | ~labels[:, label]).all()) for parent in parents)
        assert [data.label_names[parent] for parent in parents] == [
            above for above in [data.label_names[label].rpartition("/")[0]] if above
        ]


def test_train_and_valid_are_joined_for_the_published_protocol() -> None:
    data, _ = read("cellcycle_FUN", [".train", ".valid"], [], ".test")
    assert data.n_rows == {"train": 1628 + 848, "val": 0, "test": 1281}
    train = data.tables["train"].inputs[:, 0]
    assert float(train.mean(0).abs().max()) < 1e-5, "missing values are filled with the mean"
    assert float(train.std(0).max()) < 1 + 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "published"),
    [("cellcycle_FUN", 0.255), ("derisi_FUN", 0.193), ("Enron_corr", 0.756), ("ImCLEF07D", 0.927)],
)
def test_tables_yaml_scores(name: str, published: float, tmp_path: Path) -> None:
    """What C-HMCNN(h), of derisi_FUN HMCN-F, is published with; both are told the hierarchy."""
    expected = SETS[name]
    train = [f"{DATA / name / name}{end}.arff" for end in (*expected.files[0], *expected.files[1])]
    files = [
        f"--data.init_args.train_files={train}",
        f"--data.init_args.test_files=[{DATA / name / name}{expected.files[2]}.arff]",
    ]
    config = Path(__file__).parents[3] / "configs" / "tables.yaml"
    arguments = ["--config", str(config), *files, f"--trainer.default_root_dir={tmp_path}", "--trainer.accelerator=cpu"]
    main(["fit", *arguments])
    tested = main(["test", *arguments, "--ckpt_path", "last"])
    assert float(tested.trainer.callback_metrics["test/average_precision"]) >= published
