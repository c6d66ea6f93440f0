"""The random hierarchy model against its description, written out again."""

from itertools import product

import numpy as np
import pytest
import torch

from hierlit.data import RandomHierarchyModel
from hierlit.models import TreeWindows

SIZES = {"n_train": 60, "n_val": 10, "n_test": 10}


def all_data(data: RandomHierarchyModel) -> set[tuple[int, ...]]:
    """The leaves of every derivation."""

    def expand(symbol: int, level: int) -> list[tuple[int, ...]]:
        if level == 0:
            return [(symbol,)]
        found = []
        for tuple_ in data.rules[data.n_levels - level][symbol].tolist():
            parts = [expand(child, level - 1) for child in tuple_]
            found += [sum(chosen, ()) for chosen in product(*parts)]
        return found

    every = [leaves for label in range(data.n_classes) for leaves in expand(label, data.n_levels)]
    assert len(every) == len(set(every))  # no datum has two derivations, so none has two classes
    return set(every)


@pytest.mark.parametrize(
    ("v", "n_c", "m", "s", "levels"), [(3, 2, 2, 2, 2), (4, 4, 3, 2, 2), (2, 2, 2, 3, 2), (3, 3, 2, 2, 3)]
)
def test_there_are_as_many_data_as_the_formula_says(v: int, n_c: int, m: int, s: int, levels: int) -> None:
    data = RandomHierarchyModel(v, n_c, m, s, levels, **SIZES)
    assert len(all_data(data)) == data.n_data == n_c * m ** ((s**levels - 1) // (s - 1))


@pytest.mark.parametrize("seed", range(5))
def test_synonyms_are_disjoint(seed: int) -> None:
    data = RandomHierarchyModel(data_seed=seed, **SIZES)
    assert len(data.rules) == 3
    for rules in data.rules:
        tuples = rules.reshape(-1, 2)
        assert len(np.unique(tuples, axis=0)) == len(tuples)
        assert tuples.min() >= 0 and tuples.max() < 8


def parse(data: RandomHierarchyModel, leaves: list[int]) -> list[list[int]]:
    """The symbols of every level above the leaves, from the bottom, by looking tuples up."""
    levels, s = [], data.n_children
    for rules in data.rules[::-1]:
        of_tuple = {tuple(t): symbol for symbol, tuples in enumerate(rules.tolist()) for t in tuples}
        leaves = [of_tuple[tuple(leaves[i : i + s])] for i in range(0, len(leaves), s)]
        levels.append(leaves)
    return levels


@pytest.mark.parametrize(("s", "levels", "m"), [(2, 3, 3), (3, 2, 4)])
def test_labels_are_the_ancestors_symbols(s: int, levels: int, m: int) -> None:
    data = RandomHierarchyModel(5, 4, m, s, levels, **SIZES)
    data.setup()
    assert data.n_labels == 5 * (levels - 1) + 4
    assert data.levels == [level for level in range(1, levels) for _ in range(5)] + [levels] * 4
    for table in data.tables.values():
        for inputs, labels in zip(table.inputs[:20], table.labels[:20], strict=True):
            leaves = inputs.argmax(1).tolist()
            assert (inputs > 0).sum(1).eq(1).all()
            for level, symbols in enumerate(parse(data, leaves)):
                own = labels[:, 5 * level : 5 * level + (5 if level < levels - 1 else 4)]
                assert (own > 0).sum(1).eq(1).all()
                assert own.argmax(1).tolist() == [symbols[leaf // s ** (level + 1)] for leaf in range(s**levels)]


def test_the_flat_variant_has_the_same_data_and_the_class_alone() -> None:
    deep, flat = RandomHierarchyModel(**SIZES), RandomHierarchyModel(flat=True, **SIZES)
    deep.setup()
    flat.setup()
    assert (flat.n_locations, flat.n_inputs, flat.n_labels, flat.levels) == (1, 64, 8, [3] * 8)
    for split in ("train", "test"):
        assert torch.equal(deep.tables[split].inputs.flatten(1), flat.tables[split].inputs.flatten(1))
        assert torch.equal(deep.tables[split].labels[:, :1, -8:], flat.tables[split].labels)


@pytest.mark.parametrize("n_train", [30, 100])
def test_splits_never_share_a_datum(n_train: int) -> None:
    data = RandomHierarchyModel(3, 2, 2, 2, 3, n_train=n_train, n_val=20, n_test=20)  # of 256
    data.setup()
    leaves = torch.cat([table.inputs.flatten(1) for table in data.tables.values()])
    assert len(leaves.unique(dim=0)) == n_train + 40


def test_too_few_data_repeat_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="80 rows were asked for, but there are only 16 data"):
        RandomHierarchyModel(3, 2, 2, 2, 2, **SIZES).setup()


def test_symbols_are_as_likely_as_their_places_in_the_rules() -> None:
    data = RandomHierarchyModel(n_train=4000)
    data.setup()
    shares = (data.tables["train"].labels > 0).double().mean((0, 1)).view(3, 8)
    expected = np.full(8, 1 / 8)
    for level, rules in zip((2, 1, 0), data.rules, strict=True):
        assert np.abs(shares[level].numpy() - expected).max() < 0.02
        expected = np.bincount(rules.ravel(), np.repeat(expected / 8, 8), minlength=8)  # of a symbol's 4 pairs


def test_the_seed_decides() -> None:
    one, same, other = (RandomHierarchyModel(data_seed=seed, **SIZES) for seed in (1, 1, 2))
    for data in (one, same, other):
        data.setup()
    assert torch.equal(one.tables["val"].labels, same.tables["val"].labels)
    assert not torch.equal(one.tables["val"].labels, other.tables["val"].labels)


@pytest.mark.parametrize(("s", "levels"), [(2, 1), (2, 3), (3, 2)])
def test_windows_show_one_leaf_of_each_sibling_subtree(s: int, levels: int) -> None:
    table = TreeWindows(s, levels).table(s**levels)
    for leaf in range(s**levels):
        expected = []
        for level in range(1, levels + 1):
            first = leaf - leaf % s**level  # the ancestor's leaves begin here
            expected += [first + child * s ** (level - 1) for child in range(s)]
        assert table[leaf].tolist() == expected


@pytest.mark.parametrize("levels", [1, 2])
def test_labels_are_told_as_functions_of_the_level_below(levels: int) -> None:
    data = RandomHierarchyModel(4, 3, 2, 2, levels, **SIZES)
    for label, level in enumerate(data.levels):
        points, values = data.label_function(label)
        n_symbols = 3 if level == levels else 4
        assert points.shape == (2 * n_symbols, 8) and (values == 1).sum() == 2
        own = {tuple(pair) for pair in data.rules[levels - level][label - data.levels.index(level)].tolist()}
        assert {tuple(np.flatnonzero(point == 1) - (0, 4)) for point in points[values == 1]} == own
    assert RandomHierarchyModel(9, 9, 4, 2, 3).label_function(0) is None
    assert RandomHierarchyModel(4, 3, 2, 2, 2, flat=True).label_function(0) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_synonyms": 9}, r"^n_synonyms must be at most 8, so that 64 tuples are enough, got 9$"),
        ({"n_symbols": 1, "n_levels": 0}, r"^n_symbols must be an integer >= 2, got 1; n_levels must be .* got 0$"),
        ({"n_children": 8}, r"^n_children must leave at most 1048576 tuples of n_symbols = 8, got 8$"),
        ({"n_levels": 64}, r"^n_levels must leave at most 65536 leaves of n_children = 2, got 64$"),
        ({"flat": "no"}, r"^flat must be true or false, got 'no'$"),
    ],
)
def test_bad_arguments_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandomHierarchyModel(**change)


def test_windows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"n_children\^n_levels = 2\^3 = 8 must be n_locations = 9"):
        TreeWindows(2, 3).table(9)
    with pytest.raises(ValueError, match=r"^n_children must be an integer >= 2, got '2'; n_levels must .* got 1.5$"):
        TreeWindows("2", 1.5)
