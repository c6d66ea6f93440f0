from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hierlit import LocatedArrays, Supervision

N, LONGEST = 24, 6
WHOLE = {"val_fraction": 0.0, "acceptance_fraction": 0.0}


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def sequences(seed: int = 0) -> dict[str, np.ndarray]:
    """Sequences of 1 to 6 locations, padded with NaN, with labels −1 and 1."""
    draw = np.random.default_rng(seed)
    lengths = draw.permutation(np.arange(N) % LONGEST + 1)
    mask = np.arange(LONGEST) < lengths[:, None]
    inputs = np.where(mask[..., None], draw.normal(3, 2, (N, LONGEST, 2)), np.nan)
    labels = draw.choice([-1, 1], (N, LONGEST, 3)) * mask[..., None]
    return {"inputs": inputs, "labels": labels, "lengths": lengths, "mask": mask}


def images(seed: int = 0) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    return {
        "inputs": draw.integers(0, 256, (N, 5, 4, 3)).astype(np.uint8),
        "labels": draw.choice([-1, 1], (N, 5, 4, 2)),
    }


def save_npz(arrays: dict[str, np.ndarray], name: str = "train") -> str:
    np.savez(f"{name}.npz", **arrays)
    return f"{name}.npz"


def save_compressed(arrays: dict[str, np.ndarray]) -> str:
    np.savez_compressed("compressed.npz", **arrays)
    return "compressed.npz"


def save_folder(arrays: dict[str, np.ndarray]) -> str:
    Path("folder").mkdir()
    for name, array in arrays.items():
        np.save(f"folder/{name}.npy", array)
    return "folder"


def save_beside(arrays: dict[str, np.ndarray]) -> str:
    for name, array in arrays.items():
        np.save(f"train_{name}.npy", array)
    return "train_inputs.npy"


def save_parquet(arrays: dict[str, np.ndarray], name: str = "train") -> str:
    columns = {key: array.tolist() for key, array in arrays.items()}
    pq.write_table(pa.table(columns), f"{name}.parquet", row_group_size=7)
    return f"{name}.parquet"


def ragged(arrays: dict[str, np.ndarray]) -> dict[str, list]:
    lengths = arrays["lengths"]
    return {name: [arrays[name][row, :n].tolist() for row, n in enumerate(lengths)] for name in ("inputs", "labels")}


def loaded(files: str, **arguments: object) -> LocatedArrays:
    data = LocatedArrays(files, **{**WHOLE, **arguments})
    data.setup()
    return data


@pytest.mark.parametrize("save", [save_npz, save_compressed, save_folder, save_beside, save_parquet])
@pytest.mark.parametrize("by", ["lengths", "mask"])
def test_sequences_of_any_length_are_the_same_from_every_format(save: Callable, by: str) -> None:
    arrays = sequences()
    data = loaded(save(arrays), **{by: by})
    assert (data.masked, data.pooled, data.grid, data.n_locations) == (True, False, (LONGEST,), LONGEST)
    assert (data.n_inputs, data.n_labels, data.label_names) == (3, 3, ["labels_0", "labels_1", "labels_2"])
    table, mask = data.tables["train"], arrays["mask"]
    inputs = table.inputs.numpy()
    assert np.array_equal(inputs[..., 0], mask)
    present = arrays["inputs"][mask]
    np.testing.assert_allclose(inputs[mask][:, 1:], (present - present.mean(0)) / present.std(0), atol=1e-5)
    assert not inputs[~mask].any()
    assert np.array_equal(table.labels.numpy(), arrays["labels"])
    values = [(arrays["labels"][mask] == value).sum(0).tolist() for value in (-1, 0, 1)]
    assert table.counts().tolist() == values
    assert data.n_pairs == mask.sum()


