"""Labels of neighbours as labels of a location: against loops."""

import pytest
import torch

from hierlit.models import HierarchicalResNet, IndexTable, Proximity, TreeWindows, Window1d, Window2d

CASES = [(Window1d(3, periodic=False), 5), (Window1d(5, periodic=False, step=2), 6), (Window1d(3), 4)]
CASES += [(Window2d(3, 4, periodic=False), 12)]


def network(neighbours: Proximity | None, n_locations: int, masked: bool = False) -> HierarchicalResNet:
    return HierarchicalResNet(2, 3, n_locations, n_blocks=1, n_features=4, masked=masked, neighbours=neighbours)


@pytest.mark.parametrize(("neighbours", "n_locations"), CASES, ids=repr)
def test_labels_of_neighbours_follow_those_of_the_location(neighbours: Proximity, n_locations: int) -> None:
    net, table = network(neighbours, n_locations), neighbours.table(n_locations)
    inputs, labels = torch.ones(2, n_locations, 2), torch.randint(-1, 2, (2, n_locations, 3)).float()
    found = net.with_neighbours(labels, inputs).view(2, n_locations, table.shape[1], 3)
    others = [place for place in range(table.shape[1]) if place != table.shape[1] // 2]
    for location in range(n_locations):
        assert torch.equal(found[:, location, 0], labels[:, location])
        for slot, place in enumerate(others, 1):
            seen = int(table[location, place])
            expected = labels[:, seen] if seen >= 0 else -labels[:, location].abs()
            assert torch.equal(found[:, location, slot], expected)


@pytest.mark.parametrize(("neighbours", "n_locations"), CASES, ids=repr)
def test_answers_are_means_of_all_that_know_a_label(neighbours: Proximity, n_locations: int) -> None:
    net, table = network(neighbours, n_locations), neighbours.table(n_locations)
    stream = torch.randn(2, n_locations, 2 + net.n_scores)
    scores = net.scores(stream).view(2, n_locations, table.shape[1], 3)
    others = [place for place in range(table.shape[1]) if place != table.shape[1] // 2]
    for location in range(n_locations):
        said = [scores[:, location, 0]]
        for other in range(n_locations):
            said += [scores[:, other, slot] for slot, place in enumerate(others, 1) if table[other, place] == location]
        torch.testing.assert_close(net.answers(stream)[:, location], torch.stack(said).mean(0))


def test_truth_is_answered_with_the_truth() -> None:
    net = network(Window1d(5, periodic=False), 7, masked=True)
    inputs = torch.ones(1, 7, 2)
    inputs[:, 5:] = 0
    labels = torch.randint(0, 2, (1, 7, 3)).float().mul(2).sub(1) * inputs[..., :1]
    stream = net.add_scores(net.embed(inputs), net.with_neighbours(labels, inputs))
    assert torch.equal(net.answers(stream), labels)


def test_no_rows_have_no_answers() -> None:
    net = network(Window1d(5, periodic=False), 7)
    assert net.answers(torch.empty(0, 7, 2 + net.n_scores)).shape == (0, 7, 3)


def test_without_neighbours_answers_are_the_scores() -> None:
    net = network(None, 3)
    stream = torch.randn(2, 3, 5)
    assert net.n_scores == 3 and torch.equal(net.answers(stream), net.scores(stream))


@pytest.mark.parametrize("neighbours", [IndexTable([[1, 0], [0, 1]]), TreeWindows(2, 1), IndexTable([[1, 0, -1]] * 2)])
def test_neighbours_are_windows_around_a_location(neighbours: Proximity) -> None:
    with pytest.raises(ValueError, match="neighbours must be windows around each location"):
        network(neighbours, 2)
