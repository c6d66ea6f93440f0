import errno
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import Tensor

import hierlit.layerwise.stream
from hierlit.data.base import Batch
from hierlit.layerwise.adaptive_draw import AdaptiveDraw
from hierlit.layerwise.solvers import ExactSolver, GradientSolver, Solver
from hierlit.layerwise.stream import StreamCache, mapped
from hierlit.models import GaussianFeatures, HierarchicalResNet, Window1d
from hierlit.models.first_layer import TILE
from hierlit.training import LayerwiseTask

SOLVERS: dict[str, Callable[[], Solver]] = {"exact": ExactSolver, "gradient": GradientSolver}
GIB = 2**30
# of the 300 rows of `xors`: float32 streams of 6 inputs and 3 scores, and 3 labels
STREAMS = 300 * (6 + 3 + 3) * 4
# rows to fit in the batch that the first epoch starts with, the incomplete one
FIRST = 24
MAPS = Path("/proc/self/maps")
few_epochs = pytest.mark.filterwarnings("ignore:block . stopped at max epochs")
reads_maps = pytest.mark.skipif(not MAPS.exists(), reason="the system does not say which memory is a file's")


def nameless_maps() -> list[str]:
    """The lines of the process's memory that is in nameless files in the temporary folder."""
    lines = MAPS.read_text().splitlines()
    return [line for line in lines if f" {tempfile.gettempdir()}/" in line and line.endswith("(deleted)")]


def in_nameless_files(*tensors: Tensor) -> list[bool]:
    """Whether the memory of each tensor is, and is written to, a file of the cache's that has no name."""
    spans = [[int(end, 16) for end in line.split()[0].split("-")] for line in nameless_maps() if " rw-s " in line]
    return [any(first <= tensor.data_ptr() < last for first, last in spans) for tensor in tensors]


class Watch(L.Callback):
    """Notes what lies in the temporary folder, and once a block which chunks are in files and which have features."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: set[str] = set()
        self.in_files: set[bool] = set()
        self.with_features: set[tuple[bool, ...]] = set()

    def on_train_batch_start(self, trainer: L.Trainer, task: LayerwiseTask, batch: Batch, batch_idx: int) -> None:
        self.files |= set(os.listdir(self.folder))
        if task.block_epoch or batch_idx:
            return
        chunks = [chunk for split in ("train", "held", "val") for chunk in task.streams.chunks(split)]
        if MAPS.exists():
            self.in_files |= set(
                in_nameless_files(*(part for chunk in chunks for part in (chunk.stream, chunk.labels)))
            )
        self.with_features.add(tuple(chunk.features is not None for chunk in task.streams.chunks("train")))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """An empty folder that temporary files go to."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def xor_task(solver: str = "exact", **arguments: object) -> LayerwiseTask:
    return LayerwiseTask(6, 3, **{"n_blocks": 2, "n_features": 20, "solver": SOLVERS[solver](), **arguments})


def trained(net: HierarchicalResNet, n_trained: int) -> HierarchicalResNet:
    """The network with weights in all its blocks, of which some count as trained."""
    draw = torch.Generator().manual_seed(5)
    for block in net.blocks:
        block.weight.copy_(torch.randn(block.weight.shape, generator=draw) / 3)
        block.features.mean.copy_(torch.rand(block.features.mean.shape, generator=draw))
    net.n_trained.fill_(n_trained)
    return net


def ring_net(n_trained: int = 0, **arguments: object) -> HierarchicalResNet:
    return trained(HierarchicalResNet(2, 3, 5, Window1d(3), n_blocks=2, n_features=7, **arguments), n_trained)


def ring_batches(*sizes: int) -> list[Batch]:
    """Batches of rows 100, 101, ... of 5 locations, with labels of which some are missing."""
    draw, rows = torch.Generator().manual_seed(3), torch.arange(100, 100 + sum(sizes)).split(list(sizes))
    return [
        Batch(
            torch.randn(len(index), 5, 2, generator=draw),
            torch.randint(-1, 2, (len(index), 5, 3), generator=draw).float(),
            index,
        )
        for index in rows
    ]


def ring_cache(net: HierarchicalResNet, batches: list[Batch], budget: float | None = None) -> StreamCache:
    cache = StreamCache(net, budget)
    cache.open()
    cache.fill("train", batches)
    return cache


@few_epochs
@pytest.mark.parametrize(("solver", "output"), [("exact", "split"), ("gradient", "orthogonal")])
def test_without_a_budget_in_memory_everything_is_in_nameless_files_and_the_weights_are_the_same_to_the_last_bit(
    solver: str, output: str, folder: Path, fit, xors
) -> None:
    states, watch = [], Watch(folder)
    for budget, callbacks in ((1.0, []), (0.0, [watch])):
        task = xor_task(solver, cache_budget_gib=budget, output=output, adaptation=AdaptiveDraw(n_pairs=100))
        fit(task, xors(missing=0.2), *callbacks, max_epochs_per_block=8)
        states.append(task.state_dict())
    assert states[0]["net.blocks.1.weight"].any()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert watch.with_features == {(False,) * 4}
    assert watch.in_files == ({True} if MAPS.exists() else set())
    assert watch.files | set(os.listdir(folder)) == set()


