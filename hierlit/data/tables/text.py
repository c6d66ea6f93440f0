"""Text files: compressed or not, in an encoding, and what is wrong with their bytes."""

import gzip
from pathlib import Path
from typing import IO, TextIO, cast

from hierlit.data.tables.rows import TableError

GZIP = ".gz"
KINDS = {
    b"PK\x03\x04": "a zip archive (a workbook?)",
    b"PAR1": "a Parquet file",
    b"\x1f\x8b": "compressed: its name should end in .gz",
    b"\xff\xfe": "text in UTF-16: set encoding to utf-16",
    b"\xfe\xff": "text in UTF-16: set encoding to utf-16",
}
"""First bytes of files that are no text in UTF-8, and what those are."""


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file, or what is compressed in it."""
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == GZIP else path.open("rb")


def open_text(path: Path, encoding: str) -> TextIO:
    """Open a text file without its byte order mark, line ends as they are."""
    if encoding.lower().replace("_", "-") in ("utf-8", "utf8"):
        encoding = "utf-8-sig"
    if path.suffix == GZIP:
        return cast(TextIO, gzip.open(path, "rt", encoding=encoding, newline=""))
    return path.open(encoding=encoding, newline="")


def check_start(path: Path, encoding: str) -> None:
    """Look at a file's first bytes.

    Raises:
        TableError: If it is empty, or not text.
    """
    try:
        with open_bytes(path) as file:
            start = file.read(4)
    except (OSError, EOFError) as error:
        raise unreadable(path, error) from error
    if not start:
        raise TableError(f"{path} is empty")
    for first, kind in KINDS.items():
        if start.startswith(first) and not (
            len(first) == 2 and encoding.lower().replace("_", "-").startswith("utf-16")
        ):
            raise TableError(f"{path} is not a text file of its suffix, but {kind}")


def unreadable(path: Path, error: Exception) -> TableError:
    """Return what a person reads of an error of the operating system or of the decompression."""
    reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
    return TableError(f"cannot read {path}: {reason}")


def undecodable(path: Path, encoding: str) -> TableError | None:
    """Return the first line that is not text in an encoding whose line ends are those of ASCII; None if all is."""
    with open_bytes(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError as error:
                byte = f"byte 0x{line[error.start]:02x}"
                where = f"{path}, line {number}"
                return TableError(f"{where}: {byte} is not {encoding}: set encoding, for example to latin-1")
    return None
