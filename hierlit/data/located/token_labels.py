"""TokenLabels: a person's own sentences, with labels of their characters or tokens, as a data module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hierlit.data.checks import loader_problems
from hierlit.data.located.conllu_file import LABEL_COLUMNS, ConlluFile
from hierlit.data.located.from_files import FILE_SPLITS, FileHierarchy, open_located
from hierlit.data.located.sentences import FORM, ColumnFile, SentenceFile
from hierlit.data.located.token_inputs import (
    VECTOR_SUFFIXES,
    AffixInputs,
    CharacterInputs,
    TokenInputs,
    VectorInputs,
)
from hierlit.data.located.token_rows import FittedTokens, TokenRows, find_lengths, fit_tokens
from hierlit.data.located.token_values import CHARACTER, UNITS, Labeller, Wanted, parse_wanted
from hierlit.data.tables.roles import as_names
from hierlit.data.tables.splits import Splits
from hierlit.data.tables.table_file import TableError
from hierlit.models.checks import at_least, one_of, raise_problems

Names = list[str] | str | None
CONLLU = (".conllu",)
COLUMNS = (".txt", ".tsv", ".conll", ".bio", ".iob")
INPUTS = {CHARACTER: "characters", "token": "affixes"}
"""What inputs are made of by default, by the unit."""


class TokenLabels(FileHierarchy):
    """A person's own sentences, read from files while they are used; locations are characters or tokens.

    Files are CoNLL-U (`.conllu`), or have a token and its columns a line, separated by tabs or blanks, and a blank line
    between sentences (`.txt`, `.tsv`, `.conll`, `.bio`, `.iob`). The first pass over a file finds where its sentences
    begin; they are parsed when they are asked for, so that memory grows by some 40 bytes a sentence and by no more.
    Sentences have any length; nothing is cut. Input channel 0 says where there is a location.

    The characters are those of the sentence's text: in CoNLL-U of `# text`, or else of the tokens with blanks between
    them but after `SpaceAfter=No`; in other files of the tokens with a blank between them. A text that has not got its
    tokens one after the other is an error. A multiword token of CoNLL-U (1-2) whose words spell it is these words;
    otherwise it is one token whose columns are not observed. Empty nodes (1.1) are not written and are left out. A `_`
    is not observed, but in `feats` and `misc`, where it means that there is none.

    Labels of a token hold at each of its characters. Characters between tokens have no part in a word: all labels of
    words and columns are −1 there, those of characters as elsewhere.

    Attributes:
        label_names: Of the labels.
        label_kinds: What each is about: character, word, or the name of its column.

    Args:
        train_files: Path, or paths, of the sentences to train on; relative ones are taken from the working directory.
        val_files: Sentences to validate on.
        test_files: Sentences to test on.
        predict_files: Sentences to predict; in files of columns a line needs no more than the columns up to the token.
        unit: What locations are: character or token.
        inputs: characters (one-hot in lower case, and flags for upper case, digits, blanks and punctuation), affixes
            (signed hashes of a token, of its beginnings and ends of up to 4 characters and of its shape), or the path
            of vectors of words (`.txt` or `.vec` as of word2vec or GloVe, or `.npz` with `words` and `vectors`), which
            are held in memory; characters or affixes, by the unit, when None.
        label_columns: Names of columns: each value with `min_count` tokens becomes a label, `upos=NOUN`. Of a column
            of keys each pair, `feats:Number=Sing`, or those of a key with `feats:Number`. `deprel:main` is the part
            before a colon. A value of its own is a name too: `upos=NOUN`, `deprel:main=nsubj`. Characters have
            `char:vowel` and `char:letter`, words `word:begin`, `word:end` (of characters alone), `word:short` (up to
            3 characters), `word:long` (from 6), `word:capitalised` and `word:suffix` (ing, ed, ly or s); `char` and
            `word` are all of these. None is `upos`, or all columns but `form`.
        columns: Names of the columns of files that are not CoNLL-U; one is `form`, the token.
        min_count: Training tokens that a value must have to be a label, and times that a character must be seen to
            have an input of its own.
        n_hashes: Inputs that affixes share.
        levels: The level of each kind of label, from 1, as `{character: 1, word: 2, upos: 3}`, if known.
        val_fraction: Share, in [0, 1), of the sentences of `train_files`; not used where there are `val_files`.
        test_fraction: Share, in [0, 1), of the sentences of `train_files`.
        ckpt_path: A checkpoint of a model of such rows, in place of `train_files`; for `predict`.
        batch_size: Sentences in a batch.
        acceptance_fraction: Share of the training rows set aside for acceptance decisions, in [0, 1).
        data_seed: Seed of the splits and of the batches.

    Raises:
        ValueError: If arguments are out of range, or files do not exist; one line names them all. When sizes or rows
            are first asked for: the first line that cannot be read, by file and line.
        ImportError: If conllu is needed and not installed.
    """

    masked = True

    def __init__(
        self,
        train_files: Names = None,
        val_files: Names = None,
        test_files: Names = None,
        predict_files: Names = None,
        unit: str = CHARACTER,
        inputs: str | None = None,
        label_columns: Names = None,
        columns: list[str] | None = None,
        min_count: int = 10,
        n_hashes: int = 256,
        levels: dict[str, int] | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.0,
        ckpt_path: str | None = None,
        batch_size: int = 64,
        acceptance_fraction: float = 0.2,
        data_seed: int = 0,
    ) -> None:
        self._splits = Splits(0.0 if val_files else val_fraction, test_fraction, None, 0, data_seed)
        problems = one_of(UNITS, unit=unit) + at_least(1, min_count=min_count, n_hashes=n_hashes)
        problems += self._splits.problems() + loader_problems(batch_size, acceptance_fraction, data_seed)
        problems += inputs_problems(inputs, unit)
        if test_files and test_fraction:
            problems.append("test_files must be left out with test_fraction")
        names = [FORM, "label"] if columns is None else list(columns)
        if FORM not in names or len(set(names)) < len(names):
            problems.append(f"columns must be different names, one of them form, got {names}")
        given = dict(zip(FILE_SPLITS, (train_files, val_files, test_files, predict_files), strict=True))

        def open_file(path: Path, split: str) -> SentenceFile:
            return open_sentences(path, names, split != "predict")

        self._files, unopened = open_located(given, ckpt_path, open_file)
        wanted: list[Wanted] = []
        unknown: list[str] = []
        if train := self._files["train"]:
            for file in (file for split in ("val", "test") for file in self._files[split]):
                if file.columns != train[0].columns:
                    unopened.append(f"{file.path} must have the format of {train[0].path}")
            default = ["upos"] if train[0].columns == LABEL_COLUMNS else list(train[0].columns)
            wanted, unknown = parse_wanted(as_names(label_columns) or default, train[0].columns, unit)
        raise_problems([*problems, *unopened, *unknown, *level_problems(levels, [each.kind for each in wanted])])
        super().__init__(batch_size, acceptance_fraction, data_seed)
        self.save_hyperparameters(ignore=["levels"])
        self._restored = None if ckpt_path is None else FittedTokens.of_checkpoint(ckpt_path)
        self._wanted, self._min_count, self._level_of = wanted, int(min_count), levels
        self._unit = self._restored.unit if self._restored else unit
        self._source, self._n_hashes = inputs or INPUTS[unit], int(n_hashes)
        self._rows: dict[str, TokenRows] = {}

    @cached_property
    def _training(self) -> tuple[FittedTokens, NDArray[np.int64]]:
        """What is fitted, and the locations of all sentences of the training files."""
        files = self._files["train"]
        fitted, lengths = fit_tokens(files, self._own_rows["train"], self._wanted, self._unit, self._min_count)
        return replace(fitted, inputs=self._source, n_hashes=self._n_hashes), lengths

    @cached_property
    def _own_rows(self) -> Mapping[str, NDArray[np.int64]]:
        return self._splits.rows(sum(map(len, self._files["train"])))

    @cached_property
    def _inputs(self) -> TokenInputs:
        fitted = self.fitted
        if fitted.inputs == INPUTS[CHARACTER]:
            return CharacterInputs(fitted.characters)
        return AffixInputs(fitted.n_hashes) if fitted.inputs == INPUTS["token"] else VectorInputs(Path(fitted.inputs))

    @property
    def fitted(self) -> FittedTokens:
        """What predictions need of the training rows, found in a pass over the training files, or in a checkpoint."""
        return self._restored or self._training[0]

    def split_rows(self, split: str) -> TokenRows:
        """Return the rows of "train", "val", "test" or "predict"."""
        if split not in self._rows:
            fitted, files, rows = self.fitted, self._files[split], None
            if split == "train" or not (files or split == "predict"):
                files, rows, lengths = self._files["train"], self._own_rows[split], self._training[1]
            else:
                lengths = find_lengths(files, self._unit)
            has_labels = split != "predict" and self._restored is None
            labeller = Labeller(fitted.labels, self._wanted, self._unit) if has_labels else None
            self._rows[split] = TokenRows(files, rows, lengths, self._inputs, labeller, len(fitted.labels), self._unit)
        return self._rows[split]

    def location_texts(self, split: str, rows: Sequence[int]) -> list[list[str]]:
        """Return the characters, or the tokens, of some rows.

        Args:
            split: "train", "val" or "test", or "predict" for the rows that `predict_dataloader` has.
            rows: As in `Batch.index`.
        """
        split = self.predicted_split or "test" if split == "predict" else split
        own = self.split_rows(split)
        return (own if len(own) or split != "test" else self.split_rows("val")).texts(rows)

    @property
    def label_names(self) -> list[str]:  # type: ignore[override]
        """Of the labels."""
        return [label.name for label in self.fitted.labels]

    @property
    def label_kinds(self) -> list[str]:  # type: ignore[override]
        """What each label is about: character, word, or the name of its column."""
        return [label.kind for label in self.fitted.labels]

    @property
    def class_labels(self) -> dict[str, list[int]]:  # type: ignore[override]
        """Of tokens the columns of one value a token of which every value is a label, by name, with these labels.

        None of characters: between tokens there is no class.
        """
        return self.fitted.class_labels

    @property
    def input_names(self) -> list[str]:
        """Of the inputs."""
        return self._inputs.names

    @property
    def n_inputs(self) -> int:  # type: ignore[override]
        """Channels, with the one that says where there is a location."""
        return len(self.input_names)

    @property
    def n_locations(self) -> int:  # type: ignore[override]
        """Locations of the longest sentence of the training files."""
        return self.fitted.longest

    @property
    def grid(self) -> tuple[int, ...] | None:  # type: ignore[override]
        """(T,), with the T of the longest sentence."""
        return (self.fitted.longest,)

    @property
    def levels(self) -> list[int] | None:  # type: ignore[override]
        """Of the labels, by their kinds, if they are known."""
        return None if self._level_of is None else [self._level_of[kind] for kind in self.label_kinds]


def open_sentences(path: Path, names: Sequence[str], has_labels: bool) -> SentenceFile:
    """Open a file of sentences, of which nothing is read.

    Raises:
        TableError: If its suffix is unknown or it is empty.
    """
    suffix = path.suffix.lower()
    if suffix not in CONLLU + COLUMNS or path.is_dir():
        raise TableError(f"the suffix must be one of {', '.join(CONLLU + COLUMNS)}, got {path}")
    if not path.stat().st_size:
        raise TableError(f"{path} is empty")
    return ConlluFile(path) if suffix in CONLLU else ColumnFile(path, names, has_labels)


def inputs_problems(inputs: str | None, unit: str) -> list[str]:
    """Say what is wrong with what inputs are made of."""
    own = INPUTS.get(unit, "")
    if inputs is None or inputs == own:
        return []
    if inputs in INPUTS.values() or unit == CHARACTER:
        return [f"inputs must be {own} with unit {unit}, got {inputs!r}"]
    if Path(inputs).suffix not in VECTOR_SUFFIXES:
        return [f"inputs must be {own}, or a path that ends in {', '.join(VECTOR_SUFFIXES)}, got {inputs!r}"]
    return [] if Path(inputs).exists() else [f"inputs: no such file: {inputs}"]


def level_problems(levels: dict[str, int] | None, kinds: Sequence[str]) -> list[str]:
    """Say whether levels are not those of the kinds of labels."""
    if levels is None:
        return []
    valid = sorted(set(kinds))
    problems = at_least(1, **{f"level of {kind}": level for kind, level in levels.items()})
    if sorted(levels) != valid and kinds:
        problems.append(f"levels must have one for each of {', '.join(valid)}, got {', '.join(sorted(levels))}")
    return problems
