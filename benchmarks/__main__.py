"""Runs the benchmarks: python -m benchmarks [names...] [--out FOLDER] [--quick] [--NAME.OPTION VALUE].

All of them when no name is given, one after another, and then one table. results.csv in the folder, and each
benchmark's own files there, keep what earlier runs measured and this one does not.
"""

import logging
import os
import platform
import sys
import traceback
import warnings
from pathlib import Path

import torch
from jsonargparse import ArgumentParser, Namespace

from benchmarks import (
    causes,
    corruption,
    depth,
    epoch,
    exact,
    flat,
    gpu,
    images,
    known,
    losses,
    memory,
    race,
    random_hierarchy,
    reading,
    ridge,
    rules,
    scaling,
    structure,
    tables,
    text,
)
from benchmarks.table import Row, save, show

BENCHMARKS = {
    "flat": flat,
    "epoch": epoch,
    "exact": exact,
    "ridge": ridge,
    "memory": memory,
    "losses": losses,
    "depth": depth,
    "rules": rules,
    "end_to_end": race,
    "scaling": scaling,
    "gpu": gpu,
    "corruption": corruption,
    "random_hierarchy": random_hierarchy,
    "causes": causes,
    "structure": structure,
    "known": known,
    "reading": reading,
    "tables": tables,
    "text": text,
    "images": images,
}
FOLDER = Path("lightning_logs")


def parse(arguments: list[str] | None = None) -> Namespace:
    """The options in arguments: the signature of each benchmark's `run` makes a section."""
    parser = ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(BENCHMARKS), help=", ".join(BENCHMARKS))
    parser.add_argument("--out", type=Path, default=None, help="folder of CSV files and figures")
    parser.add_argument("--quick", action="store_true", help="shrink every benchmark to seconds: a smoke test")
    for name, module in BENCHMARKS.items():
        parser.add_function_arguments(module.run, name, skip={"out"})
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.names if name not in BENCHMARKS]:
        parser.error(f"names must be among {', '.join(BENCHMARKS)}, got {', '.join(unknown)}")
    if given.quick:
        small = {f"{name}.{key}": value for name, module in BENCHMARKS.items() for key, value in module.QUICK.items()}
        parser.set_defaults(small)
    return parser.parse_args(arguments)


def machine() -> str:
    """What the numbers were measured on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"
    return f"{device} of {os.cpu_count()} cores, torch {torch.__version__}, Python {platform.python_version()}"


def main(arguments: list[str] | None = None) -> int:
    """Runs what was asked for; returns the number of benchmarks that failed."""
    options = parse(arguments)
    out = options.out or FOLDER / ("benchmarks-quick" if options.quick else "benchmarks")
    out.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    rows: list[Row] = []
    failed = 0
    for name in options.names:
        print(f"{name} …", flush=True)
        try:
            found = BENCHMARKS[name].run(out, **options[name].as_dict())
        except Exception:
            traceback.print_exc()
            failed += 1
            continue
        save(out / "results.csv", found)
        rows += found
    show(rows, f"{machine()}; files in {out}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
