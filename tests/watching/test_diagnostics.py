"""What fails and why: the signatures and causes as plain functions, and runs in which the true cause is known."""

import csv
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import hypothesis.strategies as st
import lightning as L
import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from processes import EXACT, JOINT, RUN, TWO, rows, run
from torch import Tensor

from hierlit.cli import main
from hierlit.cli.fit import HierlitCLI
from hierlit.data import ArrayHierarchy, JuntaHierarchy
from hierlit.data.base import numbered_names
from hierlit.layerwise.solvers import ExactSolver
from hierlit.models import GaussianFeatures, Window1d, Window2d
from hierlit.models.proximity import Identity
from hierlit.models.random_features import ACTIVATIONS
from hierlit.theory import expansion
from hierlit.training import LayerwiseTask
from hierlit.watching import Diagnostics
from hierlit.watching.diagnostics import DiagnosticWarning, Finding
from hierlit.watching.diagnostics.causes import (
    BLOCKS,
    DEPENDS,
    FEATURES,
    NOISE,
    REFUSED,
    ROWS,
    UNKNOWN,
    UNOBSERVED,
    WINDOW,
    RunSettings,
    explain,
)
from hierlit.watching.diagnostics.evidence import Evidence, Probes
from hierlit.watching.diagnostics.labels import needed_square, parents_of, polynomials, stuck
from hierlit.watching.diagnostics.probe import widened
from hierlit.watching.diagnostics.signatures import exploding_norm, missing_degree, narrow_window, single_label

CONFIGS = Path(__file__).parents[2] / "configs"
QUIET = [
    "--trainer.enable_progress_bar",
    "false",
    "--trainer.enable_model_summary",
    "false",
    "--trainer.accelerator",
    "cpu",
]
NO_FILES = ["--trainer.logger=false", "--trainer.enable_checkpointing=false"]
REMEDIES = {
    "coefficient norm exploding": ("exploding_norm", "--model.solver.alphas [1e-1]"),
    "bias variance too small for the degree": ("small_beta", "--model.features.beta 0.6"),
    "proximity window too narrow": ("narrow_window", "--model.proximity.size 3"),
    "single-label supervision": ("single_label", "--supervision.single_positive false"),
}
GOOD = {
    "quickstart": "--data.n_levels 3 --data.n_train 200 --model.n_blocks 4 --model.n_features 200",
    "juntas": "--data.n_train 3000 --model.n_blocks 4 --model.n_features 600",
    "exact": "--data.n_levels 4 --model.n_features 400",
    "life": "--data.n_levels 2 --data.n_train 60 --model.n_blocks 3 --model.n_features 300",
    "brain_dump": "--data.n_train 3000 --data.labels_per_layer 24 --model.n_blocks 3 --model.n_features 300",
    "random_hierarchy": "--data.n_train 800 --model.n_blocks 4 --model.n_features 400",
    "zero_margin_error": "",
}
QUICK = ("exact", "life", "random_hierarchy")


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def fit(config: str, *args: str) -> tuple[HierlitCLI, Diagnostics]:
    cli = main(["fit", "--config", str(CONFIGS / f"{config}.yaml"), *QUIET, *args])
    assert isinstance(cli, HierlitCLI)
    return cli, next(found for found in cli.trainer.callbacks if isinstance(found, Diagnostics))


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "unlearned.csv").open() as file:
        return list(csv.DictReader(file))


# signatures


@given(st.data(), st.integers(2, 5), st.integers(1, 6))
def test_one_positive_and_no_negative_is_single_label_supervision(data: st.DataObject, n: int, n_pairs: int) -> None:
    shown = data.draw(st.lists(st.integers(0, n), min_size=n_pairs, max_size=n_pairs))
    labels = torch.zeros(n_pairs, 1, n + 1)
    labels[range(n_pairs), 0, shown] = 1
    found = single_label(labels[..., :n].flatten(0, 1))
    assert (found is not None) == any(which < n for which in shown)
    assert found is None or f" in {sum(which < n for which in shown)} of {n_pairs} " in found.evidence
    labels[0, 0, :2] = 1
    assert single_label(labels[..., :n].flatten(0, 1)) is None
    labels[0, 0, :2] = torch.tensor([1.0, -1.0])
    assert single_label(labels[..., :n].flatten(0, 1)) is None


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8))
def test_classes_coded_one_hot_are_single_label_supervision(classes: list[int]) -> None:
    labels = 2 * torch.nn.functional.one_hot(torch.tensor(classes), 4)[:, None] - 1
    found = single_label(labels.flatten(0, 1))
    assert found is not None and "one-hot" in found.evidence
    labels[0] *= -1
    assert single_label(labels.flatten(0, 1)) is None


