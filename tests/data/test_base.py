from __future__ import annotations

import warnings
from itertools import chain, pairwise

import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hierlit.data import ArrayHierarchy, Batch, HierarchyDataModule, Supervision
from hierlit.data.base import ArrayDataset, FixedBatches


def arrays(n: int = 50, d: int = 3, n_labels: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, d)), rng.integers(-1, 2, size=(n, n_labels))


class Custom(HierarchyDataModule):
    n_inputs, n_labels, n_locations, levels = 2, 1, 3, None

    def __init__(self, tables: dict[str, tuple[Tensor, Tensor]], **kwargs: float) -> None:
        super().__init__(**kwargs)
        self.given = tables
        self.n_calls = 0

    def make_tables(self) -> dict[str, tuple[Tensor, Tensor]]:
        self.n_calls += 1
        return self.given


def custom_tables() -> dict[str, tuple[Tensor, Tensor]]:
    return {split: (torch.ones(5, 3, 2), torch.ones(5, 3, 1)) for split in ("train", "val", "test")}


def test_dataset_fetches_a_whole_batch() -> None:
    inputs, labels = torch.arange(12.0).reshape(6, 1, 2), torch.ones(6, 1, 3)
    batch = ArrayDataset(inputs, labels)[torch.tensor([4, 1])]
    assert isinstance(batch, Batch)
    assert batch.inputs.tolist() == [[[8, 9]], [[2, 3]]]
    assert batch.labels.shape == (2, 1, 3)
    assert batch.index.tolist() == [4, 1]


