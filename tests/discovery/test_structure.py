"""What labels say of one another: implications, exclusions, functions, levels, and what a table cannot decide."""

from __future__ import annotations

import re
from math import comb
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.stats import hypergeom

from hierlit import (
    CellularAutomaton,
    HierarchicalClassifier,
    JuntaHierarchy,
    LabelTable,
    RandomHierarchyModel,
    ThresholdHierarchy,
    TreeWindows,
    Window1d,
)
from hierlit.cli import main
from hierlit.data import Supervision
from hierlit.discovery import DiscoverOptions, StructureOptions, discover_structure, label_structure, violations
from hierlit.discovery.structure import EdgesFound, LabelColumns
from hierlit.discovery.structure.counts import PairCounts, adjusted, cutoff, log_tail
from hierlit.discovery.structure.functions import LabelFunction, log2_choose, named, saved_bits
from hierlit.discovery.structure.implications import find_implications

QUICK = StructureOptions(resamples=3)
BARE = StructureOptions(resamples=0, null=False)


def tree(n_rows: int = 400, seed: int = 0) -> pd.DataFrame:
    """Six leaves of two parents below one root; not all rows are below the root, which has rows of its own."""
    draws = np.random.default_rng(seed)
    leaves = pd.DataFrame(draws.random((n_rows, 6)) < 0.12, columns=[f"{p}/{c}" for p in "ab" for c in "123"])
    table = leaves.assign(a=leaves.filter(like="a/").any(axis=1), b=leaves.filter(like="b/").any(axis=1))
    table["top"] = table["a"] | table["b"] | (draws.random(n_rows) < 0.2)
    return table[["top", "a", "b", *leaves.columns]].astype(int)


TREE = {("top", "a"), ("top", "b"), *((p, f"{p}/{c}") for p in "ab" for c in "123")}


def test_a_tree_is_found_to_the_edge_with_its_unions_and_nothing_in_its_shuffled_columns() -> None:
    found = label_structure(tree(), QUICK)
    assert set(found.edges) == TREE
    labels = found.label_table().set_index("label")
    assert labels.loc["a", "function"] == "a/1 or a/2 or a/3" and labels.loc["b", "function"] == "b/1 or b/2 or b/3"
    assert labels.loc["top", "function"] == "" and 0.5 < labels.loc["top", "covered_by_children"] < 1
    assert labels.loc["a", "covered_by_children"] == 1
    assert found.levels == [1, 2, 2, 1, 1, 1, 1, 1, 1] and found.depths == [1, 2, 2, 3, 3, 3, 3, 3, 3]
    assert found.null == {"implications": 0, "exclusions": 0, "functions": 0, "rules": 0}


def test_edges_say_what_speaks_for_them() -> None:
    table = tree()
    edges = label_structure(table, QUICK).edge_table().set_index(["label", "other"])
    edge = edges.loc[("a/1", "a")]
    with_child = int(table["a/1"].sum())
    assert edge["support"] == with_child and edge["exceptions"] == edge["left_out_exceptions"] == 0
    n, of_parent = len(table), int(table["a"].sum())
    assert edge["p"] == pytest.approx(comb(of_parent, with_child) / comb(n, with_child))
    assert edge["found_in_resamples"] == 1 and edge["left_out_support"] > 0
    assert edge["left_out_effect"] == pytest.approx(1 - of_parent / n, abs=0.1)
    assert edges.loc[("a/1", "top"), "is_edge"] == False  # noqa: E712
    assert (edges["q"] >= edges["p"]).all() and (edges["q"] <= 0.05).all()


def test_the_same_labels_in_any_form() -> None:
    table = tree()
    expected = label_structure(table, BARE).edges
    assert label_structure(table.astype(bool), BARE).edges == expected
    assert label_structure(csr_matrix(table.to_numpy()), BARE, names=list(table)).edges == expected
    assert label_structure(2 * table.to_numpy()[:, None] - 1, BARE, names=list(table)).edges == expected


def test_missing_entries_are_no_evidence() -> None:
    table = tree(1500).astype(float)
    hidden = table.mask(np.random.default_rng(1).random(table.shape) < 0.2)
    assert set(label_structure(hidden, BARE).edges) == TREE
    nothing = table.assign(a=np.nan)
    found = label_structure(nothing, BARE)
    assert not any("a" in edge for edge in found.edges)
    assert found.label_table().set_index("label").loc["a", "note"] == "never observed"


