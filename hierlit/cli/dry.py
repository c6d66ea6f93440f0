"""plan and describe: they take the arguments of `fit`, make no trainer, run nothing and write nothing."""

from argparse import SUPPRESS
from collections.abc import Sequence
from typing import Any
from warnings import catch_warnings, simplefilter

import psutil
import torch
from lightning.pytorch.cli import LightningArgumentParser

from hierlit.cli.errors import HierlitParser
from hierlit.cli.fit import HierlitCLI, with_saved_config
from hierlit.cli.words import program
from hierlit.models.first_layer import ROUNDINGS
from hierlit.plan.describe import DescribeOptions, Description, print_description
from hierlit.plan.options import PlanOptions, Run
from hierlit.plan.tables import print_plan
from hierlit.training.precision import check_precision, rounding_of
from hierlit.training.trainer import strategy_problem


class DryCLI(HierlitCLI):
    """The sections of `fit` and one of its own, whose objects are made, with one block, and looked at.

    Attributes:
        name: Of the command and of its section.
        options: The section's class, if there is one.
        description: What the command does.
    """

    name: str
    options: type | None = None
    description: str

    def __init__(self, args: Sequence[str]) -> None:
        sections = HierlitParser.sections | ({} if self.options is None else {self.name: self.options})
        parser = type("DryParser", (HierlitParser,), {"sections": sections})
        super().__init__(
            args,
            parser,
            run=False,
            save_config_callback=None,
            load_from_checkpoint_support=False,
            seed_everything_default=False,
            parser_kwargs={"prog": f"{program()} {self.name}", "description": self.description},
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the command's section, and let configs pass that `fit` has saved."""
        super().add_arguments_to_parser(parser)
        if self.options is not None:
            parser.add_class_arguments(self.options, self.name)
        for name in ("ckpt_path", "weights_only"):
            parser.add_argument(f"--{name}", type=Any, help=SUPPRESS)

    def parse_arguments(self, parser: LightningArgumentParser, args: Sequence[str] | None) -> None:  # type: ignore[override]
        """Parse; without `--config` the config is that of a checkpoint, if one is named."""
        try:
            self.config = parser.parse_args(with_saved_config(args or []))
        except (FileNotFoundError, ValueError) as error:
            parser.error(str(error))

    def before_instantiate_classes(self) -> None:
        """Refuse a strategy that `fit` would refuse."""
        if problem := strategy_problem(self.config.trainer.strategy):
            self._refuse(problem)

    def instantiate_classes(self) -> None:
        """Make what the config says, of whose blocks only one, and look at it."""
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
            run = Run(made.model, made.supervision, made.layerwise, n_blocks, dtype, features, device, base)
            self.look(run, made.get(self.name))
        except (ValueError, ImportError) as error:
            self._refuse(str(error))

    def look(self, run: Run, options: Any) -> None:
        """Print what there is to say of a run that was not made."""
        raise NotImplementedError


class CheckCLI(DryCLI):
    """The arguments of a fit: one of a wrong type, name or value is an error, before any run.

    Args:
        name: The command that will run the fit.
        args: The arguments.
    """

    description = "Arguments of fit."

    def __init__(self, name: str, args: Sequence[str]) -> None:
        self.name = name
        super().__init__(args)

    def instantiate_classes(self) -> None:
        """Make all of it in silence: the fit says again what there is to say of the data."""
        self.config.trainer.precision = "32-true"  # that of the runs is for the machines that they are made on
        with catch_warnings():
            simplefilter("ignore")
            super().instantiate_classes()

    def look(self, run: Run, options: Any) -> None:
        """Look at nothing further."""


class PlanCLI(DryCLI):
    """What a fit would cost. Of the trainer's section it reads the precision and the accelerator, not the limits.

    Attributes:
        planned: What was planned.
    """

    name, options = "plan", PlanOptions
    description = "What a fit with these arguments would cost: operations, memory, time, messages, depth bound."
    planned: Run

    def look(self, run: Run, options: PlanOptions) -> None:
        """Print the plan."""
        self.planned = run
        print_plan(run, options)


class DescribeCLI(DryCLI):
    """What the paper says of a hierarchy.

    Attributes:
        described: The hierarchy's constants.
    """

    name, options = "describe", DescribeOptions
    description = "A hierarchy's levels, constants and balance, and the depth, width and rows that the theory asks for."
    described: Description

    def look(self, run: Run, options: DescribeOptions) -> None:
        """Print the description."""
        self.described = Description.of(run, options)
        print_description(self.described)