@settings(max_examples=60, deadline=None)
@given(
    n_rows=st.integers(0, 40),
    batch_size=st.integers(1, 15),
    replicas=st.sampled_from([1, 2, 3, 5]),
    shuffle=st.booleans(),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 5),
)
def test_ranks_together_see_the_single_process_batches(n_rows, batch_size, replicas, shuffle, seed, epoch) -> None:
    rows = torch.arange(n_rows) * 3 + 7
    samplers = [FixedBatches(rows, batch_size, seed, shuffle, replicas, rank) for rank in range(replicas)]
    single = FixedBatches(rows, batch_size, seed, shuffle)
    for sampler in [*samplers, single]:
        sampler.set_epoch(epoch)
    whole = [batch.tolist() for batch in single]
    parts = [torch.cat(slices).tolist() for slices in zip(*samplers, strict=True)]
    assert whole == parts
    assert len(whole) == len(single) == -(-n_rows // batch_size)
    assert sorted(list(chain.from_iterable(whole))) == rows.tolist()
    assert all(len(batch) <= batch_size for batch in whole)
    if not shuffle:
        assert list(chain.from_iterable(whole)) == rows.tolist()


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), max_size=40), batch_size=st.integers(1, 15), seed=st.integers(0, 2**40))
def test_rows_of_similar_length_share_a_batch_on_any_number_of_processes(lengths, batch_size, seed) -> None:
    rows, sizes = torch.arange(len(lengths)) + 5, np.array(lengths, np.int64)
    samplers = [FixedBatches(rows, batch_size, seed, True, 3, rank, sizes) for rank in range(3)]
    single = FixedBatches(rows, batch_size, seed, True, lengths=sizes)
    whole = [batch.tolist() for batch in single]
    assert whole == [torch.cat(parts).tolist() for parts in zip(*samplers, strict=True)]
    assert sorted(chain.from_iterable(whole)) == rows.tolist()
    spans = sorted((min(own), max(own)) for batch in whole for own in [[lengths[row - 5] for row in batch]])
    assert all(ends <= begins for (_, ends), (begins, _) in pairwise(spans))
    assert all(len(batch) <= batch_size for batch in whole) and len(whole) == -(-len(lengths) // batch_size)
    ordered = FixedBatches(rows, batch_size, seed, False, lengths=sizes)
    in_order = [sorted(own.tolist(), key=lambda row: (lengths[row - 5], row)) for own in ordered]
    assert in_order == [own.tolist() for own in ordered]
    assert sorted(chain.from_iterable(in_order)) == rows.tolist()


class Masked(Custom):
    n_inputs, masked = 3, True


def masked_tables(n: int = 12) -> dict[str, tuple[Tensor, Tensor]]:
    present = (torch.arange(4) < (torch.arange(n) % 4 + 1)[:, None]).float()[..., None]
    inputs = torch.cat([present, torch.ones(n, 4, 2) * present], 2)
    return {split: (inputs, present.clone()) for split in ("train", "val", "test")}


def test_masked_rows_in_memory_are_cut_to_their_batch() -> None:
    data = Masked(masked_tables(), batch_size=3, acceptance_fraction=0)
    data.setup()
    sizes = sorted(batch.inputs.shape[1] for batch in data.fit_dataloader())
    assert sizes == [1, 2, 3, 4]
    assert data.n_pairs == 3 * (1 + 2 + 3 + 4)
    assert data.tables["train"].counts().tolist() == [[0], [0], [30]]
    assert data.tables["train"].labels.shape == (12, 4, 1)
    assert next(batch.index.tolist() for batch in data.predict_dataloader()) == [0, 1, 2]


@pytest.mark.parametrize(
    ("channel", "value", "message"),
    [
        (0, 0.5, r"train input 0 must say where there is a location, 0 or 1, got 0.5 at row 3, location 1, input 0"),
        (
            0,
            0.0,
            r"train inputs and labels must be 0 where there is no location, got 1.0 at row 3, location 1, input 1",
        ),
    ],
)
def test_masks_are_checked(channel: int, value: float, message: str) -> None:
    tables = masked_tables()
    tables["train"] = (tables["train"][0].clone(), tables["train"][1])
    tables["train"][0][3, 1, channel] = value
    with pytest.raises(ValueError, match=f"^{message}"):
        Masked(tables).setup()


def test_labels_are_counted_in_chunks() -> None:
    inputs, labels = torch.zeros(700, 2, 1), torch.randint(-1, 2, (700, 2, 3)).float()
    table = ArrayDataset(inputs, labels)
    expected = [(labels == value).sum((0, 1)).tolist() for value in (-1, 0, 1)]
    assert table.counts().tolist() == expected
    assert [len(batch.index) for batch in table.chunks(300)] == [300, 300, 100]


def test_epochs_permute_batches_and_keep_their_members() -> None:
    sampler = FixedBatches(torch.arange(103), 10, seed=3, shuffle=True)
    epochs = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        epochs.append([tuple(batch.tolist()) for batch in sampler])
    assert set(epochs[0]) == set(epochs[1]) == set(epochs[2])
    assert epochs[0] != epochs[1] != epochs[2]
    sampler.set_epoch(0)
    assert [tuple(batch.tolist()) for batch in sampler] == epochs[0]
    other = FixedBatches(torch.arange(103), 10, seed=4, shuffle=True)
    assert {tuple(batch.tolist()) for batch in other} != set(epochs[0])


def test_loaders_cover_their_rows() -> None:
    inputs, labels = arrays(100)
    data = ArrayHierarchy(inputs, labels, acceptance_fraction=0.3, batch_size=16)
    data.setup("fit")
    fit = torch.cat([batch.index for batch in data.train_dataloader()])
    held = torch.cat([batch.index for batch in data.acceptance_dataloader()])
    assert len(held) == 27
    assert sorted(fit.tolist() + held.tolist()) == list(range(90))
    assert torch.equal(held, data.held_rows) and torch.equal(fit.sort().values, data.fit_rows)
    batch = next(iter(data.train_dataloader()))
    assert batch.inputs.dtype == batch.labels.dtype == torch.float32 and batch.index.dtype == torch.long
    assert torch.equal(batch.inputs, data.tables["train"].inputs[batch.index])
    val = torch.cat([batch.inputs for batch in data.val_dataloader()])
    assert torch.equal(val, data.tables["val"].inputs)
    for loader in (data.test_dataloader(), data.predict_dataloader()):
        assert torch.equal(torch.cat([batch.inputs for batch in loader]), val)


def test_set_aside_rows_follow_the_seed() -> None:
    held = []
    for seed in (0, 0, 1):
        data = ArrayHierarchy(*arrays(), data_seed=seed)
        data.setup()
        held.append(data.held_rows.tolist())
    assert held[0] == held[1] != held[2]


def test_nothing_is_set_aside_at_fraction_zero_and_at_least_one_row_above() -> None:
    none = ArrayHierarchy(*arrays(), acceptance_fraction=0)
    none.setup()
    assert list(none.acceptance_dataloader()) == [] and len(none.fit_rows) == 45
    one = ArrayHierarchy(*arrays(), acceptance_fraction=1e-6)
    one.setup()
    assert len(one.held_rows) == 1


def test_the_depth_and_the_pairs_of_the_papers_bound() -> None:
    inputs, labels = torch.randn(20, 5, 2), torch.ones(20, 5, 3)
    data = ArrayHierarchy(inputs, labels, val=(inputs, labels), levels=[1, 3, 2], acceptance_fraction=0.5)
    assert (data.top_level, data.n_pairs) == (3, 20 * 5)
    with_coins = Supervision(data, n_distractors=2)
    assert (with_coins.top_level, with_coins.n_pairs) == (3, 20 * 5)
    assert Custom(custom_tables()).top_level is None


def test_setup_makes_the_tables_once() -> None:
    data = Custom(custom_tables())
    data.setup("fit")
    data.setup("test")
    assert data.n_calls == 1


def test_loaders_need_setup() -> None:
    with pytest.raises(RuntimeError, match=r"call setup\(\) first"):
        Custom(custom_tables()).train_dataloader()


def broken(split: str, inputs: Tensor | None = None, labels: Tensor | None = None) -> dict[str, tuple[Tensor, Tensor]]:
    tables = custom_tables()
    old_inputs, old_labels = tables[split]
    tables[split] = (old_inputs if inputs is None else inputs, old_labels if labels is None else labels)
    return tables


def with_value(table: Tensor, position: tuple[int, int, int], value: float) -> Tensor:
    table[position] = value
    return table


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            broken("val", inputs=with_value(torch.ones(5, 3, 2), (3, 2, 1), float("nan"))),
            r"^val inputs must be finite, got nan at row 3, location 2, input 1$",
        ),
        (
            broken("train", inputs=with_value(torch.ones(5, 3, 2), (0, 1, 0), float("-inf"))),
            r"^train inputs must be finite, got -inf at row 0, location 1, input 0$",
        ),
        (
            broken("test", labels=with_value(torch.ones(5, 3, 1), (4, 0, 0), 2)),
            r"^test labels must be in \{-1, 0, 1\} \(0 = not observed\), got 2.0 at row 4, location 0, label 0$",
        ),
        (
            broken("test", labels=with_value(torch.ones(5, 3, 1), (4, 0, 0), float("nan"))),
            r"^test labels must be .*, got nan at row 4, location 0, label 0$",
        ),
        (
            broken("train", inputs=torch.ones(5, 3, 4)),
            r"^train inputs must have shape \[rows, 3, 2\], got \[5, 3, 4\]$",
        ),
        (
            broken("val", labels=torch.ones(5, 1)),
            r"^val labels must have shape \[rows, 3, 1\], got \[5, 1\]$",
        ),
        (
            broken("val", labels=torch.ones(4, 3, 1)),
            r"^val inputs and labels must have equally many rows, got 5 and 4$",
        ),
        (
            broken("train", torch.ones(0, 3, 2), torch.ones(0, 3, 1)),
            r"^train must have at least 1 row, got 0$",
        ),
        (
            broken("train", torch.ones(1, 3, 2), torch.ones(1, 3, 1)),
            r"^acceptance_fraction must leave a training row to fit, got 0.2 of 1 rows$",
        ),
        ({"train": custom_tables()["train"]}, r"^make_tables must return train, val, test, missing val, test$"),
    ],
)
def test_bad_tables_are_refused(tables: dict[str, tuple[Tensor, Tensor]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Custom(tables).setup()


def test_bad_loader_arguments_are_named_together() -> None:
    message = (
        r"^batch_size must be an integer >= 1, got 0; data_seed must be an integer >= 0, got -1; "
        r"acceptance_fraction must be a number in \[0, 1\), got 1.0$"
    )
    with pytest.raises(ValueError, match=message):
        Custom(custom_tables(), batch_size=0, acceptance_fraction=1.0, data_seed=-1)
    with pytest.raises(ValueError, match=r"acceptance_fraction must be .* got nan"):
        Custom(custom_tables(), acceptance_fraction=float("nan"))


@pytest.mark.parametrize("convert", [np.asarray, torch.tensor, lambda table: table.tolist()])
def test_arrays_of_two_dimensions_have_one_location(convert) -> None:
    inputs, labels = arrays()
    data = ArrayHierarchy(convert(inputs), convert(labels), levels=[1, 1, 2, 3])
    assert (data.n_inputs, data.n_labels, data.n_locations, data.levels) == (3, 4, 1, [1, 1, 2, 3])
    data.setup()
    rows = torch.cat([data.tables[split].inputs for split in ("train", "val")])[:, 0]
    assert len(data.tables["val"]) == 5 and data.tables["train"].labels.shape == (45, 1, 4)
    assert sorted(rows.tolist()) == sorted(torch.tensor(inputs, dtype=torch.float32).tolist())


def test_arrays_keep_given_splits() -> None:
    inputs, labels = torch.randn(20, 5, 2), torch.ones(20, 5, 3)
    data = ArrayHierarchy(inputs, labels, val=(inputs[:4] + 1, labels[:4]), test=(inputs[:2] + 2, labels[:2]))
    data.setup()
    assert data.levels is None and data.n_locations == 5
    assert torch.equal(data.tables["train"].inputs, inputs)
    assert torch.equal(data.tables["val"].inputs, inputs[:4] + 1)
    assert torch.equal(data.tables["test"].inputs, inputs[:2] + 2)


def test_arrays_refuse_zero_one_labels() -> None:
    inputs, labels = arrays()
    message = r"^train labels must be in \{-1, 0, 1\} \(0 = not observed\), got values \[0, 1\] .* with 2\*y-1$"
    with pytest.raises(ValueError, match=message):
        ArrayHierarchy(inputs, labels > 0)
    signs = 2 * (labels > 0) - 1
    with pytest.raises(ValueError, match=r"^val labels must be"):
        ArrayHierarchy(inputs, signs, val=(inputs, labels > 0))
    ArrayHierarchy(inputs, signs, val=(inputs[:1], np.array([[0, 1, 0, 0]])))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val_fraction": 1}, r"^val_fraction must be a number in \[0, 1\), got 1$"),
        ({"val_fraction": 0.999}, r"^val_fraction must leave a row to train on, got 0.999 of 50 rows$"),
        ({"levels": [1, 2]}, r"^levels must be 4 integers >= 1, one for each label, got \[1, 2\]$"),
        ({"levels": [0, 1, 1, 2]}, r"^levels must be 4 integers >= 1"),
        ({"labels": np.full((50, 4), 3)}, r"^train labels must be .*, got 3.0 at row 0, location 0, label 0$"),
        ({"inputs": np.ones(50)}, r"^inputs and labels must have 2 or 3 dimensions, .* got shapes \[50\] and"),
        ({"inputs": np.ones((50, 2, 3))}, r"^train labels must have shape \[rows, 2, 4\], got \[50, 1, 4\]$"),
        ({"labels": np.ones((49, 4))}, r"equally many rows, got 50 and 49$"),
        ({"test": (np.ones((5, 2)), np.ones((5, 4)))}, r"^test inputs must have shape \[rows, 1, 3\]"),
        ({"batch_size": 1.5, "val_fraction": 2}, r"^batch_size must .* 1.5; val_fraction must .* 2$"),
    ],
)
def test_bad_arrays_are_refused_when_given(change, message: str) -> None:
    inputs, labels = arrays()
    with pytest.raises(ValueError, match=message):
        ArrayHierarchy(**({"inputs": inputs, "labels": labels} | change))


class Recorder(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 4)
        self.epochs: list[list[tuple[int, ...]]] = []

    def on_train_epoch_start(self) -> None:
        self.epochs.append([])

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        assert isinstance(batch, Batch)
        self.epochs[-1].append(tuple(batch.index.tolist()))
        return self.layer(batch.inputs).square().mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        assert isinstance(batch, Batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return batch.index

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_lightning_leaves_the_batches_alone(tmp_path) -> None:
    data, model = ArrayHierarchy(*arrays(), batch_size=8), Recorder()
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(model, data)
    assert sorted(chain.from_iterable(model.epochs[0])) == data.fit_rows.tolist()
    assert set(model.epochs[0]) == set(model.epochs[1]) == set(model.epochs[2])
    assert model.epochs[0] != model.epochs[1] != model.epochs[2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predicted = trainer.predict(model, data)
    assert torch.cat(predicted).tolist() == list(range(5))