@few_epochs
@pytest.mark.parametrize(
    ("solver", "budget", "kept"),
    [
        ("exact", STREAMS, (False, False, False, False)),
        ("gradient", STREAMS, (False, False, False, False)),
        ("exact", STREAMS + (FIRST + 64) * 20 * 4, (True, True, False, False)),
        ("exact", STREAMS + 216 * 20 * 4, (True, True, True, True)),
    ],
)
def test_features_beyond_the_budget_are_recomputed_and_the_weights_are_the_same_to_the_bit(
    solver: str, budget: int, kept: tuple[bool, ...], folder: Path, fit, xors, monkeypatch
) -> None:
    monkeypatch.setitem(TILE, "cpu", 20 * 32)
    states, watch = [], Watch(folder)
    # float64 takes twice the bytes
    for gib, callbacks in ((1.0, []), (2 * budget / GIB, [watch])):
        task = xor_task(solver, cache_budget_gib=gib)
        fit(task, xors(missing=0.2), *callbacks, precision="64-true", max_epochs_per_block=8)
        states.append(task.state_dict())
    for name, value in states[0].items():
        assert torch.equal(states[1][name], value), name
    assert watch.with_features == {kept}
    assert watch.in_files == ({False} if MAPS.exists() else set())


@pytest.mark.parametrize(("free", "kept"), [(4 * STREAMS, False), (16 * STREAMS, True)])
def test_without_a_stated_budget_a_quarter_of_the_free_memory_is_taken(
    free: int, kept: bool, folder: Path, fit, xors, monkeypatch
) -> None:
    monkeypatch.setattr(hierlit.layerwise.stream, "free_memory", lambda device: free)
    task, watch = xor_task(), Watch(folder)
    fit(task, xors(), watch)
    assert watch.in_files <= {False}
    assert watch.with_features == {(kept,) * 4}
    assert task.block == 2


@reads_maps
def test_processes_of_one_machine_share_its_free_memory(folder: Path, monkeypatch) -> None:
    batches = ring_batches(4)
    net = ring_net()
    monkeypatch.setattr(hierlit.layerwise.stream, "free_memory", lambda device: 4 * 4 * 5 * (5 + 3) * 4)
    for n_processes, spilt in ((1, {False}), (2, {True, False}), (100, {True})):
        cache = StreamCache(net)
        cache.open(n_processes)
        cache.fill("train", batches)
        (chunk,) = cache.chunks("train")
        assert set(in_nameless_files(chunk.stream, chunk.labels)) == spilt


def test_the_memory_that_is_free_is_counted_in_bytes() -> None:
    assert 2**26 < hierlit.layerwise.stream.free_memory(torch.device("cpu")) < 2**50


@pytest.mark.parametrize("budget", [None, 0.0])
def test_a_batch_is_found_by_its_first_row_and_others_are_computed(budget: float | None, folder: Path) -> None:
    net, batches = ring_net(1), ring_batches(4, 3, 3)
    cache = ring_cache(net, batches, budget)
    for batch in reversed(batches):
        found = cache.get("train", batch._replace(inputs=torch.full_like(batch.inputs, torch.nan)))
        assert torch.equal(found.stream, net.stream(batch.inputs))
        assert torch.equal(found.labels, batch.labels)
    other = ring_batches(5)[0]
    shorter = Batch(*(part[1:] for part in batches[0]))
    for split, unknown in (("val", batches[1]), ("train", other._replace(index=other.index + 50)), ("train", shorter)):
        assert torch.equal(cache.get(split, unknown).stream, net.stream(unknown.inputs))
    longer = other._replace(index=batches[0].index[[0, 1, 2, 3, 3]])
    assert torch.equal(cache.get("train", longer).stream, net.stream(other.inputs))


@pytest.mark.parametrize("budget", [None, 0.0])
def test_a_process_without_rows_in_a_batch_has_an_empty_chunk(budget: float | None, folder: Path) -> None:
    net, batches = ring_net(), ring_batches(2, 0, 1)
    cache = ring_cache(net, batches, budget)
    assert cache.get("train", batches[1]).stream.shape == (0, 5, 5)
    cache.keep_features("train", 0)
    assert [len(chunk.labels) for chunk in cache.chunks("train")] == [2, 0, 1]
    tiles = (tile for chunk in cache.chunks("train") for tile in cache.tiles(chunk, 0))
    assert [[len(part) for part in tile] for tile in tiles] == [[10] * 3, [0] * 3, [5] * 3]
    cache.advance(0)
    assert torch.equal(cache.get("train", batches[2]).stream, net.advance(net.embed(batches[2].inputs), 0))