def test_exceptions_are_allowed_at_the_rate_that_is_stated() -> None:
    table = tree(1500)
    wrong = table.copy()
    with_child = np.flatnonzero(table["a/1"])
    wrong.iloc[with_child[: len(with_child) // 20], wrong.columns.get_loc("a")] = 0
    assert ("a", "a/1") not in label_structure(wrong, BARE).edges
    found = label_structure(wrong, StructureOptions(exceptions=0.06, resamples=0, null=False))
    assert ("a", "a/1") in found.edges
    listed = found.violations()
    assert set(listed.loc[(listed["label"] == "a/1") & (listed["lacks"] == "a"), "row"]) == set(
        with_child[: len(with_child) // 20].tolist()
    )


def test_labels_that_cannot_be_told_apart_are_one() -> None:
    table = tree().assign(copy=lambda t: t["a"], never=0, always=1)
    found = label_structure(table, BARE)
    labels = found.label_table().set_index("label")
    assert labels.loc["copy", "same_as"] == "a" and labels.loc["copy", "level"] == labels.loc["a", "level"]
    assert labels.loc["never", "note"] == "never 1" and "every label implies it" in labels.loc["always", "note"]
    assert set(found.edges) == TREE


def test_exclusions_are_the_broadest_and_classes_a_group() -> None:
    draws = np.random.default_rng(0)
    kind = draws.integers(3, size=600)
    table = pd.DataFrame({name: (kind == number).astype(int) for number, name in enumerate("xyz")})
    table["x1"] = table["x"] * (draws.random(600) < 0.5)
    found = label_structure(table, BARE)
    edges = found.edge_table()
    excluded = edges.loc[edges["relation"] == "excludes", ["label", "other"]].to_numpy().tolist()
    assert excluded == [["x", "y"], ["x", "z"], ["y", "z"]], "x1 excludes y because x does"
    assert found.groups == [[0, 1, 2]] and found.edges == [("x", "x1")]
    assert found.label_table()["function"].eq("").all(), "classes do not explain one another"


@pytest.mark.parametrize("miss", [0.0, 0.2])
@pytest.mark.parametrize("flips", [0.0, 0.05])
def test_functions_under_flipped_and_missing_entries(flips: float, miss: float) -> None:
    draws = np.random.default_rng(3)
    x = draws.random((1500, 6)) < 0.5
    y = np.stack([x[:, 0] ^ x[:, 1], x[:, :3].sum(1) >= 2, x[:, 3] | (x[:, 4] & ~x[:, 5])], 1)
    table = pd.DataFrame(np.concatenate([x, y], 1), columns=[*"uvwabc", "xor", "majority", "nested"]).astype(float)
    table = (table - (draws.random(table.shape) < flips)).abs().mask(draws.random(table.shape) < miss)
    found = label_structure(table, StructureOptions(exceptions=flips, resamples=0, null=False))
    labels = found.label_table().set_index("label")
    assert labels["level"].tolist() == [1] * 6 + [2] * 3
    assert labels.loc["xor", "function"] == "(u xor v)" and labels.loc["xor", "is_reversible"]
    assert labels.loc["majority", "function"] == "at least 2 of u, v, w"
    assert set(next(own for own in found.readings if own.label == 8 and own.is_kept).parents) == {3, 4, 5}


SYNTHETIC = {
    "tree": lambda seed: JuntaHierarchy(
        n_inputs=8, n_levels=3, wiring="tree", n_train=160, n_val=40, n_test=40, data_seed=seed
    ),
    "juntas": lambda seed: JuntaHierarchy(
        n_inputs=8, n_levels=2, labels_per_level=4, n_train=150, n_val=40, n_test=40, data_seed=seed
    ),
    "thresholds": lambda seed: ThresholdHierarchy(
        n_inputs=18, n_levels=2, coefficient_norm=2.5, wiring="tree", n_train=200, n_val=40, n_test=40, data_seed=seed
    ),
    "automaton": lambda seed: CellularAutomaton(
        rule=110, n_levels=3, n_cells=16, n_train=100, n_val=40, n_test=40, data_seed=seed
    ),
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("flips", "observed"), [(0.0, 0.8), (0.05, 1.0), (0.05, 0.8)])
def test_parities_that_hold_as_well_are_read_the_same_way_whatever_is_missing_or_wrong(
    flips: float, observed: float, seed: int
) -> None:
    data = JuntaHierarchy(n_inputs=8, n_levels=2, labels_per_level=3, n_train=200, n_val=40, n_test=40, data_seed=seed)
    options = DiscoverOptions(structure=StructureOptions(exceptions=flips, resamples=0, null=False))
    found, _ = discover_structure(Supervision(data, observed=observed, flip_probability=flips), options)
    assert found.levels == data.levels
    kept = {own.label: sorted(own.parents) for own in found.readings if own.is_kept}
    assert [kept.get(label, []) for label in range(data.n_labels)] == [sorted(own) for own in data.parent_labels or []]


@pytest.mark.parametrize("observed", [1.0, 0.8])
def test_classes_of_which_some_are_wrong_are_a_group_all_the_same(observed: float) -> None:
    draws = np.random.default_rng(0)
    kinds = {"xyz": draws.integers(3, size=2000), "abcde": draws.integers(5, size=2000)}
    table = pd.DataFrame(
        {name: (kind == number) * 1.0 for names, kind in kinds.items() for number, name in enumerate(names)}
    )
    table["coin"], table["other"] = draws.integers(2, size=(2, 2000))
    table = (table - (draws.random(table.shape) < 0.05)).abs().mask(draws.random(table.shape) > observed)
    found = label_structure(table, StructureOptions(exceptions=0.05, resamples=0, null=False))
    assert found.groups == [[0, 1, 2], [3, 4, 5, 6, 7]]
    assert label_structure(table, StructureOptions(exceptions=0.005, resamples=0, null=False)).groups == []


@pytest.mark.parametrize("flips", [0.0, 0.01])
def test_classes_and_classes_of_classes_are_two_groups(flips: float) -> None:
    draws = np.random.default_rng(0)
    kind = draws.integers(6, size=1000)
    leaves = kind[:, None] == np.arange(6)
    table = np.concatenate([leaves, leaves[:, 0::2] | leaves[:, 1::2]], 1) ^ (draws.random((1000, 9)) < flips)
    found = label_structure(table.astype(int), StructureOptions(exceptions=flips, resamples=0, null=False))
    assert found.groups == [[0, 1, 2, 3, 4, 5], [6, 7, 8]]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", list(SYNTHETIC))
def test_levels_and_parents_of_hierarchies_by_their_labels_alone(name: str, seed: int) -> None:
    data = SYNTHETIC[name](seed)
    window = Window1d(3) if name == "automaton" else None
    found, judged = discover_structure(data, DiscoverOptions(structure=BARE), window)
    assert found.levels == data.levels and judged is None
    kept = {own.label: sorted(own.parents) for own in found.readings if own.is_kept}
    assert [kept.get(label, []) for label in range(data.n_labels)] == [sorted(own) for own in data.parent_labels or []]


def test_symbols_of_a_random_hierarchy_are_functions_of_those_below() -> None:
    data = RandomHierarchyModel(n_symbols=4, n_classes=3, n_synonyms=2, n_levels=2, n_train=50, n_val=20, n_test=20)
    found, _ = discover_structure(data, DiscoverOptions(structure=BARE), TreeWindows(n_levels=2))
    assert found.groups == [[0, 1, 2, 3], [4, 5, 6]] and found.levels == data.levels
    assert found.counts.weight < 0.3, "the leaves of a tree have their labels in common"


def test_shuffled_columns_have_no_structure() -> None:
    columns = LabelColumns.of(tree())
    found = 0
    for seed in range(10):
        shuffled = label_structure(columns.shuffled(np.random.default_rng(seed)), BARE)
        found += bool(len(shuffled.implications.child) or len(shuffled.implications.excluded) or shuffled.readings)
    assert found <= 2, "one of 20 is expected at most"
    assert (columns.shuffled(np.random.default_rng(0)).positive.sum(0) == columns.positive.sum(0)).all()


def test_rows_of_one_example_are_no_independent_evidence() -> None:
    table = tree(40).to_numpy()
    repeated = np.repeat(table[:, None], 30, axis=1)
    alone, together = (PairCounts(LabelColumns.of(labels)) for labels in (table, repeated))
    assert together.weight == pytest.approx(1 / 30)
    pairs = np.array([3]), np.array([1])
    assert together.log_p_implied(*pairs) == pytest.approx(alone.log_p_implied(*pairs))


def test_violations_of_a_hierarchy_that_people_wrote() -> None:
    table = pd.DataFrame({"01": [1, 0, 1, 0], "01/01": [1, 1, 0, np.nan], "01/01/03": [1, 1, 1, 1]})
    listed = violations(table, [("01", "01/01"), ("01/01", "01/01/03"), ("02", "02/01")])
    assert listed.to_numpy().tolist() == [[1, "01/01", "01"], [2, "01/01/03", "01/01"]]


def test_agreement_with_a_known_hierarchy_counts_apart_what_a_table_cannot_show() -> None:
    table = tree().assign(copy=lambda t: t["a"], always=1)
    place = {name: number for number, name in enumerate(table)}
    found = label_structure(table, BARE)
    known = [(place[p], place[c]) for p, c in (*TREE, ("copy", "a"), ("always", "top"), ("top", "a/1"))]
    judged = EdgesFound.of(found.counts, found.implications.stands_for.tolist(), found.implications.edges(), known)
    assert (judged.recall.right, judged.recall.of, judged.precision.of) == (8, 8, 8)
    assert judged.between_equal == 1 and judged.from_constant == 1


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.zeros(3), "and not empty, got ndarray of shape (3,)"),
        ("labels.csv", "and not empty, got str of shape ()"),
        (pd.DataFrame(np.ones((2, 2)), columns=["a", "a"]), "labels must have different names, two are called 'a'"),
        (np.full((4, 2), 2.0), "in {-1, 1} or {0, 1}, NaN = not observed, got 2"),
        (pd.DataFrame({"a": [1, 0], "b": ["x", "y"]}), "got values of 'b' that are no numbers"),
    ],
)
def test_what_is_no_table_of_labels_is_refused_in_one_line(labels: object, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        label_structure(labels)
    assert "\n" not in str(error.value)


def test_options_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match=r"exceptions must be a number in \[0, 0.25\), got 0.5"):
        StructureOptions(exceptions=0.5)


