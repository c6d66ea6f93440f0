"""Parser errors in one line that names the argument, the value and the valid choices."""

import importlib
import inspect
import re
from typing import Any, NoReturn

from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser

from hierlit.data import Supervision
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
OTHER_KEYS = ("data", "seed_everything", "ckpt_path")
QUOTES = "put quotes around a name that YAML takes for something else, such as 'no', '1' or '~'"
NOISE = r"NoneType|^Subtypes|^Given value|^Errors:|^Does not validate|^Parser key|^Problem with given|^$"


class HierlitParser(LightningArgumentParser):
    """LightningCLI's parser, with its errors explained."""

    sections: dict[str, type] = SECTIONS

    def print_usage(self, file: Any = None) -> None:
        """Print one line, not the names of all arguments."""
        print(f"usage: {self.prog.replace(' [options]', '')} [--config FILE] [--SECTION.ARGUMENT VALUE ...]", file=file)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the usage and one line, and exit with code 2."""
        super().error(parse_error_line(message, self.sections), ex)


def parse_error_line(message: str, sections: dict[str, type] = SECTIONS) -> str:
    """Return the line a person needs of jsonargparse's message; the message itself where there is nothing to add."""
    key = _first(r'Parser key "([\w.]+)"', message)
    base = _first(r"<class '(hierlit\.[\w.]+)'>", message)
    if wrong := _first(r"Expected a dot import path string: (\S+)", message):
        if base:
            return f"{key} must be one of {', '.join(subclasses(_class(base)))}, got {wrong}"
    elif wrong := _first(r"Option '([\w.]+)' is not accepted", message):
        path = _first(r"class_path '([\w.]+)'", message)
        if path:
            return unknown(wrong, arguments(_class(path)), f"{key} {path.rpartition('.')[2]}")
    elif wrong := _first(r"does not accept option '([\w.]+)'|unrecognized arguments: --([\w.]+)", message):
        group = _first(r"^Group '(\w+)' does", message)
        section, _, name = f"{group}.{wrong}".lstrip(".").partition(".")
        if section not in sections:
            return unknown(section, [*sections, *OTHER_KEYS], "the command line and config")
        return unknown(name, arguments(sections[section]), section)
    if expected := _mismatch(message):
        return f"{key} must be {expected}"
    lines = [line.strip().removeprefix("- ") for line in message.splitlines()]
    problems = [line for line in lines if not re.search(NOISE, line)]
    return (
        f"{key + ': ' if key else ''}{'; '.join(problems)}" if problems else "; ".join(line for line in lines if line)
    )


def _mismatch(message: str) -> str:
    """Return the valid type or choices, and the value got, of a message about one plain value; or nothing."""
    choices = re.findall(r"Expected an? (?:<class '(\w+)'>|typing\.Literal\[(.+?)\])", message)
    expected = [choice for found in choices for choice in found if choice and choice != "NoneType"]
    got = _first(r"Got value: (.+)|^\s*Given value: (\S+)$", message)
    remedy = f"; {QUOTES}" if "str" in expected and not got.startswith(("'", "[", "{")) else ""
    return f"{' or '.join(dict.fromkeys(expected))}, got {got}{remedy}" if expected and got else ""


def unknown(name: str, valid: list[str], owner: str) -> str:
    """Return the line for a misspelt key."""
    return f"{owner} has no argument {name!r}; valid are {', '.join(valid)}"


def arguments(cls: type) -> list[str]:
    """Names of a class's constructor arguments."""
    return [name for name in inspect.signature(cls).parameters if name != "self"]


def subclasses(cls: type) -> list[str]:
    """Names of the concrete classes below a class."""
    children: list[type] = cls.__subclasses__()
    below = [name for child in children for name in subclasses(child)]
    return below if inspect.isabstract(cls) else [cls.__name__, *below]


def _class(path: str) -> type:
    module, _, name = path.rpartition(".")
    found: Any = getattr(importlib.import_module(module), name)
    return found if isinstance(found, type) else type(found)


def _first(pattern: str, message: str) -> str:
    match = re.search(pattern, message, re.M)
    return next((group for group in match.groups() if group), "") if match else ""