@given(st.integers(0, 6), st.sampled_from(sorted(ACTIVATIONS)), st.integers(0, 19), st.data())
def test_beta_named_as_the_remedy_is_one(degree: int, activation: str, beta: int, data: st.DataObject) -> None:
    bias = data.draw(st.sampled_from(["gaussian", "uniform_phase"] if activation == "cos" else ["gaussian"]))
    found = missing_degree(degree, activation, beta / 20, bias)
    if found is not None and (named := re.search(r"raise model.features.beta to (\S+)", found.remedy)):
        assert float(named[1]) > beta / 20
        assert missing_degree(degree, activation, float(named[1]), bias) is None


@pytest.mark.parametrize(
    ("degree", "activation", "beta", "remedy"),
    [
        (3, "relu", 0.0, "raise model.features.beta to"),  # without a bias, relu has no odd degree above 1
        (2, "relu", 0.0, None),
        (3, "relu", 0.5, None),
        (2, "tanh", 0.0, "raise model.features.beta to"),  # and tanh no even one
        (3, "tanh", 0.0, None),
        (0, "relu", 0.0, None),
    ],
)
def test_degrees_that_a_kernel_lacks(degree: int, activation: str, beta: float, remedy: str | None) -> None:
    found = missing_degree(degree, activation, beta, "gaussian")
    assert (found and found.remedy[: len(remedy or "")]) == remedy


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(1e-3, 1e3), st.floats(-1, 1)), min_size=1, max_size=6),
)
def test_norms_explode_where_they_are_too_large_and_do_harm(labels: list[tuple[float, float, float]]) -> None:
    squares, needed, rise = torch.tensor(labels, dtype=torch.float64).T
    found = exploding_norm(squares, needed, rise, 1, 10, "raise it", numbered_names(len(squares)))
    bad = [place for place, (own, least, harm) in enumerate(labels) if own > 10 * least and harm > 0.01]
    assert (found is not None) == bool(bad)
    assert found is None or f"{len(bad)} of {len(labels)} labels" in found.evidence


@pytest.mark.parametrize(("activation", "beta"), [("softplus", 0.5), ("relu", 0.5), ("relu", 0.3), ("tanh", 0.5)])
def test_a_product_needs_the_norm_that_random_features_take_for_it(activation: str, beta: float) -> None:
    """x₀x₁ at all 2^8 points by ridge regression on 8,000 features."""
    codes = torch.arange(256)[:, None] >> torch.arange(8)
    points = 2.0 * (codes & 1) - 1
    drawn = GaussianFeatures(beta, activation).first_layer(8, 8000, torch.Generator().manual_seed(0))
    features = torch.cat([tile.double() for tile in drawn.tiles(points)])
    gram, goal = features @ features.T, (points[:, 0] * points[:, 1]).double()
    weight = features.T @ torch.linalg.solve(gram + 8 * torch.eye(256), goal)
    needed = needed_square(None, expansion(activation, beta), 8.0)
    assert 0.85 < 8000 * float(weight.square().sum()) / needed < 1.1


@pytest.mark.parametrize(
    ("accuracy", "blocks", "found"),
    [
        ([[1.0, 0.5, 0.5]] * 3, 2, [1]),  # label 2 waits for label 1
        ([[0.5, 0.5, 0.5], [1.0, 0.5, 0.5]], 2, []),  # label 1 has had one block
        ([[1.0, 0.5, 0.5]] * 2, 2, []),
        ([[1.0, 0.5, 0.5], [1.0, 0.8, 0.5], [1.0, 0.5, 0.5]], 2, []),  # it moves
        ([[0.5, 0.5, 0.5]] * 2, 2, [0]),
        ([[0.5, 0.5, 0.5]], 2, []),
    ],
)
def test_labels_that_stay_at_chance_though_those_below_are_learned(
    accuracy: list[list[float]], blocks: int, found: list[int]
) -> None:
    tensors = [torch.tensor(values) for values in accuracy]
    assert stuck(tensors, torch.full((3,), 0.55), [1, 2, 3], 0.99, blocks) == found
    assert stuck(tensors, torch.full((3,), 0.55), None, 0.99, blocks) == []


def test_windows_that_explain_more() -> None:
    narrow, wide = torch.tensor([0.9, 0.95]), torch.tensor([0.1, 0.9])
    found = narrow_window([0, 1], narrow, wide, (1, 3), ["a", "b"])
    assert found is not None and "90% with windows of 1, 10% with 3" in found.evidence
    assert narrow_window([1], narrow, wide, (1, 3), ["a", "b"]) is None


