"""Sentences of files as a dataset, and what is fitted to those for training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hierlit.data.fitted import Fitted, other_names
from hierlit.data.located.sentences import Sentence, SentenceFile
from hierlit.data.located.token_inputs import TokenInputs
from hierlit.data.located.token_values import CHARACTER, FoundTokens, Labeller, TokenLabel, Wanted
from hierlit.data.rows import Batch, RowDataset, by_file


@dataclass(frozen=True)
class FittedTokens(Fitted):
    """What predictions need of the training rows.

    Attributes:
        unit: character or token.
        labels: The labels.
        class_labels: The labels that are the values of a column of one value a token, by the column.
        characters: Those that have a channel, where inputs are characters.
        longest: Locations of the longest sentence of the training files.
        inputs: What inputs are made of: characters, affixes, or the path of vectors.
        n_hashes: Inputs that affixes share.
    """

    unit: str
    labels: list[TokenLabel]
    class_labels: dict[str, list[int]]
    characters: list[str]
    longest: int
    inputs: str = ""
    n_hashes: int = 0

    @classmethod
    def _of(cls, values: dict[str, Any]) -> FittedTokens:
        return cls(**values | {"labels": [TokenLabel(**label) for label in values["labels"]]})

    def difference(self, other: FittedTokens, values: bool = True) -> str:
        """Say in what a checkpoint's are others; nothing if they are not. See `Fitted`."""
        names = other_names("label", [label.name for label in self.labels], [label.name for label in other.labels])
        if names := names or other_names("character", self.characters, other.characters):
            return names
        changed = [each.name for each in fields(self) if getattr(self, each.name) != getattr(other, each.name)]
        if "longest" in changed[:1]:
            return f"the longest sentence has {self.longest} locations, {other.longest} in the checkpoint"
        return f"{changed[0]} is another" if changed else ""


class TokenRows(RowDataset):
    """Sentences of files, parsed when they are asked for.

    Args:
        files: The files.
        rows: Which of their sentences, counted through all files, [N]; all when None.
        lengths: Locations of all of them.
        inputs: How inputs are made.
        labeller: How labels are; None where they are not read, and 0 then.
        n_labels: Labels.
        unit: character or token.
    """

    masked = True
    lengths: NDArray[np.int64]

    def __init__(
        self,
        files: Sequence[SentenceFile],
        rows: NDArray[np.int64] | None,
        lengths: NDArray[np.int64],
        inputs: TokenInputs,
        labeller: Labeller | None,
        n_labels: int,
        unit: str,
    ) -> None:
        self._files, self._inputs, self._labeller, self._unit = files, inputs, labeller, unit
        self._firsts = np.cumsum([0, *map(len, files)])
        self._rows = np.arange(len(lengths)) if rows is None else rows
        self.lengths = lengths[self._rows]
        self._n_labels = n_labels

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Tensor | int) -> Batch:
        """Return the rows ``index``, a long tensor [B] (an int counts as a tensor of one row).

        Raises:
            TableError: If a sentence cannot be read.
        """
        own = torch.as_tensor(index, dtype=torch.long).reshape(-1)
        longest = int(self.lengths[own.numpy()].max(initial=1))
        inputs = torch.zeros(len(own), longest, len(self._inputs.names))
        labels = torch.zeros(len(own), longest, self._n_labels)
        for place, sentence in self._sentences(own.numpy()):
            encoded = torch.from_numpy(self._inputs.encode(sentence))
            inputs[place, : len(encoded)] = encoded
            if self._labeller is not None:
                labels[place, : len(encoded)] = torch.from_numpy(self._labeller.read(sentence)).float()
        return Batch(inputs, labels, own)

    def problems(self, split: str, shape: tuple[int | None, int, int]) -> list[str]:
        """Say whether there is no row to train on: sentences have been read when their lengths were found."""
        return [] if len(self) or split != "train" else ["train must have at least 1 row, got 0"]

    def texts(self, rows: Sequence[int]) -> list[list[str]]:
        """Return the characters, or tokens, of some rows."""
        found: list[list[str]] = [[] for _ in rows]
        for place, sentence in self._sentences(np.asarray(rows, np.int64)):
            is_text = self._unit == CHARACTER
            found[place] = list(sentence.text) if is_text else [token.form for token in sentence.tokens]
        return found

    def _sentences(self, own: NDArray[np.int64]) -> Iterator[tuple[int, Sentence]]:
        """Yield rows' places in `own`, and their sentences, file by file."""
        for number, places, of_file in by_file(self._firsts, self._rows[own]):
            yield from zip(places.tolist(), self._files[number].read(of_file), strict=True)


def find_lengths(files: Sequence[SentenceFile], unit: str) -> NDArray[np.int64]:
    """Return the locations of each sentence of files, [N], in a pass over them.

    Raises:
        TableError: If a sentence cannot be read; it names the file and the line.
    """
    sentences = (sentence for file in files for sentence in file.read(np.arange(len(file))))
    return np.fromiter((n_locations(sentence, unit) for sentence in sentences), np.int64)


def n_locations(sentence: Sentence, unit: str) -> int:
    """Return the characters, or tokens, of a sentence."""
    return len(sentence.text) if unit == CHARACTER else len(sentence.tokens)


def fit_tokens(
    files: Sequence[SentenceFile], rows: NDArray[np.int64], wanted: Sequence[Wanted], unit: str, min_count: int
) -> tuple[FittedTokens, NDArray[np.int64]]:
    """Go through the training files once: lengths are those of all rows, the rest is of those for training.

    Args:
        files: The training files.
        rows: Their rows for training, counted through all files.
        wanted: The labels asked for.
        unit: character or token.
        min_count: How often a character, or a value, must be seen.

    Returns:
        What predictions need, and the locations of all rows.

    Raises:
        ValueError: If a sentence cannot be read, or a label is not found.
    """
    is_own = np.zeros(sum(map(len, files)), bool)
    is_own[rows] = True
    found, characters, lengths = FoundTokens(wanted), Counter[str](), np.zeros(len(is_own), np.int64)
    sentences = (sentence for file in files for sentence in file.read(np.arange(len(file))))
    for row, sentence in enumerate(sentences):
        lengths[row] = n_locations(sentence, unit)
        if is_own[row]:
            found.gather(sentence)
            characters.update(sentence.text.lower())
    labels = found.labels(min_count)
    kept = sorted(each for each, count in characters.items() if count >= min_count and not each.isspace())
    classes = found.class_sources(labels) if unit != CHARACTER else {}
    return FittedTokens(unit, labels, classes, kept if unit == CHARACTER else [], int(lengths.max())), lengths
