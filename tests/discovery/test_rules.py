"""Rules of three labels, and the constants of functions."""

from __future__ import annotations

from itertools import combinations, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import false_discovery_control, hypergeom

from hierlit.cli import main
from hierlit.discovery import StructureOptions, label_structure
from hierlit.discovery.structure.functions import LabelFunction, named
from hierlit.discovery.structure.report import sentences
from hierlit.theory import cube, least_norm_ptf, threshold_degree

BARE = StructureOptions(resamples=0, null=False)


def chain(n_rows: int = 800, seed: int = 0) -> pd.DataFrame:
    """Noise, a label that goes with one of two neighbours, one that two others imply, two that exclude a third."""
    draws = np.random.default_rng(seed)
    table = pd.DataFrame(draws.random((n_rows, 6)) < 0.4, columns=list("abcxyz"))
    table["or"] = (table["a"] | table["b"]) & (draws.random(n_rows) < 0.5)
    table["and"] = (table["x"] & table["y"]) | (draws.random(n_rows) < 0.3)
    table["none"] = ~(table["c"] & table["z"]) & (draws.random(n_rows) < 0.5)
    return table.astype(int)


def fewest(table: pd.DataFrame) -> int:
    """Rows of the two literals that are together least often, of "x and y imply and"."""
    literals = table["x"] == 1, table["y"] == 1, table["and"] == 0
    return min(int((one & other).sum()) for one, other in combinations(literals, 2))


def test_rules_of_three_labels_are_found_beyond_implications() -> None:
    found = label_structure(chain(), BARE)
    assert found.edge_table().empty
    rules = found.rule_table()
    assert set(rules["rule"]) == {"or implies a or b", "x and y imply and", "never c and z and none"}
    table = chain()
    own = rules.set_index("rule").loc["x and y imply and"]
    assert own["support"] == fewest(table) and own["exceptions"] == 0


def test_exceptions_and_missing_entries_of_rules() -> None:
    table = chain(2000).astype(float)
    both = table.index[(table["x"] == 1) & (table["y"] == 1)]
    table.loc[both[:6], "and"] = 0
    table = table.mask(np.random.default_rng(1).random(table.shape) < 0.1)
    assert "x and y imply and" not in set(label_structure(table, BARE).rule_table()["rule"])
    options = StructureOptions(exceptions=0.05, resamples=0, null=False)
    rules = label_structure(table, options).rule_table().set_index("rule")
    observed = table[["x", "y", "and"]].dropna()
    own = rules.loc["x and y imply and"]
    assert own["support"] == fewest(observed)
    assert own["exceptions"] == len(observed.query("x == 1 and y == 1 and `and` == 0")) > 0


def test_rules_are_those_of_an_exact_test_of_every_triple() -> None:
    table = chain(300, seed=3).to_numpy() > 0
    names, n = list(chain(1)), table.shape[1]
    p, texts = [], []
    for labels in combinations(range(n), 3):
        for signs in product((False, True), repeat=3):
            own = table[:, labels] == np.array(signs)
            one_p = 1.0
            if not own.all(1).any():
                one_p = max(
                    hypergeom.cdf(0, len(rows), rows[:, 0].sum(), rows[:, 1].sum())
                    for rows in (np.delete(own[own[:, axis]], axis, 1) for axis in range(3))
                )
            p.append(one_p)
            texts.append({(names[label], sign) for label, sign in zip(labels, signs, strict=True)})
    q = false_discovery_control(p)
    expected = [text for text, own in zip(texts, q, strict=True) if own <= 0.05]
    found = label_structure(pd.DataFrame(table.astype(int), columns=names), BARE)
    assert len(found.rules) == len(expected) > 0
    for rule in found.rules:
        literals = {(names[label], sign) for label, sign in zip(rule.labels, rule.signs, strict=True)}
        assert rule.q == pytest.approx(q[texts.index(literals)]) and literals in expected


def test_what_a_function_says_is_no_rule() -> None:
    draws = np.random.default_rng(0)
    table = pd.DataFrame(draws.random((400, 4)) < 0.5, columns=list("abcd")).astype(int)
    table["xor"] = table["a"] ^ table["b"]
    found = label_structure(table, BARE)
    assert found.function_table()["function"].str.contains("xor").any() and found.rule_table().empty


