"""What can go wrong beyond a config: each failure is caused for real, ends in one line, and loses no finished block."""

import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from processes import EXACT, RUN, TWO, assert_same_run, checkpoints, fault, rows, run, wait_for_the_end

LAST = ["--ckpt_path", "last"]


def errors(printed: str) -> list[str]:
    """The lines of a run that say what failed; TensorBoard's thread has one of its own."""
    assert "Traceback" not in printed
    return [line for line in printed.splitlines() if line.startswith("error")]


def one_line(printed: str) -> str:
    (line,) = errors(printed)
    return line


@pytest.mark.parametrize("command", ["experiment", pytest.param("discover", marks=pytest.mark.slow)])
def test_a_package_that_is_not_installed_is_named_with_the_extra_that_has_it(command: str, tmp_path: Path) -> None:
    without = """
import sys
for name in [name for name in sys.modules if name.startswith("hierlit")]:
    del sys.modules[name]
sys.modules["pandas"] = None
from hierlit.cli import main
main()
"""
    assert one_line(run(tmp_path, command, code=without, expect=1)) == (
        "error: this needs pandas: pip install 'hierlit[experiments]'"
    )


def test_a_disk_that_fills_up_after_a_block_is_met_before_the_next_one(
    undisturbed: Callable[..., Path], tmp_path: Path
) -> None:
    *_, line = errors(run(tmp_path, *RUN, *fault("SmallFiles", block=2, size=10_000), expect=1))
    assert "cannot" in line
    assert "File too large" in line
    assert not list((tmp_path).rglob("*.part"))
    run(tmp_path, *RUN, *LAST)
    assert_same_run(tmp_path, undisturbed(*RUN))


@pytest.mark.parametrize("size", [pytest.param(100, marks=pytest.mark.slow), 400])
def test_a_disk_too_full_for_a_table_loses_neither_the_block_nor_its_rows(
    size: int, undisturbed: Callable[..., Path], tmp_path: Path
) -> None:
    code = """
import resource
from hierlit.watching import Staircase
from hierlit.watching import staircase
from hierlit.cli import main
append, seen = staircase.append_rows, [0]
def limited(path, rows):
    seen[0] += 1
    if seen[0] == 5:  # the second block's second table
        soft = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (LEAST, resource.RLIM_INFINITY))
        try:
            append(path, rows)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, soft)
    else:
        append(path, rows)
staircase.append_rows = limited
main()
""".replace("LEAST", str(size))
    line = one_line(run(tmp_path, *RUN, code=code, expect=1))
    assert "cannot write the tables of a block" in line
    assert "block=002" in checkpoints(tmp_path)[-1].name
    run(tmp_path, *RUN, *LAST)
    assert_same_run(tmp_path, undisturbed(*RUN))


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    line = one_line(run(tmp_path, *RUN, "--trainer.default_root_dir", "file/below", expect=1))
    assert "file/below" in line
    assert "Not a directory" in line


def test_a_cache_that_cannot_be_kept_on_disk_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    tight = ["--model.cache_budget_gib", "0"]
    code = "import tempfile; tempfile.tempdir = 'file/below'\nfrom hierlit.cli import main; main()"
    line = one_line(run(tmp_path, *RUN, *tight, code=code, expect=1))
    assert "the stream cache cannot keep" in line
    assert "TMPDIR" in line


@pytest.mark.parametrize(
    ("args", "said"),
    [
        pytest.param([], "no memory for the features of a batch", marks=pytest.mark.slow),
        (["--model.cache_budget_gib", "0.001"], "lower model.n_features"),  # of the Gram matrix
    ],
    ids=["cache", "anywhere"],
)
def test_memory_that_runs_out_is_one_line_and_loses_no_block(args: list[str], said: str, tmp_path: Path) -> None:
    big = [
        *RUN,
        "--data.n_train",
        "301",
        "--data.n_cells",
        "32",
        "--model.n_features",
        "2000",
        "--data.batch_size",
        "300",
        *EXACT,
        *args,
    ]
    run(tmp_path, *big, "--trainer.max_epochs", "1")
    line = one_line(run(tmp_path, *big, *LAST, *fault("TightMemory", spare=2**24), expect=1))
    assert said in line and "cache_budget_gib" in line
    assert "block=001" in checkpoints(tmp_path)[-1].name


@pytest.mark.parametrize("ranks", [[], pytest.param(TWO, marks=pytest.mark.slow)], ids=["alone", "two ranks"])
def test_numbers_that_are_not_finite_are_named_by_block_epoch_and_batch(ranks: list[str], tmp_path: Path) -> None:
    printed = run(tmp_path, *RUN, *ranks, "--model.solver", "faults.NotFinite", expect=None, POISON="1")
    assert "Traceback" not in printed
    assert "loss or gradient is not finite in block 2, epoch 7, batch 3" in printed
    assert "block=001" in checkpoints(tmp_path)[-1].name
    wait_for_the_end(tmp_path, 30)


def test_a_truncated_newest_checkpoint_is_skipped_for_the_one_before(
    undisturbed: Callable[..., Path], tmp_path: Path
) -> None:
    shutil.copytree(undisturbed(*RUN), tmp_path, dirs_exist_ok=True)
    before, newest = checkpoints(tmp_path)
    newest.write_bytes(newest.read_bytes()[:-100])
    printed = run(tmp_path, *RUN, *LAST, apart=True)
    assert f"skipping the checkpoint lightning_logs/version_0/checkpoints/{newest.name}" in printed
    assert before.name in printed
    assert [row["block"] for row in rows(tmp_path, "blocks.csv")] == ["1", "2", "3"]


def test_values_that_contradict_the_checkpoint_are_reported(tmp_path: Path) -> None:
    run(tmp_path, *RUN, *fault("SignalAtPass", at=30, signum=15), expect=143)
    printed = run(
        tmp_path, *RUN, *LAST, "--model.regularization", "0.01", "--layerwise.acceptance", "strict", apart=True
    )
    assert printed.count("values that differ from the checkpoint's, then → now: ") == 1
    assert "model.regularization 0.001 → 0.01" in printed
    assert "layerwise.acceptance gain → strict" in printed
    assert "block 2, which was under way, starts anew with them" in printed
    refused = run(tmp_path, *RUN, *LAST, "--model.features.beta", "0.7", expect=2)
    assert "beta=0.5" in refused
    assert "beta=0.7" in refused


def test_ctrl_c_says_in_a_line_what_is_saved_and_how_to_go_on(tmp_path: Path) -> None:
    printed = run(tmp_path, *RUN, *EXACT, *fault("SignalAtPass", at=2, signum=2), expect=130)
    assert "Traceback" not in printed
    (newest,) = (path.name for path in checkpoints(tmp_path)[-1:])
    assert f"{newest}: `--ckpt_path last` resumes there" in printed.splitlines()[-1]
    assert printed.splitlines()[-1].startswith("interrupted, saved as ")


def test_memory_limits_are_not_left_behind() -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    assert torch.ones(1).item() == 1
