"""`plan` against the runs it plans: operations counted as they happen, memory at the peak of a process."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import run
from torch.utils._python_dispatch import TorchDispatchMode

from hierlit.cli import main
from hierlit.cli.dry import PlanCLI
from hierlit.plan.options import PlanOptions, sizes_of
from hierlit.plan.work import BlockWork, total

ROOT = Path(__file__).parents[2]
SMALL = ["--config", str(ROOT / "tests" / "conf" / "automaton.yaml")]
RATES = ["--plan.flops", "1e12", "--plan.factor_flops", "1e11", "--plan.bandwidth", "1e11"]
QUIET = ["--trainer.logger", "false", "--trainer.enable_checkpointing", "false"]
WIDE = ["--data.n_train", "400", "--model.n_features", "300"]
EXACT = [*WIDE, "--model.solver", "ExactSolver"]
CUT_SHORT = ["--layerwise.max_epochs_per_block", "12", "--layerwise.gradient_tolerance", "1e-9"]
FOLDS = ["--layerwise.folds", "3", "--layerwise.acceptance", "none", "--data.acceptance_fraction", "0"]
RADIAL = [*FOLDS, "--model.features", "RadialFeatures", "--data.n_train", "220", "--model.n_features", "2400"]
KERNEL = [*RADIAL, "--model.solver", "KernelSolver"]
ONE_TRIAL = [
    f"--model.solver.{name}" for name in ("alphas=[0.1]", "bandwidths=[1.0]", "powers=[2.0]", "on_sphere=false")
]
MANY_LABELS = ["--data.n_levels", "3000", "--data.n_train", "40", "--model.n_features", "20", "--model.n_blocks", "1"]
ADAPTIVE = [*EXACT, "--model.adaptation", "AdaptiveDraw", "--model.adaptation.n_pairs", "2000"]
# not ru_maxrss, which starts at the parent's: the peak of this process alone
PEAK = f"""
import re, sys
from pathlib import Path
from hierlit.watching import Diagnostics
from hierlit.cli import main
from hierlit.plan.options import PlanOptions, sizes_of
from hierlit.plan.tables import memory_of
run = main(["plan", *sys.argv[1:], *{RATES}]).planned
predicted = [sum(memory_of(run, sizes_of(run, PlanOptions(), cosines=of)).values()) for of in (False, True)]
Diagnostics.on_train_epoch_end = lambda *_: None  # tries blocks at the end, which a plan does not count
block = main(["fit", *sys.argv[1:]]).model.net.block(0)
are_cosines = getattr(block.features, "are_cosines", False)
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print("PEAK", run.base, round(predicted[are_cosines]), int(peak[1]) * 1024, int(are_cosines))
"""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def planned(*args: str) -> PlanCLI:
    cli = main(["plan", *SMALL, *RATES, *args])
    assert isinstance(cli, PlanCLI)
    return cli


class Operations(TorchDispatchMode):
    """Counts 2mnk a product, n³/3 a Cholesky factor, 2n²k a solve, 2n³/3 an inverse and 4n³/3 eigenvalues."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        shapes = [arg.shape for arg in args if isinstance(arg, torch.Tensor)]
        if name in ("mm", "mv", "bmm", "linear"):
            outputs = {"mv": 1, "linear": shapes[1][0]}.get(name, shapes[1][-1])
            self.count += 2 * math.prod(shapes[0]) * outputs
        elif name in ("addmm", "addmm_"):
            self.count += 2 * math.prod(shapes[1]) * shapes[2][1]
        elif name == "linalg_cholesky_ex":
            self.count += shapes[0][-1] ** 3 / 3
        elif name == "cholesky_solve":
            self.count += 2 * shapes[1][-1] ** 2 * shapes[0][-1]
        elif name == "cholesky_inverse":
            self.count += 2 * shapes[0][-1] ** 3 / 3
        elif name == "linalg_solve_triangular":
            self.count += shapes[0][-1] ** 2 * math.prod(shapes[1]) / shapes[0][-1]
        elif name == "_linalg_eigh":
            self.count += 4 * shapes[0][-1] ** 3 / 3
        return func(*args, **(kwargs or {}))


@pytest.mark.filterwarnings("ignore:block .* stopped at max epochs")
@pytest.mark.parametrize(
    "args",
    [
        EXACT,
        ADAPTIVE,
        pytest.param([*ADAPTIVE, "--model.output", "orthogonal"], marks=pytest.mark.slow),
        [*EXACT, "--model.solver.choice", "gcv", "--model.cache_budget_gib", "0.003", "--trainer.precision", "64-true"],
        [*EXACT, *CUT_SHORT, "--model.loss", "HybridMarginLoss", "--model.cache_budget_gib", "0"],
        [*WIDE, *CUT_SHORT],
        pytest.param([*WIDE, *CUT_SHORT, "--model.cache_budget_gib", "0.004"], marks=pytest.mark.slow),
        [*EXACT, *FOLDS],
        pytest.param([*WIDE, *CUT_SHORT, *FOLDS, "--data.n_train", "200"], marks=pytest.mark.slow),
        [*KERNEL, *ONE_TRIAL, "--model.n_features", "700", "--data.n_train", "150"],
    ],
    ids=[
        *("exact", "adaptive", "rotated", "gcv-double-some-kept", "margin-none-kept", "gradient", "gradient-some-kept"),
        *("exact-folds", "gradient-folds", "kernel"),
    ],
)
def test_operations_are_those_of_the_run(args: list[str]) -> None:
    sizes = sizes_of(planned(*args).planned, PlanOptions())
    first, later = (total(*BlockWork(each).parts.values()) for each in (sizes, sizes.later))
    work = total(first, later.times(sizes.n_blocks - 1))
    with Operations() as counted:
        main(["fit", *SMALL, *QUIET, *args])
    assert work.operations == pytest.approx(counted.count, rel=0.05)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
