"""What pyarrow reads of a text: bytes in UTF-8, watched for quotes and for numbers that are written as codes are."""

from typing import TextIO

import numpy as np

MOST_BYTES = 4
"""Of a character."""
SIGNS = tuple(b"+-")
BEFORE = b' \t\r\n"'
"""What can stand before a value, beside the separator."""


class Recoded:
    """A text as bytes.

    Args:
        file: The text.
        separator: Between its values.

    Attributes:
        closed: Never.
        n_quotes: Those in what has been read.
        has_codes: Whether a value that has been read seems to begin with a zero and another digit, or with 0x.
    """

    closed = False

    def __init__(self, file: TextIO, separator: str) -> None:
        self._file, self._end, self._before = file, b"\n\n", np.zeros(256, bool)
        self._before[list(BEFORE + separator.encode())] = True
        self.n_quotes, self.has_codes = 0, False

    def read(self, n_bytes: int) -> bytes:
        """Return the next bytes, so many at most."""
        read = self._file.read(n_bytes // MOST_BYTES).encode()
        self.n_quotes += read.count(b'"')
        self.has_codes = self.has_codes or self._find_codes(self._end + read)
        self._end = (self._end + read)[-3:]  # a zero, and what can stand before it
        return read

    def _find_codes(self, text: bytes) -> bool:
        text = text.replace(b"0x", b"00").replace(b"0X", b"00")
        values = np.frombuffer(text, np.uint8)
        is_digit = values - np.uint8(ord("0")) < 10
        zeros = np.flatnonzero((values[2:-1] == ord("0")) & (is_digit[3:] > is_digit[1:-2]))
        before = values[zeros + 1]
        is_start = self._before[before] | (np.isin(before, SIGNS) & self._before[values[zeros]])
        return bool(is_start.any())
