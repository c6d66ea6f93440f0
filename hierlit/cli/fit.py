"""fit, validate, test and predict: one plain LightningCLI."""

import json
import sys
import warnings
from argparse import ArgumentError, ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from jsonargparse import Namespace
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.utilities.data import sized_len
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_warn
from rich.console import Console
from rich.table import Table

import hierlit.layerwise
import hierlit.models  # noqa: F401  short class names resolve among imported classes
from hierlit.cli import INTERRUPTED
from hierlit.cli.errors import HierlitParser, with_paths
from hierlit.cli.misspelt import LINKED
from hierlit.cli.words import packaged_names, program
from hierlit.data import HierarchyDataModule, Supervision
from hierlit.files.checkpoints import LOGS, REQUEUED, find_checkpoint, find_requeued, read_checkpoint
from hierlit.training import BlockCheckpoint, LayerwiseTraining
from hierlit.training.logs import continue_logs
from hierlit.training.precision import check_precision
from hierlit.training.resume import config_changes, deciding
from hierlit.training.task import LayerwiseTask
from hierlit.training.trainer import check_trainer, strategy_problem
from hierlit.watching import BlockProgress, Diagnostics, PredictionWriter, Staircase

DESCRIPTION = "Train networks on data whose many labels form an unknown hierarchy, one block at a time."
COMMANDS = {
    "fit": "Train a network, block after block.",
    "validate": "Print the table of the validation rows again, of a trained network.",
    "test": "Print the same table for the test rows, and average precision.",
    "predict": "Write scores and probabilities of rows to a file (--predictions.path).",
}
ROWS = {
    "validate": ("validation rows with an observed label", "val"),
    "test": ("test rows with an observed label", "test"),
    "predict": ("rows to predict", "predict"),
}
"""What commands run on, and its short name."""
EPILOG = (
    "More commands, each with a --help of its own. With the arguments of fit: plan (what a fit would cost), describe "
    "(what the paper says of a hierarchy), discover (levels and parents of labels), sweep (a table over values and "
    "seeds), compare (layerwise against end to end). Others: export (a checkpoint as a file for other programs) and "
    "experiment (the experiments on the paper)."
)


