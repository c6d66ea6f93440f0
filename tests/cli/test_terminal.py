"""What a person sees: blocks, a table, warnings and errors of a line each, and nothing else."""

import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from processes import RUN, run

from hierlit.cli import main
from hierlit.watching import BlockProgress

SMALL = ["--config", str(Path(__file__).parents[1] / "conf" / "automaton.yaml")]
RULES = r"[┏┳┓┡╇┩└┴┘━─ ]*"
CELLS = r"[┃│].*[┃│]"
LAST = r"(accuracy by block and level|average precision by label): lightning_logs/version_0/staircase\.png"


def assert_lines(printed: str, *forms: str) -> None:
    """Every line has one of these forms or is of a table, and the last is that of the picture."""
    lines = printed.splitlines()
    assert [line for line in lines if not any(re.fullmatch(form, line) for form in (*forms, RULES, CELLS, LAST))] == []
    assert re.fullmatch(LAST, lines[-1])


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(list(args))
    assert end.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_a_run_on_a_hierarchy_ends_with_its_picture(tmp_path: Path) -> None:
    printed = run(tmp_path, "fit", *SMALL, apart=True)
    block = r"block [123]/3: epoch \d+, gradient \S+ / \S+, learned [123]/3 levels(, about \d+:\d\d left)?, \d+\.\d s"
    title = r" *val rows after 3 of 3 blocks *"
    assert_lines(printed, block, title, r"zero empirical margin error: y·ŷ ≥ 1 − ξ/2 for each label .*")
    assert len(printed.splitlines()) < 24, "one screen"
    assert (tmp_path / "lightning_logs/version_0/staircase.png").read_bytes().startswith(b"\x89PNG")


def test_a_fit_to_all_rows_says_that_probabilities_are_not_calibrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    quick = ["--model.n_blocks", "1", "--trainer.logger", "false", "--trainer.enable_checkpointing", "false"]
    line = "probabilities are not calibrated, since all rows were fitted: for rows left out set data.val_fraction or "
    main(["fit", *SMALL, *quick])
    assert line not in capsys.readouterr().out
    all_rows = ["--layerwise.acceptance", "none", "--data.acceptance_fraction", "0", "--trainer.limit_val_batches", "0"]
    main(["fit", *SMALL, *quick, *all_rows])
    assert line in capsys.readouterr().out


def test_a_run_on_a_table_ends_with_rows_left_out_and_average_precision(tmp_path: Path) -> None:
    lines = [f"{i % 7},{i % 5},{int(i % 7 > 3)},{int(i % 7 > 3 and i % 5 > 2)}" for i in range(70)]
    (tmp_path / "rows.csv").write_text("\n".join(["a,b,y_one,y_two", *lines]))
    table = ["--config", "tables", "--data.init_args.train_files", "rows.csv", "--data.init_args.label_columns", "y_*"]
    small = ["--model.n_features", "50", "--model.n_blocks", "2", "--layerwise.folds", "3"]
    printed = run(tmp_path, "fit", *table, *small, "--trainer.accelerator", "cpu", apart=True)
    block = r"block [12]/2: epoch 1, gradient \S+ / \S+(, about \d+:\d\d left)?, \d+\.\d s(, left out: no gain)?"
    title = r" *training rows, each scored by fits that left it out, after [12] of 2 blocks *"
    assert_lines(printed, block, title)
    assert "precision" in printed and "learned" not in printed
    ((_, accuracy, precision, *_),) = re.findall(r"│ +(2) │ +(\S+) │ +(\S+) │", printed)
    assert 0.8 < float(accuracy) <= 1 and 0.8 < float(precision) <= 1


def test_joint_training_says_how_far_it_is(tmp_path: Path) -> None:
    joint = ["--model.joint.epochs", "20", "--layerwise.acceptance", "none", "--data.acceptance_fraction", "0"]
    printed = run(tmp_path, *RUN, *joint)
    assert [line.partition(" of all")[0] for line in printed.splitlines()[:9]] == [
        f"epoch {number}/20" for number in range(2, 20, 2)
    ]


def test_a_level_that_is_lost_again_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    report = SimpleNamespace(seconds=1.0, stop_reason="gradient norm", accepted_labels=[True], accepted=1)
    task: Any = SimpleNamespace(block=0, net=SimpleNamespace(blocks=range(3)), joint=None, last=None, progress={})
    task.levels, task.learned_accuracy, progress = [1, 2], 0.999, BlockProgress()
    progress.on_train_start(SimpleNamespace(), task)  # type: ignore[arg-type]
    for second in (1.0, 0.9967):
        task.block += 1
        names = ("accuracy", "min_margin", "mean_margin", "margin_error")
        task.results = {"val": {name: torch.tensor([1.0, second]) for name in names}}
        task.report = SimpleNamespace(**vars(report), epochs=1, is_last=False)
        progress.on_train_epoch_end(SimpleNamespace(), task)  # type: ignore[arg-type]
    first, then = capsys.readouterr().out.splitlines()
    assert "learned 2/2 levels" in first and "lost" not in first
    assert "learned 1/2 levels, lost again: level 2 (0.9967)" in then


