"""Runs of the command line as processes of their own, and what is compared of them."""

import contextlib
import csv
import io
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import SimpleNamespace

import torch
from lightning.pytorch.strategies.launchers import subprocess_script
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from hierlit.cli import main
from hierlit.files.checkpoints import read_checkpoint

ROOT = Path(__file__).parents[1]
RUN = [
    *("fit", "--config", str(ROOT / "configs" / "quickstart.yaml"), "--trainer.accelerator", "cpu"),
    *("--data.n_levels", "3", "--data.n_train", "101", "--data.batch_size", "34", "--data.n_cells", "16"),
    *("--model.n_blocks", "3", "--model.n_features", "60", "--trainer.enable_model_summary", "false"),
    *("--layerwise.relative_suboptimality", "0.5"),
    *("--checkpoint.share", "1"),
]
EXACT = ["--model.solver", "ExactSolver"]
JOINT = ["--model.joint.epochs", "40", "--layerwise.acceptance", "none"]
LOGISTIC = ["--model.loss", "LogisticLoss"]
AUTO = [
    *("--model.features", "RadialFeatures", "--model.solver", "AutoSolver", "--layerwise.folds", "3"),
    *("--layerwise.acceptance", "none", "--model.proximity.size", "9", "--data.n_train", "71"),
    *("--model.solver.alphas", "[0.1,1.0]", "--model.solver.bandwidths", "[1.0]", "--model.solver.powers", "[1.0,2.0]"),
]
TWO = ["--trainer.strategy", "ddp", "--trainer.devices", "2"]
PLAIN = "from hierlit.cli import main; main()"
SERVER = get_context("forkserver")
SERVER.set_forkserver_preload(["hierlit.cli.fit", "hierlit.cli.experiment", "hierlit.cli.dry", "faults"])


def fault(name: str, **arguments: object) -> list[str]:
    """The arguments that add a callback of `faults` to a run."""
    callback = {"class_path": f"faults.{name}", "init_args": arguments}
    return ["--trainer.callbacks+", json.dumps(callback)]


class Running:
    """A command under way in a process of its own.

    Args:
        process: The process.
        printed: The file that it prints to.
    """

    def __init__(self, process: ForkServerProcess, printed: Path) -> None:
        self.process, self.printed = process, printed

    @property
    def returncode(self) -> int | None:
        """Its exit code, as of `subprocess`; None while it runs."""
        return self.process.exitcode

    @property
    def pid(self) -> int:
        """Its number."""
        assert self.process.pid is not None
        return self.process.pid

    def communicate(self, timeout: float) -> str:
        """Waits until it ends, and returns what it has printed."""
        self.process.join(timeout)
        assert self.returncode is not None, f"not over in {timeout} s: {self.printed.read_text()[-3000:]}"
        return self.printed.read_text()

    def send_signal(self, signum: int) -> None:
        """Sends it a signal, if it runs."""
        if self.returncode is None:
            os.kill(self.pid, signum)


def start(folder: Path, *args: str, code: str = PLAIN, **environment: str) -> Running:
    """Starts `python -m hierlit` in a folder; `code` runs in its place, in every process of the run.

    It is forked from a process that has imported what it needs, and done nothing with it: importing Lightning takes
    longer than most runs.
    """
    script, printed = folder / "run_hierlit.py", folder / "printed.txt"
    folder.mkdir(exist_ok=True, parents=True)
    script.write_text(code)
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    given = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, **environment}
    process = SERVER.Process(target=become, args=(script, args, given, printed))
    process.start()
    return Running(process, printed)


def become(script: Path, args: tuple[str, ...], environment: dict[str, str], printed: Path) -> None:
    """Makes this process what `python script args` would be, in the script's folder."""
    os.chdir(script.parent)
    sink = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    sys.argv = [str(script), *args]
    sys.path[:0] = environment["PYTHONPATH"].split(os.pathsep)
    devices = dict(pairwise(args)).get("--trainer.devices", "1")
    environment = fork_ranks(int(devices) - 1) or environment
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # of tests in the background a shell has it ignored
    try:
        exec(compile(script.read_text(), script, "exec"), {"__name__": "__main__"})
    except Exception:
        sys.excepthook(*sys.exc_info())
        sys.exit(1)