def test_the_next_wider_windows() -> None:
    assert torch.equal(sets(widened(Window1d(3), 8)), sets(Window1d(5).table(8)))
    assert torch.equal(sets(widened(Identity(), 8)), sets(Window1d(3).table(8)))
    assert torch.equal(sets(widened(Window2d(4, 4, 1), 16)), sets(Window2d(4, 4, 3).table(16)))
    assert torch.equal(widened(Identity(), 8, periodic=False), Window1d(3, periodic=False).table(8))
    assert widened(Window1d(7), 8) is None


def sets(table: Tensor | None) -> Tensor:
    assert table is not None
    return table.sort(1).values


def test_polynomials_of_juntas() -> None:
    data = JuntaHierarchy(6, 1, 3, 3, "parity", n_train=10, n_val=10, n_test=10)
    assert [found and found.degree for found in polynomials(data)] == [3, 3, 3]


# causes

ONE = torch.ones(1, dtype=torch.float64)


def nothing(n: int = 1) -> Probes:
    """Probes of n labels, none of which changes anything."""
    zero, half = torch.zeros(n, dtype=torch.float64), torch.full((n,), 0.5, dtype=torch.float64)
    return Probes(zero, zero, half, half, half, half, half, half.repeat(2, 1), half, (20, 30), 5, 1.0)


KNOWN = Evidence(0.7 * ONE, ONE < 0, ONE, ONE < 0, nothing())
RUN_SETTINGS = RunSettings(n_blocks=3, n_features=20, window=3, n_rows=100, n_declared=3, names=numbered_names(8))


@pytest.mark.parametrize(
    ("probes", "cause", "setting"),
    [
        ({}, UNKNOWN, "none of these"),
        ({"next": 0.2}, BLOCKS, "raise model.n_blocks, now 3"),
        ({"features": 0.3}, FEATURES, "raise model.n_features, now 20"),
        ({"window": 0.1}, WINDOW, "widen model.proximity, now windows of 3"),
        ({"window": 0.45}, UNKNOWN, "none of these"),
        ({"half": 1.0}, ROWS, "raise data.n_train: 100 rows are fitted"),
        ({"half": 1.0, "features": 0.1}, FEATURES, "raise model.n_features, now 20"),
        ({"flips": 0.1, "explained": 0.9, "features": 0.48}, NOISE, "model.learned_accuracy: no more than 0.900"),
        ({"flips": 0.1, "explained": 0.3, "features": 0.48}, UNKNOWN, "none of these"),
        ({"flips": 0.1, "explained": 0.9, "features": 0.2}, FEATURES, "raise model.n_features, now 20"),
    ],
)
def test_causes_that_probes_tell(probes: dict[str, float], cause: str, setting: str) -> None:
    found = {name: value * ONE for name, value in probes.items()}
    if "features" in found:
        found["features"] = torch.stack([0.5 * ONE, found["features"]])
    tried = replace(nothing(), **found)
    (row,) = explain(replace(KNOWN, probes=tried), RUN_SETTINGS, [1], [[]], [None], [None])
    assert (row.cause, row.setting[: len(setting)]) == (cause, setting)


def test_causes_that_more_than_probes_tell() -> None:
    def cause(
        known: Evidence = KNOWN, run: RunSettings = RUN_SETTINGS, level: int = 1, lacks: Finding | None = None
    ) -> str:
        return explain(known, run, [level], [[]], [None], [lacks])[0].cause

    assert cause(replace(KNOWN, observed=0 * ONE)) == UNOBSERVED
    assert cause(run=replace(RUN_SETTINGS, no_negatives=True)) == UNOBSERVED
    assert cause(level=0) == NOISE
    assert cause(replace(KNOWN, refused=ONE > 0, probes=replace(nothing(), next=0.2 * ONE))) == REFUSED
    assert cause(replace(KNOWN, refused=ONE > 0)) == UNKNOWN
    assert cause(lacks=Finding("too small", "0 of it", "raise it")) == "too small"
    assert cause(replace(KNOWN, probes=None), replace(RUN_SETTINGS, n_declared=5)) == BLOCKS