@given(st.integers(1, 60), st.data())
def test_the_tail_is_that_of_the_hypergeometric_distribution(seen: int, data: st.DataObject) -> None:
    marked, drawn = data.draw(st.integers(0, seen)), data.draw(st.integers(0, seen))
    most = data.draw(st.integers(0, drawn))
    expected = hypergeom.cdf(most, seen, seen - marked, drawn)
    assert np.exp(log_tail(seen, marked, drawn, most)) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_many_exceptions_are_bounded_from_above() -> None:
    found = log_tail(20_000, 12_000, 5_000, 1_900)
    assert hypergeom.logcdf(1_900, 20_000, 8_000, 5_000) <= found < -3


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=30))
def test_the_limit_is_that_of_benjamini_and_hochberg(p: list[float]) -> None:
    from scipy.stats import false_discovery_control

    np.testing.assert_allclose(adjusted(np.log(p), len(p)), false_discovery_control(p))
    assume(not np.isclose(false_discovery_control(p), 0.05, rtol=1e-12).any())  # a logarithm rounds
    passed = np.log(p) <= cutoff(np.log(p), len(p), 0.05)
    np.testing.assert_array_equal(passed, false_discovery_control(p) <= 0.05)


@settings(max_examples=50)
@given(st.integers(1, 4), st.data())
def test_a_named_function_has_the_values_of_its_table(size: int, data: st.DataObject) -> None:
    table = tuple(data.draw(st.lists(st.sampled_from([-1, 0, 1]), min_size=2**size, max_size=2**size)))
    bits = (np.arange(2**size)[:, None] >> np.arange(size) & 1).astype(np.int8)
    values = named(tuple(range(size)), table)(2 * bits - 1)
    assert ((values == table) | (np.array(table) == 0)).all()


