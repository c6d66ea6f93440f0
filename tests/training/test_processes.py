"""The same weights whatever the number of processes: the golden test, and what happens when they differ."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from processes import (
    AUTO,
    EXACT,
    JOINT,
    ROOT,
    RUN,
    TWO,
    checkpoints,
    fault,
    log_of,
    points,
    rows,
    run,
    wait_for_the_end,
    weights,
)

from hierlit.cli import main
from hierlit.data.base import FixedBatches
from hierlit.plan.options import PlanOptions, Run, sizes_of
from hierlit.plan.work import BlockWork

SOLVERS = {"gradient": [], "exact": EXACT, "cross-fitted": [*EXACT, "--layerwise.folds", "3"], "auto": AUTO}
QUICK = (("gradient", "64-true", 2), ("auto", "64-true", 2))
"""All solvers are fitted by two processes, without a Trainer, in tests/layerwise/test_processes.py."""
CASES = [
    pytest.param(*case, marks=[] if case in QUICK else pytest.mark.slow)
    for case in product(SOLVERS, ("64-true", "32-true"), (2, 3))
]


@pytest.mark.parametrize(("solver", "precision", "n"), CASES)
def test_processes_train_the_weights_that_one_does(
    solver: str, precision: str, n: int, undisturbed: Callable[..., Path], tmp_path: Path
) -> None:
    args = [*RUN, *SOLVERS[solver], "--trainer.precision", precision]
    printed = run(tmp_path, *args, "--trainer.strategy", "ddp", "--trainer.devices", str(n))
    assert printed.count("block 3/3") == 1
    assert_alike(undisturbed(*args), tmp_path, {"64-true": 1e-9, "32-true": 1e-4}[precision])


@pytest.mark.slow
def test_processes_train_jointly_what_one_does(root: Path, tmp_path: Path) -> None:
    args = [*RUN, *JOINT, "--trainer.precision", "64-true"]
    run(tmp_path / "one", *args)
    run(tmp_path / "two", *args, *TWO)
    assert_alike(tmp_path / "one", tmp_path / "two", 1e-9)


def assert_alike(one: Path, many: Path, tolerance: float) -> None:
    expected, got = weights(one), weights(many)
    for name, value in expected.items():
        distance = float((got[name].double() - value.double()).norm())
        assert distance <= tolerance * float(value.double().norm()), name
    for table, exact in (
        ("blocks.csv", ("block", "epochs", "steps", "accepted", "stop_reason")),
        ("levels.csv", ("block", "level", "n_labels", "train_accuracy", "margin_error", "val_accuracy", "learned")),
        ("labels.csv", ("block", "label", "level", "accepted", "val_accuracy")),
    ):
        pairs = zip(rows(one, table), rows(many, table), strict=True)
        assert all(before[column] == after[column] for before, after in pairs for column in exact)
    for before, after in zip(rows(one, "levels.csv"), rows(many, "levels.csv"), strict=True):
        assert float(after["train_min_margin"]) == pytest.approx(float(before["train_min_margin"]), abs=tolerance)
    assert {tag: len(found) for tag, found in points(one).items()} == {
        tag: len(found) for tag, found in points(many).items()
    }


@pytest.mark.parametrize(
    ("solver", "differ"),
    [
        ("OwnRows", "blocks.0.weight differ"),
        pytest.param("OwnMean", "blocks.0.features.mean differ", marks=pytest.mark.slow),
    ],
)
def test_processes_that_do_not_add_up_are_stopped_with_one_line(solver: str, differ: str, tmp_path: Path) -> None:
    printed = run(tmp_path, *RUN, *TWO, "--model.solver", f"faults.{solver}", expect=None)
    assert f"the network after block 1 is not the same on ranks [0, 1]: {differ}" in printed
    assert "Traceback" not in printed
    assert "block 1/3" not in printed


@pytest.mark.parametrize(
    "args",
    [
        pytest.param([], id="gradient"),
        pytest.param(EXACT, id="exact", marks=pytest.mark.slow),
        pytest.param([*EXACT, "--model.adaptation.redraws", "2"], id="adaptive", marks=pytest.mark.slow),
        pytest.param([*EXACT, "--layerwise.folds", "3"], id="folds", marks=pytest.mark.slow),
    ],
)
def test_a_block_adds_up_as_many_bytes_as_planned(args: list[str], tmp_path: Path) -> None:
    printed = run(tmp_path, *RUN, *args, *TWO, *fault("CountBytes"))
    sent = [int(line.split()[1]) for line in printed.splitlines() if line.startswith("BYTES")]
    planned = main(["plan", *RUN[1:], *args, "--plan.devices", "2"]).planned
    n, blocks = planned.data.n_labels, rows(tmp_path, "blocks.csv")
    for block, row in enumerate(blocks):
        of_last = 2 * 4 * (2 * n**2 + n) * (block < len(blocks) - 1)  # labels are counted at the end alone
        assert sent[block] + of_last in planned_bytes(planned, int(row["epochs"]))


def planned_bytes(planned: Run, epochs: int) -> set[float]:
    """What a block of so many epochs sends, for each number of candidates and targets that the data may leave."""
    sizes = replace(sizes_of(planned, PlanOptions(devices=2), 2), epochs=epochs)
    candidates, draws = range(1, 7) if sizes.n_candidates else [0], range(1, 7) if sizes.redraws else [0]
    return {
        sum(BlockWork(replace(sizes, n_candidates=chosen, draw_candidates=drawn, n_targets=targets)).messages.values())
        for chosen in candidates
        for drawn in draws
        for targets in (range(1, 4) if sizes.redraws else [0])
    }


@pytest.mark.slow
def test_two_torchrun_agents_train_what_one_process_does(undisturbed: Callable[..., Path], tmp_path: Path) -> None:
    one = undisturbed(*RUN, "--trainer.precision", "64-true")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    nodes = ["--trainer.strategy", "ddp", "--trainer.devices", "1", "--trainer.num_nodes", "2"]
    agents = []
    for rank in (0, 1):
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1"]
        place = ["--node_rank", str(rank), "--master_addr", "127.0.0.1", "--master_port", port]
        command = [*launcher, *place, "-m", "hierlit", *RUN, "--trainer.precision", "64-true", *nodes]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        agents.append(subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True))
    printed = [agent.communicate(timeout=120)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], printed
    assert "".join(printed).count("block 3/3") == 1
    assert_alike(one, tmp_path, 1e-9)


def test_each_process_keeps_its_own_slices_and_every_row_counts_once() -> None:
    order = torch.arange(31)
    for n in (1, 2, 3, 5):
        ranks = [list(FixedBatches(order, 7, 0, True, n, rank)) for rank in range(n)]
        for parts in zip(*ranks, strict=True):
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
        assert torch.equal(torch.cat([rows for rank in ranks for rows in rank]).sort().values, order)


REFUSED = [
    *("fsdp", "deepspeed", "deepspeed_stage_2", "model_parallel", "nonsense", "ddp_spawn", "ddp_fork", "ddp_notebook"),
    *("FSDPStrategy", "ModelParallelStrategy", "lightning.pytorch.strategies.DeepSpeedStrategy"),
]


@pytest.mark.parametrize(
    ("strategy", "subcommand"),
    [
        pytest.param(
            *case,
            marks=[] if case in (("fsdp", "fit"), (REFUSED[-1], "fit"), ("nonsense", "plan")) else pytest.mark.slow,
        )
        for case in product(REFUSED, ("fit", "plan"))
    ],
)
def test_strategies_that_do_not_hold_are_refused_in_one_line(
    strategy: str, subcommand: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main([subcommand, *RUN[1:], "--trainer.strategy", strategy])
    assert end.value.code == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "trainer.strategy must be one of auto, ddp" in line
    assert strategy.rpartition(".")[2] in line
    assert not log_of(tmp_path).exists()


@pytest.mark.parametrize(
    "strategy",
    ["ddp", "ddp_find_unused_parameters_true", {"class_path": "DDPStrategy", "init_args": {"timeout": None}}],
)
def test_ddp_in_all_its_forms_is_taken(strategy: object) -> None:
    main(["plan", *RUN[1:], f"--trainer.strategy={json.dumps(strategy) if isinstance(strategy, dict) else strategy}"])


OTHER_CHECKPOINT = """
import os, sys
from hierlit.cli import main
if os.environ.get("LOCAL_RANK") == "1":
    sys.argv[-1] = os.environ["OTHER"]
main()
"""


def test_processes_that_would_start_from_different_places_are_stopped_with_one_line(tmp_path: Path) -> None:
    run(tmp_path, *RUN, *EXACT, "--trainer.max_epochs", "2")
    one, two = checkpoints(tmp_path)
    code = {"code": OTHER_CHECKPOINT, "OTHER": str(one)}
    printed = run(tmp_path, *RUN, *EXACT, *TWO, "--ckpt_path", str(two), expect=None, **code)
    assert "the start of the run is not the same on ranks [0, 1]: " in printed
    assert "checkpoint differ: all nodes must have the same arguments and log folder" in printed
    assert "Traceback" not in printed
    wait_for_the_end(tmp_path, 30)
