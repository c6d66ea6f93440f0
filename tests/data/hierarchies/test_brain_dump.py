"""BrainDump against a circuit run gate by gate."""

import numpy as np
import pytest
import torch

from hierlit.data import BrainDump

SIZES = {"n_train": 300, "n_val": 30, "n_test": 30}


def circuit(data: BrainDump, row: list[int]) -> list[list[int]]:
    """Every neuron's state of an input in {0, 1}, from the public graph alone."""
    layers, below = [], row
    for parents, tables in zip(data.parents, data.truth_tables, strict=True):
        below = [
            int(table[sum(below[parent] << place for place, parent in enumerate(own))])
            for own, table in zip(parents.tolist(), tables, strict=True)
        ]
        layers.append(below)
    return layers


@pytest.mark.parametrize("arguments", [{}, {"depth": 3, "width": 8, "fan_in": 2, "majority_size": 5}], ids=str)
def test_labels_are_majorities_of_neurons_and_the_output(arguments: dict) -> None:
    data = BrainDump(labels_per_layer=7, **arguments, **SIZES)
    data.setup()
    for inputs, labels in zip(data.tables["train"].inputs[:40, 0], data.tables["train"].labels[:40, 0], strict=True):
        layers = circuit(data, (inputs > 0).int().tolist())
        expected = []
        for states, weights in zip(layers, data.majorities, strict=False):
            for own in weights.tolist():
                votes = [w * (2 * state - 1) for w, state in zip(own, states, strict=True)]
                expected.append(1 if sum(votes) > 0 else -1)
        assert labels.tolist() == [*expected, 2 * layers[-1][0] - 1]
    size = arguments.get("majority_size", 3)
    assert all((np.count_nonzero(weights, axis=1) == size).all() for weights in data.majorities)


def test_neurons_are_balanced_and_differ() -> None:
    data = BrainDump(**{**SIZES, "n_train": 8000})
    data.setup()
    bits = (data.tables["train"].inputs[:, 0] > 0).to(torch.uint8).numpy()
    for states in data.neurons(bits):
        assert states.shape == (8000, 16)
        assert np.abs(states.mean(0) - 0.5).max() < 0.12
        signs = 2.0 * states - 1
        overlap = np.abs(signs.T @ signs / len(signs)) - np.eye(16)
        assert overlap.max() < 1
    assert data.levels == [1] * 60 + [2] * 60 + [3] * 60 + [4]


def test_a_smaller_share_is_a_part_of_a_larger() -> None:
    all_, some, none = (BrainDump(auxiliary_share=share, **SIZES) for share in (1.0, 0.25, 0.0))
    for data in (all_, some, none):
        data.setup()
    assert (all_.n_labels, some.n_labels, none.n_labels) == (181, 46, 1)
    whole, part = all_.tables["train"].labels[:, 0], some.tables["train"].labels[:, 0]
    kept = [layer * 60 + label for layer in range(3) for label in range(15)] + [180]
    assert torch.equal(whole[:, kept], part)
    assert torch.equal(whole[:, 180:], none.tables["train"].labels[:, 0])


def test_the_seed_decides() -> None:
    one, same, other = (BrainDump(data_seed=seed, **SIZES) for seed in (1, 1, 2))
    for data in (one, same, other):
        data.setup()
    assert torch.equal(one.tables["val"].labels, same.tables["val"].labels)
    assert not torch.equal(one.tables["val"].labels, other.tables["val"].labels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fan_in": 1}, r"^fan_in must be an integer in 2..10, got 1$"),
        ({"majority_size": 4}, r"^majority_size must be odd and at most width = 16, got 4$"),
        ({"n_inputs": 2, "auxiliary_share": 2}, r"^n_inputs must be .* >= 3, got 2; auxiliary_share must be .* got 2$"),
        ({"n_inputs": 3, "fan_in": 3, "width": 60}, r"^width must be small enough for a layer to be filled, got 60"),
    ],
)
def test_bad_arguments_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BrainDump(**change)