def test_a_function_is_known_where_what_is_missing_does_not_matter() -> None:
    signs = np.array([[1, 0], [-1, 0], [0, -1], [-1, -1]], np.int8)
    assert LabelFunction((0, 1), (False, False), 1)(signs).tolist() == [1, 0, 0, -1]
    assert LabelFunction((0, 1), (False, True), 2)(signs).tolist() == [0, -1, 0, -1]


def test_saved_bits_are_those_of_two_codes() -> None:
    labels = np.array([1] * 5 + [-1] * 15, np.int8)
    bits, wrong, rows = saved_bits(labels, labels, 1.0)
    assert (wrong, rows) == (0, 20) and bits == pytest.approx(np.log2(comb(20, 5)) - np.log2(21))
    assert log2_choose(20, 5) == pytest.approx(np.log2(comb(20, 5)))


def test_resamples_agree_with_the_table_they_come_from() -> None:
    columns = LabelColumns.of(np.repeat(tree(50).to_numpy()[:, None], 3, axis=1))
    sample, rest = columns.resampled(np.random.default_rng(0))
    assert sample.n_examples == columns.n_examples and sample.n_rows == columns.n_rows
    assert 0.25 < rest.n_examples / columns.n_examples < 0.5
    assert len(find_implications(PairCounts(rest), 0.0, 0.05).stands_for) == columns.n_labels


