"""Blocks that size themselves: what they read, how many features they take, and what becomes of noise."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from plain import Table, automaton, label_loss, network, problem, stream, train_all
from torch import Tensor

from hierlit.draws import uniform
from hierlit.files.weights import load_weights, save_weights
from hierlit.layerwise import Acceptance, BlockReport, ExactSolver, Pass, SizedDraw, SquaredLoss, train
from hierlit.models import HierarchicalResNet, IndexTable, Window1d

STRICT = Acceptance("strict")
SIZED = SizedDraw()


def deep(n_levels: int, rule: int = 110, n_rows: int = 250, flips: float = 0.0, seed: int = 0) -> Table:
    table = automaton(n_rows, n_levels, 32, flips, rule, seed)
    table.batch_size = 64
    return table


def climb(table: Table, n_blocks: int, **options: object) -> tuple[HierarchicalResNet, list[BlockReport]]:
    net = network(table, n_blocks, 400, is_sized=True)
    given = {"acceptance": STRICT, "adaptation": SIZED, "stop_when_learned": True, **options}
    return net, train_all(net, table, ExactSolver(), **given).reports


def accuracy(net: HierarchicalResNet, table: Table) -> Tensor:
    return (net(table.inputs) * table.labels > 0).double().mean((0, 1))


def read(net: HierarchicalResNet, index: int) -> list[int]:
    channels = net.block(index).features.channels
    assert channels is not None
    return channels.tolist()


@pytest.mark.parametrize("rule", [110, 30, 45])
def test_every_level_is_learned_from_the_one_before_it_by_few_features(rule: int) -> None:
    net, reports = climb(deep(8, rule), 12)
    assert accuracy(net, deep(8, rule, seed=1)).min() >= 0.999
    for index, report in enumerate(reports[3:], 3):
        assert index in read(net, index), "the label of the level before, whose channel follows the input"
        assert report.channels == len(read(net, index)) <= 3 and report.accepted == 1
        assert report.features == net.block(index).features.n_features <= 256
        assert net.block(index).weight.shape == (1, report.features + 1)
        assert net.block(index).labels.tolist() == [index]


@pytest.mark.parametrize(("rule", "n_levels", "at_once"), [(90, 16, 2), (0, 3, 3)])  # on 32 cells rule 90 ends in 0
def test_a_label_that_is_the_same_in_every_row_is_learned_at_once(rule: int, n_levels: int, at_once: int) -> None:
    net, reports = climb(deep(n_levels, rule), n_levels + 2)
    assert accuracy(net, deep(n_levels, rule, seed=1)).min() >= 0.999
    assert reports[0].accepted == at_once


def test_windows_that_are_rare_are_not_given_up_for_those_that_are_not() -> None:
    net, _ = climb(deep(16, 57), 24)
    assert accuracy(net, deep(16, 57, seed=1)).min() >= 0.997, "a window of level 8 is 1 in 1,600"


def test_a_label_that_is_nearly_a_copy_of_what_is_known_waits_for_its_own_level() -> None:
    net, _ = climb(deep(16, 156, 400), 22)
    assert accuracy(net, deep(16, 156, 400, seed=1)).min() >= 0.999, "levels come to repeat every second one"


def test_a_run_ends_after_blocks_that_do_not_lower_the_number_of_wrong_signs() -> None:
    memory: dict[str, object] = {}
    seen = []
    for block, wrong in enumerate((0.4, 0.2, 0.3, 0.2, 0.1, 0.2, 0.1, 0.1)):
        memory["opened"] = {"learns": torch.zeros(0, dtype=torch.long), "ages": {}}
        train = {"accuracy": torch.tensor([1 - wrong, float("nan")]), "margin_error": torch.ones(2)}
        SIZED.note(memory, block, train, torch.ones(2, dtype=torch.bool))
        seen.append(memory["in_vain"])
    assert seen == [0, 0, 1, 2, 0, 1, 2, 3]
    assert SIZED.open(problem(stream(network(deep(2), 2, 64, is_sized=True), deep(2))), memory) is None


def test_a_label_that_skips_levels_is_found_without_being_told() -> None:
    table = deep(5)
    far = table.labels[..., :1] * table.labels[..., 4:].roll(1, 1)
    table.labels = torch.cat([table.labels, far], 2)
    net, reports = climb(table, 12)
    assert accuracy(net, table).min() >= 0.999
    assert len(reports) <= 9


def test_a_network_no_wider_than_the_first_attempt_looks_further_all_the_same() -> None:
    table = deep(4)
    net = network(table, 8, 64, is_sized=True)
    train_all(net, table, ExactSolver(), acceptance=STRICT, adaptation=SIZED, stop_when_learned=True)
    assert accuracy(net, table).min() >= 0.999


def test_what_neighbours_know_is_learned_too() -> None:
    table = deep(2)
    net = network(table, 6, 400, is_sized=True, neighbours=Window1d(3))
    train_all(net, table, ExactSolver(), acceptance=STRICT, adaptation=SIZED, stop_when_learned=True)
    scores = net.scores(net.stream(table.inputs))
    assert (scores.abs().mean((0, 1)) > 0.5).all(), "those of the label itself, and of both neighbours"
    assert accuracy(net, table).min() >= 0.999


def test_a_constant_label_and_one_that_is_never_observed_are_no_obstacles() -> None:
    table = deep(3)
    constant, unseen = torch.ones_like(table.labels[..., :1]), torch.zeros_like(table.labels[..., :1])
    table.labels = torch.cat([constant, table.labels, unseen], 2)
    net, reports = climb(table, 12, acceptance=Acceptance("gain"))
    assert accuracy(net, table)[:4].min() >= 0.999
    assert reports[0].accepted_labels[0]
    assert len(reports) <= 5


def test_inputs_that_are_all_zero_end_the_run() -> None:
    table = deep(2)
    table.inputs = torch.zeros_like(table.inputs)
    _, reports = climb(table, 12)
    assert [report.stop_reason for report in reports] == ["no gain"]


def test_wrong_labels_neither_stop_the_staircase_nor_are_learned() -> None:
    noisy, clean = deep(4, n_rows=600, flips=0.1), deep(4, n_rows=200, seed=1)
    net, reports = climb(noisy, 30)
    assert accuracy(net, clean).min() >= 0.99
    assert [report.accepted for report in reports[-3:]] == [0, 0, 0], "and then the run ends"
    assert len(reports) < 12


def test_a_block_that_was_fitted_with_noise_passes_less_of_an_error_on() -> None:
    table, passed = deep(6), []
    errors = 0.3 * torch.rand(table.labels.shape, generator=torch.Generator().manual_seed(0)) - 0.15
    for noise in (SIZED.noise, 0.0):
        net, _ = climb(table, 10, adaptation=SizedDraw(noise=noise))
        index = next(index for index in range(10) if net.block(index).labels.tolist() == [5])
        stream = net.embed(table.inputs)
        for before in range(index):
            stream = net.advance(stream, before)
        disturbed = net.add_scores(stream, errors)
        change, other = (net.advance(at, index) - at for at in (stream, disturbed))
        passed.append(float((other - change).square().mean()))
    assert passed[0] < passed[1] / 2


@pytest.mark.parametrize(("noise", "wrong", "expected"), [(0.2, 0.0, 0.1), (0.2, 0.2, 0.16), (0.05, 0.0, 0.05)])
def test_noise_falls_to_what_the_flips_of_labels_learned_ask_for(noise: float, wrong: float, expected: float) -> None:
    draw = SizedDraw(noise=noise)
    memory = {"since": torch.tensor([1, -1, 2]), "wrong": torch.tensor([wrong, 0.5, wrong])}
    assert draw.noise_for({}) == draw.noise_for(memory | {"since": torch.tensor([-1, -1, -1])}) == noise
    assert draw.noise_for(memory) == pytest.approx(expected)


def test_noise_is_not_added_to_rows_set_aside_nor_to_rows_that_advance() -> None:
    table = deep(3)
    net = network(table, 4, 400, is_sized=True)
    rows = stream(net, table)
    for event in train(net, rows, ExactSolver(), label_loss(SquaredLoss()), acceptance=STRICT, adaptation=SIZED):
        if isinstance(event, BlockReport):
            for split in ("fit", "held"):
                inputs, _ = table.rows(split)
                kept = torch.cat([chunk.stream for chunk in rows.chunks(split)])
                torch.testing.assert_close(kept, net.stream(inputs))


def test_noise_has_the_width_of_what_it_is_added_to() -> None:
    table = deep(2)
    many = torch.randn(table.inputs.shape, generator=torch.Generator().manual_seed(0))
    table.inputs = torch.cat([table.inputs, 0.7 * table.inputs + 0.1, many, many + 3], 2)
    net, _ = climb(table, 1)
    noise = net.block(0).features.noise.view(3, -1)
    sizes = dict(zip(read(net, 0), noise[1] / (np.sqrt(3) * SIZED.noise), strict=True))
    deviation = table.rows("fit")[0].std((0, 1), correction=0)
    for channel, size in sizes.items():
        expected = 0.0 if channel in (2, 3) else float(deviation[channel])
        assert float(size) == pytest.approx(expected, rel=0.02, abs=1e-6), "an input of two values, or of many"
    assert set(sizes) & {0, 1}


def test_a_network_of_sized_blocks_is_saved_and_loaded() -> None:
    table = deep(3)
    net, _ = climb(table, 5)
    again = network(table, 5, 400, is_sized=True)
    again.load_state_dict(net.state_dict())
    assert torch.equal(again(table.inputs), net(table.inputs))
    assert again.frozen_block(1).labels.tolist() == net.frozen_block(1).labels.tolist()
    other = network(table, 5, 400)
    assert net.draw != other.draw


def test_weights_of_sized_blocks_are_exported_and_taken(tmp_path: Path) -> None:
    table, file = deep(3), tmp_path / "net.safetensors"
    net, _ = climb(table, 5)
    save_weights(net, file)
    again = network(table, 5, 400, is_sized=True)
    load_weights(again, file)
    assert torch.equal(again(table.inputs), net(table.inputs))
    with pytest.raises(ValueError, match=r"^weights must fit this network, got \S+: .*proximity$"):
        load_weights(network(table, 5, 400, proximity=IndexTable([[i, i, i] for i in range(32)]), is_sized=True), file)


def test_what_a_run_remembers_is_plain() -> None:
    table, memory = deep(3), {}
    net = network(table, 5, 400, is_sized=True)
    for event in train(
        net, stream(net, table), ExactSolver(), label_loss(None), acceptance=STRICT, adaptation=SIZED, memory=memory
    ):
        if isinstance(event, Pass):
            file = io.BytesIO()
            torch.save(memory, file)
            file.seek(0)
            assert torch.load(file, weights_only=True).keys() == memory.keys()
    assert memory["since"].tolist() == [1, 2, 3]
    assert not memory["unlearned"].any()
    assert memory["ages"][1] == 1.0
    assert int(net.n_trained) == 4 and memory["has_no_gain"], "one block more finds nothing left to learn"


def test_numbers_are_those_of_their_row_and_place_and_uniform() -> None:
    rows = torch.randperm(500)
    numbers = uniform(rows, 8, 3, 5, 1)
    assert torch.equal(numbers[:7], uniform(rows[:7], 8, 3, 5, 1))
    assert not (numbers == uniform(rows, 8, 3, 5, 2)).any()
    values = numbers.flatten().double().numpy()
    # 12,000 numbers: mean, variance and neighbours' correlation to 4 standard errors
    assert abs(values.mean()) < 4 / np.sqrt(3 * len(values))
    assert abs(3 * values.var() - 1) < 4 * np.sqrt(0.8 / len(values))
    assert abs(3 * (values[1:] * values[:-1]).mean()) < 4 / np.sqrt(len(values))
    assert -1 <= values.min() < -0.99 and 0.99 < values.max() < 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"smallest": 0}, "smallest must be a positive integer, got 0"),
        ({"noise": -0.1}, "noise must be 0 or more, got -0.1"),
        ({"least_noise": -0.1}, "least_noise must be 0 or more, got -0.1"),
        ({"noise": "much"}, "noise must be 0 or more, got much"),
        ({"noise": float("nan")}, "noise must be 0 or more, got nan"),
        ({"redraws": 0}, "redraws must be a positive integer, got 0"),
    ],
)
def test_an_argument_out_of_range_is_one_line(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        replace(SIZED, **arguments)


def test_blocks_that_size_themselves_need_a_split_output() -> None:
    with pytest.raises(ValueError, match=r"^output must be split where blocks size themselves, got 'orthogonal'$"):
        network(deep(2), output="orthogonal", is_sized=True)
