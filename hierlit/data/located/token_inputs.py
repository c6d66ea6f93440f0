"""Inputs made of characters and tokens; channel 0 says that there is a location."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hierlit.data.located.sentences import Sentence
from hierlit.data.tables.npz_file import ERRORS
from hierlit.data.tables.table_file import TableError, first_line, read_error

Inputs = NDArray[np.float32]
LONGEST_AFFIX = 4
VECTOR_SUFFIXES = (".txt", ".vec", ".npz")
FLAGS = ("upper", "digit", "space", "punctuation")


class TokenInputs(ABC):
    """How inputs are made of a sentence.

    Attributes:
        names: Of the channels.
    """

    names: list[str]

    @abstractmethod
    def encode(self, sentence: Sentence) -> Inputs:
        """Return inputs [|G|, d] of its locations."""


class CharacterInputs(TokenInputs):
    """Each character one-hot, lower-cased, and whether it is upper-case, a digit, a space or punctuation.

    Args:
        characters: Those that have a channel; others have flags alone.
    """

    def __init__(self, characters: Sequence[str]) -> None:
        self.names = ["present", *characters, *FLAGS]
        self._channels = {character: channel for channel, character in enumerate(characters, start=1)}

    def encode(self, sentence: Sentence) -> Inputs:
        """Return inputs [characters, d]."""
        found = {character: place for place, character in enumerate(dict.fromkeys(sentence.text))}
        rows = np.zeros((len(found), len(self.names)), np.float32)
        for row, character in zip(rows, found, strict=True):
            row[0] = 1
            if channel := self._channels.get(character.lower()):
                row[channel] = 1
            is_space = character.isspace()
            is_mark = not (character.isalnum() or is_space)
            row[-len(FLAGS) :] = character.isupper(), character.isdigit(), is_space, is_mark
        return rows[[found[character] for character in sentence.text]]


class AffixInputs(TokenInputs):
    """Signed hashes of a token's beginnings and ends of up to 4 characters, of itself, and of its shape.

    Args:
        n_hashes: Channels that these share.
    """

    def __init__(self, n_hashes: int) -> None:
        from sklearn.feature_extraction import FeatureHasher

        self.names = ["present", *(f"hash_{number}" for number in range(n_hashes))]
        self._hasher = FeatureHasher(n_hashes, input_type="string", dtype=np.float32)

    def encode(self, sentence: Sentence) -> Inputs:
        """Return inputs [tokens, d]."""
        hashed = self._hasher.transform(affixes(token.form) for token in sentence.tokens).toarray()
        return np.concatenate([np.ones((len(hashed), 1), np.float32), hashed], 1)


def affixes(form: str) -> list[str]:
    """Return what is hashed of a token."""
    word = form.lower()
    sizes = range(1, min(LONGEST_AFFIX, len(word)) + 1)
    found = [f"word {word}", *(f"begins {word[:size]}" for size in sizes), *(f"ends {word[-size:]}" for size in sizes)]
    shape = {
        "capitalised": form[0].isupper(),
        "upper": form.isupper(),
        "digit": any(map(str.isdigit, form)),
        "hyphen": "-" in form[1:],
        "punctuation": not any(map(str.isalnum, form)),
        "long": len(form) > 2 * LONGEST_AFFIX,
    }
    return found + [f"is {name}" for name, holds in shape.items() if holds]


class VectorInputs(TokenInputs):
    """Given vectors of words, held in memory, and whether there is one: of the form, or else of its lower case.

    Args:
        path: Of a text file with a word and its numbers a line, as word2vec, fastText and GloVe have it, with or
            without a line of sizes; or an archive of `words` [V] and `vectors` [V, k].

    Raises:
        TableError: If it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        words, self._vectors = _read_archive(path) if path.suffix == ".npz" else _read_words(path)
        self._places = {word: place for place, word in enumerate(words)}
        self.names = ["present", "known", *(f"vector_{number}" for number in range(self._vectors.shape[1]))]

    def encode(self, sentence: Sentence) -> Inputs:
        """Return inputs [tokens, d]."""
        inputs = np.zeros((len(sentence.tokens), len(self.names)), np.float32)
        inputs[:, 0] = 1
        for row, token in zip(inputs, sentence.tokens, strict=True):
            place = self._places.get(token.form, self._places.get(token.form.lower()))
            if place is not None:
                row[1], row[2:] = 1, self._vectors[place]
        return inputs


def _read_archive(path: Path) -> tuple[list[str], Inputs]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            words, vectors = archive["words"].tolist(), archive["vectors"].astype(np.float32)
    except (KeyError, *ERRORS) as error:
        raise TableError(f"{path} must hold the arrays words and vectors: {first_line(error)}") from error
    if vectors.ndim != 2 or len(words) != len(vectors) or not np.isfinite(vectors).all():
        raise TableError(f"{path}: vectors must be finite, one for each of {len(words)} words, got {vectors.shape}")
    return words, vectors


def _read_words(path: Path) -> tuple[list[str], Inputs]:
    words: list[str] = []
    rows: list[Inputs] = []
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, start=1):
                word, *cells = line.rstrip().split(" ")
                if number == 1 and len(cells) == 1:
                    continue
                try:
                    row = np.array(cells, np.float32)
                except ValueError as error:
                    raise TableError(f"{path}, line {number}: after the word there must be numbers") from error
                if (rows and len(row) != len(rows[0])) or not len(row) or not np.isfinite(row).all():
                    size = f"{len(rows[0])} " if rows else ""
                    raise TableError(f"{path}, line {number}: a word must have {size}finite numbers, got {len(row)}")
                words.append(word)
                rows.append(row)
    except (OSError, UnicodeDecodeError) as error:
        raise read_error(path, error) from error
    if not rows:
        raise TableError(f"{path} has no words")
    return words, np.stack(rows)
