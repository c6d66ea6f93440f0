import errno
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from plain import ALL, Table, label_loss, network, stream, tile, xors
from processes import run
from torch import Tensor

import hierlit.layerwise.stream
from hierlit.layerwise import (
    AdaptiveDraw,
    ExactSolver,
    GradientSolver,
    Pass,
    Solver,
    Stopping,
    StreamCache,
    train,
)
from hierlit.layerwise.memory import mapped
from hierlit.models import GaussianFeatures, HierarchicalResNet

SOLVERS: dict[str, Callable[[], Solver]] = {"exact": ExactSolver, "gradient": GradientSolver}
# of the 270 rows of `xors`: float32 streams of 6 inputs and 3 scores, and 3 labels
STREAMS = 270 * (6 + 3 + 3) * 4
MAPS = Path("/proc/self/maps")
SPLITS = ("fit", "held", "val")
reads_maps = pytest.mark.skipif(not MAPS.exists(), reason="the system does not say which memory is a file's")


def nameless_maps() -> list[str]:
    """The lines of the process's memory that is in nameless files in the temporary folder."""
    lines = MAPS.read_text().splitlines()
    return [line for line in lines if f" {tempfile.gettempdir()}/" in line and line.endswith("(deleted)")]


def in_nameless_files(*tensors: Tensor) -> list[bool]:
    """Whether the memory of each tensor is, and is written to, a file of the cache's that has no name."""
    spans = [[int(end, 16) for end in line.split()[0].split("-")] for line in nameless_maps() if " rw-s " in line]
    return [any(first <= tensor.data_ptr() < last for first, last in spans) for tensor in tensors]


class Watch:
    """Notes what lies in the temporary folder, and each pass which chunks are in files and which have features."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: set[str] = set()
        self.in_files: set[bool] = set()
        self.with_features: set[tuple[bool, ...]] = set()

    def __call__(self, rows: StreamCache) -> None:
        self.files |= set(os.listdir(self.folder))
        chunks = [chunk for split in SPLITS for chunk in rows.chunks(split)]
        if MAPS.exists():
            parts = [part for chunk in chunks for part in (chunk.stream, chunk.labels)]
            self.in_files |= set(in_nameless_files(*parts))
        self.with_features.add(tuple(chunk.features is not None for chunk in rows.chunks("fit")))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """An empty folder that temporary files go to."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def weights(
    table: Table,
    net: HierarchicalResNet,
    solver: str,
    budget: float | None,
    watch: Watch | None = None,
    **options: object,
) -> dict[str, Tensor]:
    """The state of a network trained for at most 8 passes a block, watched at each pass."""
    rows = stream(net, table, budget)
    rows.fill("val", table.batches("held"))
    options = {"stopping": Stopping(max_epochs=8), "acceptance": ALL, **options}
    for event in train(net, rows, SOLVERS[solver](), label_loss(None), **options):
        if watch is not None and isinstance(event, Pass):
            watch(rows)
    return net.state_dict()


def trained(net: HierarchicalResNet, n_trained: int) -> HierarchicalResNet:
    """The network with weights in all its blocks, of which some count as trained."""
    draw = torch.Generator().manual_seed(5)
    for block in net.blocks:
        block.weight.copy_(torch.randn(block.weight.shape, generator=draw) / 3)
        block.features.mean.copy_(torch.rand(block.features.mean.shape, generator=draw))
    net.n_trained.fill_(n_trained)
    return net


def ring_table(*sizes: int) -> Table:
    """Rows of 5 locations, with labels of which some are missing."""
    draw = torch.Generator().manual_seed(3)
    inputs = torch.randn(sum(sizes), 5, 2, generator=draw)
    return Table(inputs, torch.randint(-1, 2, (sum(sizes), 5, 3), generator=draw).float(), batch_size=sizes[0])


def ring_net(n_trained: int = 0, **arguments: object) -> HierarchicalResNet:
    return trained(network(ring_table(1), 2, 7, **arguments), n_trained)


