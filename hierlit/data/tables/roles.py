"""Which columns of a table are inputs, which are labels, and whether files agree about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from hierlit.data.checks import raise_problems
from hierlit.data.tables.rows import TableFile

PREFIX = "*"
NAMED = 10
"""Names that a message lists before it counts the rest."""
Names = Sequence[str] | str | None


def as_names(given: Names) -> list[str]:
    """Return the names of an argument that may be one, several or None."""
    return [] if given is None else [given] if isinstance(given, str) else list(given)


@dataclass(frozen=True)
class Roles:
    """Columns by what they are, as a person names them: each by its name, or a prefix followed by `*`.

    Attributes:
        labels: Labels, one each, and classes.
        classes: Classes, whatever the values look like.
        ignored: None of these.
        categorical: Inputs that are categories, whatever the values look like.
        path: The column of paths or terms.
        features: Inputs; all others when None.
    """

    labels: Names = None
    classes: Names = None
    ignored: Names = None
    categorical: Names = None
    path: str | None = None
    features: Names = None

    def of(self, file: TableFile) -> ColumnRoles:
        """Return the names of a file's columns by what they are.

        Raises:
            ValueError: If a name is no column's, a column is two things, or there are no labels or no inputs.
        """
        problems: list[str] = []
        classes = find("class_columns", self.classes, file, problems)
        named = find("label_columns", self.labels, file, problems)
        labels = [name for name in file.names if name in (*named, *classes)]
        path = find("path_column", self.path or None, file, problems)
        if not labels and not path and not problems:
            labels, path = file.label_names, [file.path_column] if file.path_column else []
            if not labels and not path:
                problems.append(f"label_columns or path_column must name columns of {file.path}: {listed(file.names)}")
        ignored = find("ignore_columns", self.ignored, file, problems)
        if self.features is None:
            left_out = {*labels, *path, *ignored, *file.nameless, file.path_column}
            features = [name for name in file.names if name not in left_out]
        else:
            features = find("feature_columns", self.features, file, problems)
            features = [name for name in features if name not in ignored]
        categorical = find("categorical_columns", self.categorical, file, problems)
        roles = ColumnRoles(features, labels, path[0] if path else None, classes, categorical)
        raise_problems(problems or roles.problems(file))
        return roles


@dataclass(frozen=True)
class ColumnRoles:
    """Names of columns by what they are.

    Attributes:
        features: Inputs.
        labels: Labels and classes, if there is no `path`.
        path: The column of paths or terms.
        classes: The labels that are classes whatever the values look like.
        categorical: The inputs that are categories, whatever the values look like.
    """

    features: list[str]
    labels: list[str]
    path: str | None = None
    classes: list[str] = field(default_factory=list)
    categorical: list[str] = field(default_factory=list)

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
        if not self.features:
            problems.append(f"{file.path} has no column left for inputs: {listed(file.names)}")
        for name in self.features:
            if name in file.types and (kind := file.types[name].refused):
                problems.append(f"{file.path}: column {name!r} holds {kind}, no input: name it in ignore_columns")
        for name in self.label_columns:
            if name in file.types and (kind := file.types[name].refused) and name != file.path_column:
                problems.append(f"{file.path}: column {name!r} holds {kind}, no label")
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

    def others(self, file: TableFile, first: TableFile) -> list[str]:
        """Names of a further file's columns that the first one has not got."""
        return [name for name in file.names if name not in first.names and name not in file.nameless]

    def disagreements(self, file: TableFile, first: TableFile) -> list[str]:
        """Return how a further file to train on differs from the first one."""
        problems = self.missing(file)
        if extra := self.others(file, first):
            problems.append(f"{file.path} has columns that {first.path} has not: {listed(extra)}")
        for name in self.features:
            kinds = [each.types[name].is_number if name in each.types else None for each in (first, file)]
            if None not in kinds and kinds[0] != kinds[1]:
                problems.append(
                    f"{file.path}: column {name!r} holds numbers in one of it and {first.path}, texts in the other"
                )
        return problems


def find(argument: str, wanted: Names, file: TableFile, problems: list[str]) -> list[str]:
    """Return the names of a file's columns that names or prefixes mean, in the file's order; adds to the problems."""
    found: set[str] = set()
    for name in as_names(wanted):
        own = {name} & set(file.names)
        if not own and name.endswith(PREFIX):
            own = {each for each in file.names if each.startswith(name[:-1])}
        if not own:
            near = get_close_matches(name, file.names, n=3)
            valid = f"did you mean {' or '.join(map(repr, near))}" if near else f"its columns are {listed(file.names)}"
            problems.append(f"{argument}: {file.path} has no column {name!r}: {valid}")
        found |= own
    return [name for name in file.names if name in found]


def listed(names: Sequence[str]) -> str:
    """Return the first of some names, and how many more there are."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
