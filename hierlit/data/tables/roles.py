"""Which columns of a table are inputs, which are labels, and whether files agree about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from os import PathLike

from hierlit.data.tables.table_file import TableFile, composed, likewise
from hierlit.models.checks import listed, raise_problems

NOTHING = "~"
"""Not a name but nothing in YAML, unless it has quotes."""
PREFIX = "*"
"""What follows the beginning of several names."""
Names = Sequence[str | PathLike[str]] | str | PathLike[str] | None


def as_names(given: Names) -> list[str]:
    """Return the names of an argument that may be one, several or None."""
    return [] if given is None else list(map(str, [given] if isinstance(given, str | PathLike) else given))


@dataclass(frozen=True)
class ColumnRoles:
    """Names of columns by what they are.

    Attributes:
        features: Inputs.
        labels: Labels and classes, if there is no `path`.
        path: The column of paths or terms.
        classes: The labels that are classes whatever the values look like.
        categorical: The inputs that are categories, whatever the values look like.
        without_inputs: Whether there are to be none.
    """

    features: list[str]
    labels: list[str]
    path: str | None = None
    classes: list[str] = field(default_factory=list)
    categorical: list[str] = field(default_factory=list)
    without_inputs: bool = False

    @classmethod
    def of(cls, file: TableFile, wanted: Mapping[str, Names]) -> ColumnRoles:
        """Return the names of a file's columns by what they are.

        Args:
            file: The file.
            wanted: Arguments of `LabelTable` by name: each holds names, or prefixes followed by `*`.

        Raises:
            ValueError: If a name is no column's, a column is two things, or there are no labels or no inputs.
        """
        problems: list[str] = []
        found = {argument: find(argument, names, file, problems) for argument, names in wanted.items()}
        classes, path = found["class_columns"], found["path_column"]
        left_out = set(found["ignore_columns"])
        named = {*found["label_columns"], *classes}
        labels = [name for name in file.names if name in named - left_out]
        if not labels and not path and not problems:
            labels = [name for name in file.label_names if name not in left_out] if not named else []
            path = [file.path_column] if file.path_column else []
            classes = [name for name in labels if name in file.class_names]
            if not labels and not path:
                quotes = f"; put quotes around {NOTHING}" if NOTHING in file.names else ""
                valid = f"must name columns of {file.path} that are not ignored: {listed(file.names)}{quotes}"
                problems.append(f"label_columns or path_column {valid}")
        features = found["feature_columns"]
        if wanted["feature_columns"] is None:
            left_out |= {*labels, *path, *file.nameless, file.path_column or ""}
            features = file.names
        features = [name for name in features if name not in left_out]
        without_inputs = wanted["feature_columns"] is not None and not as_names(wanted["feature_columns"])
        roles = cls(features, labels, path[0] if path else None, classes, found["categorical_columns"], without_inputs)
        raise_problems(problems or roles.problems(file))
        return roles

    @property
    def label_columns(self) -> list[str]:
        """The columns that labels are read from."""
        return self.labels if self.path is None else [self.path]

    def problems(self, file: TableFile) -> list[str]:
        """Return what is wrong with these roles for the columns of a file."""
        problems = []
        if self.labels and self.path:
            problems.append("label_columns and path_column exclude each other, got both")
        if both := [name for name in self.features if name in self.label_columns]:
            problems.append(f"columns must be inputs or labels, not both, got {listed(both)}")
        if not self.features and not self.without_inputs:
            problems.append(f"{file.path} has no column left for inputs: {listed(file.names)}")
        paths = {file.path_column} | ({self.path} & {*file.lists})
        for names, what in (
            (self.features, "no input: name it in ignore_columns"),
            ([name for name in self.label_columns if name not in paths], "no label"),
        ):
            kinds = {name: file.refused[name] for name in names if name in file.refused}
            problems += likewise(
                (name, kind, f"{file.path}: column {name!r} holds {kind}, {what}") for name, kind in kinds.items()
            )
        if twice := [name for name in self.label_columns if name in file.repeated]:
            problems.append(
                f"{file.path}: label columns must have names of their own, got more than one {listed(twice)}"
            )
        return problems

    def missing(self, file: TableFile, needs_labels: bool = True) -> list[str]:
        """Return what a further file lacks."""
        columns = self.features + (self.label_columns if needs_labels else [])
        lacking = [name for name in columns if name not in file.names]
        return [f"{file.path} lacks the columns {listed(lacking)}"] if lacking else []


def column_problems(roles: ColumnRoles, files: Mapping[str, Sequence[TableFile]]) -> list[str]:
    """Say which columns of the first file to train on others lack, and which more there are in others to train on."""
    first, *rest = files["train"]
    problems = []
    for file in rest:
        problems += roles.missing(file)
        if extra := others(file, first):
            problems.append(f"{file.path} has columns that {first.path} has not: {listed(extra)}")
    for split in ("val", "test", "predict"):
        problems += [problem for file in files[split] for problem in roles.missing(file, split != "predict")]
    return problems


def column_warnings(roles: ColumnRoles, takes_all: bool, files: Mapping[str, Sequence[TableFile]]) -> list[str]:
    """Say which columns are left out, or numbered, without having been named.

    Args:
        roles: What the columns are.
        takes_all: Whether all columns are inputs that are nothing else.
        files: Of each split.
    """
    first = files["train"][0]
    warnings = []
    if takes_all and first.nameless:
        warnings.append(f"{first.path}: columns without a name are left out: {listed(first.nameless)}")
    if repeated := [name for name in roles.features if name in first.repeated]:
        warnings.append(f"{first.path}: columns of the same name are numbered: {listed(repeated)}")
    for file in (*files["val"], *files["test"], *files["predict"]) if takes_all else ():
        if extra := [name for name in others(file, first) if name != file.path_column]:
            warnings.append(f"{file.path}: columns that {first.path} has not are left out: {listed(extra)}")
    return warnings


def others(file: TableFile, first: TableFile) -> list[str]:
    """Return the names of a further file's columns that the first one has not got."""
    return [name for name in file.names if name not in first.names and name not in file.nameless]


