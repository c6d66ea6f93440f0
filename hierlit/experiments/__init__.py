"""The paper's experiments, each a class of which `python -m hierlit experiment NAME` makes and runs one."""

from hierlit.experiments.base import Experiment, Run, Settings, Verdict, key_of, product, tables_of
from hierlit.experiments.beta_sensitivity import BetaSensitivityExperiment
from hierlit.experiments.brain_dump import BrainDumpExperiment
from hierlit.experiments.joint import JointExperiment
from hierlit.experiments.report import write_report
from hierlit.experiments.runner import run_all
from hierlit.experiments.scaling import ScalingExperiment
from hierlit.experiments.staircase import StaircaseExperiment
from hierlit.experiments.supervision import SupervisionExperiment
from hierlit.experiments.text import TextExperiment

EXPERIMENTS: dict[str, type[Experiment]] = {
    "staircase": StaircaseExperiment,
    "beta_sensitivity": BetaSensitivityExperiment,
    "brain_dump": BrainDumpExperiment,
    "supervision": SupervisionExperiment,
    "joint": JointExperiment,
    "scaling": ScalingExperiment,
    "text": TextExperiment,
}

__all__ = [
    "EXPERIMENTS",
    "Experiment",
    "Run",
    "Settings",
    "Verdict",
    "key_of",
    "product",
    "run_all",
    "tables_of",
    "write_report",
]
