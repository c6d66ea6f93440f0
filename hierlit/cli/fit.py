"""fit, validate, test and predict: one plain LightningCLI."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

import hierlit.losses
import hierlit.models
import hierlit.solvers  # noqa: F401  short class names resolve among imported classes
from hierlit.callbacks import BlockCheckpoint, BlockProgress, LayerwiseTraining, PredictionWriter, Staircase
from hierlit.checkpoints import LOGS, find_checkpoint, read_checkpoint
from hierlit.cli.errors import HierlitParser
from hierlit.data import HierarchyDataModule, Supervision
from hierlit.precision import check_precision
from hierlit.strategies import strategy_problem
from hierlit.task import LayerwiseTask

EPILOG = (
    "And plan, which takes the arguments of fit and prints what it would cost; describe, which takes them and prints "
    "what the paper says of their hierarchy; and export, which writes a checkpoint's weights to a safetensors file."
)
LINKED = ("n_inputs", "n_labels", "n_locations", "levels")


class HierlitCLI(LightningCLI):
    """LightningCLI with the layerwise callbacks in sections of their own, and `supervision` between data and model."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the sections of the callbacks and of the supervision, and the links from data to it and to the model."""
        parser.add_lightning_class_args(LayerwiseTraining, "layerwise")
        parser.add_lightning_class_args(BlockCheckpoint, "checkpoint")
        parser.add_lightning_class_args(PredictionWriter, "predictions")
        parser.add_class_arguments(Supervision, "supervision")
        parser.link_arguments("data", "supervision.data", apply_on="instantiate")
        for name in LINKED:
            parser.link_arguments(f"supervision.{name}", f"model.{name}", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Sequence[str] | None) -> None:  # type: ignore[override]
        """Parses, then turns `--ckpt_path last` into the newest readable checkpoint."""
        super().parse_arguments(parser, args)  # type: ignore[arg-type]
        config = self.config[self.config.subcommand]
        if config.get("ckpt_path") is None and config.model.weights is None and self.config.subcommand != "fit":
            parser.error(
                f"{self.config.subcommand} needs ckpt_path, a checkpoint file or `last`, or model.weights: "
                "the model is untrained"
            )
        if config.get("ckpt_path"):
            try:
                config.ckpt_path = str(find_checkpoint(config.ckpt_path, Path(config.trainer.default_root_dir or ".")))
            except (FileNotFoundError, ValueError) as error:
                parser.error(str(error))

    def _parse_ckpt_path(self) -> None:
        """Leaves the config as given: a checkpoint of another network is an error, not another config."""

    def before_instantiate_classes(self) -> None:
        """Adds the progress bar, unless it was turned off, and lets `predict` stream."""
        config = self.config[self.config.subcommand]
        if problem := strategy_problem(config.trainer.strategy):
            self.parser.error(problem)
        if config.trainer.enable_progress_bar is not False:
            self.trainer_defaults["callbacks"].append(BlockProgress())
        if "return_predictions" in config and config.return_predictions is None:
            config.return_predictions = False

    def instantiate_classes(self) -> None:
        """Instantiates, and reports an argument out of range as the parser reports a wrong type."""
        try:
            super().instantiate_classes()
            self.datamodule = self._get(self.config_init, "supervision")
            if self.subcommand == "fit":
                # of the precision asked for: Lightning makes bf16-mixed of 16-mixed on a CPU
                precision = self.config_init[self.subcommand].trainer.precision
                check_precision(precision, self.trainer.strategy.root_device)
            self.model.config = run_config(self.config[self.subcommand].as_dict())
            if ckpt_path := self.config_init[self.subcommand].get("ckpt_path"):
                self.model.on_load_checkpoint(read_checkpoint(ckpt_path, mmap=True))
            for callback in self.trainer.callbacks if self.subcommand == "fit" else ():  # type: ignore[attr-defined]
                if isinstance(callback, LayerwiseTraining):
                    callback.check(self.model, self.datamodule)
        except (ValueError, MisconfigurationException) as error:
            self.parser.error(str(error))

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        """Goes on with the log of the run that a fit goes on with; makes no checkpoints if they are turned off."""
        if config["enable_checkpointing"] is False:
            callbacks = [callback for callback in callbacks if not isinstance(callback, BlockCheckpoint)]
        ckpt_path = self.config[self.subcommand].get("ckpt_path")
        folder = Path(ckpt_path or "").absolute().parent.parent
        is_default = config["logger"] in (None, True) and not config["fast_dev_run"]
        if self.subcommand == "fit" and ckpt_path and is_default and folder.parent.name == LOGS:
            config["logger"] = TensorBoardLogger(folder.parent.parent, LOGS, folder.name, default_hp_metric=False)
            self.save_config_callback = None
        return super()._instantiate_trainer(config, callbacks)


def run_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a config that decide the weights: of data, model, blocks, and precision."""
    kept = {section: config[section] for section in ("data", "supervision", "model", "layerwise") if section in config}
    trainer = {name: config["trainer"][name] for name in ("precision", "limit_train_batches")}
    return {**json.loads(json.dumps(kept, default=str)), "trainer": trainer}


def run(args: Sequence[str] | None) -> LightningCLI:
    """Runs fit, validate, test or predict."""
    return HierlitCLI(
        LayerwiseTask,
        HierarchyDataModule,
        subclass_mode_data=True,
        parser_class=HierlitParser,
        auto_configure_optimizers=False,
        save_config_kwargs={"overwrite": True},
        trainer_defaults={
            "max_epochs": -1,
            "log_every_n_steps": 1,
            "num_sanity_val_steps": 0,
            "callbacks": [Staircase()],
        },
        parser_kwargs={"epilog": EPILOG},
        args=args,  # type: ignore[arg-type]
    )
