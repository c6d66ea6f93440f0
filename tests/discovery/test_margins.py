"""Chance that keeps the number of labels of each row beside the frequency of each label."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kstest

from hierlit.discovery import StructureOptions, label_structure
from hierlit.discovery.structure import LabelColumns, table_by_chance
from hierlit.discovery.structure.counts import PairCounts
from hierlit.discovery.structure.implications import find_implications

Table = NDArray[np.bool_]
N_CHAINS, N_SWAPS = 600, 3000


def rasch(n_rows: int, n_labels: int, seed: int = 1) -> Table:
    """Labels that have nothing to do with one another, of rows with many and rows with few."""
    draws = np.random.default_rng(seed)
    logits = draws.normal(0, 1.5, n_rows)[:, None] + draws.normal(-0.5, 1, n_labels)
    return draws.random(logits.shape) < 1 / (1 + np.exp(-logits))


def swapped(table: Table, draws: np.random.Generator) -> Table:
    """Tables [C, R, n] with the same margins, by swaps of two rows and two labels (Ryser 1957)."""
    tables, of = np.repeat(table[None], N_CHAINS, 0), np.arange(N_CHAINS)
    for _ in range(N_SWAPS):
        (r, s), (c, d) = (draws.integers(size, size=(2, N_CHAINS)) for size in table.shape)
        a, b = tables[of, r, c], tables[of, r, d]
        can = (a != b) & (tables[of, s, c] == b) & (tables[of, s, d] == a)
        for row, column in ((r, c), (r, d), (s, c), (s, d)):
            tables[of[can], row[can], column[can]] ^= True
    return tables


def test_p_values_are_those_of_tables_with_the_same_margins() -> None:
    table, draws = rasch(60, 6), np.random.default_rng(0)
    n = table.shape[1]
    implied, excluded = np.ones((n, n)), np.ones((n, n))
    for label in range(n):
        others = np.delete(np.arange(n), label)
        own = table[:, label].astype(int)
        shared = np.einsum("r,crj->cj", own, swapped(table[:, others], draws).astype(int))
        implied[label, others] = (shared >= own @ table[:, others]).mean(0)
        excluded[label, others] = (shared <= own @ table[:, others]).mean(0)
    pairs = np.nonzero(~np.eye(n, dtype=bool))
    of_sizes, of_columns = (PairCounts(LabelColumns.of(table.astype(int)), kept) for kept in ("both", "columns"))
    for simulated, exact, naive in (
        (implied, of_sizes.log_p_implied(*pairs), of_columns.log_p_implied(*pairs)),
        (np.maximum(excluded, excluded.T), of_sizes.log_p_excluded(*pairs), of_columns.log_p_excluded(*pairs)),
    ):
        expected = simulated[pairs]
        told = expected > 0.02
        ratio = np.exp(exact)[told] / expected[told]
        assert told.sum() > 10 and 0.8 < np.median(ratio) < 1.2 and ratio.min() > 0.5 and ratio.max() < 2.5
        assert np.abs(np.log(ratio)).mean() < 0.5 * np.abs(naive[told] - np.log(expected[told])).mean()


def test_p_values_of_rows_that_all_have_as_many_labels_are_uniform() -> None:
    draws = np.random.default_rng(0)
    table = np.zeros((2000, 12), int)
    for row in table:
        row[draws.choice(12, size=4, replace=False)] = 1
    pairs = np.triu_indices(12, 1)
    of_sizes, of_columns = (PairCounts(LabelColumns.of(table), kept) for kept in ("both", "columns"))
    p = np.exp(of_sizes.log_p_excluded(*pairs))
    assert kstest(p, "uniform").pvalue > 0.01
    assert kstest(np.exp(of_columns.log_p_excluded(*pairs)), "uniform").pvalue < 1e-6, "four exclude eight others"


def test_a_table_by_chance_keeps_both_margins_and_what_is_not_observed() -> None:
    draws = np.random.default_rng(0)
    table = np.where(draws.random((300, 12)) < 0.2, np.nan, rasch(300, 12))
    columns = LabelColumns.of(table)
    made = table_by_chance(columns, "both", seed=0)
    for axis in (0, 1):
        assert (made.positive.sum(axis) == columns.positive.sum(axis)).all()
    assert made.positive.max() == 1 and made.positive.multiply(columns.hidden).sum() == 0
    assert (made.hidden != columns.hidden).nnz == 0
    kept = made.positive.multiply(columns.positive).sum() / columns.positive.sum()
    again = table_by_chance(made, "both", seed=1).positive.multiply(columns.positive).sum() / columns.positive.sum()
    assert kept == pytest.approx(again, abs=0.05) and kept < 0.7, "more trades forget no more"


def test_rows_with_many_labels_are_no_relation_of_labels() -> None:
    draws = np.random.default_rng(0)
    is_full = draws.random(1500) < 0.02
    table = (draws.random((1500, 30)) < np.where(is_full, 0.8, 0.03)[:, None]).astype(int)
    table[:, 1] = table[:, 0] | (draws.random(1500) < 0.1)
    columns = LabelColumns.of(table)
    of_sizes, of_columns = (PairCounts(columns, kept) for kept in ("both", "columns"))
    assert find_implications(of_sizes, 0.0, 0.05).edges() == {(1, 0)}
    pairs = np.nonzero(~np.eye(28, dtype=bool))
    others = pairs[0] + 2, pairs[1] + 2
    assert (of_columns.log_p_implied(*others) < np.log(1e-6)).all()
    assert (of_sizes.log_p_implied(*others) < np.log(0.05)).mean() < 0.07


@pytest.mark.filterwarnings("error")
def test_labels_never_observed_together_exclude_nothing() -> None:
    table = np.random.default_rng(0).choice([0.0, 1.0], (400, 6))
    table[:200, :2], table[200:, 2:4] = np.nan, np.nan
    found = label_structure(table, StructureOptions(margins="both", resamples=0, null=False))
    assert found.edge_table().empty


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [0, 1])
def test_labels_that_never_vary_say_nothing(value: int) -> None:
    found = label_structure(np.full((50, 4), value), StructureOptions(margins="both", resamples=0))
    assert found.edge_table().empty and found.rule_table().empty
