"""Every fenced code block of the README and the docs: Python runs as it stands, commands run in small.

A page is read from top to bottom in a folder of its own, where the repository's configs are, and its Python blocks
share their names. A block with a title is saved under it; what `print(...)  # this` announces must be printed. Commands
of hierlit get arguments that make them small, processes are not started, experiments stop where their runs would
begin, and sweeps after the first run. Of a page's fits the first trains, and those that a later command goes on from;
the others stop where training would begin, unless all are to train, which takes minutes. Blocks of `text` are formulas
and messages.
"""

import inspect
import re
import runpy
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from rich.console import Console
from torch.distributed.run import get_args_parser

import hierlit
import hierlit.cli.experiment
import hierlit.cli.sweep
import hierlit.theory
from hierlit.cli import main
from hierlit.cli.fit import HierlitCLI
from hierlit.cli.words import packaged
from hierlit.experiments import EXPERIMENTS, Experiment
from hierlit.experiments.base import Command
from hierlit.experiments.runner import Results, cells_of, run_cell

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^`\n]*)\n(?P<text>.*?)^(?P=indent)```$", re.M | re.S)
NOT_RUN = {"pip", "tensorboard", "sbatch", "export", "mkdocs"}
"""Programs that are known and not run."""
FITTED = {"fit", "validate", "test", "predict"}
SMALL = {"model.n_features": 20, "layerwise.relative_suboptimality": 1e9}
SMALL_SEARCH = ["--discover.seeds=1", "--discover.n_blocks=2", "--discover.n_features=20", "--discover.null=false"]
QUIET = {"accelerator": "cpu", "enable_progress_bar": "false", "enable_model_summary": "false"}
SMALL_DATA = {"n_levels": 2, "n_cells": 16, "n_train": 60, "n_val": 20, "n_test": 20}
PARALLEL = {"--trainer.devices", "--trainer.num_nodes"}


