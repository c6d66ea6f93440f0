"""The command line, through its one door `main`, as a person would use it."""

import csv
import re
import sys
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hierlit.cli import main
from hierlit.files.checkpoints import CheckpointFiles, find_checkpoint, read_checkpoint
from hierlit.models import CosineFeatures, Features, GaussianFeatures

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "tests" / "conf").glob("*.yaml"))
FITTED = ("automaton", "brain_dump", "exact", "exact_juntas", "tree")
"""Those that quick tests of other files fit too."""
SMALL = str(ROOT / "tests" / "conf" / "automaton.yaml")
GRADIENT = ["--model.solver", "GradientSolver", "--model.solver.optimizer", "torch.optim.SGD"]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def table(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if line.startswith("│") and line.count("│") == 8]


def fail(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    with pytest.raises(SystemExit) as exit_info:
        main(list(args))
    assert exit_info.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        (
            "data: LabelTable\n\tmodel: {}",
            ", line 2, column 1 is not YAML: found character '\\t' that cannot start any token",
        ),
        ("data: {class_path: *some}", ", line 1, column 20 is not YAML: found undefined alias 'some'"),
        ("a,b\n1,2", " is not a config, which has sections such as data and model"),
        ("", " is not a config, which has sections such as data and model"),
        ("data: LabelTable\nmodel:\n", " has nothing in its section model; take the line out, or fill it"),
        (None, "; those that come with hierlit are brain_dump, deep, exact, "),
    ],
)
def test_a_config_that_cannot_be_one_is_refused_in_one_line(
    text: str | None, rest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        Path("own.yaml").write_text(text)
    line = fail(capsys, "fit", "--config", "own.yaml")
    assert line.startswith(f"error: config: {'own.yaml' if text is not None else 'there is no file own.yaml'}{rest}")


@pytest.mark.parametrize(
    "config",
    [pytest.param(path, marks=pytest.mark.slow if path.stem in FITTED else [], id=path.stem) for path in CONFIGS],
)
def test_every_test_config_fits(config: Path, own_folder: Path) -> None:
    main(["fit", "--config", str(config)])
    blocks = rows(own_folder / "lightning_logs" / "version_0" / "blocks.csv")
    assert blocks
    if config.stem == "joint":  # minimises no F_k by itself
        assert {row["stop_reason"] for row in blocks} == {"joint training"}
        return
    assert all(row["stop_reason"] == "gradient norm" for row in blocks)
    for row in blocks:
        assert float(row["gradient_norm"]) <= float(row["gradient_tolerance"])


PARTS = ["NOUN", "VERB", "ADJ", "ADV", "PRON", "DET", "ADP", "PROPN", "AUX", "PUNCT"]
RELATIONS = ["nsubj", "obj", "root", "det", "case", "amod", "advmod", "obl", "nmod", "conj"]
COLUMNS = [
    f"{number}\tword{number}\tword\t{part}\t_\t_\t0\t{relation}\t_\t_\n"
    for number, (part, relation) in enumerate(zip(PARTS, RELATIONS, strict=True), 1)
]
SENTENCE = "".join(COLUMNS) + "\n"
SHIPPED = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("config", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_config_runs_an_epoch(config: Path) -> None:
    needs = []
    if config.stem.endswith("tables"):
        Path("rows.csv").write_text("a,b,y\n" + "".join(f"{i % 3},{i % 5},{i % 2}\n" for i in range(60)))
        needs = ["--data.init_args.train_files", "[rows.csv]", "--data.init_args.label_columns", "[y]"]
    if config.stem == "text":
        Path("text.conllu").write_text(SENTENCE * 10)
        needs = ["--data.init_args.train_files", "[text.conllu]"]
    main(["fit", "--config", str(config), "--trainer.fast_dev_run", "true", "--model.n_features", "50", *needs])


def test_validate_reproduces_the_closing_table_and_test_has_its_columns(
    automaton_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    closing = table((automaton_run / "printed.txt").read_text())
    assert len(closing) == 3
    main(["validate", "--config", SMALL, "--ckpt_path", "last"])
    assert table(capsys.readouterr().out) == closing
    main(["test", "--config", SMALL, "--ckpt_path", "last"])
    printed = capsys.readouterr().out
    assert len(table(printed)) == 3
    assert "test/accuracy" in printed


def test_fit_writes_the_contracted_columns_and_a_staircase(automaton_run: Path) -> None:
    folder = automaton_run / "lightning_logs" / "version_0"
    contract = {
        "blocks": "block epochs steps seconds objective gradient_norm suboptimality accepted stop_reason",
        "levels": "block level n_labels train_accuracy train_min_margin margin_error val_accuracy learned",
        "labels": "block label level accepted val_accuracy min_margin average_precision",
    }
    for name, columns in contract.items():
        assert set(columns.split()) <= set(rows(folder / f"{name}.csv")[0])
    blocks, levels = rows(folder / "blocks.csv"), rows(folder / "levels.csv")
    assert [row["block"] for row in blocks] == ["1", "2", "3"]
    for row in blocks:
        assert float(row["suboptimality"]) <= 0.01 * float(row["initial_objective"])
    learned_by = {row["level"]: int(row["block"]) for row in reversed(levels) if row["learned"] == "1"}
    assert learned_by == {"1": 1, "2": 2, "3": 3}
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0}).Reload()
    assert events.Images("staircase/levels")[-1].step == 3
    assert [event.step for event in events.Scalars("accuracy/level_03")] == [1, 2, 3]
    assert {"objective", "gradient_norm", "gradient_tolerance", "active_block"} <= set(events.Tags()["scalars"])


def test_predict_writes_the_scores_of_the_checkpoint(automaton_run: Path) -> None:
    cli = main(["predict", "--ckpt_path", "last"])
    written = rows(automaton_run / "lightning_logs" / "version_1" / "predictions.csv")
    batch = next(iter(cli.datamodule.predict_dataloader()))
    scores = cli.model(batch.inputs)
    cli.datamodule.setup("test")
    assert len(written) == len(cli.datamodule.tables["test"]) * 16 * 3
    assert [float(row["score"]) for row in written[:48]] == pytest.approx(scores[0].flatten().tolist(), abs=1e-6)


@pytest.mark.usefixtures("automaton_run")
def test_a_run_of_a_checkpoint_is_planned_and_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--ckpt_path", "last", "--model.n_blocks", "7"]).planned.n_blocks == 7
    whole = main(["describe", "--config", SMALL]).described
    assert main(["describe", "--ckpt_path", "last"]).described == whole
    capsys.readouterr()
    line = fail(capsys, "plan", "--ckpt_path", "gone.ckpt")
    assert line == "error: ckpt_path must be a checkpoint file or `last`, got gone.ckpt: no such file"


def test_a_run_cut_short_says_so_and_goes_on_in_its_own_log(automaton_run: Path) -> None:
    whole = read_checkpoint(find_checkpoint("last", automaton_run))["state_dict"]
    with pytest.warns(UserWarning, match="training ended after 1 of 3 blocks"):
        main(["fit", "--config", SMALL, "--trainer.max_epochs", "1"])
    resumed = main(["fit", "--ckpt_path", "last"]).model.state_dict()
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())
    logs = [automaton_run / "lightning_logs" / f"version_{version}" for version in (0, 1)]
    assert sorted(path.name for path in (automaton_run / "lightning_logs").iterdir()) == ["version_0", "version_1"]
    for table in ("levels.csv", "labels.csv"):
        assert (logs[0] / table).read_text() == (logs[1] / table).read_text()


