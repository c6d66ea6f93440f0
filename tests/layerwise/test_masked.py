"""Examples of different sizes: what is padded is as if it were not there."""

import pytest
import torch
from torch import Tensor

from hierlit.layerwise import StreamCache
from hierlit.layerwise.acceptance import Acceptance
from hierlit.layerwise.algorithm import train
from hierlit.layerwise.folds import Folds
from hierlit.layerwise.losses import SquaredLoss
from hierlit.layerwise.solvers import ExactSolver, GradientSolver, Solver
from hierlit.layerwise.unobserved import label_loss
from hierlit.models import CosineFeatures, HierarchicalResNet, Window1d

SHORT, LONG, N_INPUTS, N_LABELS = 3, 9, 4, 2
Batches = list[tuple[Tensor, Tensor, Tensor]]


def lines(n_rows: int = 24, seed: int = 0) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs [length, d] with channel 0 of ones, and labels [length, n], of lines of different lengths."""
    generator = torch.Generator().manual_seed(seed)
    inputs, labels = [], []
    for length in torch.randint(SHORT, LONG + 1, (n_rows,), generator=generator).tolist():
        line = torch.randn(length, N_INPUTS, generator=generator)
        line[:, 0] = 1
        inputs.append(line)
        labels.append(torch.stack([line[:, 1], line[:, 1] * line[:, 2].roll(1)], 1).sign())
    return inputs, labels


def padded(parts: list[Tensor], length: int) -> Tensor:
    return torch.stack([torch.cat([part, part.new_zeros(length - len(part), part.shape[1])]) for part in parts])


def batches(length: int, size: int, own_length: bool = False) -> Batches:
    """Rows padded to a length, or each batch to its own longest row."""
    inputs, labels = lines()
    found = []
    for first in range(0, len(inputs), size):
        own = slice(first, first + size)
        to = max(map(len, inputs[own])) if own_length else length
        rows = torch.arange(first, first + len(inputs[own]))
        found.append((padded(inputs[own], to), padded(labels[own], to), rows))
    return found


def trained(given: Batches, solver: Solver, folds: int | None = None, beside: int = 0) -> HierarchicalResNet:
    neighbours = Window1d(beside, periodic=False) if beside else None
    features, windows = CosineFeatures(), Window1d(3, periodic=False)
    net = HierarchicalResNet(
        N_INPUTS, N_LABELS, LONG, windows, 2, 30, features, masked=True, neighbours=neighbours
    ).double()
    rows = StreamCache(net, folds=None if folds is None else Folds(folds, 24))
    rows.fill("fit", given)
    loss = label_loss(SquaredLoss(), "ignore", None, N_LABELS)
    for _ in train(net, rows, solver, loss, acceptance=Acceptance("none")):
        pass
    return net


@pytest.mark.parametrize("beside", [0, 3])
@pytest.mark.parametrize("folds", [None, 3])
@pytest.mark.parametrize("solver", [ExactSolver(choice="gcv"), GradientSolver()], ids=["exact", "gradient"])
def test_what_is_learned_does_not_depend_on_padding(solver: Solver, folds: int | None, beside: int) -> None:
    one, other = (
        trained(given, solver, folds, beside) for given in (batches(LONG, 8), batches(LONG, 8, own_length=True))
    )
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(tensor, other.state_dict()[name], rtol=1e-6, atol=1e-8, msg=name)
    inputs = padded(lines()[0], LONG).double()
    is_padding = inputs[..., 0] == 0
    assert is_padding.any() and not one(inputs)[is_padding].any()


@pytest.mark.parametrize("beside", [0, 5])
def test_scores_of_a_line_do_not_depend_on_what_follows_it(beside: int) -> None:
    net = trained(batches(LONG, 8), ExactSolver(choice="gcv"), beside=beside)
    for line in lines(6, seed=1)[0]:
        alone, long = net(line[None].double()), net(padded([line], 2 * LONG).double())
        torch.testing.assert_close(long[:, : len(line)], alone, rtol=0, atol=1e-12)


def test_masked_lines_of_one_length_are_as_lines_without_a_mask() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(20, LONG, N_INPUTS, generator=generator, dtype=torch.float64)
    inputs[..., 0] = 1
    labels = (inputs[..., 1:3] * inputs[..., 2:].roll(1, 1)).sign()
    given, found = [(inputs, labels, torch.arange(20))], []
    for masked in (True, False):
        net = HierarchicalResNet(
            N_INPUTS, N_LABELS, LONG, Window1d(3, periodic=False), 2, 30, CosineFeatures(), masked=masked
        ).double()
        rows = StreamCache(net)
        rows.fill("fit", given)
        loss = label_loss(SquaredLoss(), "ignore", None, N_LABELS)
        for _ in train(net, rows, ExactSolver(choice="gcv"), loss, acceptance=Acceptance("none")):
            pass
        found.append(net(inputs))
    torch.testing.assert_close(*found, rtol=0, atol=1e-12)


def test_padding_needs_the_split_output() -> None:
    with pytest.raises(ValueError, match="output must be split where examples are padded, got 'orthogonal'"):
        HierarchicalResNet(N_INPUTS, N_LABELS, LONG, output="orthogonal", masked=True)