def test_lists_of_parquet_have_lengths_of_their_own() -> None:
    arrays = sequences()
    pq.write_table(pa.table(ragged(arrays)), "ragged.parquet", row_group_size=5)
    data, padded = loaded("ragged.parquet"), loaded(save_npz(arrays), lengths="lengths")
    assert data.masked and data.n_locations == LONGEST
    assert torch.equal(data.tables["train"].inputs, padded.tables["train"].inputs)
    assert torch.equal(data.tables["train"].labels, padded.tables["train"].labels)


def test_tensors_of_arrow_have_shapes() -> None:
    arrays = images()
    columns = {
        name: pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(array, np.float32))
        for name, array in arrays.items()
    }
    pq.write_table(pa.table(columns), "tensors.parquet")
    data, plain = loaded("tensors.parquet"), loaded(save_npz(arrays))
    assert data.grid == (5, 4)
    assert torch.equal(data.tables["train"].inputs, plain.tables["train"].inputs)
    assert torch.equal(data.tables["train"].labels, plain.tables["train"].labels)


def test_batches_have_rows_of_similar_length() -> None:
    data = loaded(save_npz(sequences()), lengths="lengths", batch_size=4, acceptance_fraction=0.2, val_fraction=0.3)
    lengths = data.tables["train"].lengths
    assert lengths is not None
    batches, spans = list(data.fit_dataloader()), []
    for batch in batches:
        own = lengths[batch.index.numpy()]
        spans.append((own.min(), own.max()))
        assert batch.inputs.shape[1] == batch.labels.shape[1] == own.max()
        assert np.array_equal(batch.inputs[..., 0].sum(1).numpy(), own)
    assert all(ends <= begins for (_, ends), (begins, _) in pairwise(sorted(spans)))
    assert sorted(torch.cat([batch.index for batch in batches]).tolist()) == data.fit_rows.tolist()
    predicted = torch.cat([batch.index for batch in data.predict_dataloader()])
    assert predicted.tolist() == list(range(len(data.tables["test"])))


def test_images_are_flattened_and_scaled_by_channel() -> None:
    arrays = images()
    data = loaded(save_npz(arrays))
    assert (data.grid, data.n_locations, data.n_inputs, data.masked) == ((5, 4), 20, 3, False)
    flat = arrays["inputs"].reshape(N, 20, 3).astype(float)
    expected = (flat - flat.mean((0, 1))) / flat.std((0, 1))
    np.testing.assert_allclose(data.tables["train"].inputs, expected, atol=1e-5)
    assert np.array_equal(data.tables["train"].labels, arrays["labels"].reshape(N, 20, 2))
    raw = loaded("train.npz", scale="none")
    assert np.array_equal(raw.tables["train"].inputs, flat)


def test_channels_first_and_grey_images() -> None:
    arrays = images()
    flat = loaded(save_npz(arrays)).tables["train"].inputs
    first = {**arrays, "inputs": np.moveaxis(arrays["inputs"], -1, 1)}
    assert torch.equal(loaded(save_npz(first, "first"), layout="channels_first").tables["train"].inputs, flat)
    grey = {**arrays, "inputs": arrays["inputs"][..., 0]}
    assert loaded(save_npz(grey, "grey")).grid == (5, 4)
    pooled = {"inputs": grey["inputs"], "labels": arrays["labels"][:, 0, 0]}
    assert loaded(save_npz(pooled, "pooled"), layout="images").grid == (5, 4)
    assert loaded("pooled.npz").grid == (5,)  # sequences of 4 channels


def test_masked_images_keep_their_grid() -> None:
    arrays = images()
    mask = np.random.default_rng(1).random((N, 5, 4)) < 0.7
    arrays["labels"] *= mask[..., None]
    data = loaded(save_npz({**arrays, "mask": mask}), mask="mask")
    table = data.tables["train"]
    assert (data.masked, data.grid, data.n_inputs, table.lengths) == (True, (5, 4), 4, None)
    assert np.array_equal(table.inputs[..., 0], mask.reshape(N, 20))
    assert not table.inputs[~torch.from_numpy(mask.reshape(N, 20))].any()
    assert table.counts().sum().item() == 2 * mask.sum()


