"""Supervision: labels added, flipped and hidden, against counts worked out row by row."""

import numpy as np
import pytest
import torch
from torch import Tensor

from hierlit.data import ArrayHierarchy, CellularAutomaton, JuntaHierarchy, Supervision

SIZES = {"n_train": 400, "n_val": 50, "n_test": 60}


def juntas(**arguments: object) -> JuntaHierarchy:
    return JuntaHierarchy(n_inputs=10, n_levels=2, labels_per_level=5, **SIZES, **arguments)


def rings() -> CellularAutomaton:
    return CellularAutomaton(n_levels=3, n_cells=16, **SIZES)


def labels(data, split: str = "train") -> Tensor:
    data.setup()
    return data.tables[split].labels


def test_it_changes_nothing_unless_told_to() -> None:
    plain, wrapped = (
        juntas(batch_size=30, acceptance_fraction=0.3),
        Supervision(juntas(batch_size=30, acceptance_fraction=0.3)),
    )
    plain.setup()
    wrapped.setup()
    for split in ("train", "val", "test"):
        assert torch.equal(plain.tables[split].inputs, wrapped.tables[split].inputs)
        assert torch.equal(plain.tables[split].labels, wrapped.tables[split].labels)
    assert torch.equal(plain.held_rows, wrapped.held_rows)
    assert (wrapped.n_inputs, wrapped.n_labels, wrapped.n_locations, wrapped.levels) == (10, 10, 1, plain.levels)
    assert (wrapped.batch_size, wrapped.sizes) == (30, plain.sizes)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_share_is_observed_in_training_alone(share: float) -> None:
    whole, seen = labels(rings()), labels(Supervision(rings(), observed=share))
    assert float((seen != 0).float().mean()) == pytest.approx(share, abs=0.01)
    assert torch.equal(seen[seen != 0], whole[seen != 0])
    for split in ("val", "test"):
        assert torch.equal(labels(Supervision(rings(), observed=share), split), labels(rings(), split))


def test_set_aside_rows_are_supervised_as_training_rows_are() -> None:
    data = Supervision(rings(), observed=0.5)
    seen = torch.cat([batch.labels for batch in _after_setup(data).acceptance_dataloader()])
    assert 0.45 < float((seen != 0).float().mean()) < 0.55


def _after_setup(data):
    data.setup()
    return data


def test_added_labels_have_names_of_their_own() -> None:
    inputs, signs = np.ones((6, 2)), np.ones((6, 3))
    data = ArrayHierarchy(inputs, signs, val_fraction=0, acceptance_fraction=0)
    assert Supervision(data, n_distractors=2).label_names == ["y0", "y1", "y2", "added_1", "added_2"]
    data.label_names = ["y3", "added_1", "z"]
    assert Supervision(data, n_distractors=1).label_names == ["y3", "added_1", "z", "added_2"]


def test_only_some_levels_are_supervised() -> None:
    whole, seen = labels(juntas()), labels(Supervision(juntas(), supervised_levels=[2]))
    assert (seen[..., :5] == 0).all() and torch.equal(seen[..., 5:], whole[..., 5:])


def test_one_positive_label_is_left_and_every_one_may_be_it() -> None:
    whole, seen = labels(juntas()), labels(Supervision(juntas(), single_positive=True))
    for before, after in zip(whole[:, 0].tolist(), seen[:, 0].tolist(), strict=True):
        observed = [label for label, value in enumerate(after) if value != 0]
        assert len(observed) == (1 if 1.0 in before else 0)
        assert all(before[label] == after[label] == 1 for label in observed)
    # each of the positives of a row is as likely as the others: 1/count of them summed over rows
    positive = (whole[:, 0] > 0).double()
    mean = (positive / positive.sum(1, keepdim=True).clamp(min=1)).sum(0)
    assert ((seen[:, 0] > 0).sum(0) - mean).abs().max() < 4 * mean.max().sqrt()


def test_levels_of_added_labels_can_be_supervised() -> None:
    seen = labels(Supervision(juntas(), supervised_levels=[0], n_distractors=2))
    assert (seen[..., :10] == 0).all() and (seen[..., 10:] != 0).all()
    rare = Supervision(juntas(), supervised_levels=[3], n_rare=1, rare_share=0.1)
    assert (rare.levels[10] == 3) == bool((labels(rare)[..., 10] != 0).all())


def test_a_single_positive_is_drawn_among_those_observed() -> None:
    seen = labels(Supervision(juntas(), single_positive=True, supervised_levels=[2]))
    assert (seen[..., :5] == 0).all() and (seen[..., 5:] != 0).any()


def test_flips_hit_training_labels_at_their_rate() -> None:
    whole, flipped = labels(rings()), labels(Supervision(rings(), flip_probability=0.1))
    assert float((whole != flipped).float().mean()) == pytest.approx(0.1, abs=0.01)
    assert torch.equal(labels(Supervision(rings(), flip_probability=0.1), "val"), labels(rings(), "val"))


