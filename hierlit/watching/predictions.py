"""PredictionWriter: scores, probabilities and signs of `predict`, streamed to a table."""

import os
from pathlib import Path

import lightning as L
import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from hierlit.data.base import Batch
from hierlit.models.checks import one_of, raise_problems
from hierlit.training.task import LayerwiseTask
from hierlit.watching.prediction_files import FILES, LAYOUTS, Labels, TableFile, import_pyarrow


class PredictionWriter(L.Callback):
    """Write what `predict` computes; do nothing in other runs.

    The long table has a line for each row, location and label: `row` (in its split's table, from 0), `location` (where
    there is more than one), `label` (its name, or else its number), `score` (ŷ, float32), `probability` (float32; see
    `Calibration`) and `sign` (−1, 1, or 0 where the score is exactly 0: no block has learned the label).

    The wide table has a line for each row and location: `row`, `location` as above, of each column of classes, by its
    name, the most probable class, in `labels` the other labels whose probability is above ½, separated by semicolons,
    and then the probability of each label, by its name. Probabilities of the classes of a column have the sum 1.

    Only a batch is held at a time; with several processes, rank 0 gathers each batch and writes its rows in order.
    Lines go to a file whose name ends in `.part`, and which takes its own name once complete.

    Lightning's `BasePredictionWriter` is no base of this class: it looks for row numbers in a batch sampler, which
    hierlit's batches, having their row numbers with them, do not use.

    Args:
        path: File ending in `.csv`, or `.parquet` (needs `hierlit[tables]`). A relative path is taken from the run's
            log folder.
        format: `long` or `wide`.

    Raises:
        ValueError: The path has another suffix, or the format is another. When predict starts, if two columns of a
            wide table would have the same name.
        ImportError: When predict starts, if a Parquet file is asked for and pyarrow is missing.
    """

    def __init__(self, path: str = "predictions.csv", format: str = "long") -> None:
        problems = [] if Path(path).suffix in FILES else [f"path must end in {' or '.join(FILES)}, got {path!r}"]
        raise_problems(problems + one_of(tuple(LAYOUTS), format=format))
        self.path, self.format = path, format
        self._target = self._part = Path(path)
        self._file: TableFile | None = None
        self._n_rows = self._n_found = 0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check, before any work, that the file can be written."""
        if stage == "predict" and Path(self.path).suffix == ".parquet":
            import_pyarrow()

    def on_predict_start(self, trainer: L.Trainer, pl_module: LayerwiseTask) -> None:  # type: ignore[override]
        """Find what labels are called, and open the file, on rank 0."""
        folder, net = trainer.log_dir or trainer.default_root_dir, pl_module.net
        self._n_rows = self._n_found = 0
        data = getattr(trainer, "datamodule", None)
        self._labels = Labels.of(net.n_labels, getattr(data, "label_names", None), getattr(data, "class_labels", {}))
        none = np.zeros((0, net.n_locations, net.n_labels), np.float32)
        columns = LAYOUTS[self.format](self._labels, np.zeros(0, np.int64), none, none)
        if trainer.is_global_zero:
            self._target = Path(folder) / self.path
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
        """Append a batch: scores [B, |G|, n] of the rows `batch.index`."""
        found = torch.stack([outputs.float(), pl_module.net.calibration(outputs).float()], 1).detach().cpu()
        rows, found = gather_batch(batch.index.cpu(), found, trainer)
        if self._file is not None:
            self._file.write(LAYOUTS[self.format](self._labels, rows.numpy(), *found.numpy().swapaxes(0, 1)))
            self._n_rows, self._n_found = self._n_rows + len(rows), self._n_found + found[:, 0].numel()

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


def gather_batch(rows: Tensor, found: Tensor, trainer: L.Trainer) -> tuple[Tensor, Tensor]:
    """Return a batch's rows [B] and what was found of them [B, ...] of all processes, in the order of the rows."""
    if trainer.world_size == 1:
        return rows, found
    parts: list[tuple[Tensor, Tensor]] = [(rows, found)] * trainer.world_size
    dist.all_gather_object(parts, (rows, found))
    rows, found = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
    order = rows.argsort()
    return rows[order], found[order]