@given(st.lists(st.booleans(), min_size=2, max_size=8))
@settings(deadline=None)
def test_a_label_waits_for_the_first_unlearned_one_below_it(learned: list[bool]) -> None:
    """Labels in a chain: all but the lowest of those not learned in a row wait, and have its setting."""
    n = len(learned)
    known = Evidence(torch.full((n,), 0.7), torch.tensor(learned), torch.ones(n), torch.zeros(n), nothing(n))
    found = explain(known, RUN_SETTINGS, list(range(1, n + 1)), [[], *([k] for k in range(n - 1))], [1] * n, [None] * n)
    own = [label for label in range(n) if not learned[label]]
    assert [row.label for row in found] == [f"y{label}" for label in own]
    for label, row in zip(own, found, strict=True):
        waits = label > 0 and not learned[label - 1]
        assert row.cause == (DEPENDS if waits else UNKNOWN)


def test_the_last_block_leaves_none_for_what_depends_on_it() -> None:
    known = Evidence(torch.full((2,), 0.7), torch.tensor([True, False]), torch.ones(2), torch.zeros(2))
    (row,) = explain(known, RUN_SETTINGS, [1, 2], [[], [0]], [3, None], [None, None])
    assert (row.cause, row.setting) == (BLOCKS, "raise model.n_blocks, now 3")


def test_what_labels_depend_on() -> None:
    data = JuntaHierarchy(6, 2, 3, 2, n_train=10, n_val=10, n_test=10)
    parents = parents_of(data)
    assert parents[:3] == [[], [], []]
    assert all(set(of_label) < {0, 1, 2} and len(of_label) == 2 for of_label in parents[3:])
    assert parents_of(ArrayHierarchy(np.ones((4, 2)), np.ones((4, 2)), levels=[1, 2])) == [[], [0]]
    assert parents_of(ArrayHierarchy(np.ones((4, 2)), np.ones((4, 2)))) == [[], []]


# runs


@pytest.mark.parametrize(
    "signature",
    [pytest.param(name, marks=[] if "window" in name or "bias" in name else pytest.mark.slow) for name in REMEDIES],
)
def test_each_signature_is_found_in_its_config_and_not_once_remedied(signature: str) -> None:
    name, remedy = REMEDIES[signature]
    with pytest.warns(DiagnosticWarning) as warned:
        _, bad = fit(f"diagnostics/{name}", *NO_FILES)
    assert [str(warning.message) for warning in warned if warning.category is DiagnosticWarning] == [
        str(found) for found in bad.findings
    ]
    assert [found.signature for found in bad.findings] == [signature]
    setting = remedy.split()[0].removeprefix("--").removesuffix(".size")
    assert setting in bad.findings[0].remedy
    assert fit(f"diagnostics/{name}", *NO_FILES, *remedy.split())[1].findings == []


@pytest.mark.parametrize(
    ("config", "is_small"),
    [
        pytest.param(config, is_small, marks=[] if is_small and config in QUICK else pytest.mark.slow)
        for config in GOOD
        for is_small in (True, False)
    ],
)
def test_good_runs_are_not_warned(config: str, is_small: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DiagnosticWarning)
        _, diagnostics = fit(config, *NO_FILES, *(GOOD[config].split() if is_small else []))
    assert diagnostics.findings == []