def test_with_values_that_decide_weights_a_resumed_run_is_another_with_a_config_of_its_own(automaton_run: Path) -> None:
    first, second = (automaton_run / "lightning_logs" / f"version_{number}" for number in (0, 1))
    before = (first / "blocks.csv").read_text()
    with pytest.warns(UserWarning, match="then → now: .*layerwise.acceptance gain → strict"):
        main(["fit", "--ckpt_path", "last", "--model.n_blocks", "4", "--layerwise.acceptance", "strict"])
    assert (first / "blocks.csv").read_text() == before
    assert [row["block"] for row in rows(second / "blocks.csv")] == ["4"]
    assert "acceptance: strict" in (second / "config.yaml").read_text()


@pytest.mark.usefixtures("automaton_run")
def test_a_logger_of_a_given_version_goes_on_in_its_folder_with_other_values_as_well(own_folder: Path) -> None:
    logger = ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "logs", "--trainer.logger.version", "5"]
    main(["fit", "--config", SMALL, *logger])
    metrics = next(own_folder.rglob("version_5/metrics.csv"))
    before = metrics.read_text().splitlines()
    checkpoint = str(max(metrics.parent.rglob("*.ckpt"), key=lambda path: path.name))
    more = ["--model.n_blocks", "4", "--layerwise.acceptance", "strict"]
    main(["fit", "--ckpt_path", checkpoint, *logger, *more])
    assert len(metrics.read_text().splitlines()) > len(before)
    assert not list(metrics.parent.parent.glob("version_6"))