class Block(NamedTuple):
    page: Path
    line: int
    language: str
    title: str
    text: str


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page; `line` is that of their first line."""
    text = page.read_text()
    found = []
    for match in FENCE.finditer(text):
        language, _, others = match["info"].strip().partition(" ")
        title = re.fullmatch(r'title="([\w.]+)"', others.strip())
        assert title or not others, f"{page}: what is {match['info']!r}?"
        line = text[: match.start("text")].count("\n") + 1
        found.append(Block(page, line, language, title[1] if title else "", match["text"]))
    assert text.count("```") == 2 * len(found), f"{page} has a fence that is not closed"
    return found


class Reader:
    """Reads a page and does what it says, in the current folder.

    Args:
        is_small: Whether commands are made small.
        trains_all: Whether fits train that nothing goes on from.
    """

    def __init__(self, page: Path, is_small: bool, monkeypatch: pytest.MonkeyPatch, trains_all: bool = True) -> None:
        self.page, self.is_small, self.monkeypatch, self.trains_all = page, is_small, monkeypatch, trains_all
        self.waiting: list[str] = []
        self.module = ModuleType(f"page_{page.stem}")
        inputs = np.random.default_rng(0).choice([-1.0, 1.0], size=(400, 6))
        self.module.__dict__.update(X=inputs, Y=inputs[:, :3] * inputs[:, 3:])
        monkeypatch.setitem(sys.modules, self.module.__name__, self.module)
        self.last_fit: list[Path] = []
        self.n_blocks = 1
        self.run: dict[str, Callable[[Block], None]] = {
            "python": self.run_python,
            "bash": self.run_bash,
            "yaml": lambda block: yaml.safe_load(block.text),
            "text": lambda block: None,
        }

    def read(self) -> None:
        """Goes through all blocks."""
        for block in blocks_of(self.page):
            where = f"{self.page.relative_to(ROOT)}:{block.line}"
            assert block.language in self.run, f"{where}: blocks must be {', '.join(self.run)}, got {block.language!r}"
            if block.title:
                Path(block.title).write_text(block.text)
            try:
                self.run[block.language](block)
            except (Exception, SystemExit) as error:
                raise AssertionError(f"{where}: {type(error).__name__}: {error}") from error

    def run_python(self, block: Block) -> None:
        """Executes a block, and compares what it prints with what it announces."""
        code = compile("\n" * (block.line - 1) + block.text, str(self.page), "exec")
        with redirect_stdout(StringIO()) as printed:
            exec(code, self.module.__dict__)
        lines = iter(printed.getvalue().splitlines())
        for announced in re.findall(r"^ *print\(.*\)  # (.*)$", block.text, re.M):
            assert announced in lines, f"{announced!r} is not among what is printed:\n{printed.getvalue()}"

    def run_bash(self, block: Block) -> None:
        """Does each line's command."""
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                try:
                    self.run_command(words)
                except (Exception, SystemExit) as error:
                    raise AssertionError(f"{line.strip()}: {type(error).__name__}: {error}") from error

    def run_command(self, words: list[str]) -> None:
        """Does a command that is known."""
        program, *args = words
        if program == "srun":
            assert words[1] == "python", "srun without options"
            self.run_command(args)
        elif program == "torchrun":
            given = get_args_parser().parse_args(args)
            assert given.module, "torchrun starts modules"
            self.run_module(given.training_script, given.training_script_args)
        elif words[:2] == ["python", "-m"]:
            self.run_module(words[2], words[3:])
        elif program == "hierlit":
            self.run_module(program, args)
        elif program == "python":
            self.run_script(*args)
        elif program == "make":
            targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
            assert args and set(args) <= set(targets), f"no target of the Makefile: {args}"
        else:
            assert program in NOT_RUN, f"what is {shlex.join(words)}?"

    def run_module(self, name: str, args: list[str]) -> None:
        """Does `python -m NAME`."""
        if name == "benchmarks":
            import_module("benchmarks.__main__").parse(args)
        elif name.startswith("benchmarks."):
            assert find_spec(name), f"no module {name}"
        else:
            assert name == "hierlit", f"what is {name}?"
            self.run_hierlit(args)

    def run_script(self, path: str, *args: str) -> None:
        """Does `python FILE`; experiments make their runs one after another in this process."""
        with self.monkeypatch.context() as patch:
            patch.setattr(sys, "argv", [path, *args])
            most = None if self.trains_all else 1
            patch.setattr(hierlit.cli.experiment, "run_all", partial(run_one_after_another, most=most))
            registry = EXPERIMENTS.copy()
            for module in (hierlit.experiments, hierlit.cli.experiment):
                patch.setattr(module, "EXPERIMENTS", registry)
            runpy.run_path(path, run_name="__main__")

    def run_hierlit(self, args: list[str]) -> None:
        """Does a command of hierlit."""
        command = args[0]
        with self.monkeypatch.context() as patch:
            patch.setattr(hierlit.cli.experiment, "run_all", run_nothing)
            if "--help" in args:
                with pytest.raises(SystemExit, match=r"^0$"):
                    main(args)
            elif command in ("experiment", "export"):
                self.train_what_waits()
                main(args)
            elif command in ("sweep", "compare"):
                patch.setattr(hierlit.cli.sweep, "run_all", partial(run_one_after_another, most=1))
                main([*args, *self.small(args), "--seeds=1"])
            elif command == "discover":
                main([*args, *(SMALL_SEARCH if self.is_small else [])])
            elif command in ("plan", "describe"):
                main([*args, *self.small(args)])
            elif PARALLEL & set(args):
                self.begin(args)
            else:
                assert command in FITTED, f"how is {command} made small?"
                self.fit(args)

    def fit(self, args: list[str]) -> None:
        """Does `fit` and commands that go on from one, which is made for them if the last one had another config."""
        goes_on = "--ckpt_path" in args
        if goes_on:
            self.train_what_waits()
            if configs_of(args) and resolved(args) != self.last_fit:
                self.train(["fit", *without(args[1:], "--ckpt_path", "--predictions.path")])
            elif not self.last_fit:
                self.train(["fit", "--config", "configs/exact.yaml"])
        if self.last_fit and args[0] == "fit" and not goes_on and not self.trains_all:
            self.begin(args)
            self.waiting = args
        else:
            self.train(args)

    def train(self, args: list[str]) -> None:
        """Does a command to its end."""
        if args[0] == "fit":
            self.last_fit = resolved(args) or self.last_fit
            self.n_blocks, self.waiting = 1 + ("--ckpt_path" in args), []
        main([*args, *self.small(args)])

    def train_what_waits(self) -> None:
        """Does the last fit, if it stopped before training."""
        if self.waiting:
            self.train(self.waiting)

    def begin(self, args: list[str]) -> None:
        """Does a command up to where it would train."""
        with self.monkeypatch.context() as patch:
            patch.setattr(HierlitCLI, "_run_subcommand", lambda cli, subcommand: None)
            main([*args, *self.small(args)])

    def small(self, args: list[str]) -> list[str]:
        """Arguments that make a run small, of those that its data has."""
        if not self.is_small:
            return []
        display = {f"trainer.{name}": value for name, value in QUIET.items()} if args[0] in FITTED else {}
        if "--ckpt_path" in args and not configs_of(args):  # its config is small
            return [f"--{name}={value}" for name, value in {"model.n_blocks": self.n_blocks, **display}.items()]
        parameters = inspect.signature(data_class(args)).parameters
        own = {f"data.{name}": size for name, size in SMALL_DATA.items() if name in parameters}
        own = {name: size for name, size in own.items() if f"--{name}" not in args}
        small = {**SMALL, "model.n_blocks": self.n_blocks, **own, **display}
        return [f"--{name}={value}" for name, value in small.items()]


