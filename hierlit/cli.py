"""The command line: one plain LightningCLI for fit, validate, test and predict, and `plan` on the same sections."""

import json
import sys
from argparse import SUPPRESS
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

import hierlit.losses
import hierlit.models
import hierlit.solvers  # noqa: F401  short class names resolve among imported classes
from hierlit.callbacks import BlockCheckpoint, BlockProgress, LayerwiseTraining, PredictionWriter, Staircase
from hierlit.checkpoints import LOGS, find_checkpoint, read_checkpoint
from hierlit.cli_errors import HierlitParser, PlanParser
from hierlit.data import HierarchyDataModule, Supervision
from hierlit.export import export
from hierlit.failures import explain_threads, failure_line, watch_parent
from hierlit.models.random_features import ROUNDINGS
from hierlit.plan.options import PlanOptions, Run
from hierlit.plan.tables import print_plan
from hierlit.precision import check_precision, rounding_of
from hierlit.strategies import strategy_problem
from hierlit.task import LayerwiseTask

PLAN = "What a fit with these arguments would cost, before it runs: operations, memory, time, messages, depth bound."
EPILOG = (
    "And plan, which takes the arguments of fit and prints what it would cost; "
    "and export, which writes a checkpoint's weights to a safetensors file."
)
LINKED = ("n_inputs", "n_labels", "n_locations", "levels")


class HierlitCLI(LightningCLI):
    """LightningCLI with the layerwise callbacks in sections of their own, and `supervision` between data and model."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the sections of the callbacks and of the supervision, and the links from data to it, and to the model."""
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


class PlanCLI(HierlitCLI):
    """The sections of `fit`, and `plan`: it makes no trainer, runs nothing and writes nothing.

    Of the trainer's section it reads the precision and the accelerator; limits on batches it does not.

    Attributes:
        planned: What was planned.
    """

    planned: Run

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the section `plan`, and lets configs pass that `fit` has saved."""
        super().add_arguments_to_parser(parser)
        parser.add_class_arguments(PlanOptions, "plan")
        for name in ("ckpt_path", "weights_only"):
            parser.add_argument(f"--{name}", type=Any, help=SUPPRESS)

    def parse_arguments(self, parser: LightningArgumentParser, args: Sequence[str] | None) -> None:  # type: ignore[override]
        """Parses."""
        self.config = parser.parse_args(args)

    def before_instantiate_classes(self) -> None:
        """Leaves the config as given."""

    def instantiate_classes(self) -> None:
        """Prints the plan of the config, of whose blocks only one is made."""
        base, config = psutil.Process().memory_info().rss, self.config.clone()
        n_blocks, trainer = config.model.n_blocks, config.pop("trainer")
        config.model.n_blocks, config.model.weights = min(1, n_blocks), None
        on_gpu = trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
        device = torch.device("cuda" if on_gpu else "cpu")
        dtype = torch.float64 if str(trainer.precision).startswith("64") else torch.float32
        rounding = rounding_of(trainer.precision, config.model.tf32)
        features = dtype if rounding is None else ROUNDINGS[rounding]
        try:
            check_precision(trainer.precision, device)
            made = self.parser.instantiate_classes(config)
            made.layerwise.check(made.model, made.supervision)
            self.planned = Run(made.model, made.supervision, made.layerwise, n_blocks, dtype, features, device, base)
            print_plan(self.planned, made.plan)
        except ValueError as error:
            self.parser.error(str(error))


def run_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a config that decide the weights: of data, model, blocks, and precision."""
    kept = {section: config[section] for section in ("data", "supervision", "model", "layerwise") if section in config}
    trainer = {name: config["trainer"][name] for name in ("precision", "limit_train_batches")}
    return {**json.loads(json.dumps(kept, default=str)), "trainer": trainer}


def main(args: Sequence[str] | None = None) -> LightningCLI | None:
    """Runs a subcommand.

    Args:
        args: Command-line arguments; those of the process when None.

    Raises:
        SystemExit: With code 2 after a wrong argument, 1 after a failure that one line explains, 143 after SIGTERM.
    """
    given = sys.argv[1:] if args is None else list(args)
    watch_parent()
    explain_threads()
    try:
        if given[:1] == ["plan"]:
            return plan(given[1:])
        if given[:1] == ["export"]:
            export(given[1:])
            return None
        return run(args)
    except Exception as error:
        if line := failure_line(error):
            raise SystemExit(line) from error
        raise


def script() -> None:
    """The console script `hierlit`, whose exit code a returned object would become."""
    main()


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


def plan(args: Sequence[str]) -> LightningCLI:
    """Prints what the `fit` of the same arguments would cost."""
    return PlanCLI(
        LayerwiseTask,
        HierarchyDataModule,
        subclass_mode_data=True,
        parser_class=PlanParser,
        auto_configure_optimizers=False,
        run=False,
        save_config_callback=None,
        load_from_checkpoint_support=False,
        seed_everything_default=False,
        parser_kwargs={"prog": "hierlit plan", "description": PLAN},
        args=args,  # type: ignore[arg-type]
    )
