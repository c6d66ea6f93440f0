"""Labels of characters and tokens: which there are, found in the training rows, and what they are in a sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hierlit.data.located.sentences import Sentence, Token
from hierlit.models.checks import listed, raise_problems

CHARACTER, WORD = "character", "word"
UNITS = (CHARACTER, "token")
KEYED = ("feats", "misc")
"""Columns of values by key."""
MAIN = "main"
"""The part of a column before a colon, as nsubj of nsubj:pass."""
OF_CHARACTERS: dict[str, Callable[[str], bool]] = {
    "char:vowel": lambda character: character.lower() in ("a", "e", "i", "o", "u"),
    "char:letter": str.isalpha,
}
OF_WORDS: dict[str, Callable[[str], bool]] = {
    "word:short": lambda word: len(word) <= 3,
    "word:long": lambda word: len(word) >= 6,
    "word:capitalised": lambda word: word[0].isupper(),
    "word:suffix": lambda word: word.lower().endswith(("ing", "ed", "ly", "s")),
}
AT_ENDS = ("word:begin", "word:end")
Signs = NDArray[np.int8]


@dataclass(frozen=True)
class Wanted:
    """Labels that are asked for by one name.

    Attributes:
        name: As given: `char:vowel`, `upos`, `upos=NOUN`, `deprel:main`, `feats:Number=Sing`.
        kind: What they are about: character, word, or the column.
        column: The column's name; empty for labels of characters and words.
        part: `main`, or of a column of keys the key; empty for the whole.
        value: The one value that is a label; None for all.
    """

    name: str
    kind: str
    column: str = ""
    part: str = ""
    value: str | None = None

    @property
    def source(self) -> str:
        """What gives the values, as in `deprel:main`."""
        return f"{self.column}:{self.part}" if self.part else self.column

    def values(self, token: Token) -> list[str] | None:
        """Return a token's values; None where they are not observed."""
        found = token.values.get(self.column)
        if self.column in KEYED:
            if self.column not in token.values:
                return None
            found = found if found is not None and not isinstance(found, str) else {}
            return [f"{key}={value}" for key, value in found.items() if not self.part or key == self.part]
        if not isinstance(found, str):
            return None
        return [found.split(":")[0] if self.part == MAIN else found]


@dataclass(frozen=True)
class TokenLabel:
    """A label.

    Attributes:
        name: Its name.
        kind: What it is about.
        source: What gives its values; empty for labels of characters and words.
        value: The value that is the label.
    """

    name: str
    kind: str
    source: str = ""
    value: str = ""


def parse_wanted(names: Sequence[str], columns: Sequence[str], unit: str) -> tuple[list[Wanted], list[str]]:
    """Return what labels are asked for, and what is wrong with it.

    Args:
        names: As in `Wanted`; `char` and `word` are all of these.
        columns: That files have.
        unit: character or token.
    """
    wanted, problems = [], []
    known = [*OF_CHARACTERS, *AT_ENDS, *OF_WORDS] if unit == CHARACTER else [*OF_WORDS]
    for name in names:
        source, has_value, value = name.partition("=")
        column, has_part, part = source.partition(":")
        if column in ("char", "word"):
            own = [each for each in known if each == name or (name == column and each.startswith(f"{name}:"))]
            wanted += [Wanted(each, CHARACTER if column == "char" else WORD) for each in own]
            is_known = bool(own)
        else:
            is_known = column in columns and (not has_part or part == MAIN or (column in KEYED and bool(part)))
            is_known = is_known and (not has_value or bool(value)) and not (column in KEYED and has_value and not part)
            is_known = is_known and not (column in KEYED and part == MAIN)
            full = f"{part}={value}" if column in KEYED else value
            wanted.append(Wanted(name, column, column, part, full if has_value else None))
        if not is_known:
            valid = ", ".join([*known, *columns])
            problems.append(f"label_columns must be some of {valid}, or column=value, column:main, got {name!r}")
    return wanted, problems