def find(argument: str, wanted: Names, file: TableFile, problems: list[str]) -> list[str]:
    """Return the names of a file's columns that names or prefixes mean, in the file's order; adds to the problems."""
    found = {name: meant(name, file.names) for name in map(composed, as_names(wanted))}
    unknown = {name: instead(name, file.names) for name, own in found.items() if not own}
    problems += likewise(
        (name, valid, f"{argument}: {file.path} has no column {name!r}: {valid}") for name, valid in unknown.items()
    )
    columns = set[str]().union(*found.values())
    return [name for name in file.names if name in columns]


def instead(name: str, columns: Sequence[str]) -> str:
    """Return what a person may have meant by a name, or a prefix, of no column."""
    if parts := several(name, columns):
        return f"write a list, [{','.join(parts)}]"
    is_prefix, beginning = name.endswith(PREFIX), name.removesuffix(PREFIX)
    size = len(beginning) if is_prefix else None
    own = {column[:size].casefold(): column for column in reversed(columns)}
    near = [repr(own[each]) for each in get_close_matches(beginning.casefold(), own, n=3)]
    if not near:
        return f"its columns are {listed(columns)}"
    return f"none begins so, the nearest are {', '.join(near)}" if is_prefix else f"did you mean {' or '.join(near)}?"


def meant(name: str, columns: Sequence[str]) -> set[str]:
    """Return the columns that a name or a prefix means."""
    if name in columns or not name.endswith(PREFIX):
        return {name} & set(columns)
    return {each for each in columns if each.startswith(name[:-1])}


def several(name: str, columns: Sequence[str]) -> list[str]:
    """Return the names or prefixes of columns that a text has between commas or blanks; none if it has others."""
    for mark in (",", None):
        parts = [part.strip() for part in name.strip("[]").split(mark)]
        if len(parts) > 1 and all(meant(part, columns) for part in parts):
            return parts
    return []
