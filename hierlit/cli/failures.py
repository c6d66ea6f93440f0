"""Failures that a person can mend, in one line; and no process that outlives the run it belongs to."""

import errno
import os
import sys
import sysconfig
import threading
import traceback
from pathlib import Path

from torch.distributed import DistNetworkError

from hierlit.layerwise.memory import is_out_of_memory
from hierlit.models.random_features import CompileError
from hierlit.training.signals import watch_parent

MENDABLE = (OSError, FloatingPointError, MemoryError, CompileError)
FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "LOCAL_RANK")
"""Where launchers say which rank a process has, the surest first."""
OF_EXPERIMENTS = ("pandas", "jinja2", "filelock")
"""Packages of the extra `experiments`, which its modules import at their top."""
PACKAGE = Path(__file__).parents[1]
LIBRARIES = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
WHOLE = "HIERLIT_TRACEBACK"
"""Environment variable that has errors in a person's own code shown with all calls."""
LOST = ("closed by peer", "reset by peer", "broken pipe", "pair closure", "ncclremoteerror", "timed out waiting")
"""What a message of torch.distributed has in it when another process is gone."""


def failure_line(error: BaseException) -> str:
    """Return what went wrong, in one line, where a traceback would not help: disks, memory, …; else nothing."""
    where = f" on rank {rank()}" if rank() else ""
    if isinstance(error, MENDABLE):
        text = str(error) if not isinstance(error, OSError) or error.strerror is None else os_error_line(error)
        return f"error{where}: {text or type(error).__name__}"
    if isinstance(error, ModuleNotFoundError) and error.name in OF_EXPERIMENTS:
        return f"error: this needs {error.name}: pip install 'hierlit[experiments]'"
    if isinstance(error, ModuleNotFoundError) and error.name == "submitit":
        return "error: --engine submitit needs submitit: pip install 'hierlit[slurm]'"
    first_line = str(error).partition("\n")[0]
    if is_out_of_memory(error):
        remedy = "lower model.n_features, model.cache_budget_gib or data.batch_size"
        return f"error{where}: no memory ({first_line}): {remedy}"
    if isinstance(error, RuntimeError) and "is not the same on ranks" in first_line:
        return f"error{where}: {first_line}"
    if is_of_lost_process(error):
        return f"error{where}: another process of the run is gone ({first_line})"
    place = own_place(error)
    return f"error{where}: {place}: {type(error).__name__}: {first_line}; {WHOLE}=1 shows all calls" if place else ""


def own_place(error: BaseException) -> str:
    """Return the line of a person's own code, called by hierlit, that an error came through last; nothing if none.

    Nothing either where the environment asks for the whole traceback.
    """
    is_within, place = False, ""
    for frame in traceback.extract_tb(error.__traceback__):
        path = Path(frame.filename)
        if path.is_relative_to(PACKAGE):
            is_within = True
        elif is_within and path.is_file() and not any(path.is_relative_to(folder) for folder in LIBRARIES):
            place = f"{frame.filename}, line {frame.lineno}, in {frame.name}"
    return "" if os.environ.get(WHOLE) else place


def is_of_lost_process(error: BaseException) -> bool:
    """Return whether an error of torch.distributed is that another process of the run is gone."""
    signs = any(sign in str(error).lower() for sign in LOST)
    return isinstance(error, DistNetworkError) or (isinstance(error, RuntimeError) and signs)


def rank() -> str:
    """Return this process's rank, as its launcher gives it; nothing if it is alone."""
    return next((os.environ[name] for name in RANKS if name in os.environ), "")


def os_error_line(error: OSError) -> str:
    """Return an operating system's error with its file, if it has one; writers of open logs name none."""
    if error.filename:
        return f"{error.filename}: {error.strerror}"
    is_bare = error.errno in FULL and error.strerror == os.strerror(error.errno)
    return f"cannot write to the log folder: {error.strerror}" if is_bare else str(error.strerror)


def explain_threads() -> None:
    """End threads, such as TensorBoard's writer, with the line of `failure_line` where there is one."""
    before = threading.excepthook

    def excepthook(args: threading.ExceptHookArgs) -> None:
        line = failure_line(args.exc_value) if args.exc_value is not None else ""
        if line:
            print(f"{line} (in thread {args.thread.name if args.thread else ''})", file=sys.stderr, flush=True)
        else:
            before(args)

    threading.excepthook = excepthook


def watch_launcher() -> None:
    """End this process, if another one launched it as a rank, once that other one is gone."""
    if "LOCAL_RANK" in os.environ:
        watch_parent(f"error on rank {rank()}: its launcher is gone\n")
