"""A run that ends early, in whatever way, goes on as if it had not: in one process, through the command line."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import lightning as L
import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from processes import assert_same_run, checkpoints, fault, log_of, rows

from hierlit.cli import main
from hierlit.training import BlockCheckpoint, LayerwiseTask, LayerwiseTraining

CONFIG = str(Path(__file__).parents[1] / "conf" / "automaton.yaml")
RUN = ["fit", "--config", CONFIG, "--trainer.accelerator=cpu", "--data.batch_size=34", "--model.n_features=60"]
RUN += ["--layerwise.relative_suboptimality=0.5"]
FIT = [*RUN, "--checkpoint.share=1"]
LAST = ["--ckpt_path", "last"]
EXACT = ["--model.solver=ExactSolver"]
OFTEN = ["--checkpoint.every_minutes=1e-9"]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")


@pytest.fixture
def sigterm() -> Iterator[Callable[..., None]]:
    """Sends this process SIGTERM, which does nothing where nobody listens."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    yield lambda *_: os.kill(os.getpid(), signal.SIGTERM)
    signal.signal(signal.SIGTERM, before)


def gone(hook: str, block: int = 2) -> list[str]:
    """The arguments of a run that fails in a hook after a block."""
    return fault("FailAt", hook=hook, block=block)


@pytest.mark.parametrize(
    "hook", ["on_validation_batch_start", pytest.param("on_train_batch_end", marks=pytest.mark.slow)]
)
def test_a_block_that_the_tables_never_saw_is_trained_again(
    hook: str, undisturbed: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match="error: gone"):
        main([*FIT, *EXACT, *gone(hook)])
    assert "block=001" in checkpoints(tmp_path)[-1].name
    main([*FIT, *EXACT, *LAST])
    assert_same_run(tmp_path, undisturbed(*FIT, *EXACT))


def test_a_block_that_was_told_in_part_is_told_once(
    undisturbed: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(logger: TensorBoardLogger, metrics: dict[str, float], step: int | None = None) -> None:
        log(logger, metrics, step)
        if "block/seconds" in metrics and step == 2:
            raise KeyboardInterrupt

    log = TensorBoardLogger.log_metrics
    with monkeypatch.context() as patch:
        patch.setattr(TensorBoardLogger, "log_metrics", interrupted)
        with pytest.raises(SystemExit):
            main([*FIT, *EXACT])
    assert len(rows(tmp_path, "blocks.csv")) == 2
    assert "block=002" in checkpoints(tmp_path)[-1].name
    main([*FIT, *EXACT, *LAST])
    assert_same_run(tmp_path, undisturbed(*FIT, *EXACT))


@pytest.mark.parametrize(("share", "saved"), [("1", ["000", "001", "002", "003"]), ("1e-9", ["000", "003"])])
def test_blocks_are_saved_as_often_as_their_share_of_the_time_allows_and_the_last_is(
    share: str, saved: list[str], tmp_path: Path
) -> None:
    main([*RUN, *EXACT, "--checkpoint.keep=9", f"--checkpoint.share={share}"])
    assert [path.name for path in checkpoints(tmp_path)] == [f"block={block}-epoch=00000.ckpt" for block in saved]


def test_blocks_that_were_reported_and_not_saved_are_trained_and_reported_again(
    undisturbed: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match="error: gone"):
        main([*RUN, *EXACT, "--checkpoint.share=1e-9", *gone("on_train_batch_start")])
    assert len(rows(tmp_path, "blocks.csv")) == 2
    assert [path.name for path in checkpoints(tmp_path)] == ["block=000-epoch=00000.ckpt"]
    main([*RUN, *EXACT, *LAST])
    assert_same_run(tmp_path, undisturbed(*FIT, *EXACT))


def test_a_share_out_of_range_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"^share must be in \(0, 1\], got 0.0$"):
        BlockCheckpoint(share=0.0)