def test_the_class_of_the_data_may_follow_its_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data.n_levels", "2", "--data", "CellularAutomaton", "--data.n_cells", "8", "--model.n_blocks", "2"]
    assert main(["plan", *words]).planned.n_blocks == 2


def test_a_config_of_commands_comes_before_the_command(own_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (own_folder / "top.yaml").write_text("fit: {data: {class_path: Foo}}")
    assert fail(capsys, "--config", "top.yaml", "fit").endswith("got Foo")


def test_last_skips_a_truncated_checkpoint(automaton_run: Path) -> None:
    good = next(automaton_run.rglob("*.ckpt"))
    bad = good.with_name("newer.ckpt")
    bad.write_bytes(good.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="skipping the checkpoint"):
        cli = main(["validate", "--config", SMALL, "--ckpt_path", "last"])
    assert cli.config.validate.ckpt_path == str(good.relative_to(automaton_run))


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["--model.features.beta", "1"], ["beta", "[0, 1)", "1"]),
        (["--model.features.beta", "-0.1"], ["beta", "[0, 1)", "-0.1"]),
        (["--model.n_features", "0"], ["n_features", "positive", "0"]),
        (["--model.n_blocks", "-2"], ["n_blocks", "positive", "-2"]),
        (["--model.features.beta", "much"], ["model.features", "beta must be float", "much"]),
        (["--model.features.activation", "swish"], ["activation", "relu", "cos", "swish"]),
        (["--model.features.input_scale", "big"], ["input_scale", "fan_in", "live", "rms", "big"]),
        (["--model.features.bta", "0"], ["model.features", "GaussianFeatures", "bta", "beta"]),
        (["--model.features", "CosineFeatures", "--model.features.activation", "relu"], ["CosineFeatures", "beta"]),
        (
            ["--model.features", "Foo"],
            ["GaussianFeatures, CosineFeatures, RadialFeatures", "Foo"],
        ),
        (["--model.output", "big"], ["output", "split", "orthogonal", "big"]),
        (["--model.regularization", "0"], ["regularization", "positive", "0"]),
        (["--model.robustness", "2"], ["robustness", "(0, 1]", "2"]),
        (["--model.loss", "Foo"], ["model.loss", "SquaredLoss", "HybridMarginLoss", "Foo"]),
        (["--model.solver", "Foo"], ["model.solver", "GradientSolver", "ExactSolver", "Foo"]),
        (["--model.proximity", "Foo"], ["model.proximity", "Window1d", "IndexTable", "Foo"]),
        (["--data", "Foo"], ["data", "CellularAutomaton", "JuntaHierarchy", "Foo"]),
        (["--data.rule", "256"], ["rule", "0..255", "256"]),
        (["--data.n_cells", "0"], ["n_cells", "0"]),
        (["--model.proximity.size", "17"], ["size", "16", "17", "ring"]),
        (["--model.n_featuers", "3"], ["n_featuers", "n_features"]),
        (["--data.n_level", "3"], ["n_level", "n_levels"]),
        (["--layerwise.toleranse", "3"], ["toleranse", "gradient_tolerance"]),
        (["--modle.beta", "3"], ["modle", "model"]),
        (["--layerwise.acceptance", "some"], ["acceptance", "none", "gain", "strict", "some"]),
        (["--layerwise.gradient_tolerance", "-1"], ["gradient_tolerance", "positive", "-1"]),
        (["--data.acceptance_fraction", "0"], ["acceptance", "acceptance_fraction", "none", "0"]),
        (["--data.acceptance_fraction", "1"], ["acceptance_fraction", "[0, 1)", "1"]),
        (["--model.solver", "ExactSolver", "--model.solver.choice", "cv"], ["choice", "set_aside", "gcv", "cv"]),
        (["--model.adaptation.redraws", "0"], ["redraws", "positive", "0"]),
        (["--model.cache_budget_gib", "-1"], ["cache_budget_gib", "0 or more", "-1"]),
        (["--ckpt_path", "last"], ["ckpt_path", "last", "lightning_logs"]),
        (["--ckpt_path", "nowhere.ckpt"], ["ckpt_path", "nowhere.ckpt"]),
        (["--trainer.min_epochs", "3"], ["trainer.min_epochs", "left out", "3", "tolerance"]),
        (["--trainer.min_steps", "3"], ["trainer.min_steps", "left out", "3", "tolerance"]),
        (["--trainer.overfit_batches", "0.5"], ["trainer.overfit_batches", "left out", "0.5"]),
        (["--trainer.gradient_clip_val", "1"], ["trainer.gradient_clip_val", "left out", "1", "solver"]),
        (["--trainer.accumulate_grad_batches", "2"], ["accumulate_grad_batches", "left out", "2", "solver"]),
        (["--trainer.val_check_interval", "0.5"], ["trainer.val_check_interval", "left out", "0.5", "val rows"]),
        (["--trainer.val_check_interval", "40"], ["trainer.val_check_interval", "left out", "40", "val rows"]),
        (["--trainer.check_val_every_n_epoch", "2"], ["check_val_every_n_epoch", "left out", "2", "val rows"]),
        (["--trainer.accelerator", "cpu", "--trainer.devices", "last"], ["devices", "int > 0"]),
        (["--trainer.accelerator", "cpu", "--trainer.devices", "-1"], ["devices", "int > 0"]),
        (["--trainer.limit_train_batches", "0.5", "--data.batch_size", "400"], ["limit_train_batches", "0.5"]),
        ([*GRADIENT, "--model.solver.optimizer.lr", "-1"], ["learning rate", "-1"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_bad_input_is_one_line_with_argument_value_and_choices(
    args: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = fail(capsys, "fit", "--config", SMALL, *args)
    assert line.startswith("error: ")
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("Fit --config tables", "there is no command Fit; did you mean fit?"),
        ("train", "there is no command train; valid are fit, validate, test, predict, plan"),
        ("--config tables fit", "the command comes before its options, got --config first; commands are fit, "),
        ("--config", "the command comes before its options, got --config first; commands are fit, "),
        ("--seed_everything 3 fit", "the command comes before its options, got --seed_everything first; commands are"),
        ("fit own.csv", "unexpected argument own.csv; name files by an option, such as --data.train_files or --d"),
        ("fit --config tables own.csv", "unexpected argument own.csv; name files by an option, such as --data.tr"),
        ("fit --config tables --trainer.max_epochs 3 4", "unexpected argument 4; put its option before it"),
        (
            "fit --config tables --data.label_columns [a, b]",
            "unexpected argument b]; write a list as one word, --data.label_columns '[a,b]'",
        ),
        (
            "fit --config tables --data.label_columns a b",
            "unexpected argument b; write a list as one word, --data.label_columns '[a,b]'",
        ),
        ("fit -config tables", "options have two dashes, got -config; write --config"),
        ("fit -ctables", "options have two dashes, got -ctables; write -c tables"),
        ("fit --train_files a.csv", "there is no section train_files; did you mean data.train_files?"),
        ("fit --config exact --n_blocks 3", "there is no section n_blocks; did you mean model.n_blocks?"),
        ("fit --config exact --seed 3", "there is no section seed; did you mean seed_everything?"),
        ("fit --confg exact", "there is no section confg; did you mean config?"),
        ("fit", "data must be given: --config tables for a table, another config, or --data with one of "),
        ("predict", "ckpt_path must be given, a checkpoint file or `last`: its config says what the data is"),
        ("discover", "data must be given: --config tables for a table, another config, or --data with one of "),
        ("fit --data GraphHierarchy", "data must be one of "),
        ("fit --data ArrayHierarchy", "data must be one of "),
        ("fit --data Supervision", "data must be one of "),
        ("fit --config exact --trainer.precision 8", "trainer.precision must be 64 or 32 or 16 or transformer-engine"),
        ("fit --config exact --trainer.logger wand", "trainer.logger must be one of DummyLogger, CometLogger, CSVL"),
        (
            "fit --config exact --model.features RadialFeatures --model.solver AutoSolver --model.loss HingeLoss",
            "AutoSolver needs SquaredLoss, got HingeLoss, which GradientSolver takes",
        ),
    ],
)
def test_a_command_that_cannot_be_one_is_one_line(words: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fail(capsys, *words.split()).startswith(f"error: {line}")


@pytest.mark.parametrize("args", [[], ["help"], ["--help"]])
def test_help_lists_the_commands(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(args)
    assert exit_info.value.code == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("fit", "predict", "plan", "discover", "export", "sweep"))


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) is None
    assert capsys.readouterr().out == f"hierlit {version('hierlit')}\n"


@pytest.mark.parametrize(
    ("args", "features"),
    [
        ([], GaussianFeatures()),
        (["--model.features.beta", "0.3"], GaussianFeatures(0.3)),
        (
            ["--model.features.beta", "0.3", "--model.features.activation", "softplus"],
            GaussianFeatures(0.3, "softplus"),
        ),
        (["--model.features", "CosineFeatures", "--model.features.beta", "0.1"], CosineFeatures(0.1)),
        (["--config", "mine.yaml"], GaussianFeatures(0.3, "tanh")),
    ],
)
def test_features_are_the_paper_s_unless_another_class_is_named(args: list[str], features: Features) -> None:
    init_args = "init_args: {beta: 0.3, activation: tanh}"
    Path("mine.yaml").write_text(f"model:\n  features: {{class_path: GaussianFeatures, {init_args}}}\n")
    cli = main(["plan", "--config", SMALL, *args])
    assert cli.planned.task.net.features == features


OWN = """
from dataclasses import dataclass
import torch
from hierlit.models import Features, FirstLayer

class Squares(FirstLayer):
    def uncentred(self, windows):
        return torch.nn.functional.linear(windows * self.scale, self.weight).square()

@dataclass(frozen=True)
class SquareFeatures(Features):
    factor: float = 1.0
    def first_layer(self, fan_in, n_features, generator):
        return Squares(self.factor * torch.randn(n_features, fan_in, generator=generator) / fan_in**0.5)
"""


def test_features_of_one_s_own_are_trained_described_and_exported(
    own_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("squares.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(own_folder))
    own = ["--config", SMALL, "--model.features", "squares.SquareFeatures", "--model.features.factor", "0.5"]
    main(["describe", *own])
    assert re.search(r"width, rows: not known, .* kernel", capsys.readouterr().out)
    trained = main(["fit", *own]).model.net
    assert int(trained.n_trained) and repr(trained.features) == "SquareFeatures(factor=0.5)"
    assert "adaptation redraws " in fail(capsys, "fit", *own, "--model.adaptation.redraws", "1")
    main(["export", "--weights", "own.safetensors"])
    again = main(["validate", *own, "--model.weights", "own.safetensors"]).model.net
    inputs = torch.randn(3, trained.n_locations, trained.n_inputs)
    assert torch.equal(again(inputs), trained(inputs))
    assert "features=SquareFeatures, not relu" in fail(
        capsys, "validate", "--config", SMALL, "--model.weights", "own.safetensors"
    )
    assert "hierlit's own features, got SquareFeatures" in fail(capsys, "export", "--model", "own.pt2")
    assert "factor=0.5" in fail(capsys, "fit", *own, "--ckpt_path", "last", "--model.features.factor", "1")


def test_a_truncated_checkpoint_named_by_its_path_is_one_line(
    own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("cut.ckpt").write_bytes(b"PK\x03\x04 not a checkpoint")
    line = fail(capsys, "fit", "--config", SMALL, "--ckpt_path", "cut.ckpt")
    assert "ckpt_path" in line
    assert "cut.ckpt" in line


@pytest.mark.parametrize(
    "args", [[name, "--config", SMALL] for name in ("fit", "test", "predict")] + [["export", "--weights=a.safetensors"]]
)
def test_a_checkpoint_of_version_0_1_0_is_one_line(
    args: list[str], own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"sizes": {"n_labels": 1, "activation": "relu"}, "state_dict": {}}, "old.ckpt")
    line = fail(capsys, *args, "--ckpt_path", "old.ckpt")
    assert "old.ckpt: saved by hierlit 0.1.0 or older: fit again, or use the version that saved it" in line


def test_a_checkpoint_that_was_saved_in_python_has_no_config(
    own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    CheckpointFiles().save_checkpoint({"sizes": {}, "state_dict": {}}, "own.ckpt")
    line = fail(capsys, "predict", "--ckpt_path", "own.ckpt")
    assert line == "error: config is needed: own.ckpt was saved from Python and has none"


@pytest.mark.usefixtures("automaton_run")
def test_a_checkpoint_of_another_hierarchy_is_refused_by_its_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    line = fail(capsys, "validate", "--config", SMALL, "--ckpt_path", "last", "--data.n_levels", "2")
    assert "n_labels=3" in line
    assert "n_labels=2" in line


def test_the_console_script_exits_with_0_and_with_the_errors_code(monkeypatch: pytest.MonkeyPatch) -> None:
    (script,) = entry_points(group="console_scripts", name="hierlit")
    monkeypatch.setattr(sys, "argv", ["hierlit", "plan", "--config", SMALL])
    assert script.load()() is None, "what is returned becomes the exit code"
    monkeypatch.setattr(sys, "argv", ["hierlit", "plan", "--config", "nowhere.yaml"])
    with pytest.raises(SystemExit) as end:
        script.load()()
    assert end.value.code == 2


def test_without_val_rows_held_out_columns_are_empty_of_numbers(
    own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["fit", "--config", SMALL, "--trainer.limit_val_batches", "0"])
    written = rows(own_folder / "lightning_logs" / "version_0" / "levels.csv")
    assert {row["val_accuracy"] for row in written} == {"nan"}
    assert float(written[-3]["train_accuracy"]) == 1.0
    assert len(table(capsys.readouterr().out)) == 3


def test_without_a_logger_no_tables_are_left_behind(own_folder: Path) -> None:
    main(["fit", "--config", SMALL, "--trainer.logger", "false"])
    assert not list(own_folder.rglob("blocks.csv"))


@pytest.mark.usefixtures("automaton_run")
def test_a_finished_run_resumed_says_there_is_nothing_to_do() -> None:
    with pytest.warns(UserWarning, match="3 of 3 blocks are trained already and no more are needed"):
        main(["fit", "--config", SMALL, "--ckpt_path", "last"])


@pytest.mark.parametrize(
    "args", [["--model.n_features", "50"], ["--model.features.activation", "tanh"], ["--model.n_blocks", "2"]]
)
@pytest.mark.usefixtures("automaton_run")
def test_arguments_that_contradict_the_checkpoint_are_refused(
    args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    line = fail(capsys, "validate", "--config", SMALL, "--ckpt_path", "last", *args)
    assert args[0].removeprefix("--model.").partition(".")[0] in line
    assert args[1] in line


@pytest.mark.parametrize("subcommand", ["validate", "test", "predict"])
def test_an_untrained_model_is_not_used(subcommand: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "ckpt_path" in fail(capsys, subcommand, "--config", SMALL)