def test_labels_of_examples_hold_at_every_location() -> None:
    arrays = sequences()
    arrays["labels"] = np.arange(N) % 3 + 4
    data = loaded(save_npz(arrays), lengths="lengths")
    assert data.pooled
    assert data.label_names == ["labels=4", "labels=5", "labels=6"]
    assert data.class_labels == {"labels": [0, 1, 2]}
    labels = data.tables["train"].labels.numpy()
    for row in range(N):
        expected = np.where(np.arange(3) == row % 3, 1, -1)
        assert (labels[row, : arrays["lengths"][row]] == expected).all()
        assert not labels[row, arrays["lengths"][row] :].any()


def test_classes_of_pixels_and_missing_ones() -> None:
    arrays = images()
    arrays["labels"] = np.random.default_rng(0).integers(-1, 3, (N, 5, 4))
    data = loaded(save_npz(arrays), label_names=["sky", "sea", "land"])
    labels = data.tables["train"].labels.reshape(N, 5, 4, 3).numpy()
    observed = arrays["labels"] >= 0
    assert np.array_equal(labels[observed].argmax(-1), arrays["labels"][observed])
    assert not labels[~observed].any()
    assert data.label_names == ["sky", "sea", "land"] and not data.pooled


def test_what_zero_means() -> None:
    arrays = images()
    arrays["labels"] = arrays["labels"] > 0
    labels = {
        zero: loaded(save_npz(arrays), zero_labels=zero).tables["train"].labels
        for zero in ("auto", "negative", "not_observed")
    }
    assert set(labels["auto"].unique().tolist()) == {-1, 1}
    assert torch.equal(labels["auto"], labels["negative"])
    assert set(labels["not_observed"].unique().tolist()) == {0, 1}
    both = np.stack([arrays["labels"][..., 0], images()["labels"][..., 0] * arrays["labels"][..., 1]], -1).astype(int)
    both[0, 0, 0, 1] = -1
    with pytest.raises(ValueError, match=r"set zero_labels to negative or not_observed$"):
        loaded(save_npz({**arrays, "labels": both}, "both"))


def test_splits_are_of_files_or_of_shares_and_scales_of_training_rows() -> None:
    arrays = images()
    data = loaded(save_npz(arrays), val_fraction=0.25, test_fraction=0.25, acceptance_fraction=0.2)
    assert {split: len(rows) for split, rows in data.tables.items()} == {"train": 12, "val": 6, "test": 6}
    np.testing.assert_allclose(data.tables["train"].inputs.mean((0, 1)), 0, atol=1e-5)
    assert abs(data.tables["val"].inputs.mean((0, 1))).max() > 1e-3
    two = loaded(["train.npz", save_npz(images(1), "more")], val_files="more.npz")
    assert len(two.tables["train"]) == 2 * N and two.tables["test"] is two.tables["val"]
    batch = two.tables["train"][torch.tensor([N + 3, 2])]
    assert np.array_equal(batch.labels[0], images(1)["labels"][3].reshape(20, 2))
    assert np.array_equal(batch.labels[1], arrays["labels"][2].reshape(20, 2))


def test_rows_to_predict_need_no_labels_and_no_pass_over_the_tables() -> None:
    arrays = sequences()
    inputs = {name: arrays[name] for name in ("inputs", "lengths")}
    data = LocatedArrays(save_npz(arrays), predict_files=save_npz(inputs, "new"), lengths="lengths", batch_size=5)
    data.setup("predict")
    assert not data.tables
    batches = list(data.predict_dataloader())
    assert torch.cat([batch.index for batch in batches]).tolist() == list(range(N))
    assert not any(batch.labels.any() for batch in batches)
    assert [batch.inputs.shape[1] for batch in batches] == [arrays["lengths"][i : i + 5].max() for i in range(0, N, 5)]


