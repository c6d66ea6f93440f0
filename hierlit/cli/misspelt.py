"""A misspelt option is refused before torch and Lightning are imported: arguments are read off the classes' source."""

import ast
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import yaml

PACKAGE = Path(__file__).parents[1]
SOURCES = {
    "supervision": ("data/supervision.py", "Supervision"),
    "model": ("training/task.py", "LayerwiseTask"),
    "layerwise": ("training/layerwise.py", "LayerwiseTraining"),
    "checkpoint": ("training/checkpoint.py", "BlockCheckpoint"),
    "predictions": ("watching/predictions.py", "PredictionWriter"),
}
"""Where the class of a section is."""
LINKED = ("n_inputs", "n_labels", "n_locations", "levels", "masked", "pooled", "grid")
"""Arguments of the model that follow from the data."""
ALWAYS = {"supervision": ("data",), "model": LINKED}
"""Arguments of a section that are not options."""
WITHOUT_SECTION = ("config", "print_config", "help", "weights_only", "verbose", "return_predictions")
"""Options of LightningCLI's own."""
TABLE = ("--data", "LabelTable")
"""What most people mean who name no data."""
OTHER_KEYS = ("data", "seed_everything", "ckpt_path")
TRAINED = ("fit", "validate", "test", "predict")
"""LightningCLI's own commands."""
COMMANDS = (*TRAINED, "plan", "describe", "discover")
"""Commands with these sections; the last three have one of their own, of their name."""
MOST_LISTED = 12
"""Valid names that a line about a misspelt one lists, if none is near it."""


def misspelt(command: str, args: Sequence[str]) -> str:
    """Return the line about the first option that no section has; nothing where all may be right.

    Args:
        command: One of `COMMANDS`.
        args: Its arguments.
    """
    if command not in COMMANDS:
        return ""
    for word in args:
        section, dot, name = word.removeprefix("--").partition("=")[0].removesuffix("+").partition(".")
        if not word.startswith("--") or section in ("", command, *WITHOUT_SECTION):
            continue
        known, first = dict(section_arguments()), name.removeprefix("init_args.").partition(".")[0]
        if section not in (*known, *OTHER_KEYS):
            options = {"data": data_arguments(args) or data_arguments(TABLE), **known}
            owners = [owner for owner, own in options.items() if section in own] if not dot else []
            found = f"there is no section {section}; did you mean {owners[0]}.{section}?" if owners else ""
            return found or unknown(section, [*known, *OTHER_KEYS, *WITHOUT_SECTION], "")
        if not dot:
            continue
        valid = data_arguments(args) if section == "data" else known[section]
        if valid and first not in (*valid, "class_path", "init_args", "dict_kwargs", "help"):
            return unknown(first, valid, section)
    return ""


def data_arguments(args: Sequence[str]) -> list[str]:
    """Names of the constructor arguments of the data module that a command names; none unless it is one of ours."""
    given = [word.split("=", 1) if "=" in word else [word, after] for word, after in pairwise([*args, ""])]
    named = [value for option, value in given if option == "--data"]
    for file in (Path(value) for option, value in given if option in ("--config", "-c")):
        data = (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("data") if file.is_file() else None
        named += [data["class_path"]] if isinstance(data, dict) and "class_path" in data else []
    module, _, name = (named or [""])[0].rpartition(".")
    if not name.isidentifier() or module.partition(".")[0] not in ("", "hierlit"):
        return []
    return next((names for file in data_sources() for names in constructor_names(file, name)), [])


@cache
def data_sources() -> tuple[ast.Module, ...]:
    """Return the sources of our data modules, which each option of the data asks for, and which take long to parse."""
    return tuple(ast.parse(path.read_text(encoding="utf-8")) for path in sorted((PACKAGE / "data").rglob("*.py")))


@cache
def section_arguments() -> tuple[tuple[str, list[str]], ...]:
    """Options of each section of a fit, the data's aside."""
    found = [(section, options_in(PACKAGE / path, name, section)) for section, (path, name) in SOURCES.items()]
    lightning = find_spec("lightning")
    assert lightning is not None and lightning.origin is not None
    trainer = Path(lightning.origin).parent / "pytorch" / "trainer" / "trainer.py"
    return (*found, ("trainer", options_in(trainer, "Trainer", "trainer")))


def options_in(path: Path, name: str, section: str) -> list[str]:
    """Names of the constructor arguments of a class in a file of Python that can be given."""
    names = next(constructor_names(ast.parse(path.read_text(encoding="utf-8")), name))
    return [argument for argument in names if argument not in ALWAYS.get(section, ())]


def constructor_names(module: ast.Module, name: str) -> Iterator[list[str]]:
    """Yield the names of the constructor's arguments of each class of this name."""
    for node in module.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            for part in node.body:
                if isinstance(part, ast.FunctionDef) and part.name == "__init__" and part.args.kwarg is None:
                    yield [argument.arg for argument in (*part.args.args[1:], *part.args.kwonlyargs)]


def unknown(name: str, valid: Sequence[str], owner: str, kind: str = "") -> str:
    """Return the line about a misspelt key.

    Args:
        name: The key.
        valid: Those that there are.
        owner: What has them, as it stands before a dot on the command line; nothing for a section.
        kind: The class that is the owner's value, where there are several.
    """
    prefix, what = (f"{owner}.", "argument") if owner else ("", "section")
    line = f"there is no {what} {prefix}{name}{f' of {kind}' if kind else ''}; "
    near = get_close_matches(name, valid, n=1) or [each for each in valid if each.startswith(name)]
    if near:
        return f"{line}did you mean {prefix}{near[0]}?"
    listed = ", ".join(valid[:MOST_LISTED]) + (f", … ({len(valid)} in all)" if len(valid) > MOST_LISTED else "")
    return f"{line}valid are {listed}"