def test_redundant_labels_repeat_one_of_their_level() -> None:
    data = Supervision(juntas(), n_redundant=7)
    for split in ("train", "val"):
        table = labels(data, split)[:, 0]
        for label in range(10, 17):
            same = [
                own
                for own in range(10)
                if torch.equal(table[:, own], table[:, label]) or torch.equal(table[:, own], -table[:, label])
            ]
            assert [data.levels[own] for own in same] == [data.levels[label]]


@pytest.mark.parametrize("share", [0.01, 0.1])
def test_rare_labels_are_conjunctions_as_rare_as_asked_for(share: float) -> None:
    data = Supervision(JuntaHierarchy(labels_per_level=8, n_levels=2, n_train=8000), n_rare=6, rare_share=share)
    table = labels(data)[:, 0]
    assert data.levels[16:] and set(data.levels[16:]) <= {2, 3}
    for label in range(16, 22):
        rows = table[table[:, label] > 0]
        assert share / 2 < len(rows) / len(table) < 2 * share
        up_to = [own for own in range(16) if data.levels[own] < data.levels[label]]
        fixed = [own for own in up_to if rows[:, own].abs().mean() == rows[:, own].mean().abs()]
        wanted = rows[0, fixed]
        assert torch.equal((table[:, fixed] == wanted).all(1), table[:, label] > 0)


def test_rare_labels_of_an_automaton_conjoin_levels() -> None:
    rings = CellularAutomaton(n_levels=6, n_cells=32, n_train=300, n_val=50, n_test=50)
    data = Supervision(rings, n_rare=8)
    cells = labels(data).flatten(0, 1)
    assert data.levels[6:] == [7] * 8
    for label in range(6, 14):
        held = cells[cells[:, label] > 0]
        assert 0.005 < len(held) / len(cells) < 0.02
        fixed = [own for own in range(6) if held[:, own].unique().numel() == 1]
        assert 5 in fixed and len(fixed) > 1
        assert torch.equal((cells[:, fixed] == held[0, fixed]).all(1), cells[:, label] > 0)
    assert len(cells[:, 6:].T.unique(dim=0)) == 8


def test_a_share_out_of_reach_is_said() -> None:
    with pytest.warns(
        UserWarning, match=r"^rare_share = 0.01 is out of reach: rare labels hold in 0\.\d+ to 0\.\d+ of"
    ):
        Supervision(rings(), n_rare=2).setup()


def test_distractors_are_coins_of_no_level() -> None:
    data = Supervision(rings(), n_distractors=4)
    assert data.levels == [1, 2, 3, 0, 0, 0, 0] and data.n_labels == 7
    train, val = labels(data)[..., 3:], labels(data, "val")[..., 3:]
    assert train.flatten(0, 1).mean(0).abs().max() < 0.05
    assert not torch.equal(train[:50], val)
    assert torch.corrcoef(train.flatten(0, 1).T).triu(1).abs().max() < 0.05


def test_shuffled_labels_keep_their_rows_but_not_their_inputs() -> None:
    whole, dealt = labels(juntas()), labels(Supervision(juntas(), shuffle_labels=True))
    assert sorted(map(tuple, whole[:, 0].tolist())) == sorted(map(tuple, dealt[:, 0].tolist()))
    assert (whole != dealt).float().mean() > 0.4


def test_the_seed_decides() -> None:
    def drawn(seed: int) -> Tensor:
        return labels(
            Supervision(juntas(data_seed=seed), 0.5, None, True, 0.1, n_redundant=2, n_rare=2, n_distractors=2)
        )

    assert torch.equal(drawn(3), drawn(3)) and not torch.equal(drawn(3), drawn(4))


def test_thousands_of_labels_are_no_more_than_a_float_can_count() -> None:
    data = Supervision(ArrayHierarchy(torch.randn(20, 2), torch.ones(20, 1100)), n_rare=1, rare_share=0.25)
    data.setup()
    assert data.n_labels == 1101


def test_data_of_unknown_levels_can_be_supervised_too() -> None:
    inputs = torch.randn(40, 3)
    data = ArrayHierarchy(inputs, inputs[:, :2].sign(), levels=None)
    assert Supervision(data).levels is None
    assert Supervision(data, n_distractors=1).levels == [1, 1, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"observed": 0.0}, r"^observed must be a number in \(0, 1\], got 0.0$"),
        ({"flip_probability": 0.6}, r"^flip_probability must be a number in \[0, 0.5\], got 0.6$"),
        ({"supervised_levels": [3]}, r"^supervised_levels must be some of 1, 2, got \[3\]$"),
        ({"supervised_levels": []}, r"^supervised_levels must be some of 1, 2, got \[\]$"),
        ({"n_redundant": -1, "rare_share": 0.7}, r"^rare_share must be .* got 0.7; n_redundant must be .* got -1$"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Supervision(juntas(), **arguments)


def test_levels_that_are_not_known_cannot_be_chosen() -> None:
    inputs = torch.randn(40, 3)
    with pytest.raises(ValueError, match="supervised_levels must be null for data that does not tell its levels"):
        Supervision(ArrayHierarchy(inputs, inputs[:, :2].sign()), supervised_levels=[1])