@pytest.mark.parametrize(
    "args",
    [
        # matrices so large that what is freed of them is given back: how many stay in the heap is chance
        [*EXACT, "--model.n_features", "2100"],
        [*CUT_SHORT, "--model.n_features", "1400", "--data.n_train", "1500", "--data.batch_size", "400"],
        [*KERNEL, *ONE_TRIAL],
        pytest.param(
            [*RADIAL, "--model.solver", "AutoSolver", *ONE_TRIAL, "--data.n_train=1500", "--model.n_features=1000"],
            marks=pytest.mark.slow,
        ),
        pytest.param([*EXACT, *MANY_LABELS], marks=pytest.mark.slow),
    ],
    ids=["matrices", "features", "kernel", "cosines", "labels"],
)
def test_memory_at_the_peak_is_that_of_the_run(
    args: list[str], own_folder: Path, request: pytest.FixtureRequest
) -> None:
    printed = run(own_folder, *SMALL, "--model.n_blocks", "2", *args, code=PEAK)
    base, predicted, peak, are_cosines = map(int, printed.split("PEAK")[1].split()[:4])
    assert are_cosines == ("cosines" in request.node.callspec.id)
    assert peak > base + 200 * 2**20
    assert predicted == pytest.approx(peak, rel=0.25)
    assert predicted - base == pytest.approx(peak - base, rel=0.25)


def test_parameters_are_those_of_the_network() -> None:
    run = planned("--model.output", "orthogonal", "--model.n_blocks", "1").planned
    sizes = sizes_of(run, PlanOptions())
    assert sizes.n_frozen == sum(parameter.numel() for parameter in run.task.net.parameters())
    assert sizes.n_trained == run.task.net.block(0).weight.numel()


def test_more_processes_share_rows_and_add_up_what_they_found() -> None:
    run = planned(*EXACT).planned
    one, four = (BlockWork(sizes_of(run, PlanOptions(), number)) for number in (1, 4))
    for name in ("features", "Gram matrix", "cross products", "1 epoch"):
        assert four.parts[name].operations == pytest.approx(one.parts[name].operations / 4, rel=0.05)
    assert four.parts["factorisations"] == one.parts["factorisations"]
    assert not one.messages
    assert four.messages["Gram matrix"] == 8 * 301**2
    assert four.sizes.memory["features kept"] == pytest.approx(one.sizes.memory["features kept"] / 4, rel=0.05)


def test_plan_prints_what_it_found_and_writes_nothing(own_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--plan.devices", "3", "--plan.margin_growth", "2", "--plan.link", "1e9"]
    planned(*EXACT, *arguments)
    short = capsys.readouterr().out
    assert len(short.splitlines()) < 20
    planned(*EXACT, *arguments, "--plan.details", "true")
    printed = capsys.readouterr().out
    assert max(map(len, printed.split("- epochs")[0].splitlines())) <= 80
    for part in ("each of 3", "memory at the peak", "Gram matrix", "factorisations", "3 blocks", "All-reduced"):
        assert part in printed
    of_all = next(line for line in printed.splitlines() if "│ 3 blocks" in line).replace("│", " ").split()
    assert next(line for line in short.splitlines() if "all blocks" in line).replace("│", " ").split()[-2:] == [
        *(of_all[place] for place in (4, 7))
    ]
    # r = 3, m|G| = 400·16, ξ = 1: 3·(⌈log(8·6400)/2⌉ + 1)
    assert "3·(⌈10.84/γ⌉ + 1) = 21 at γ = 2" in printed
    assert not list(own_folder.iterdir())


def test_what_a_config_does_not_tell_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    planned()
    printed = capsys.readouterr().out
    assert "taken as 200 a block" in printed
    assert "3·(⌈9.46/γ⌉ + 1) needs --plan.margin_growth" in printed


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (["--plan.epohcs", "3"], ["epohcs", "epochs"]),
        (["--plan.devices", "0"], ["plan.devices", "positive", "0"]),
        (["--plan.flops", "fast"], ["plan.flops", "float", "fast"]),
        (["--model.n_blocks", "-2"], ["n_blocks", "positive", "-2"]),
        (["--model.n_featuers", "3"], ["n_featuers", "n_features"]),
        (["--data.acceptance_fraction", "0"], ["acceptance", "acceptance_fraction", "none", "0"]),
        (["--model.joint.epochs", "5"], ["joint training", "model.joint"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_bad_input_is_one_line(args: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        planned(*args)
    assert exit_info.value.code == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    for part in parts:
        assert part in line


def test_a_config_that_fit_saved_can_be_planned(own_folder: Path) -> None:
    main(["fit", *SMALL, "--model.solver", "ExactSolver"])
    main(["plan", "--config", str(own_folder / "lightning_logs" / "version_0" / "config.yaml"), *RATES])


def test_help_knows_plan(capsys: pytest.CaptureFixture[str]) -> None:
    for args, words in ((["--help"], "plan"), (["plan", "--help"], "--plan.margin_growth")):
        with pytest.raises(SystemExit):
            main(args)
        assert words in capsys.readouterr().out