class HierlitCLI(LightningCLI):
    """LightningCLI with the layerwise callbacks in sections of their own, and `supervision` between data and model."""

    of_linked: ClassVar[dict[str, Callable[[Any], Any]]] = {}
    """What the model is given of a value of the data, where it is not the value itself."""

    def __init__(self, args: Sequence[str] | None, parser_class: type[HierlitParser], **options: Any) -> None:
        self._asked = asked_for(args)
        super().__init__(
            LayerwiseTask,
            HierarchyDataModule,
            subclass_mode_data=True,
            parser_class=parser_class,
            auto_configure_optimizers=False,
            args=args,  # type: ignore[arg-type]
            **options,
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Return the subcommand that is asked for, since the options of each take long to gather; all for the help."""
        known = super().subcommands()
        return {name: known[name] for name in self._asked}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the sections of the callbacks and of the supervision, and the links from data to it and to the model."""
        parser.add_lightning_class_args(LayerwiseTraining, "layerwise")
        parser.add_lightning_class_args(BlockCheckpoint, "checkpoint")
        parser.add_lightning_class_args(PredictionWriter, "predictions")
        parser.add_class_arguments(Supervision, "supervision")
        parser.set_defaults({"model.features": {"class_path": "GaussianFeatures"}})  # so that its arguments are options
        parser.link_arguments("data", "supervision.data", apply_on="instantiate")
        for name in LINKED:
            own = self.of_linked.get(name)
            parser.link_arguments(f"supervision.{name}", f"model.{name}", own, apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Sequence[str] | None) -> None:  # type: ignore[override]
        """Parse, then turn `--ckpt_path last`, or SLURM's having requeued the job, into a readable checkpoint.

        Without `--config`, the config is the one that the checkpoint was trained with.
        """
        args = list(args or [])
        try:
            args[1:] = with_saved_config(args[1:])
        except (FileNotFoundError, ValueError) as error:
            self._parser(self._asked[0]).error(str(error))
        super().parse_arguments(parser, args)
        config, subcommand = self.config[self.config.subcommand], self.config.subcommand
        root = Path(config.trainer.default_root_dir or ".")
        try:
            if config.get("ckpt_path"):
                config.ckpt_path = str(find_checkpoint(config.ckpt_path, root, log_folders(config.trainer.logger)))
            elif subcommand == "fit" and SLURMEnvironment.detect():
                requeued = find_requeued(root, root / LOGS / f"version_{SLURMEnvironment.job_id()}")
                config.ckpt_path = None if requeued is None else str(requeued)
        except (FileNotFoundError, ValueError) as error:
            parser.error(str(error))
        if not config.get("ckpt_path") and config.model.weights is None and subcommand != "fit":
            parser.error(
                f"{subcommand} needs ckpt_path, a checkpoint file or `last`, or model.weights: the model is untrained"
            )

    def _parse_ckpt_path(self) -> None:
        """Leave the config as given: a checkpoint of another network is an error, not another config."""

    def before_instantiate_classes(self) -> None:
        """Add the progress bar, unless it was turned off, and let `predict` stream."""
        config = self.config[self.config.subcommand]
        if problem := strategy_problem(config.trainer.strategy):
            self._refuse(problem)
        if config.trainer.enable_progress_bar is not False:
            self.trainer_defaults["callbacks"].append(BlockProgress())
        if "verbose" in config:
            config.verbose = False  # `after_test` and `after_validate` print the metrics
        if "return_predictions" in config and config.return_predictions is None:
            config.return_predictions = False

    def instantiate_classes(self) -> None:
        """Instantiate, and report an argument out of range as the parser reports a wrong type."""
        config = self.config[self.subcommand]
        try:
            checkpoint = read_checkpoint(config.ckpt_path, mmap=True) if config.get("ckpt_path") else {}
            self._resumed = checkpoint
            if self.subcommand == "predict" and checkpoint:
                take_fitted(config.data.get("init_args") or {}, config.ckpt_path)
            super().instantiate_classes()
            self.datamodule = self._get(self.config_init, "supervision")
            self.model.config = self._config_of_run(checkpoint.get("config"))
            if checkpoint:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # Lightning loads it again
                    self.model.on_load_checkpoint(checkpoint)
            if self.subcommand == "fit":
                # of the precision asked for: Lightning makes bf16-mixed of 16-mixed on a CPU
                check_precision(config.trainer.precision, self.trainer.strategy.root_device)
                check_trainer(self.trainer)
                self.model.round_features(self.trainer.precision)
                self._get(self.config_init, "layerwise").check(self.model, self.datamodule)
        except (ValueError, TypeError, MisconfigurationException) as error:
            self._refuse(str(error))

    def _config_of_run(self, trained: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return this run's config, given that of a checkpoint: of a trained model the rows alone can differ.

        Those to predict are read as the checkpoint says; an argument of the data that says otherwise is named.
        """
        own = run_config(self.config[self.subcommand].as_dict())
        if self.subcommand == "fit" or not trained:
            return own
        if (own["data"].get("init_args") or {}).get("ckpt_path") is None:
            return {**trained, **{name: own[name] for name in ("data", "supervision")}}
        changes = config_changes({"data": trained["data"]}, {"data": own["data"]})
        if ignored := [str(change) for change in changes if change.after is not None]:
            rank_zero_warn(f"values of the checkpoint are used, not those given: {', '.join(ignored)}")
        return dict(trained)

    def _run_subcommand(self, subcommand: str) -> None:
        """Run, and report an argument that fails before a batch has been trained on as the parser does.

        Raises:
            SystemExit: With code 130 after Ctrl-C, of which Lightning makes 1.
        """
        try:
            if subcommand in ROWS:
                self._look_ahead(subcommand)
            super()._run_subcommand(subcommand)
        except SystemExit as error:
            if not isinstance(error.__context__, KeyboardInterrupt):
                raise
            if self.trainer.is_global_zero:
                print(f"interrupted{self._where_saved() if subcommand == 'fit' else ''}", flush=True)
            raise SystemExit(INTERRUPTED) from None
        except (ValueError, MisconfigurationException) as error:
            if self.model.has_begun:
                raise
            self._refuse(str(error))

    def _look_ahead(self, subcommand: str) -> None:
        """Check, before a folder of the run is made, that there are rows and that predictions can be written.

        Raises:
            SystemExit: With code 1, and a line from the first process, if there are no rows.
        """
        rows, split = ROWS[subcommand]
        self.datamodule.setup(subcommand)
        loader = getattr(self.datamodule, f"{split}_dataloader")()
        if not getattr(self.trainer, f"limit_{split}_batches") or sized_len(loader) == 0:
            line = f"error: the data has no {rows}; files of them are data.{split}_files"
            raise SystemExit(line if self.trainer.is_global_zero else 1)
        if subcommand == "predict":
            self._get(self.config_init, "predictions").check()

    def _where_saved(self) -> str:
        """Return where a fit that was interrupted goes on; nothing where it saved nothing."""
        folders = [each.folder for each in self.trainer.callbacks if isinstance(each, BlockCheckpoint)]  # type: ignore[attr-defined]
        files = [path for folder in folders for path in folder.glob("*.ckpt")]
        newest = max(files, key=lambda path: path.stat().st_mtime, default=None)
        return "" if newest is None else f", saved as {newest}: `--ckpt_path last` resumes there"

    def after_test(self) -> None:
        """Print the metrics."""
        self._print_metrics()

    def after_validate(self) -> None:
        """Print the metrics."""
        self._print_metrics()

    def _print_metrics(self) -> None:
        """Print what was measured."""
        if not self.trainer.is_global_zero:
            return
        table = Table("metric", "value")
        for name, value in self.trainer.callback_metrics.items():
            table.add_row(name, f"{float(value):.4f}")
        Console().print(table)

    def _refuse(self, problem: str) -> NoReturn:
        parser = self._parser(self.config.get("subcommand")) if hasattr(self, "_subcommand_parsers") else self.parser
        config = self.config.get(self.config.get("subcommand")) or self.config
        parser.error(with_paths(problem, config))

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        """Continue the log of the run that a fit resumes; make no checkpoints if they are turned off."""
        if config["enable_checkpointing"] is False:
            callbacks = [callback for callback in callbacks if not isinstance(callback, BlockCheckpoint)]
        ckpt_path = self.config[self.subcommand].get("ckpt_path")
        if self.subcommand == "fit" and ckpt_path and self._continue_logs(config, Path(ckpt_path).absolute()):
            self.save_config_callback = None
        return super()._instantiate_trainer(config, callbacks)

    def _continue_logs(self, config: dict[str, Any], checkpoint: Path) -> bool:
        """Let loggers continue the log of a checkpoint's run, if that is where the checkpoint is.

        With other values that decide weights it is another run, with a folder and a config of its own.
        """
        logger, folder = config["logger"], checkpoint.parent.parent
        before, after = self._resumed.get("config"), run_config(self.config[self.subcommand].as_dict())
        if config["fast_dev_run"]:
            return False
        is_other = bool(before and deciding(config_changes(before, after)))
        if logger not in (None, True):
            loggers = [logger] if isinstance(logger, Logger) else logger or []
            is_requeued = checkpoint.name.startswith(REQUEUED)
            versions = [] if is_other else self._resumed.get("log_versions", [])  # those that a person gives stay
            return continue_logs(loggers, versions, None if is_requeued else folder)
        if folder.parent.name != LOGS or is_other:
            return False
        config["logger"] = TensorBoardLogger(folder.parent.parent, LOGS, folder.name)
        return True


def with_saved_config(args: Sequence[str]) -> list[str]:
    """Return a command's options, preceded by the config of the checkpoint that they name if they name no config.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it cannot be read, or has no config and the arguments name no data, or an option lacks its value.
    """
    names = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    names.add_argument("--trainer.default_root_dir", default=".")
    for option in ("--config", "-c", "--data", "--ckpt_path", "--trainer.logger.save_dir"):
        names.add_argument(option)
    try:
        given = vars(names.parse_known_args(args)[0])
    except ArgumentError as error:
        raise ValueError(str(error)) from error
    if given["config"] or given["c"] or not given["ckpt_path"] or "--help" in args:
        return list(args)
    root, logs = Path(given["trainer.default_root_dir"]), given["trainer.logger.save_dir"]
    checkpoint = find_checkpoint(given["ckpt_path"], root, [Path(logs)] if logs else [])
    if config := read_checkpoint(checkpoint, mmap=True).get("config"):
        return ["--config", json.dumps(config), *args, "--ckpt_path", str(checkpoint)]
    if given["data"]:
        return list(args)
    raise ValueError(f"config is needed: {checkpoint} was saved from Python and has none")


def take_fitted(data: Any, ckpt_path: str) -> None:
    """Let data whose files are to be predicted know from a checkpoint what was fitted to the training files.

    Args:
        data: A `Namespace` of the arguments of a data module; those of files that are then not read become None.
        ckpt_path: The checkpoint.
    """
    if "ckpt_path" in data and (data.get("predict_files") or data.get("test_files")):
        data.ckpt_path, data.train_files, data.val_files = ckpt_path, None, None
        if data.predict_files:
            data.test_files = None


def log_folders(loggers: Any) -> list[Path]:
    """Return the folders below which loggers write, by their section of a config."""
    folders = []
    for logger in loggers if isinstance(loggers, list) else [loggers]:
        given = logger.get("init_args", {}) if isinstance(logger, Mapping | Namespace) else {}
        if save_dir := given.get("save_dir"):
            folders += [Path(save_dir), Path(save_dir) / (given.get("name") or "")]
    return folders


def run_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a config that decide the weights, of data, model, blocks, and precision, and the tables."""
    sections = ("seed_everything", "data", "supervision", "model", "layerwise", "checkpoint")
    kept = {section: config[section] for section in sections if section in config}
    trainer = {name: config["trainer"][name] for name in ("precision", "limit_train_batches", "limit_val_batches")}
    return {**json.loads(json.dumps(kept, default=str)), "trainer": trainer}


def where_to_look() -> str:
    """Return what a person should know who sees the options of a command."""
    known = ", ".join(packaged_names())
    return f"Configs of hierlit's own, for --config: {known}. Arguments of data, for example: --data.help LabelTable."


def asked_for(args: Sequence[str] | None) -> list[str]:
    """Return the subcommand that is asked for; all of them where that is none of them, as for `--help`."""
    given = (sys.argv[1:] if args is None else args)[:1]
    return list(given) if given and given[0] in COMMANDS else list(COMMANDS)


def run(args: Sequence[str] | None) -> LightningCLI:
    """Run fit, validate, test or predict."""
    return HierlitCLI(
        args,
        HierlitParser,
        save_config_kwargs={"overwrite": True},
        trainer_defaults={
            "max_epochs": -1,
            "log_every_n_steps": 1,
            "num_sanity_val_steps": 0,
            "enable_model_summary": False,
            "callbacks": [Staircase(), Diagnostics()],
        },
        parser_kwargs={
            "prog": program(),
            "description": DESCRIPTION,
            "epilog": EPILOG,
            **{name: {"description": f"{COMMANDS[name]} {where_to_look()}"} for name in asked_for(args)},
        },
    )