def ring_cache(net: HierarchicalResNet, *sizes: int, budget: float | None = None) -> StreamCache:
    """Rows in batches of these sizes."""
    rows, table = StreamCache(net, budget), ring_table(*sizes)
    index = torch.arange(100, 100 + sum(sizes))
    rows.fill("fit", zip(*(part.split(list(sizes)) for part in (table.inputs, table.labels, index)), strict=True))
    return rows


@pytest.mark.parametrize(("solver", "output"), [("exact", "split"), ("gradient", "orthogonal")])
def test_without_a_budget_in_memory_everything_is_in_nameless_files_and_the_weights_are_the_same_to_the_last_bit(
    solver: str, output: str, folder: Path
) -> None:
    table, watch, states = xors(missing=0.2), Watch(folder), []
    for budget, seen in ((None, None), (0.0, watch)):
        net = network(table, output=output)
        states.append(weights(table, net, solver, budget, seen, adaptation=AdaptiveDraw(n_pairs=100)))
    assert states[0]["blocks.1.weight"].any()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert watch.with_features == {(False,) * 4}
    assert watch.in_files == ({True} if MAPS.exists() else set())
    assert watch.files | set(os.listdir(folder)) == set()


# the rows of `xors` to be fitted are in batches of 64, 64, 64 and 24
@pytest.mark.parametrize(
    ("solver", "budget", "kept"),
    [
        ("exact", STREAMS, (False, False, False, False)),
        ("gradient", STREAMS, (False, False, False, False)),
        ("exact", STREAMS + (64 + 64) * 20 * 4, (True, True, False, False)),
        ("exact", STREAMS + (64 + 64 + 24) * 20 * 4, (True, True, False, True)),
        ("exact", STREAMS + 216 * 20 * 4, (True, True, True, True)),
    ],
)
def test_features_beyond_the_budget_are_recomputed_and_the_weights_are_the_same_to_the_bit(
    solver: str, budget: int, kept: tuple[bool, ...], folder: Path
) -> None:
    table, watch, states = xors(missing=0.2), Watch(folder), []
    budget += 54 * (6 + 3 + 3) * 4  # the rows set aside are validated on, too
    # float64 takes twice the bytes
    for given, seen in ((None, None), (2 * budget, watch)):
        states.append(weights(table, tile(network(table).double(), 32), solver, given, seen))
    for name, value in states[0].items():
        assert torch.equal(states[1][name], value), name
    assert watch.with_features == {kept}
    assert watch.in_files == ({False} if MAPS.exists() else set())


@pytest.mark.parametrize(("free", "kept"), [(5 * STREAMS, False), (16 * STREAMS, True)])
def test_without_a_stated_budget_a_quarter_of_the_free_memory_is_taken(
    free: int, kept: bool, folder: Path, monkeypatch
) -> None:
    monkeypatch.setattr(hierlit.layerwise.stream, "free_memory", lambda device: free)
    table, watch = xors(), Watch(folder)
    weights(table, network(table), "exact", None, watch)
    assert watch.in_files <= {False}
    assert watch.with_features == {(kept,) * 4}


@reads_maps
def test_processes_of_one_machine_share_its_free_memory(folder: Path, monkeypatch) -> None:
    net = ring_net()
    monkeypatch.setattr(hierlit.layerwise.stream, "free_memory", lambda device: 4 * 4 * 5 * (5 + 3) * 4)
    for n_processes, spilt in ((1, {False}), (2, {True, False}), (100, {True})):
        rows = StreamCache(net)
        rows.open(n_processes)
        rows.fill("fit", ring_table(4).batches())
        (chunk,) = rows.chunks("fit")
        assert set(in_nameless_files(chunk.stream, chunk.labels)) == spilt


def test_the_memory_that_is_free_is_counted_in_bytes() -> None:
    assert 2**26 < hierlit.layerwise.stream.free_memory(torch.device("cpu")) < 2**50


@pytest.mark.parametrize("budget", [None, 0.0])
@pytest.mark.parametrize("n_trained", [0, 1, 2])
def test_chunks_are_the_batches_through_the_blocks_that_are_trained(
    n_trained: int, budget: float | None, folder: Path
) -> None:
    net, rows, table = ring_net(n_trained), ring_cache(ring_net(n_trained), 4, 3, 3, budget=budget), ring_table(4, 3, 3)
    for number, part in enumerate((slice(0, 4), slice(4, 7), slice(7, 10))):
        found = rows.get("fit", number)
        assert torch.equal(found.stream, net.stream(table.inputs[part]))
        assert torch.equal(found.labels, table.labels[part])
    assert rows.get("fit", 3) is None
    assert rows.get("val", 0) is None
    assert (rows.n_chunks(), rows.n_chunks("val")) == (3, 0)