@pytest.mark.parametrize("output", ["split", "orthogonal"])
@pytest.mark.parametrize("features", ["kept", "recomputed", "in a file"])
def test_chunks_go_through_the_blocks_as_the_network_does(
    features: str, output: str, folder: Path, monkeypatch
) -> None:
    monkeypatch.setitem(TILE, "cpu", 7 * 16)
    net, batches = ring_net(output=output, features=GaussianFeatures(activation="tanh")).double(), ring_batches(4, 3)
    batches = [Batch(batch.inputs.double(), batch.labels.double(), batch.index) for batch in batches]
    cache = ring_cache(net, batches, 0.0 if features == "in a file" else None)
    for block in (0, 1):
        if features != "recomputed":
            cache.keep_features("train", block)
        for batch, chunk in zip(batches, cache.chunks("train"), strict=True):
            net.n_trained.fill_(block)
            stream = net.stream(batch.inputs)
            assert torch.equal(chunk.stream, stream)
            tiles = list(cache.tiles(chunk, block))
            assert (chunk.features is not None) == (features == "kept")
            assert len(tiles) == -(-len(batch.index) * 5 // 16)
            parts = [torch.cat(part) for part in zip(*tiles, strict=True)]
            torch.testing.assert_close(parts[0], net.features(stream, block).flatten(0, 1))
            torch.testing.assert_close(parts[1], net.scores(stream).flatten(0, 1))
            assert torch.equal(parts[2], batch.labels.flatten(0, 1))
            net.n_trained.fill_(block + 1)
            change = net(batch.inputs) - net.scores(stream)
            torch.testing.assert_close(cache.change(chunk, block, net.block(block).weight), change)
        cache.advance(block)
    assert [float(chunk.stream.norm()) for chunk in cache.chunks("train")] == [
        pytest.approx(float(net.stream(batch.inputs).norm())) for batch in batches
    ]


def test_leading_chunks_come_in_the_order_of_their_batches() -> None:
    batches = ring_batches(4, 3, 2)
    cache = ring_cache(ring_net(), batches)
    for leading in (1, 2, 3, 10):
        assert [len(chunk.labels) for chunk in cache.chunks("train", leading)] == [4, 3, 2][:leading]
    assert list(cache.chunks("held")) == []
    cache.clear()
    assert list(cache.chunks("train")) == []


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


def test_a_run_that_fails_leaves_no_file_and_forgets_its_streams(folder: Path, fit, xors) -> None:
    class Failure(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, task: LayerwiseTask, batch: Batch, batch_idx: int) -> None:
            assert list(task.streams.chunks("train"))
            if task.block == 1:
                raise RuntimeError("the power is out")

    task, watch = xor_task(cache_budget_gib=0.0), Watch(folder)
    with pytest.raises(RuntimeError, match="the power is out"):
        fit(task, xors(), watch, Failure())
    assert watch.in_files <= {True}
    assert watch.files | set(os.listdir(folder)) == set()
    assert not any(list(task.streams.chunks(split)) for split in ("train", "held", "val"))


@pytest.mark.parametrize("problem", ["full disk", "no folder"])
def test_a_folder_that_cannot_take_the_streams_is_named_with_the_remedy(
    problem: str, folder: Path, fit, xors, monkeypatch
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
    with pytest.raises(OSError) as error:
        fit(xor_task(cache_budget_gib=0.0), xors())
    message = str(error.value)
    assert error.value.errno == number
    assert "\n" not in message
    assert f"cannot keep {FIRST * 9 * 4} bytes in {where} ({os.strerror(number)})" in message
    assert "set TMPDIR to another folder, or raise cache_budget_gib" in message
    assert os.listdir(folder) == []


KILLED = """
import os, signal
import lightning as L
import numpy as np
from hierlit import ArrayHierarchy, LayerwiseTask, LayerwiseTraining

class Kill(L.Callback):
    def on_train_batch_start(self, trainer, task, batch, batch_idx):
        if task.block_epoch == 2:
            print(len(list(task.streams.chunks("train"))), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

signs = np.random.default_rng(0).choice([-1.0, 1.0], (100, 6))
trainer = L.Trainer(
    accelerator="cpu", max_epochs=-1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
    enable_model_summary=False, callbacks=[LayerwiseTraining(), Kill()],
)
task = LayerwiseTask(6, 2, n_blocks=1, n_features=5, cache_budget_gib=0.0)
trainer.fit(task, datamodule=ArrayHierarchy(signs, signs[:, :2]))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="a system without signals")
def test_a_process_that_is_killed_leaves_no_file(tmp_path: Path) -> None:
    surroundings = {**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", KILLED], env=surroundings, capture_output=True, text=True, timeout=120)
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert run.stdout.splitlines()[-1] == "2"
    assert not [name for name in os.listdir(tmp_path) if not name.startswith("torchinductor")]
