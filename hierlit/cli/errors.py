"""Parser errors in one line that names the argument, the value and the valid choices."""

import importlib
import inspect
import re
from typing import Any, NoReturn

from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser

from hierlit.cli.misspelt import ALWAYS, OTHER_KEYS, TRAINED, unknown
from hierlit.data import ArrayHierarchy, HierarchyDataModule, Supervision
from hierlit.training import BlockCheckpoint, LayerwiseTraining
from hierlit.training.task import LayerwiseTask
from hierlit.watching import PredictionWriter

SECTIONS: dict[str, type] = {
    "supervision": Supervision,
    "model": LayerwiseTask,
    "layerwise": LayerwiseTraining,
    "checkpoint": BlockCheckpoint,
    "predictions": PredictionWriter,
    "trainer": Trainer,
}
FROM_PYTHON = (ArrayHierarchy, Supervision)
"""Classes of data whose arguments cannot be typed."""
HELP_ORDER = ("help", "data", "model", "layerwise", "supervision", "checkpoint", "predictions", "trainer", "ckpt_path")
"""Sections as `--help` has them; of any other command its own comes last."""
QUOTES = "put quotes around a name that YAML takes for something else, such as 'no', '1' or '~'"
NO_DATA = r"^the following arguments are required: (\w+\.)?data$|HierarchyDataModule is abstract"
NO_CLASS = (
    r"Expected a dot import path string: (\S+)|Expected a path but (\S+) either|"
    rf"class_path 'hierlit\.({'|'.join(cls.__name__ for cls in FROM_PYTHON)})':\n +"
    r"(?:the following arguments are required|data must be given)"
)
"""What jsonargparse says of a name that is no class's, of an abstract class, and of one of `FROM_PYTHON`."""
NOISE = (
    r"NoneType|^Subtypes|^Given value|^Errors:|^Does not validate|^Parser key|^Problem with given|"
    r"__init__\(\) got an unexpected|^$"
)


class HierlitParser(LightningArgumentParser):
    """LightningCLI's parser, with its errors explained."""

    sections: dict[str, type] = SECTIONS

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **options})

    def format_usage(self, *formatter: Any) -> str:
        """Return one line, not the names of all arguments."""
        if self._subcommands_action is not None:
            return str(super().format_usage(*formatter))
        return f"usage: {self.prog.replace(' [options]', '')} [--config FILE] [--SECTION.ARGUMENT VALUE ...]\n"

    def format_help(self, *formatter: Any) -> str:
        """Return the help below one line of usage: hierlit's own sections first, those of Lightning last."""
        usage = super().format_usage(*formatter)
        self._action_groups = sorted(self._action_groups, key=section_place)
        for group in self._action_groups:
            if section := next((each for each in HELP_ORDER[1:-1] if section_of(group) == each), ""):
                group.title = f"{section}: {(group.title or '').removeprefix(section + ': ')}"
        return super().format_help(*formatter).replace(usage, self.format_usage(*formatter), 1)

    def print_usage(self, file: Any = None) -> None:
        """Print one line, not the names of all arguments."""
        print(f"usage: {self.prog.replace(' [options]', '')} [--config FILE] [--SECTION.ARGUMENT VALUE ...]", file=file)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the usage and one line, and exit with code 2."""
        super().error(parse_error_line(message, self.sections), ex)


def section_of(group: Any) -> str:
    """Return the section that a group of options is of; nothing if it is of none."""
    if group.title == "Linked arguments":
        return ""
    sections = [action.dest.partition(".")[0] for action in group._group_actions]
    return next((section for section in sections if section in HELP_ORDER), "")


def section_place(group: Any) -> int:
    """Return where a group of options stands in the help."""
    section = section_of(group)
    return HELP_ORDER.index(section) if section else len(HELP_ORDER)


def parse_error_line(message: str, sections: dict[str, type] = SECTIONS) -> str:
    """Return the line a person needs of jsonargparse's message; the message itself where there is nothing to add."""
    key = _first(r'Parser key "([\w.]+)"', message)
    if found := re.search(NO_DATA, message):
        if (found[1] or "").rstrip(".") in TRAINED[1:]:
            return "ckpt_path must be given, a checkpoint file or `last`: its config says what the data is"
        known = ", ".join(subclasses(HierarchyDataModule))
        return f"data must be given: --config tables for a table, another config, or --data with one of {known}"
    if line := _no_class(key, message) or _no_argument(key, message, sections):
        return line
    if expected := _mismatch(message):
        return f"{key} must be {expected}"
    lines = [line.strip().removeprefix("- ") for line in message.splitlines()]
    problems = dict.fromkeys(line for line in lines if not re.search(NOISE, line))  # of each type of a union, once
    return (
        f"{key + ': ' if key else ''}{'; '.join(problems)}" if problems else "; ".join(line for line in lines if line)
    )