@pytest.mark.parametrize("budget", [None, 0.0])
def test_a_process_without_rows_in_a_batch_has_an_empty_chunk(budget: float | None, folder: Path) -> None:
    net = ring_net()
    rows, block = ring_cache(net, 2, 0, 1, budget=budget), net.frozen_block(0)
    assert rows.get("fit", 1).stream.shape == (0, 5, 5)
    rows.keep_features(block)
    assert [len(chunk.labels) for chunk in rows.chunks("fit")] == [2, 0, 1]
    tiles = [part for chunk in rows.chunks("fit") for part in rows.tiles(chunk, block)]
    assert [[len(part) for part in each[:3]] for each in tiles] == [[10] * 3, [0] * 3, [5] * 3]
    rows.advance(block, net.block(0).weight)
    inputs = ring_table(2, 0, 1).inputs[2:]
    assert torch.equal(rows.get("fit", 2).stream, net.advance(net.embed(inputs), 0))


@pytest.mark.parametrize("output", ["split", "orthogonal"])
@pytest.mark.parametrize("features", ["kept", "recomputed", "in a file"])
def test_chunks_go_through_the_blocks_as_the_network_does(features: str, output: str, folder: Path) -> None:
    net = tile(ring_net(output=output, features=GaussianFeatures(activation="tanh")).double(), 16)
    table, rows = ring_table(4, 3), ring_cache(net, 4, 3, budget=0.0 if features == "in a file" else None)
    parts = [(table.inputs[part].double(), table.labels[part].double()) for part in (slice(0, 4), slice(4, 7))]
    for index in (0, 1):
        block = net.frozen_block(index)
        if features != "recomputed":
            rows.keep_features(block)
        for (inputs, labels), chunk in zip(parts, rows.chunks("fit"), strict=True):
            net.n_trained.fill_(index)
            at = net.stream(inputs)
            assert torch.equal(chunk.stream, at)
            tiles = list(rows.tiles(chunk, block))
            assert (chunk.features is not None) == (features == "kept")
            assert len(tiles) == -(-len(labels) * 5 // 16)
            seen, scores, truth, folds = zip(*tiles, strict=True)
            torch.testing.assert_close(torch.cat(seen), net.features_of(at, index).flatten(0, 1))
            torch.testing.assert_close(torch.cat(scores), net.scores(at).flatten(0, 1))
            assert torch.equal(torch.cat(truth), labels.flatten(0, 1))
            assert set(folds) == {None}
            net.n_trained.fill_(index + 1)
            change = net(inputs) - net.scores(at)
            torch.testing.assert_close(rows.change(chunk, block, net.block(index).weight), change)
        rows.advance(block, net.block(index).weight)
    for (inputs, _), chunk in zip(parts, rows.chunks("fit"), strict=True):
        torch.testing.assert_close(chunk.stream, net.stream(inputs))


def test_leading_chunks_come_in_the_order_of_their_batches() -> None:
    rows = ring_cache(ring_net(), 4, 3, 2)
    for leading in (1, 2, 3, 10):
        assert [len(chunk.labels) for chunk in rows.chunks("fit", leading)] == [4, 3, 2][:leading]
    assert list(rows.chunks("held")) == []
    rows.clear()
    assert list(rows.chunks("fit")) == []


def test_each_pass_visits_every_chunk_once_in_an_order_of_its_own() -> None:
    sizes = (4, 3, 2, 5, 1)
    rows = ring_cache(ring_net(), *sizes)
    orders = {
        (block, number): tuple(len(chunk.labels) for chunk in rows.visit(block, number))
        for block in range(3)
        for number in range(3)
    }
    assert {frozenset(order) for order in orders.values()} == {frozenset(sizes)}
    assert orders[0, 0] == sizes, "the order in which a loader gives them first"
    assert len(set(orders.values())) > 5
    again = ring_cache(ring_net(), *sizes)
    assert tuple(len(chunk.labels) for chunk in again.visit(1, 2)) == orders[1, 2]
    again.seed = 7
    again.open()
    again.fill("fit", ring_table(1, 2).batches())
    assert len(list(again.visit(1, 2))) == 3


def test_a_sample_has_the_leading_rows_and_may_forget_scores() -> None:
    net = ring_net(1, output="orthogonal").double()
    rows = ring_cache(net, 4, 3, 3)
    sample = rows.sample(5 * 5, without=torch.tensor([False, True, False]), share=0.5)
    # of 4 and 1 rows the last fifth stands for rows set aside; of the others half are taken
    assert [len(chunk.labels) for chunk in sample.chunks("fit")] == [2, 1]
    assert [len(chunk.labels) for chunk in sample.chunks("held")] == [0, 0]
    whole = net.scores(rows.get("fit", 0).stream)[:2]
    scores = net.scores(sample.get("fit", 0).stream)
    torch.testing.assert_close(scores[..., [0, 2]], whole[..., [0, 2]])
    torch.testing.assert_close(scores[..., 1], torch.zeros(2, 5).double())
    assert whole[..., 1].any(), "the rows themselves keep their scores"


def test_a_sample_has_the_rows_set_aside_where_there_are_some() -> None:
    net, table = ring_net(), ring_table(4, 4)
    rows = ring_cache(net, 4, 3)
    rows.fill("held", table.batches())
    sample = rows.sample(5 * 5)
    assert [len(chunk.labels) for chunk in sample.chunks("fit")] == [4, 1]
    assert [len(chunk.labels) for chunk in sample.chunks("held")] == [4, 1]
    assert torch.equal(sample.get("held", 1).stream, rows.get("held", 1).stream[:1])


@pytest.mark.parametrize("share", [1.0, 0.5, 0.01])
def test_thinned_rows_have_a_share_of_the_locations_on_any_number_of_processes(share: float) -> None:
    net, table = ring_net(), ring_table(4, 4)
    whole, parts = ring_cache(net, 4, 4), [ring_cache(net, 2, 2), ring_cache(net, 1, 1)]
    for rows in (whole, *parts):
        rows.fill("held", table.batches())
    for split in ("fit", "held"):
        kept = [{int(place) % 5 for place in chunk.present} for chunk in whole.thinned(1, share).chunks(split)]
        assert [len(places) for places in kept] == [-(-5 * share // 1)]
        for part in parts:
            (chunk,) = part.thinned(1, share).chunks(split)
            assert {int(place) % 5 for place in chunk.present} == kept[0]
            assert chunk.n_pairs == len(chunk.labels) * len(kept[0]), "at each of the rows"


def test_locations_are_drawn_and_those_that_do_not_exist_are_left_out() -> None:
    places = {tuple(chunk.present.tolist()) for seed in range(9) for chunk in seeded_rings(seed).chunks("fit")}
    assert len(places) > 3
    net = network(ring_table(1), 1, 7, masked=True)
    table = ring_table(3)
    table.inputs[..., 0] = torch.tensor([1.0, 1, 1, 0, 0])
    rows = StreamCache(net)
    rows.fill("fit", table.batches())
    (chunk,) = rows.thinned(None, 0.8).chunks("fit")
    assert set((chunk.present % 5).tolist()) <= {0, 1, 2}


def seeded_rings(seed: int) -> StreamCache:
    rows = StreamCache(ring_net(), seed=seed)
    rows.fill("fit", ring_table(1).batches())
    return rows.thinned(None, 0.4)


def test_memory_of_features_is_used_again_for_those_of_another_block_and_given_back_for_another_width() -> None:
    net, wider = ring_net(), trained(network(ring_table(1), 1, 9), 0)
    streams = (2 + 3 + 3) * 5 * 7 * 4
    rows = ring_cache(net, 4, 3, budget=streams + 9 * 5 * 7 * 4)
    buffers = []
    for block in (net.frozen_block(0), net.frozen_block(1), wider.frozen_block(0), net.frozen_block(0)):
        rows.keep_features(block)
        for chunk in rows.chunks("fit"):
            assert torch.equal(chunk.features, block.features(block.windows(chunk.stream)).flatten(0, 1))
        buffers.append(rows.get("fit", 0).buffer.data_ptr())
        assert rows.left == (9 - block.features.n_features) * 5 * 7 * 4
    assert buffers[0] == buffers[1]


@reads_maps
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3, 2, 5), (1,), (70_000,)])
def test_a_mapped_tensor_is_a_copy_in_a_file_that_ends_with_it(
    shape: tuple[int, ...], dtype: torch.dtype, folder: Path
) -> None:
    original = torch.randn(shape, dtype=dtype)
    kept = mapped(original)
    assert torch.equal(kept, original)
    assert kept.dtype == dtype
    assert in_nameless_files(kept) == [True]
    kept += 1
    assert not torch.equal(kept, original)
    n_mapped = len(nameless_maps())
    del kept
    assert len(nameless_maps()) == n_mapped - 1
    assert os.listdir(folder) == []