def test_numbers_that_are_not_finite_are_not_saved(
    undisturbed: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    solver = "--model.solver=faults.NotFinite"
    with monkeypatch.context() as patch:
        patch.setenv("POISON", "1")
        with pytest.raises(SystemExit, match="not finite in block 2, epoch 7, batch 3"):
            main([*FIT, *OFTEN, solver])
    main([*FIT, *LAST, solver])
    assert_same_run(tmp_path, undisturbed(*FIT, solver))


def test_going_on_from_an_older_checkpoint_makes_the_newer_ones_older(
    undisturbed: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main([*FIT, *EXACT])
    before, newest = checkpoints(tmp_path)
    (newest.parent / "block=002.ckpt.part").write_bytes(b"of a killed run")
    with pytest.raises(SystemExit, match="error: gone"):
        main([*FIT, *EXACT, *gone("on_train_epoch_start"), "--ckpt_path", str(before)])
    assert len(rows(tmp_path, "blocks.csv")) == 2
    assert checkpoints(tmp_path)[-1] != newest
    main([*FIT, *EXACT, *LAST])
    assert_same_run(tmp_path, undisturbed(*FIT, *EXACT))
    assert not list(newest.parent.glob("*.part"))


@pytest.mark.parametrize(
    ("n_cut", "solver"),
    [
        (1, EXACT),
        pytest.param(0, EXACT, marks=pytest.mark.slow),
        pytest.param(1, [], marks=pytest.mark.slow),
        pytest.param(0, [], marks=pytest.mark.slow),
    ],
)
def test_a_run_goes_on_with_more_blocks_as_if_it_had_had_them(
    n_cut: int, solver: list[str], undisturbed: Callable[..., Path], tmp_path: Path
) -> None:
    cut = [f"--trainer.max_epochs={n_cut}"] if n_cut else []
    main([*FIT, *solver, "--model.n_blocks=2", *cut])
    with pytest.warns(UserWarning, match="model.n_blocks 2 → 3"):
        main([*FIT, *solver, *LAST])
    assert_same_run(tmp_path, undisturbed(*FIT, *solver))


def test_other_seeds_checkpoints_and_val_rows_are_reported_and_the_block_goes_on(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    with pytest.raises(SystemExit):
        main([*FIT, *fault("SignalAtPass", at=10, signum=int(signal.SIGTERM))])
    assert "epoch=00010" in checkpoints(tmp_path)[-1].name
    main([*FIT, *LAST, "--seed_everything=7", "--checkpoint.keep=3", "--trainer.limit_val_batches=1"])
    said = [str(warning.message) for warning in recwarn]
    (report,) = {line for line in said if "differ from the checkpoint's" in line}
    for change in ("seed_everything 0 → 7", "checkpoint.keep 2 → 3", "trainer.limit_val_batches None → 1"):
        assert change in report
    assert not any("starts anew" in line for line in said)


def test_another_rounding_of_features_is_refused_as_the_wrong_argument_that_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main([*FIT, *EXACT, "--trainer.precision=bf16-mixed", "--trainer.max_epochs=1"])
    with pytest.raises(SystemExit) as end:
        main([*FIT, *EXACT, *LAST, "--trainer.precision=32-true"])
    assert end.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: trainer.precision and model.tf32 must be those of the blocks trained so far")


def test_an_error_before_training_is_the_one_that_is_shown(tmp_path: Path, xors: Callable[..., object]) -> None:
    class Early(L.Callback):
        def on_fit_start(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:
            pl_module.net.n_trained += 1
            raise LookupError("early")

    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    callbacks = [LayerwiseTraining(), Early(), BlockCheckpoint()]
    trainer = L.Trainer(max_epochs=-1, default_root_dir=tmp_path, callbacks=callbacks, **quiet)
    with pytest.raises(LookupError, match="early"):
        trainer.fit(LayerwiseTask(6, 3, n_blocks=2, n_features=5), datamodule=xors())


def test_sigterm_while_a_run_starts_is_kept_until_it_can_be_saved(
    sigterm: Callable[..., None], undisturbed: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main([*FIT, *EXACT, *fault("SignalAtPass", at=0, signum=int(signal.SIGTERM))])
    assert end.value.code == 143
    assert f"stopped by SIGTERM, saved as {checkpoints(tmp_path)[-1]}" in capsys.readouterr().out
    main([*FIT, *EXACT, *LAST])
    assert_same_run(tmp_path, undisturbed(*FIT, *EXACT))


@pytest.mark.parametrize("subcommand", ["fit", "validate"])
def test_sigterm_ends_a_run_that_saves_nothing_at_once(
    subcommand: str, sigterm: Callable[..., None], undisturbed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LayerwiseTask, "training_step" if subcommand == "fit" else "validation_step", sigterm)
    args = {
        "fit": ["--trainer.enable_checkpointing=false", "--trainer.logger=false"],
        "validate": ["--ckpt_path", str(checkpoints(undisturbed(*FIT, *EXACT))[-1]), "--trainer.logger=false"],
    }
    with pytest.raises(SystemExit) as end:
        main([subcommand, *FIT[1:], *EXACT, *args[subcommand]])
    assert end.value.code == 143


CSV = ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=logs", "--trainer.logger.name=mine"]
MINE = ["--trainer.logger=TensorBoardLogger", "--trainer.logger.save_dir=logs", "--trainer.logger.name=mine"]
BOTH = [*MINE, "--trainer.logger+=CSVLogger", "--trainer.logger.save_dir=tables", "--trainer.logger.name=too"]


@pytest.mark.parametrize(
    "loggers",
    [pytest.param(CSV, marks=pytest.mark.slow), pytest.param(MINE, marks=pytest.mark.slow), BOTH],
    ids=["csv", "tensorboard", "both"],
)
def test_a_run_goes_on_in_the_logs_of_its_own_loggers(
    loggers: list[str], undisturbed: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match="error: gone"):
        main([*FIT, *EXACT, *loggers, *gone("on_train_epoch_start")])
    main([*FIT, *EXACT, *loggers, *LAST])
    folders = sorted(path.name for path in tmp_path.glob("*/*/*"))
    assert folders == ["version_0"] * (2 if loggers is BOTH else 1)
    for table in ("levels.csv", "labels.csv", "metrics.csv"):
        expected = next(undisturbed(*FIT, *EXACT, *loggers).glob(f"*/*/*/{table}"), None)
        if expected is not None:
            written = next(tmp_path.glob(f"*/*/*/{table}"))
            assert untimed(written) == untimed(expected)


def test_a_checkpoint_that_was_copied_leaves_the_log_of_its_run_alone(tmp_path: Path) -> None:
    main([*FIT, *EXACT, *CSV, "--trainer.max_epochs=1"])
    log = tmp_path / "logs" / "mine"
    before = {path: path.read_bytes() for path in log.rglob("*") if path.is_file()}
    copy = tmp_path / "copy.ckpt"
    copy.write_bytes(max(log.rglob("*.ckpt")).read_bytes())
    main([*FIT, *EXACT, *CSV, "--ckpt_path", str(copy)])
    assert {path: path.read_bytes() for path in before} == before
    assert len((log / "version_1" / "blocks.csv").read_text().splitlines()) == 3


def untimed(path: Path) -> list[list[str]]:
    lines = [line.split(",") for line in path.read_text().splitlines()]
    timed = [column for column, name in enumerate(lines[0]) if "seconds" in name]
    return [[value for column, value in enumerate(line) if column not in timed] for line in lines]


def test_a_requeued_job_goes_on_from_the_newest_checkpoint_that_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main([*FIT, *EXACT, "--trainer.max_epochs=1"])
    saved = checkpoints(tmp_path)[-1].read_bytes()
    Path("hpc_ckpt_1.ckpt").write_bytes(saved)
    Path("hpc_ckpt_2.ckpt").write_bytes(saved[:-100])
    slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "fit", "SLURM_NTASKS": "1", "SLURM_NNODES": "1"}
    slurm |= {name: "0" for name in ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID")} | {"SLURM_NODELIST": "localhost"}
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    with pytest.warns(UserWarning, match=r"skipping the checkpoint hpc_ckpt_2\.ckpt"):
        cli = main([*FIT, *EXACT])
    assert cli.config.fit.ckpt_path == "hpc_ckpt_1.ckpt"
    assert [row["block"] for row in rows(tmp_path, "blocks.csv")] == ["1"]
    assert log_of(tmp_path, 7).exists()
    for path in [*tmp_path.glob("*.ckpt"), *tmp_path.rglob("version_7/checkpoints/*.ckpt")]:
        path.write_bytes(b"")
    with pytest.raises(SystemExit) as end:
        main([*FIT, *EXACT])
    assert end.value.code == 2
