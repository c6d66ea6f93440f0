"""The command line: one plain LightningCLI for fit, validate, test and predict."""

from collections.abc import Sequence
from pathlib import Path

import torch
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_warn

import hierlit.losses
import hierlit.models
import hierlit.solvers  # noqa: F401  short class names resolve among imported classes
from hierlit.callbacks import BlockProgress, LayerwiseTraining, Staircase
from hierlit.data import HierarchyDataModule
from hierlit.task import LayerwiseTask

LINKED = ("n_inputs", "n_labels", "n_locations", "levels")


class HierlitCLI(LightningCLI):
    """LightningCLI with the data's sizes linked to the model and the layerwise callbacks in sections of their own."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the section `layerwise` and the links."""
        parser.add_lightning_class_args(LayerwiseTraining, "layerwise")
        for name in LINKED:
            parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Sequence[str] | None) -> None:  # type: ignore[override]
        """Parses, then turns `--ckpt_path last` into the newest readable checkpoint."""
        super().parse_arguments(parser, args)  # type: ignore[arg-type]
        config = self.config[self.config.subcommand]
        if config.get("ckpt_path") == "last":
            config.ckpt_path = str(newest_checkpoint(Path(config.trainer.default_root_dir or ".")))

    def before_instantiate_classes(self) -> None:
        """Adds the progress bar, unless it was turned off."""
        if self.config[self.config.subcommand].trainer.enable_progress_bar is not False:
            self.trainer_defaults["callbacks"].append(BlockProgress())


def newest_checkpoint(root: Path) -> Path:
    """The newest checkpoint below `root`/lightning_logs that can be read.

    Raises:
        FileNotFoundError: If there is none.
    """
    found = sorted((root / "lightning_logs").rglob("*.ckpt"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in found:
        try:
            torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            rank_zero_warn(f"skipping unreadable checkpoint {path}: {str(error).splitlines()[0]}")
        else:
            return path
    raise FileNotFoundError(f"ckpt_path last: no readable checkpoint below {root / 'lightning_logs'}; fit a model first")


def main(args: Sequence[str] | None = None) -> LightningCLI:
    """Runs a subcommand.

    Args:
        args: Command-line arguments; those of the process when None.
    """
    return HierlitCLI(
        LayerwiseTask,
        HierarchyDataModule,
        subclass_mode_data=True,
        save_config_kwargs={"overwrite": True},
        trainer_defaults={
            "max_epochs": -1,
            "num_sanity_val_steps": 0,
            "callbacks": [Staircase()],
        },
        args=args,  # type: ignore[arg-type]
    )