def test_checkpoints_know_their_training_rows() -> None:
    data = loaded(save_npz(images()))
    state = data.state_dict()
    loaded("train.npz").load_state_dict(state)
    with pytest.raises(ValueError, match=r"got others: input channels have other means$"):
        loaded(save_npz(images(1), "other")).load_state_dict(state)


def test_supervision_hides_and_shuffles_rows_of_files() -> None:
    arrays = sequences()
    plain = loaded(save_npz(arrays), lengths="lengths", levels=[1, 1, 2])
    untouched = Supervision(plain)
    untouched.setup()
    assert untouched.masked and untouched.tables["train"] is plain.split_rows("train")
    hidden = Supervision(plain, supervised_levels=[2], observed=0.5, flip_probability=0.1)
    hidden.setup()
    rows, own = hidden.tables["train"], arrays["labels"]
    labels = rows.labels.numpy()
    assert not labels[..., :2].any() and 0 < np.count_nonzero(labels[..., 2]) < np.count_nonzero(own[..., 2])
    for row in (3, 8):  # the same alone as beside longer ones
        alone, length = rows[row].labels[0].numpy(), arrays["lengths"][row]
        assert np.array_equal(alone, labels[row, :length])
    shuffled = Supervision(plain, shuffle_labels=True)
    shuffled.setup()
    labels = shuffled.tables["train"].labels.numpy()
    assert np.array_equal((labels != 0).any(-1), arrays["mask"]) and not np.array_equal(labels, own)
    assert torch.equal(shuffled.tables["train"].inputs, plain.tables["train"].inputs)
    with pytest.raises(ValueError, match=r"^n_redundant, n_rare and n_distractors must be 0 for rows read from files"):
        Supervision(plain, n_distractors=2).setup()