@pytest.mark.parametrize("problem", ["full disk", "no folder"])
def test_a_folder_that_cannot_take_the_streams_is_named_with_the_remedy(
    problem: str, folder: Path, monkeypatch
) -> None:
    number, where = errno.ENOSPC, folder
    if problem == "no folder":
        number, where = errno.ENOENT, folder / "gone"
        monkeypatch.setattr(tempfile, "tempdir", str(where))
    else:

        def allocate(file: int, offset: int, size: int) -> None:
            assert os.listdir(folder) == []
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "posix_fallocate", allocate, raising=False)
    table = xors()
    with pytest.raises(OSError) as error:
        stream(network(table), table, budget=0.0)
    message = str(error.value)
    assert error.value.errno == number
    assert "\n" not in message
    assert f"cannot keep {64 * 9 * 4} bytes in {where} ({os.strerror(number)})" in message
    assert "set TMPDIR to another folder, or raise cache_budget_gib" in message
    assert os.listdir(folder) == []


def test_a_split_may_be_filled_again_with_other_rows() -> None:
    table = xors()
    rows = stream(network(table), table)
    assert sum(len(chunk.labels) for chunk in rows.visit(0, 1)) == 216
    rows.fill("fit", table.batches()[:1])
    assert [len(chunk.labels) for chunk in rows.visit(0, 1)] == [64]