def with_paths(message: str, config: Any) -> str:
    """Return the problems of a constructor with each argument named by its whole path, where only one has the name.

    Args:
        message: Problems, joined by "; ".
        config: A `Namespace` of all arguments.
    """
    paths: dict[str, set[str]] = {}
    for key in vars(config.as_flat()) if hasattr(config, "as_flat") else ():
        path = key.replace(".init_args", "").removesuffix(".class_path")
        paths.setdefault(path.rpartition(".")[2], set()).add(path)

    def whole(match: re.Match[str]) -> str:
        found = paths.get(match[2], set())
        return match[1] + (next(iter(found)) if len(found) == 1 else match[2])

    return re.sub(r"(^\s*(?:- )?|; )([a-z]\w*)(?=:? )", whole, message, flags=re.M)


def _no_class(key: str, message: str) -> str:
    """Return the line about a name that is not one of the classes that a value may be of; nothing otherwise."""
    base, wrong = _first(r"<class '((?:hierlit|lightning)\.[\w.]+)'>", message), _first(NO_CLASS, message)
    if not base or not wrong:
        return ""
    words = ["true", "false"] if "<class 'bool'>" in message else []
    return f"{key} must be one of {', '.join([*subclasses(_class(base)), *words])}, got {wrong}"


def _no_argument(key: str, message: str, sections: dict[str, type]) -> str:
    """Return the line about an argument that a class, or a section, has not; nothing otherwise."""
    if wrong := _first(r"Option '([\w.]+)' is not accepted", message):
        paths = list(dict.fromkeys(re.findall(r"class_path '([\w.]+)'", message)))
        valid = list(dict.fromkeys(name for path in paths for name in arguments(_class(path))))
        return unknown(wrong, valid, key, " or ".join(path.rpartition(".")[2] for path in paths)) if paths else ""
    wrong = _first(r"does not accept option '([\w.]+)'|unrecognized arguments: --([\w.]+)", message)
    group = _first(r"^Group '(\w+)' does", message)
    section, _, name = f"{group}.{wrong}".lstrip(".").partition(".")
    if not wrong or section not in sections:
        return unknown(section, [*sections, *OTHER_KEYS], "") if wrong else ""
    valid = [each for each in arguments(sections[section]) if each not in ALWAYS.get(section, ())]
    return unknown(name, valid, section)


def _mismatch(message: str) -> str:
    """Return the valid type or choices, and the value got, of a message about one plain value; or nothing."""
    choices = re.findall(r"Expected an? (?:<class '(\w+)'>|typing\.Literal\[(.+?)\])", message)
    texts = [text for found in choices for text in found if text and text != "NoneType"]
    expected = [choice.strip("'") for text in texts for choice in text.split(", ")]
    got = _first(r"Got value: (.+)|^\s*Given value: (\S+)$", message)
    remedy = f"; {QUOTES}" if "str" in expected and not got.startswith(("'", "[", "{")) else ""
    return f"{' or '.join(dict.fromkeys(expected))}, got {got}{remedy}" if expected and got else ""


def arguments(cls: type) -> list[str]:
    """Names of a class's constructor arguments."""
    return [name for name in inspect.signature(cls).parameters if name != "self"]


def subclasses(cls: type) -> list[str]:
    """Names of the concrete classes below a class, those aside that are `FROM_PYTHON`."""
    children: list[type] = cls.__subclasses__()
    below = [name for child in children for name in subclasses(child)]
    is_hidden = inspect.isabstract(cls) or cls in FROM_PYTHON or cls.__name__.startswith("_")
    return below if is_hidden else [cls.__name__, *below]


def _class(path: str) -> type:
    module, _, name = path.rpartition(".")
    found: Any = getattr(importlib.import_module(module), name)
    return found if isinstance(found, type) else type(found)


def _first(pattern: str, message: str) -> str:
    match = re.search(pattern, message, re.M)
    return next((group for group in match.groups() if group), "") if match else ""
