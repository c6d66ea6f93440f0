"""PredictionWriter: scores and signs of `predict`, streamed to a table."""

import os
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import lightning as L
import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from hierlit.data.base import Batch

LINE = "%d,%d,%d,%.9g,%d\n"
COLUMNS = {"row": np.int64, "location": np.int32, "label": np.int32, "score": np.float32, "sign": np.int8}


class TableFile(Protocol):
    """A table that grows by a batch at a time."""

    def write(self, columns: dict[str, NDArray[Any]]) -> None:
        """Append equally long columns."""

    def close(self) -> None:
        """End the file."""


class CsvFile:
    """A CSV file with a header; scores have nine digits, from which a float32 is read back exactly."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="ascii", newline="")
        self._file.write(",".join(COLUMNS) + "\n")

    def write(self, columns: dict[str, NDArray[Any]]) -> None:
        """Append equally long columns."""
        lines = zip(*(column.tolist() for column in columns.values()), strict=True)
        self._file.write(LINE * len(columns["row"]) % tuple(chain.from_iterable(lines)))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class ParquetFile:
    """A Parquet file with one row group a batch."""

    def __init__(self, path: Path) -> None:
        arrow, parquet = import_pyarrow()
        schema = arrow.schema([(name, arrow.from_numpy_dtype(dtype)) for name, dtype in COLUMNS.items()])
        self._table, self._writer = arrow.table, parquet.ParquetWriter(path, schema)

    def write(self, columns: dict[str, NDArray[Any]]) -> None:
        """Append equally long columns."""
        self._writer.write_table(self._table(columns))

    def close(self) -> None:
        """Write the footer and close the file."""
        self._writer.close()


FILES: dict[str, type[CsvFile] | type[ParquetFile]] = {".csv": CsvFile, ".parquet": ParquetFile}


class PredictionWriter(L.Callback):
    """Write what `predict` computes, a line for each row, location and label; do nothing in other runs.

    The columns are `row` (in its split's table), `location`, `label` (all from 0), `score` (float32) and `sign` (−1, 1,
    or 0 where the score is exactly 0: no block has learned the label). Only a batch is held at a time; with several
    processes, rank 0 gathers each batch and writes its rows in order. Lines go to a file whose name ends in `.part`,
    and which takes its own name once complete.

    Lightning's `BasePredictionWriter` is no base of this class: it looks for row numbers in a batch sampler, which
    hierlit's batches, having their row numbers with them, do not use.

    Args:
        path: File ending in `.csv`, or `.parquet` (needs `hierlit[tables]`). A relative path is taken from the run's
            log folder.

    Raises:
        ValueError: The path has another suffix.
        ImportError: When predict starts, if a Parquet file is asked for and pyarrow is missing.
    """

    def __init__(self, path: str = "predictions.csv") -> None:
        if Path(path).suffix not in FILES:
            raise ValueError(f"path must end in {' or '.join(FILES)}, got {path!r}")
        self.path = path
        self._target = self._part = Path(path)
        self._file: TableFile | None = None
        self._n_rows = self._n_lines = 0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check, before any work, that the file can be written."""
        if stage == "predict" and Path(self.path).suffix == ".parquet":
            import_pyarrow()

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open the file, on rank 0."""
        folder = trainer.log_dir or trainer.default_root_dir
        self._n_rows = self._n_lines = 0
        if trainer.is_global_zero:
            self._target = Path(folder) / self.path
            self._part = self._target.with_name(f"{self._target.name}.part")
            self._part.parent.mkdir(parents=True, exist_ok=True)
            self._file = FILES[self._target.suffix](self._part)

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Tensor,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Append a batch: scores [B, |G|, n] of the rows `batch.index`."""
        rows, scores = gather_batch(batch.index.cpu(), outputs.detach().float().cpu(), trainer)
        if self._file is not None:
            columns = long_table(rows.numpy(), scores.numpy())
            self._file.write(columns)
            self._n_rows, self._n_lines = self._n_rows + len(rows), self._n_lines + len(columns["row"])

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Close the file, give it its name and say where it is."""
        if self._file is not None:
            self._close()
            os.replace(self._part, self._target)
            print(f"wrote {self._n_lines:,} predictions of {self._n_rows:,} rows to {self._target}")

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Close the file, which keeps its name in `.part`."""
        self._close()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


def gather_batch(rows: Tensor, scores: Tensor, trainer: L.Trainer) -> tuple[Tensor, Tensor]:
    """Return a batch's rows [B] and scores [B, |G|, n] of all processes, in the order of the rows within the batch."""
    if trainer.world_size == 1:
        return rows, scores
    parts: list[tuple[Tensor, Tensor]] = [(rows, scores)] * trainer.world_size
    dist.all_gather_object(parts, (rows, scores))
    rows, scores = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
    order = rows.argsort()
    return rows[order], scores[order]


def long_table(rows: NDArray[np.int64], scores: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Return the columns of `COLUMNS`, a line for each score.

    Args:
        rows: Row numbers [B].
        scores: Scores [B, |G|, n].

    Returns:
        Columns of length B·|G|·n.
    """
    _, n_locations, n_labels = scores.shape
    numbers = (np.arange(n_locations)[:, None], np.arange(n_labels))
    values: tuple[NDArray[Any], ...] = (rows[:, None, None], *numbers, scores, np.sign(scores))
    return {
        name: np.broadcast_to(value, scores.shape).ravel().astype(dtype, copy=False)
        for (name, dtype), value in zip(COLUMNS.items(), values, strict=True)
    }


def import_pyarrow() -> tuple[ModuleType, ModuleType]:
    """Return the modules pyarrow and pyarrow.parquet.

    Raises:
        ImportError: With a hint, if they are not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError("writing .parquet needs pyarrow: pip install hierlit[tables]") from error
    return pyarrow, pyarrow.parquet