class FoundTokens:
    """What labels the tokens of training rows have, gathered sentence by sentence.

    Args:
        wanted: The labels asked for.
    """

    def __init__(self, wanted: Sequence[Wanted]) -> None:
        self._sources = {each.source: each for each in wanted if each.column}
        self._wanted = wanted
        self._counts: dict[str, Counter[str]] = {source: Counter() for source in self._sources}

    def gather(self, sentence: Sentence) -> None:
        """Count the values of a sentence's tokens."""
        for source, wanted in self._sources.items():
            for token in sentence.tokens:
                self._counts[source].update(wanted.values(token) or ())

    def labels(self, min_count: int) -> list[TokenLabel]:
        """Return the labels, in the order in which they are asked for, values of a column sorted.

        Args:
            min_count: Tokens that a value must have, unless it is asked for by itself.

        Raises:
            ValueError: If there is a name without a label.
        """
        found: dict[str, TokenLabel] = {}
        lacking: dict[str, list[str]] = {}
        for wanted in self._wanted:
            if not wanted.column:
                found.setdefault(wanted.name, TokenLabel(wanted.name, wanted.kind))
                continue
            counts = self._counts[wanted.source]
            enough = sorted(value for value, count in counts.items() if count >= min_count)
            values = enough if wanted.value is None else [wanted.value] if counts[wanted.value] else []
            if not values:
                rule = f"{min_count} tokens of a value" if wanted.value is None else "a token"
                lacking.setdefault(rule, []).append(repr(wanted.name))
            for value in values:
                name = f"{wanted.column}:{value}" if wanted.column in KEYED else f"{wanted.source}={value}"
                found.setdefault(name, TokenLabel(name, wanted.kind, wanted.source, value))
        what = "label_columns must have {} in the training rows, got none of {}"
        raise_problems([what.format(rule, listed(names)) for rule, names in lacking.items()])
        return list(found.values())

    def class_sources(self, labels: Sequence[TokenLabel]) -> dict[str, list[int]]:
        """Return the labels of each column of one value a token of which no value is left out, by its source."""
        own: dict[str, list[int]] = {}
        for number, label in enumerate(labels):
            own.setdefault(label.source, []).append(number)
        return {
            source: own[source]
            for source, wanted in self._sources.items()
            if wanted.column not in KEYED and len(own.get(source, ())) == len(self._counts[source]) > 1
        }


class Labeller:
    """Gives the labels of sentences.

    Args:
        labels: The labels.
        wanted: How the values of their sources are found.
        unit: character or token.
    """

    def __init__(self, labels: Sequence[TokenLabel], wanted: Sequence[Wanted], unit: str) -> None:
        self.n_labels, self._unit = len(labels), unit
        self._names = [label.name for label in labels]
        self._sources = {each.source: each for each in wanted if each.column}
        self._places: dict[str, dict[str, int]] = {source: {} for source in self._sources}
        for number, label in enumerate(labels):
            if label.source:
                self._places[label.source][label.value] = number

    def read(self, sentence: Sentence) -> Signs:
        """Return the labels of a sentence's locations, [|G|, n]; between tokens those of words and columns are −1."""
        signs = self._of_tokens(sentence.tokens)
        if self._unit != CHARACTER:
            return signs
        owner = np.full(len(sentence.text), len(sentence.tokens))
        for number, token in enumerate(sentence.tokens):
            owner[token.start : token.stop] = number
        between = np.full((1, self.n_labels), -1, np.int8)
        signs = np.concatenate([signs, between]).take(owner, 0)
        ends = ([token.start for token in sentence.tokens], [token.stop - 1 for token in sentence.tokens])
        for name, places in zip(AT_ENDS, ends, strict=True):
            if name in self._names:
                signs[places, self._names.index(name)] = 1
        for name, holds in OF_CHARACTERS.items():
            if name in self._names:
                signs[:, self._names.index(name)] = [1 if holds(each) else -1 for each in sentence.text]
        return signs

    def _of_tokens(self, tokens: Sequence[Token]) -> Signs:
        signs = np.full((len(tokens), self.n_labels), -1, np.int8)
        for name, holds in OF_WORDS.items():
            if name in self._names:
                signs[:, self._names.index(name)] = [1 if holds(token.form) else -1 for token in tokens]
        for source, places in self._places.items():
            own = list(places.values())
            for number, token in enumerate(tokens):
                values = self._sources[source].values(token)
                if values is None:
                    signs[number, own] = 0
                else:
                    signs[number, [places[value] for value in values if value in places]] = 1
        return signs
