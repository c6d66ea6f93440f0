"""PredictionWriter: scores, probabilities and signs of `predict`, streamed to a table."""

import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile

import lightning as L
import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from hierlit.data.base import Batch, names_of
from hierlit.models.checks import one_of, raise_problems
from hierlit.training.task import LayerwiseTask
from hierlit.watching.prediction_files import FILES, LAYOUTS, Columns, Labels, Lines, TableFile, import_pyarrow

DEFAULT = "predictions.csv"


class PredictionWriter(L.Callback):
    """Write what `predict` computes; do nothing in other runs.

    The long table has a line for each row, location and label: `row` (in its split's table, from 0), `location` (where
    there is more than one), `text` (of the location, where the data tells one), `label` (its name, or else its number),
    `score` (ŷ, float32), `probability` (float32; see `Calibration`) and `sign` (−1, 1, or 0 where the score is exactly
    0: no block has learned the label).

    The wide table has a line for each row and location: `row`, `location` and `text` as above, of each column of
    classes, by its name, the most probable class, in `labels` the other labels whose probability is above ½, separated
    by semicolons, and then the probability of each label, by its name. Probabilities of the classes of a column have
    the sum 1.

    Locations that a row does not have, where rows differ in them, have no lines. Labels of examples have one line a
    row, without a location.

    Only a batch is held at a time; with several processes, rank 0 gathers each batch and writes its rows in order.
    Lines go to a file whose name ends in `.part`, and which takes its own name once complete.

    Lightning's `BasePredictionWriter` is no base of this class: it looks for row numbers in a batch sampler, which
    hierlit's batches, having their row numbers with them, do not use.

    Args:
        path: File ending in `.csv`, or `.parquet` (needs `hierlit[tables]`); `predictions.csv` in the run's log folder
            when None.
        format: `long` or `wide`.

    Raises:
        ValueError: The path has another suffix, or the format is another. When predict starts, if two columns of a
            wide table would have the same name.
        ImportError: When predict starts, if a Parquet file is asked for and pyarrow is missing.
    """

    def __init__(self, path: str | None = None, format: str = "long") -> None:
        is_known = path is None or Path(path).suffix in FILES
        problems = [] if is_known else [f"path must end in {' or '.join(FILES)}, got {path!r}"]
        raise_problems(problems + one_of(tuple(LAYOUTS), format=format))
        self.path, self.format = path, format
        self._target = self._part = Path(path or DEFAULT)
        self._file: TableFile | None = None
        self._n_rows = self._n_found = 0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check, before any work, that the file can be written."""
        if stage == "predict":
            self.check()

    def check(self) -> None:
        """Check that the file can be written.

        Raises:
            ImportError: If it is one of Parquet and pyarrow is missing.
            OSError: If its folder can be neither found nor made, or cannot be written to.
        """
        if self._target.suffix == ".parquet":
            import_pyarrow()
        if self.path is not None:
            folder = Path(self.path).parent
            folder.mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=folder).close()

    def on_predict_start(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:  # type: ignore[override]
        """Find what labels are called, and open the file, on rank 0."""
        folder, net = Path(trainer.log_dir or trainer.default_root_dir), pl_module.net
        self._n_rows = self._n_found = 0
        data = getattr(trainer, "datamodule", None)
        self._labels = Labels.of(names_of(data, net.n_labels), getattr(data, "class_labels", {}))
        self._has_locations = not net.pooled and (net.masked or net.n_locations > 1)
        self._texts_of = getattr(data, "location_texts", no_texts)
        none = np.zeros(0, np.int64)
        columns = LAYOUTS[self.format](self._labels, self._lines(none, none, torch.zeros(0, 2, net.n_labels).numpy()))
        if trainer.is_global_zero:
            self._target = folder / DEFAULT if self.path is None else Path(self.path)
            self._part = self._target.with_name(f"{self._target.name}.part")
            self._part.parent.mkdir(parents=True, exist_ok=True)
            self._file = FILES[self._target.suffix](self._part, columns)

    def on_predict_batch_end(  # type: ignore[override]
        self,
        trainer: L.Trainer,
        pl_module: LayerwiseTask,
        outputs: Tensor,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Append a batch: scores [B, |G|, n] of the rows `batch.index`, at the locations that they have."""
        net = pl_module.net
        found = torch.stack([outputs.float(), net.calibration(outputs).float()], 2).detach().cpu()
        exists = batch.inputs[..., 0] != 0 if net.masked and not net.pooled else torch.ones_like(outputs[..., 0])
        places, locations = exists.cpu().nonzero().unbind(1)
        pairs = batch.index.cpu()[places], locations, found[places, locations]
        rows, locations, found = gather_pairs(pairs, trainer)
        if self._file is not None:
            lines = self._lines(rows.numpy(), locations.numpy(), found.numpy())
            self._file.write(LAYOUTS[self.format](self._labels, lines))
            self._n_rows, self._n_found = self._n_rows + len(rows.unique()), self._n_found + lines.scores.size  # type: ignore[no-untyped-call]

    def _lines(self, rows: NDArray[np.int64], locations: NDArray[np.int64], found: NDArray[np.float32]) -> Lines:
        """Return lines of rows [P] and their locations [P], and of scores and probabilities [P, 2, n]."""
        places: Columns = {"row": rows}
        if self._has_locations:
            places["location"] = locations.astype(np.int32)
            own, place_of = np.unique(rows, return_inverse=True)
            texts = self._texts_of("predict", own.tolist())
            if texts is not None:
                chosen = [texts[row][location] for row, location in zip(place_of, locations, strict=True)]
                places["text"] = np.array(chosen, object)
        return Lines(places, found[:, 0], found[:, 1])

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Close the file, give it its name and say where it is."""
        if self._file is not None:
            self._close()
            os.replace(self._part, self._target)
            print(f"wrote {self._n_found:,} predictions of {self._n_rows:,} rows to {self._target}")

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Close the file, which keeps its name in `.part`."""
        self._close()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


def gather_pairs(pairs: tuple[Tensor, Tensor, Tensor], trainer: L.Trainer) -> tuple[Tensor, ...]:
    """Return a batch's rows [P], their locations [P] and what was found there [P, ...], of all processes, row by row.

    However long the rows of a process are, there are no pairs of locations that none has.
    """
    if trainer.world_size == 1:
        return pairs
    parts = [pairs] * trainer.world_size
    dist.all_gather_object(parts, pairs)
    rows, locations, found = map(torch.cat, zip(*parts, strict=True))
    order = rows.argsort(stable=True)
    return rows[order], locations[order], found[order]


def no_texts(split: str, rows: Sequence[int]) -> None:
    """Say that locations are no text."""