def test_the_command_writes_tables_a_graph_and_a_hierarchy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tree().assign(x=np.arange(400) / 400).to_csv("t.csv", index=False)
    arguments = ["--data", "LabelTable", "--data.train_files", "t.csv", "--data.label_columns", "[top, a, b, a/*, b/*]"]
    main(["discover", *arguments, "--discover.view", "labels"])
    folder = Path("lightning_logs/discover/version_0")
    edges = pd.read_csv(folder / "hierarchy.csv")
    assert {tuple(edge) for edge in edges.to_numpy().tolist()} == TREE
    assert (folder / "structure.png").read_bytes().startswith(b"\x89PNG")
    assert "a/1 or a/2 or a/3" in (folder / "functions.csv").read_text()
    assert "Labels alone" in (folder / "report.html").read_text()
    printed = capsys.readouterr().out
    assert "2 of 9 labels are a function of others, up to level 2" in printed
    assert "p-values of implications and exclusions are of chance that keeps the frequency of each label" in printed
    assert "made by such chance: 0 implications, 0 exclusions, 0 functions, 0 rules" in printed


def test_a_table_without_inputs_beside_a_hierarchy_that_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    table = tree()
    table.loc[5, ["a", "a/1", "a/2"]] = 0, 1, 1
    table.to_csv("t.csv", index=False)
    pd.DataFrame(sorted(TREE), columns=["parent", "child"]).to_csv("h.csv", index=False)
    given = ["--data.label_columns", "*", "--data.hierarchy_file", "h.csv"]
    with pytest.warns(
        UserWarning, match="1 rows of train_files have a label without its parent .* row 5, a/1 without a"
    ):
        main(["discover", "--data", "LabelTable", "--data.train_files", "t.csv", *given, "--discover.view", "labels"])
    listed = pd.read_csv("lightning_logs/discover/version_0/violations.csv")
    assert listed.to_numpy().tolist() == [[5, "a/1", "a", "given"], [5, "a/2", "a", "given"]]
    printed = capsys.readouterr().out
    assert "known edges found: 0.750" in printed and "rows that have a label without its known parent: 1" in printed


def test_what_was_found_is_a_hierarchy_for_tables_and_the_estimator(tmp_path: Path) -> None:
    table, draws = tree(), np.random.default_rng(0)
    found = label_structure(table, BARE)
    found.hierarchy_table().to_csv(tmp_path / "h.csv", index=False)
    table.assign(x=draws.normal(size=len(table))).to_csv(tmp_path / "t.csv", index=False)
    data = LabelTable(
        tmp_path / "t.csv", label_columns=list(table), hierarchy_file=str(tmp_path / "h.csv"), levels="given"
    )
    assert data.levels == found.depths
    model = HierarchicalClassifier(n_blocks=1, n_features=20, hierarchy=found.edges, solver="exact")
    probabilities = model.fit(draws.normal(size=(len(table), 3)), table).predict_proba(draws.normal(size=(9, 3)))
    of_label = dict(zip(table, np.asarray(probabilities).T, strict=True))
    assert all((of_label[parent] >= of_label[child] - 1e-6).all() for parent, child in found.edges)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            "parent,child\na,nobody\n",
            "hierarchy_file must have edges between labels, got 'nobody'; labels are top, a, b",
        ),
        ("above,below\na,b\n", "it must have columns parent and child, got above, below"),
        ("parent,child\na,\n", "each line must have a parent and a child"),
        ("parent,child\na,b\nb,a\n", "a hierarchy must have no cycle"),
    ],
)
def test_a_hierarchy_that_is_none_is_refused_in_one_line(lines: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "h.csv").write_text(lines)
    tree().assign(x=1.5).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        LabelTable(
            tmp_path / "t.csv",
            label_columns=["top", "a", "b"],
            ignore_columns=["a/*", "b/*"],
            hierarchy_file=str(tmp_path / "h.csv"),
        ).setup()
    assert "\n" not in str(error.value)