def test_a_fault_in_a_person_s_own_data_module_is_one_line_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "faulty_rings.py").write_text(
        "from hierlit import CellularAutomaton\n\n\nclass Rings(CellularAutomaton):\n    def make_tables(self):\n"
        "        return {'train': {}['rows']}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["fit", *SMALL, "--data", "faulty_rings.Rings"])
    line = f"error: {tmp_path / 'faulty_rings.py'}, line 6, in make_tables: KeyError: 'rows'; HIERLIT_TRACEBACK=1 "
    assert str(end.value.code).startswith(line)
    monkeypatch.setenv("HIERLIT_TRACEBACK", "1")
    with pytest.raises(KeyError):
        main(["fit", *SMALL, "--data", "faulty_rings.Rings"])


def test_the_first_error_of_a_misspelt_option_comes_before_torch_is_imported() -> None:
    start = time.monotonic()
    command = [sys.executable, "-m", "hierlit", "fit", *SMALL, "--model.n_featuers", "3"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert time.monotonic() - start < 3
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr.splitlines() == [
        "tip: the options are listed by: python -m hierlit fit --help",
        "error: there is no argument model.n_featuers; did you mean model.n_features?",
    ]


@pytest.mark.parametrize("option", ["model.n_feat", "data.n_lev", "seed_every", "conf"])
def test_no_option_is_taken_for_a_longer_one(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert option in refused(capsys, "fit", *SMALL, f"--{option}", "3")


@pytest.mark.parametrize("command", ["plan", "describe"])
def test_an_option_before_a_config_holds(command: str) -> None:
    cli: Any = main([command, "--model.n_blocks=2", "--data.n_levels", "2", *SMALL])
    assert cli.config.model.n_blocks == 2 and cli.config.data.init_args.n_levels == 2


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--model.adaptation.redraws", "0"], "model.adaptation.redraws must be a positive integer, got 0"),
        (["--data.acceptance_fraction", "1"], "data.acceptance_fraction must be a number in [0, 1), got 1.0"),
        (["--model.robustness", "2"], "model.robustness must be in (0, 1], got 2.0"),
        (["--layerwise.folds", "1"], "layerwise.folds must be 2 or more, or null, got 1"),
        (
            ["--model.adaptation", "SizedDraw", "--model.adaptation.smallst", "9"],
            "there is no argument model.adaptation.smallst of AdaptiveDraw or SizedDraw; "
            "did you mean model.adaptation.smallest?",
        ),
    ],
)
def test_an_argument_is_named_as_it_is_typed(args: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "fit", *SMALL, *args) == f"error: {said}"


@pytest.mark.parametrize("command", ["fit", "plan"])
def test_help_begins_with_hierlit_s_own_sections(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    help_text = capsys.readouterr().out
    assert help_text.startswith("usage: ") and help_text.index("\n\n") < 100
    sections = re.findall(r"^(\w+): .*:$", help_text, re.M)
    assert sections == ["data", "model", "layerwise", "supervision", "checkpoint", "predictions", "trainer"]


@pytest.mark.parametrize(("command", "rows"), [("test", "test"), ("validate", "validation")])
def test_nothing_to_measure_is_an_error(
    command: str, rows: str, automaton_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(automaton_run)
    split = "val" if command == "validate" else command
    with pytest.raises(
        SystemExit, match=f"error: the data has no {rows} rows with an observed label; files of them are"
    ):
        main([command, *SMALL, "--ckpt_path", "last", f"--trainer.limit_{split}_batches", "0"])
    assert [each.name for each in Path("lightning_logs").iterdir()] == ["version_0"], "that of the fit"


def test_a_run_shows_its_blocks_and_a_table_and_no_notice(tmp_path: Path) -> None:
    printed = run(tmp_path, *RUN, "--layerwise.max_epochs_per_block", "10", apart=True).splitlines()
    assert printed[0].startswith("warning: block 1 stopped at max epochs: its gradient norm ")
    assert printed[1].startswith("block 1/3: epoch 10, ")
    assert [line.split(":")[0] for line in printed[2:6]] == ["warning", "block 2/3", "warning", "block 3/3"]
    assert "val rows after 3 of 3 blocks" in printed[6]
    assert not [line for line in printed if ".py" in line]


@pytest.mark.parametrize("command", ["fit", "plan"])
def test_an_error_is_a_line_below_a_line_of_usage_and_a_hint(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, *RUN[1:], "--model.n_blocks", "x"])
    assert end.value.code == 2
    usage, hint, error = capsys.readouterr().err.splitlines()
    assert usage.startswith("usage: ") and len(usage) < 100
    assert f"{command} --help" in hint
    assert error == "error: model.n_blocks must be int, got x"