class Rank:
    """A further process of a run, in the place of the `subprocess.Popen` that Lightning starts it with.

    Args:
        pid: Its number.
        waits: Where it waits for its environment.
    """

    def __init__(self, pid: int, waits: int) -> None:
        self.pid, self.waits = pid, waits
        self.returncode: int | None = None

    def start(self, environment: Mapping[str, str]) -> "Rank":
        """Lets it go on."""
        os.write(self.waits, json.dumps(dict(environment)).encode())
        os.close(self.waits)
        return self

    def poll(self) -> int | None:
        """As of `subprocess.Popen`."""
        if self.returncode is None:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if done else None
        return self.returncode

    def send_signal(self, signum: int) -> None:
        """As of `subprocess.Popen`."""
        if self.poll() is None:
            os.kill(self.pid, signum)


def fork_ranks(number: int) -> dict[str, str]:
    """Forks further ranks, which wait for Lightning to start them, and returns the environment that it gives them."""
    ranks: list[Rank] = []
    for _ in range(number):
        read, write = os.pipe()
        if not (pid := os.fork()):
            for descriptor in (write, *(rank.waits for rank in ranks)):
                os.close(descriptor)
            with open(read) as given:
                environment = given.read()
            if not environment:  # the run ended before it began
                os._exit(0)
            return json.loads(environment)
        os.close(read)
        ranks.append(Rank(pid, write))
    subprocess_script.subprocess = SimpleNamespace(Popen=lambda command, env, cwd: ranks.pop(0).start(env))
    return {}


def run(
    folder: Path, *args: str, expect: int | None = 0, code: str = PLAIN, apart: bool = False, **environment: str
) -> str:
    """Runs to the end, within two minutes, and returns what was printed.

    Unless it is to be `apart`, what one process does undisturbed is done in this one: to import Lightning takes longer
    than most runs. What is logged is not returned then.
    """
    is_apart = apart or code != PLAIN or environment or "--trainer.strategy" in args or "faults." in " ".join(args)
    if expect == 0 and not is_apart:
        return run_here(folder, *args)
    process = start(folder, *args, code=code, **environment)
    try:
        printed = process.communicate(timeout=120)
    finally:
        process.send_signal(signal.SIGKILL)
    assert expect is None or process.returncode == expect, printed[-3000:]
    return printed


def run_here(folder: Path, *args: str) -> str:
    """Runs `hierlit` in a folder, in this process, and returns what was printed."""
    folder.mkdir(exist_ok=True, parents=True)
    printed = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        main(list(args))
    return printed.getvalue()


def kill_when(process: Running, ready: Callable[[], bool], signum: int = signal.SIGKILL) -> int | None:
    """Signals a process as soon as something is so, waits, and returns its exit code."""
    deadline = time.monotonic() + 90
    while not ready() and process.returncode is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signum)
    process.communicate(timeout=60)
    return process.returncode


def log_of(folder: Path, version: int = 0) -> Path:
    return folder / "lightning_logs" / f"version_{version}"


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder's only run, the oldest first."""
    found = (log_of(folder) / "checkpoints").glob("*.ckpt")
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))


def weights(folder: Path) -> dict[str, Tensor]:
    return read_checkpoint(checkpoints(folder)[-1])["state_dict"]


def rows(folder: Path, table: str) -> list[dict[str, str]]:
    with (log_of(folder) / table).open() as file:
        return list(csv.DictReader(file))


def assert_same_run(folder: Path, whole: Path) -> None:
    """Weights, tables and TensorBoard's points of a run are those of another, to the bit; times aside."""
    expected, got = weights(whole), weights(folder)
    assert [name for name in expected if not torch.equal(expected[name], got[name])] == []
    for table in ("blocks.csv", "levels.csv", "labels.csv"):
        assert [{**row, "seconds": ""} for row in rows(folder, table)] == [
            {**row, "seconds": ""} for row in rows(whole, table)
        ]
    assert points(folder) == points(whole)


def points(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of every scalar but times, and the last step of every figure, whatever files they are in."""
    events = EventAccumulator(str(log_of(folder)), size_guidance={"scalars": 0, "images": 0}).Reload()
    scalars = {tag: sorted((e.step, e.value) for e in events.Scalars(tag)) for tag in events.Tags()["scalars"]}
    figures = {tag: [(events.Images(tag)[-1].step, 0.0)] for tag in events.Tags()["images"]}
    return {tag: found for tag, found in {**scalars, **figures}.items() if "seconds" not in tag and tag != "hp_metric"}


def wait_for_the_end(folder: Path, seconds: float) -> None:
    """Waits until no process of a folder's runs is left."""
    deadline = time.monotonic() + seconds
    while leftovers(folder) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not leftovers(folder)


def leftovers(folder: Path) -> set[str]:
    """Processes of a folder's runs that are still there."""
    found = set()
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and int(entry.name) != os.getpid() and (entry / "cwd").readlink() == folder:
                found.add(entry.name)
    return found
