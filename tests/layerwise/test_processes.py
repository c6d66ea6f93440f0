"""Two processes make what one makes of all rows."""

import multiprocessing
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from plain import ALL, Table, automaton, gather, hide, label_loss, network
from torch import Tensor

from hierlit.layerwise import (
    ALONE,
    Acceptance,
    AdaptiveDraw,
    AutoSolver,
    ExactSolver,
    Folds,
    GradientSolver,
    JointTraining,
    KernelSolver,
    LogisticLoss,
    Processes,
    SizedDraw,
    Stopping,
    StreamCache,
    train,
)
from hierlit.models import HierarchicalResNet, RadialFeatures
from hierlit.models.radial_units import COSINE

Work = Callable[[Processes], Any]
FORK = multiprocessing.get_context("fork")


def run_rank(rank: int, folder: Path, work: Work) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    try:
        found = work(Processes(2, rank))
    except Exception as error:
        traceback.print_exc()
        found = error
    torch.save(found, folder / f"{rank}.pt")


@pytest.fixture
def on_two(tmp_path: Path) -> Callable[[Work], list[Any]]:
    """Runs some work on two processes, and gives what it returns, or the error it raises, on each."""

    def run(work: Work) -> list[Any]:
        ranks = [FORK.Process(target=run_rank, args=(rank, tmp_path, work)) for rank in (0, 1)]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join(60)
            process.kill()
        return [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in (0, 1)]

    return run


def rows_of(net: HierarchicalResNet, table: Table, processes: Processes, folds: int | None = None) -> StreamCache:
    """The share of a process of every batch, perhaps an empty one."""
    rows = StreamCache(net, folds=None if folds is None else Folds(folds, len(table.inputs)))
    for split in ("fit", "held"):
        shares = [
            [part.tensor_split(processes.number)[processes.rank] for part in batch] for batch in table.batches(split)
        ]
        rows.fill(split, shares)
    return rows


RUNS: dict[str, dict[str, Any]] = {
    "gradient": {"solver": GradientSolver(minibatch_epochs=2), "acceptance": Acceptance("gain")},
    "exact": {"solver": ExactSolver(), "acceptance": Acceptance("strict")},
    "gcv, logistic loss": {"solver": ExactSolver(choice="gcv"), "loss": LogisticLoss()},
    "adaptation": {"solver": ExactSolver(), "adaptation": AdaptiveDraw(n_pairs=100)},
    "blocks that size themselves": {"solver": ExactSolver(), "adaptation": SizedDraw(smallest=16), "is_sized": True},
    "folds": {"solver": ExactSolver(), "folds": 3, "loss": LogisticLoss()},
    "radial units": {"solver": ExactSolver(), "features": RadialFeatures()},
    "kernel solver": {"solver": KernelSolver(), "folds": 3, "features": RadialFeatures()},
    "a unit for each pair": {"solver": KernelSolver(), "folds": 3, "features": RadialFeatures(), "n_features": 300},
    "cosines": {"solver": AutoSolver(), "folds": 2, "features": RadialFeatures()},
    "joint": {"joint": JointTraining(3, lambda weights: torch.optim.SGD(weights, 0.1))},
}


def trained(table: Table, processes: Processes, name: str) -> tuple[dict[str, Tensor], list[float]]:
    options = {"processes": processes, "acceptance": ALL, "stopping": Stopping(max_epochs=6), **RUNS[name]}
    own = {name: options.pop(name) for name in ("features", "is_sized") if name in options}
    net = network(table, 2, options.pop("n_features", 40), **own).double()
    rows = rows_of(net, table, processes, options.pop("folds", None))
    loss, joint = label_loss(options.pop("loss", None)), options.pop("joint", None)
    if joint is not None:
        events = joint.train(net, rows, loss, processes=processes)
    else:
        events = train(net, rows, options.pop("solver"), loss, **options)
    reports = gather(events, rows).reports
    numbers = [number for report in reports for number in (report.objective, report.initial_objective)]
    return net.state_dict() | {"scores": net(table.inputs.double())}, numbers


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_train_the_network_of_one(name: str, on_two) -> None:
    table = automaton(31, n_levels=2, n_cells=8, flips=0.1)
    table.labels, table.batch_size = hide(table.labels, 0.2), 6  # of 25 rows to fit: the last batch has one
    alone, numbers = trained(table, ALONE, name)
    (first, ours), (second, theirs) = on_two(lambda processes: trained(table, processes, name))
    assert alone["blocks.0.weight"].any()
    assert name != "cosines" or alone["blocks.0.features.power"] == COSINE
    assert all(torch.equal(value, second[key]) for key, value in first.items()), "to the bit on both"
    for key, value in alone.items():
        # units of a kernel tell one another's weights from their sum only as far as rounding lets them
        is_of_units = name in ("radial units", "kernel solver", "a unit for each pair") and key.endswith(".weight")
        within = 1e-4 if is_of_units else 1e-9
        torch.testing.assert_close(first[key], value, rtol=within, atol=within)
    assert ours == theirs == pytest.approx(numbers, rel=1e-9)


def test_what_all_have_is_gathered_exactly(on_two) -> None:
    pair = torch.tensor([[1e300, -1.0], [0.1, 2.0]], dtype=torch.float64)
    for found in on_two(lambda processes: processes.all_gather(pair[processes.rank])):
        assert torch.equal(found, pair)
    assert torch.equal(ALONE.all_gather(pair[0]), pair[:1])
    assert torch.equal(ALONE.sum(pair[0]), pair[0])


def test_values_that_differ_are_named_with_their_ranks(on_two) -> None:
    def compare(processes: Processes) -> None:
        processes.compare("the end", {"seed": 3}, torch.device("cpu"))
        values = {"same": "a", "seed": processes.rank, "shape": (2, 3 + processes.rank)}
        processes.compare("the start", values, torch.device("cpu"), ": have one config")

    for error in on_two(compare):
        assert isinstance(error, RuntimeError)
        assert str(error) == "the start is not the same on ranks [0, 1]: seed, shape differ: have one config"
    ALONE.compare("the start", {"seed": 3}, torch.device("cpu"))


def test_a_block_that_processes_do_not_share_is_not_frozen(on_two) -> None:
    table = automaton(20, n_levels=1, n_cells=8)

    def differ(processes: Processes) -> None:
        net = network(table, 1, 10).double()
        net.block(0).features.bias[3] += processes.rank
        gather(train(net, rows_of(net, table, processes), ExactSolver(), label_loss(None), processes=processes), None)

    for error in on_two(differ):
        assert isinstance(error, RuntimeError)
        assert str(error).startswith("the network after block 1 is not the same on ranks [0, 1]: ")
        assert "blocks.0.features.bias" in str(error)