def without(args: list[str], *names: str) -> list[str]:
    """Arguments but these, with their values."""
    return [word for word, before in zip(args, ["", *args], strict=False) if word not in names and before not in names]


def configs_of(args: list[str]) -> list[str]:
    """The configs that a command is given."""
    return [word for word, before in zip(args, ["", *args], strict=False) if before == "--config"]


def resolved(args: list[str]) -> list[Path]:
    """Where the configs of a command are."""
    return [Path(packaged(path)).resolve() for path in configs_of(args)]


def data_class(args: list[str]) -> type:
    """The class of the data of a command."""
    given: Any = [word for word, before in zip(args, ["", *args], strict=False) if before == "--data"]
    configs = [yaml.safe_load(Path(packaged(path)).read_text()) for path in configs_of(args)]
    given += [config["data"] for config in configs if config.get("data")]
    path = given[0] if isinstance(given[0], str) else given[0]["class_path"]
    module, _, name = path.rpartition(".")
    found: type = getattr(import_module(module) if module else hierlit, name)
    return found


def run_nothing(
    experiment: Experiment, folder: Path, workers: int | None, console: Console, command: Command, **_: Any
) -> Results:
    """In the place of an experiment's runs: none."""
    return Results(folder)


def run_one_after_another(
    experiment: Experiment,
    folder: Path,
    workers: int | None,
    console: Console,
    command: Command,
    most: int | None = None,
    **_: Any,
) -> Results:
    """In the place of parallel processes; all runs, or so many at most."""
    results = Results(folder)
    for settings, seed in cells_of(experiment)[:most]:
        results.add(run_cell(command, experiment, folder, settings, seed))
    return results


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder that looks like the repository's, whose modules can be imported, and are forgotten afterwards."""
    for name in ("configs", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    for folder in (ROOT, tmp_path):
        monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(tmp_path) in (getattr(sys.modules[name], "__file__", None) or ""):
            del sys.modules[name]


@pytest.mark.parametrize("trains_all", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["some train", "all"])
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_a_page_runs(page: Path, trains_all: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(page, True, monkeypatch, trains_all)
    reader.read()
    if page.name == "README.md" and page.parent == ROOT:
        names = reader.module.__dict__
        assert (names["signs"] == names["Y"]).mean() > 0.99


@pytest.mark.slow
def test_the_readme_s_commands_run_as_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    Reader(ROOT / "README.md", False, monkeypatch).read()


def test_every_experiment_has_a_section() -> None:
    text = (ROOT / "docs" / "experiments.md").read_text()
    assert re.findall(r"^## (.*)$", text, re.M) == list(EXPERIMENTS)


def test_every_public_name_is_in_the_reference() -> None:
    text = "\n".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
    names = [*hierlit.__all__, *hierlit.theory.__all__]
    missing = [name for name in names if not re.search(rf"\b{name}\b", text)]
    assert not missing, f"add to a page of docs/api: {', '.join(missing)}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("```bash\npython -m hierlit fit --config configs/exact.yaml --model.n_blokcs 2\n```\n", "n_blokcs"),
        (
            "```bash\npython -m hierlit fit --config configs/exact.yaml --trainer.devices 2 --trainer.node 1\n```\n",
            "node",
        ),
        ("```bash\nhierlit fit --config configs/no.yaml\n```\n", "no.yaml"),
        ("```bash\npython -m hierlit experiment joint --config configs/experiments/joint.yaml --sede 1\n```\n", "sede"),
        ("```bash\npython -m hierlit discover\n```\n", "discover"),
        ("```bash\npython -m benchmarks dpeth\n```\n", "SystemExit"),
        ("```bash\nmake tset\n```\n", "tset"),
        ("```bash\nmake fit && rm -r /\n```\n", "target"),
        ("```bash\ncurl example.org\n```\n", "curl"),
        ("```python\nfrom hierlit import Staircases\n```\n", "Staircases"),
        ("```python\nprint(1 + 1)  # 3\n```\n", "'3' is not among"),
        ("```yaml\na: [\n```\n", "ParserError"),
        ("```\nmake fit\n```\n", "blocks must be"),
        ("```bash\nmake fit\n", "not closed"),
    ],
)
def test_a_block_that_does_not_hold_is_found(text: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / "docs" / "made_up.md"
    monkeypatch.setattr(Path, "read_text", lambda path, read=Path.read_text: text if path == page else read(path))
    with pytest.raises(AssertionError, match=re.escape(reason)):
        Reader(page, True, monkeypatch).read()


def test_the_version_is_the_same_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert newest is not None
    assert citation["version"] == newest[1] == hierlit.__version__