def test_rules_among_the_parents_of_a_function_are_found() -> None:
    table = np.random.default_rng(0).random((800, 7)) < 0.3
    table[:, 2] |= table[:, 0] & table[:, 1]
    table[:, 6] = table[:, :6].any(1)
    found = label_structure(table.astype(int), BARE)
    kept = found.function_table().query("is_kept")
    assert list(kept["label"]) == ["y6"] and list(found.rule_table()["rule"]) == ["y0 and y1 imply y2"]


def test_rules_of_long_tables_are_counted_in_all_rows() -> None:
    table = chain(45_000)
    rules = label_structure(table, BARE).rule_table().set_index("rule")
    assert rules.loc["x and y imply and", "support"] == fewest(table)
    table.loc[table.index[(table["x"] == 1) & (table["y"] == 1) & (table.index % 3 > 0)][:5], "and"] = 0
    assert "x and y imply and" not in set(label_structure(table, BARE).rule_table()["rule"])
    options = StructureOptions(exceptions=0.01, resamples=0, null=False)
    rules = label_structure(table, options).rule_table().set_index("rule")
    assert rules.loc["x and y imply and", "exceptions"] == 5


def test_rules_that_are_not_looked_for_are_not_counted() -> None:
    table = np.random.default_rng(0).random((50, 101)) < 0.5
    found = label_structure(table.astype(int), StructureOptions(resamples=0))
    assert found.null is not None and "rules" not in {**found.found, **found.null} and found.rule_table().empty
    assert not any("rules" in own for own in sentences(found))


@given(st.integers(1, 5), st.data())
@settings(max_examples=30, deadline=None)
def test_constants_of_counts_are_those_of_the_least_norm(size: int, data: st.DataObject) -> None:
    at_least = data.draw(st.integers(1, size))
    negated = tuple(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    function = LabelFunction(tuple(range(size)), negated, at_least)
    values = function(cube(size).astype(np.int8))
    degree, norm = function.constants
    assert degree == threshold_degree(values)
    assert norm == pytest.approx(least_norm_ptf(values, degree).norm, rel=1e-6)


def test_constants_of_tables() -> None:
    parity = named((0, 1, 2), (-1, 1, 1, -1, 1, -1, -1, 1))
    assert parity.kind == "parity" and parity.constants == (3, pytest.approx(1))
    unseen = named((0, 1), (-1, 1, 1, 0))
    assert unseen.kind == "or" and unseen.constants == (1, pytest.approx(3**0.5))


def test_functions_have_their_degree_and_norm_in_the_table() -> None:
    draws = np.random.default_rng(0)
    table = pd.DataFrame(draws.random((400, 5)) < 0.4, columns=list("abcde")).astype(int)
    table["majority"] = (table[["a", "b", "c"]].sum(axis=1) >= 2).astype(int)
    table["xor"] = table["d"] ^ table["e"]
    functions = label_structure(table, BARE).function_table().query("is_kept").set_index("kind")
    assert functions["degree"].to_dict() == {"majority": 1, "parity": 2}
    assert functions["norm"].to_dict() == {"majority": pytest.approx(3**0.5), "parity": pytest.approx(1)}


def test_the_command_says_which_margins_chance_keeps_and_writes_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    chain().assign(top=lambda t: t["a"] | (t["z"] & t["x"])).to_csv("t.csv", index=False)
    arguments = ["--data", "LabelTable", "--data.train_files", "t.csv", "--data.label_columns", "*"]
    main(["discover", *arguments, "--discover.view", "labels", "--discover.structure.margins", "both"])
    folder = Path("lightning_logs/discover/version_0")
    assert "x and y imply and" in set(pd.read_csv(folder / "rules.csv")["rule"])
    edges = pd.read_csv(folder / "implications.csv")
    assert list(edges["label"]) == ["a"] and set(edges["margins"]) == {"both"}
    said = "are of chance that keeps the frequency of each label and the number of labels of each row"
    report, printed = (folder / "report.html").read_text(), capsys.readouterr().out
    assert "functions and rules are tested against chance that keeps the frequency of each label alone" in printed
    assert said in printed and said in report and "rules of three labels" in printed and "x and y imply and" in report
    assert {"degree", "norm"} <= set(pd.read_csv(folder / "functions.csv").columns)
