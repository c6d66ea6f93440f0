"""What predictions need of the training rows, as plain values that checkpoints keep."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from hierlit.files.checkpoints import read_checkpoint
from hierlit.models.checks import listed

if TYPE_CHECKING:
    from typing_extensions import Self

FITTED = "fitted"
"""Of a data module's state, the text of what it has fitted."""
NO_TRAINING_FILES = "train_files must be given for anything but predict, got ckpt_path"
FEW = 3
"""Names of what differs that a message lists before it counts the rest."""
TOLERANCE = 1e-6
"""Relative difference up to which fitted numbers are the same: sums of another machine round otherwise."""


class Fitted(ABC):
    """A dataclass of plain values that is found in the training rows, or read from a checkpoint in their place."""

    def to_json(self) -> str:
        """Return a text that `of_json` makes the same of."""
        return json.dumps(asdict(self), ensure_ascii=False)  # type: ignore[call-overload]

    @classmethod
    def of_json(cls, text: str) -> Self:
        """Return the inverse of `to_json`.

        Raises:
            ValueError: If the text is that of something else.
        """
        try:
            return cls._of(json.loads(text))
        except (KeyError, TypeError) as error:
            raise ValueError(f"it holds no {cls.__name__} ({error})") from error

    @classmethod
    def _of(cls, values: dict[str, Any]) -> Self:
        return cls(**values)

    @abstractmethod
    def difference(self, other: Self, values: bool = True) -> str:
        """Say in what a checkpoint's are others, by more than rounding; nothing if they are not.

        Args:
            other: Of the checkpoint.
            values: Whether that counts which is no name or size: what fills and scales inputs.
        """

    @classmethod
    def of_checkpoint(cls, path: str) -> Self:
        """Return what the data module of a trained model had fitted.

        Args:
            path: A checkpoint.

        Raises:
            ValueError: If it cannot be read, or the data was of another kind.
        """
        try:
            text = fitted_text(read_checkpoint(path, mmap=True))
            if text is None:
                raise ValueError("its data reads no files")
            return cls.of_json(text)
        except OSError as error:
            raise ValueError(f"ckpt_path: cannot read {path}: {error.strerror}") from error
        except ValueError as error:
            raise ValueError(f"ckpt_path must be a checkpoint of such data, got {path}: {error}") from error


def fitted_text(checkpoint: dict[str, Any]) -> str | None:
    """Return what a checkpoint's data module had fitted; None if it reads no files."""
    states = (state for state in checkpoint.values() if isinstance(state, dict))
    return next((state[FITTED] for state in states if isinstance(state.get(FITTED), str)), None)


def source_problems(train_files: Sequence[str], ckpt_path: str | None) -> list[str]:
    """Say if there is not exactly one source of what is fitted."""
    if train_files and ckpt_path is not None:
        return ["train_files and ckpt_path must not both be given"]
    is_given = train_files or ckpt_path is not None
    return [] if is_given else ["train_files must be given, or, to predict, predict_files and a checkpoint"]


def other_names(kind: str, here: Sequence[str], there: Sequence[str]) -> str:
    """Say which labels, or inputs, a checkpoint has not, and which it has instead; nothing if all are the same."""
    if list(here) == list(there):
        return ""

    def such(names: list[str]) -> str:
        return f"{listed(list(map(repr, names)), FEW)} {'is' if len(names) == 1 else 'are'}"

    new, old = [name for name in here if name not in set(there)], [name for name in there if name not in set(here)]
    if new:
        instead = f", {such(old)}" if old else ""
        return f"{kind}{'s' * (len(new) > 1)} {such(new)} not in the checkpoint{instead}"
    return f"{kind}{'s' * (len(old) > 1)} {such(old)} in the checkpoint alone" if old else f"{kind}s have another order"


def other_values(here: Sequence[float], there: Sequence[float], scales: Sequence[float]) -> list[int]:
    """Return the places where numbers differ by more than rounding does, of values on some scales."""
    most = TOLERANCE * np.maximum(np.maximum(np.abs(here), np.abs(there)), scales)
    places: list[int] = np.flatnonzero(np.abs(np.subtract(here, there)) > most).tolist()
    return places


def refuse_other_rows(difference: str) -> None:
    """Say in what training rows are others than those of a checkpoint.

    Raises:
        ValueError: If they are.
    """
    if difference:
        raise ValueError(f"train_files and the splits must be those of the checkpoint, got others: {difference}")
