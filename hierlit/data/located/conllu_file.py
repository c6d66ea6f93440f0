"""CoNLL-U, as the package `conllu` parses it, put on the text of its sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hierlit.data.located.sentences import FORM, MISSING, Sentence, SentenceFile, Token, Value
from hierlit.data.tables.table_file import first_line

N_COLUMNS = 10
LABEL_COLUMNS = ("lemma", "upos", "xpos", "feats", "deprel", "misc")


class _Unit(NamedTuple):
    """A token as written.

    Attributes:
        form: As written.
        values: Of its columns; empty where it is several words that do not spell it.
        has_space: Whether a space follows.
        line: Where it is in the file.
    """

    form: str
    values: Mapping[str, Value]
    has_space: bool
    line: int


class ConlluFile(SentenceFile):
    """A CoNLL-U file.

    A sentence's text is its `# text`, or else its tokens with blanks but after `SpaceAfter=No`. Its tokens are found in
    it one after the other, with nothing but blanks between. A multiword token (1-2) whose words spell it (do, n't)
    is these words; otherwise (du: de, le) it is one token, the columns of which are not observed. Empty nodes (1.1) are
    not written and have no place.

    Args:
        path: The file.

    Raises:
        ImportError: If the package is not installed.
    """

    columns = LABEL_COLUMNS

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            import conllu  # noqa: F401
        except ImportError as error:
            raise ImportError("reading CoNLL-U needs conllu: pip install hierlit[text]") from error

    def parse(self, lines: Sequence[str], first: int) -> Sentence:
        """Return the sentence of some lines."""
        import conllu

        numbers = []
        for number, line in enumerate(lines, start=first):
            if line.startswith("#"):
                continue
            if (n_columns := line.count("\t") + 1) != N_COLUMNS:
                raise self.error(number, f"a token must have {N_COLUMNS} columns separated by tabs, got {n_columns}")
            if "  " in line:  # the package takes them for a tab
                raise self.error(number, "a value must not have two blanks after one another")
            numbers.append(number)
        if not numbers:
            raise self.error(first, "a sentence must have a token, got comments alone")
        try:
            parsed = conllu.parse("\n".join(lines))[0]
        except (conllu.exceptions.ParseException, IndexError) as error:
            raise self.error(first, f"no sentence in CoNLL-U: {first_line(error)}") from error
        units = self._units(parsed, numbers)
        text = parsed.metadata.get("text")
        if text is None:
            text = "".join(unit.form + " " * unit.has_space for unit in units).rstrip()
        return self._aligned(text, units)

    def _units(self, words: Sequence[Any], lines: Sequence[int]) -> list[_Unit]:
        """Return the tokens as written."""
        units: list[_Unit] = []
        parts: list[_Unit] = []
        whole, last = None, -1
        for word, line in zip(words, lines, strict=True):
            if not word[FORM]:
                raise self.error(line, "a token must not be empty")
            number = word["id"]
            has_space = not isinstance(word["misc"], Mapping) or word["misc"].get("SpaceAfter") != "No"
            if not isinstance(number, int):
                if number[1] == "-":
                    whole, parts, last = _Unit(word[FORM], {}, has_space, line), [], number[2]
                continue
            unit = _Unit(word[FORM], {name: _value(word[name]) for name in LABEL_COLUMNS}, has_space, line)
            if whole is None:
                units.append(unit)
                continue
            parts.append(unit._replace(has_space=False))
            if number == last:
                is_spelled = "".join(part.form for part in parts) == whole.form
                units += [*parts[:-1], parts[-1]._replace(has_space=whole.has_space)] if is_spelled else [whole]
                whole = None
        if whole is not None:
            raise self.error(whole.line, f"the multiword token {whole.form!r} must have words up to {last}")
        return units

    def _aligned(self, text: str, units: Sequence[_Unit]) -> Sentence:
        tokens, place = [], 0
        for unit in units:
            while text[place : place + 1].isspace():
                place += 1
            if not text.startswith(unit.form, place):
                got = text[place : place + 20]
                raise self.error(unit.line, f"the sentence's text must go on with the token {unit.form!r}, got {got!r}")
            tokens.append(Token(unit.form, place, place + len(unit.form), unit.values))
            place += len(unit.form)
        if rest := text[place:].strip():
            raise self.error(units[-1].line, f"the sentence's text must end with its last token, got {rest[:20]!r}")
        return Sentence(text, tokens)


def _value(found: Any) -> Value:
    """Return what the package made of a value; none is none, but of columns of keys an empty one."""
    if isinstance(found, Mapping):
        return {str(key): str(value) for key, value in found.items()}
    return None if found in (None, MISSING) else str(found)