def changed(name: str, place: tuple, value: float, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    array = arrays[name].astype(float)
    array[place] = value
    return {**arrays, name: array}


def objects(lengths: np.ndarray) -> np.ndarray:
    rows = np.empty(len(lengths), object)
    rows[:] = [np.zeros((length, 2)) for length in lengths]
    return rows


SEQUENCES, IMAGES = sequences(), images()
SHORT = int(SEQUENCES["lengths"].argmin())
BROKEN = {
    "objects": (
        {**SEQUENCES, "inputs": objects(SEQUENCES["lengths"])},
        {},
        r"train.npz: inputs must hold numbers, got o",
    ),
    "NaN": (
        changed("inputs", (4, 1, 0, 2), np.nan, IMAGES),
        {},
        r"train.npz, row 5, location 4, input 2: inputs must be",
    ),
    "0.5": (
        changed("labels", (7, 0, 1, 1), 0.5, IMAGES),
        {},
        r"row 8, location 1, label 1: a label must be -1, 0 or 1, got",
    ),
    "beyond": (
        changed("labels", (SHORT, 4, 2), 1, SEQUENCES),
        {"lengths": "lengths"},
        rf"train.npz, row {SHORT + 1}, location 4, label 2: there must be no label where there is no location, got 1",
    ),
    "lengths": (
        changed("lengths", (2,), LONGEST + 3, SEQUENCES),
        {"lengths": "lengths"},
        r"train.npz, row 3: lengths must be in 1..locations, got 9",
    ),
    "no location": (
        {**SEQUENCES, "mask": SEQUENCES["mask"] & (np.arange(N) != 1)[:, None]},
        {"mask": "mask"},
        r"train.npz, row 2: an example must have a location, got 0",
    ),
    "channels first": (
        {"inputs": np.zeros((N, 3, 8, 8)), "labels": np.ones((N, 2))},
        {},
        r"train.npz: inputs \[24, 3, 8, 8\] seems to have its channels first: set layout to channels_first",
    ),
    "other locations": (
        {**SEQUENCES, "labels": SEQUENCES["labels"][:, :4]},
        {},
        r"train.npz: labels must be those of the example's locations, .* got 4 locations with labels and 6 with inputs",
    ),
    "other rows": (
        {**IMAGES, "labels": IMAGES["labels"][:9]},
        {},
        r"train.npz: labels must have 24 rows as inputs have, got 9",
    ),
    "no array": ({"x": IMAGES["inputs"]}, {}, r"train_files: train.npz lacks the array 'inputs'; its arrays are x"),
    "a table": (
        {"inputs": np.zeros((N, 4)), "labels": np.ones((N, 2))},
        {},
        r"train.npz: inputs must be \[rows, locations, channels\] or \[rows, height, width, channels\], got \[24, 4\]",
    ),
    "names": (IMAGES, {"label_names": ["a"]}, r"label_names must be 2 different names, one a label, got \['a'\]"),
    "levels": (IMAGES, {"levels": [1]}, r"levels must be 2 integers, one for each label, got \[1\]"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_malformed_arrays_are_named_by_file_and_row(case: str) -> None:
    arrays, arguments, message = BROKEN[case]
    with pytest.raises(ValueError, match=f"^(train.npz, )?{message}") as error:
        loaded(save_npz(arrays), **arguments)
    assert "\n" not in str(error.value)


def test_malformed_lists_are_named_by_file_and_row() -> None:
    columns = ragged(sequences())
    columns["labels"][4].append([1, 1, 1])
    pq.write_table(pa.table(columns), "other.parquet")
    with pytest.raises(ValueError, match=r"^other.parquet, row 5: labels must be those of the example's locations"):
        loaded("other.parquet")
    columns = ragged(sequences())
    columns["inputs"][9][0].append(1.0)
    pq.write_table(pa.table(columns), "inner.parquet")
    with pytest.raises(
        ValueError, match=r"^inner.parquet, row 10: inputs must have lists of 2 at every location, .* 3$"
    ):
        loaded("inner.parquet")
    columns = ragged(sequences())
    columns["inputs"][6] = None
    pq.write_table(pa.table(columns), "null.parquet")
    with pytest.raises(ValueError, match=r"^null.parquet, row 7: inputs must not be missing$"):
        loaded("null.parquet")


def test_files_must_agree() -> None:
    train = save_npz(sequences())
    wide = save_npz({**sequences(), "inputs": np.zeros((N, LONGEST, 5))}, "wide")
    with pytest.raises(ValueError, match=r"^wide.npz: the channels, .* must be those of train.npz, \[2\], got \[5\]$"):
        loaded(train, val_files=wide, lengths="lengths")
    long = save_npz({"inputs": np.zeros((N, 9, 3)), "labels": np.ones((N, 9, 2))}, "long")
    fixed = save_npz({"inputs": np.zeros((N, 7, 3)), "labels": np.ones((N, 7, 2))}, "fixed")
    with pytest.raises(ValueError, match=r"^long.npz: examples must have the 7 locations of the training files"):
        loaded(fixed, val_files=long)


def test_all_problems_of_arguments_are_one_error() -> None:
    Path("x.csv").write_text("a\n")
    with pytest.raises(ValueError) as error:
        LocatedArrays(["x.csv", "gone.npz"], layout="rows", scale="unit", mask="m", lengths="l", val_fraction=2)
    for part in (
        "layout must be one of null, sequences, images, channels_first, got 'rows'",
        "scale must be one of standard, none, got 'unit'",
        "val_fraction must be a number in [0, 1), got 2",
        "mask and lengths exclude each other, got 'm' and 'l'",
        "train_files: the suffix must be one of .npz, .npy, .parquet, or the path a folder of .npy, got x.csv",
        "train_files: no such file: gone.npz",
    ):
        assert re.search(re.escape(part), str(error.value)), part
    with pytest.raises(ValueError, match=r"^train_files must be given, or, to predict, predict_files and a checkpoint"):
        LocatedArrays()