@pytest.mark.parametrize("what", ["streams", "features"])
def test_memory_that_runs_out_is_an_error_of_one_line(what: str, monkeypatch) -> None:
    table = xors()
    net = network(table)
    rows = stream(net, table)

    def fail(*arguments: object, **options: object) -> Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(*((net, "embed") if what == "streams" else (torch, "empty")), fail)
    size = 64 * (6 + 3) * 4 if what == "streams" else 64 * 20 * 4
    with pytest.raises(MemoryError) as error:
        rows.fill("fit", table.batches()) if what == "streams" else rows.keep_features(net.frozen_block(0))
    remedy = "lower model.cache_budget_gib or data.batch_size"
    assert str(error.value) == f"no memory for the {what} of a batch ({size:,} bytes): {remedy}"


KILLED = """
import os, signal, tempfile
tempfile.tempdir = "kept"
import numpy as np, torch
from hierlit.layerwise import Acceptance, GradientSolver, LabelLoss, SquaredLoss, StreamCache, train
from hierlit.models import HierarchicalResNet

signs = torch.from_numpy(np.random.default_rng(0).choice([-1.0, 1.0], (100, 1, 6))).float()
rows = StreamCache(HierarchicalResNet(6, 2, n_blocks=1, n_features=5), budget=0.0)
rows.fill("fit", [(signs[part], signs[part, :, :2], part) for part in torch.arange(100).split(64)])
for event in train(rows.net, rows, GradientSolver(), LabelLoss(SquaredLoss()), acceptance=Acceptance("none")):
    if event.state.passes == 2:
        print(rows.n_chunks(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="a system without signals")
def test_a_process_that_is_killed_leaves_no_file(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    printed = run(tmp_path, code=KILLED, expect=-signal.SIGKILL)
    assert printed.splitlines()[-1] == "2"
    assert not list(kept.iterdir())