@pytest.mark.parametrize(
    "config", ["life", *(pytest.param(name, marks=pytest.mark.slow) for name in ("quickstart", "juntas"))]
)
def test_training_goes_on_to_the_bit(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels are left, so that blocks are tried, between blocks too where windows are."""
    args = [*NO_FILES, *GOOD[config].split(), "--model.n_features", "20"]
    args += ["--model.proximity.size", "1"] if config != "juntas" else []
    cli, diagnostics = fit(config, *args)
    assert diagnostics.unlearned
    monkeypatch.setattr(Diagnostics, "on_train_epoch_end", lambda *_: None)
    bare = fit(config, *args)[0].model.state_dict()
    assert all(torch.equal(value, bare[name]) for name, value in cli.model.state_dict().items())


@pytest.mark.parametrize(
    "truth",
    [NOISE, FEATURES, WINDOW, *(pytest.param(cause, marks=pytest.mark.slow) for cause in (BLOCKS, ROWS, UNOBSERVED))],
)
def test_causes_known_by_construction(truth: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(CONFIGS.parent))
    causes = import_module("benchmarks.causes")
    assert set(causes.named("automaton", causes.CASES[truth]["automaton"], 0)) == {truth}


def test_what_is_written_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    cli, diagnostics = fit("exact", "--data.n_levels", "4", "--model.n_features", "12", "--model.n_blocks", "3")
    printed = capsys.readouterr().out
    n_waiting = sum(row.cause == DEPENDS for row in diagnostics.unlearned)
    assert n_waiting and f"not learned: {len(diagnostics.unlearned)} of 4 labels (" in printed
    assert f"{DEPENDS}: {n_waiting}" in printed
    written = table(Path(cli.trainer.log_dir))
    assert [row["label"] for row in written] == [row.label for row in diagnostics.unlearned]
    for row in written:
        assert all(row.values())
        assert f"label {row['label']}, level {row['level']}, " in printed and row["setting"] in printed


def test_loggers(tmp_path: Path) -> None:
    few = ["--data.n_levels", "2", "--data.n_train", "50", "--model.n_blocks", "1", "--model.n_features", "20"]
    csv_logger = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "csv"}}
    board = {"class_path": "lightning.pytorch.loggers.TensorBoardLogger", "init_args": {"save_dir": "board"}}
    for name, loggers in {"none": False, "one": csv_logger, "two": [board, csv_logger]}.items():
        Path(f"{name}.yaml").write_text(yaml.safe_dump({"trainer": {"logger": loggers}}))
        cli, diagnostics = fit("exact", *few, "--config", f"{name}.yaml", "--trainer.enable_checkpointing", "false")
        assert diagnostics.unlearned
        found = [path.parent for path in tmp_path.rglob("unlearned.csv")]
        assert found == ([] if name == "none" else [Path(cli.trainer.log_dir).absolute()])
        for folder in found:
            (folder / "unlearned.csv").unlink()


def test_labels_of_no_known_level(
    xors: Callable[..., ArrayHierarchy], fit: Callable[..., L.Trainer], tmp_path: Path
) -> None:
    data, diagnostics = xors(400), Diagnostics()
    data.setup()
    task = LayerwiseTask(data.n_inputs, data.n_labels, 1, n_blocks=2, n_features=8)
    fit(task, data, diagnostics)
    assert diagnostics.unlearned
    assert {row.cause for row in diagnostics.unlearned} <= {FEATURES, BLOCKS}
    assert {row.level for row in diagnostics.unlearned} == {""}
    assert not list(tmp_path.iterdir())


def test_losses_are_those_of_the_fit_whatever_was_fitted_before(
    xors: Callable[..., ArrayHierarchy], fit: Callable[..., L.Trainer]
) -> None:
    diagnostics = Diagnostics()
    for seed in range(2):
        data = xors(400, seed=seed)
        data.setup()
        task = LayerwiseTask(data.n_inputs, data.n_labels, 1, n_blocks=3, n_features=30, solver=ExactSolver())
        fit(task, data, diagnostics, acceptance="strict")
        scores, rows = task(data.tables["train"].inputs[data.held_rows]), data.tables["train"].labels[data.held_rows]
        expected = task.loss(scores, rows).sum((0, 1)).double()
        torch.testing.assert_close(diagnostics.state_dict()["losses"], expected, rtol=1e-5, atol=1e-5)
        assert len(diagnostics.state_dict()["accuracy"]) == task.block


def test_a_run_cut_short_and_gone_on_with_explains_as_a_whole_one(tmp_path: Path) -> None:
    args = ["--data.n_levels", "3", "--data.n_train", "100", "--model.proximity.size", "1", "--model.n_features", "100"]
    args += ["--model.n_blocks", "4", *QUIET]
    _, whole = fit("exact", *args, "--trainer.default_root_dir", "whole")
    _, part = fit("exact", *args, "--trainer.max_epochs", "1")
    assert part.unlearned[0].cause == BLOCKS and "trainer.max_epochs" in part.unlearned[0].setting
    cli, rest = fit("exact", *args, "--ckpt_path", "last")
    assert rest.unlearned == whole.unlearned
    assert [*part.findings, *rest.findings] == whole.findings and whole.findings
    written = (Path(cli.trainer.log_dir) / "unlearned.csv").read_text()
    cli, over = fit("exact", *args, "--ckpt_path", "last")
    assert over.unlearned == [] and (Path(cli.trainer.log_dir) / "unlearned.csv").read_text() == written


@pytest.mark.slow
@pytest.mark.parametrize("solver", [EXACT, JOINT], ids=["exact", "joint"])
def test_two_processes_explain(solver: list[str], tmp_path: Path) -> None:
    args = [*RUN, *solver, *TWO, "--model.n_features", "12", "--model.proximity.size", "1"]
    printed = run(tmp_path, *args, "--trainer.enable_progress_bar", "false")
    written = rows(tmp_path, "unlearned.csv")
    assert len(written) == 3 and printed.count("not learned: 3 of 3 labels") == 1
    assert UNKNOWN not in {row["cause"] for row in written}
