"""When a block is solved: the tolerance on its gradient, and what ends it otherwise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from hierlit.models.checks import raise_problems

if TYPE_CHECKING:
    from hierlit.layerwise.problem import BlockProblem
    from hierlit.layerwise.solvers.base import Certificate

SOLVED = "gradient norm"
"""Why a block ends that is solved to its tolerance."""
RESOLUTION = 1e-6
"""Share of a label's loss at score 0 below which float32 scores no longer resolve it."""


@dataclass(frozen=True)
class Stopping:
    """The tolerance ε_opt at which a block is frozen.

    Args:
        gradient_tolerance: ε on the norm of the full gradient. When None, the norm at which the certificate
            ‖∇F_k‖²/(2λ) is `relative_suboptimality` of F_k at W² = 0.
        relative_suboptimality: See `gradient_tolerance`.
        max_epochs: Passes after which a block is frozen all the same.

    Raises:
        ValueError: One line for each argument out of range.
    """

    gradient_tolerance: float | None = None
    relative_suboptimality: float = 0.01
    max_epochs: int = 2000

    def __post_init__(self) -> None:
        problems = []
        if self.gradient_tolerance is not None and not self.gradient_tolerance > 0:
            problems.append(f"gradient_tolerance must be positive or null, got {self.gradient_tolerance}")
        if not self.relative_suboptimality > 0:
            problems.append(f"relative_suboptimality must be positive, got {self.relative_suboptimality}")
        if self.max_epochs < 1:
            problems.append(f"max_epochs_per_block must be a positive integer, got {self.max_epochs}")
        raise_problems(problems)

    def tolerance(self, problem: BlockProblem, certificate: Certificate) -> float:
        """ε of a block: given, or the norm at which this certificate would be small enough."""
        if self.gradient_tolerance is not None:
            return self.gradient_tolerance
        resolution = RESOLUTION * float(problem.loss.margin_loss(torch.zeros(())))
        target = self.relative_suboptimality * float(problem.initial_objective.clamp(min=resolution).sum())
        suboptimality = float(certificate.suboptimality.sum())
        if suboptimality == 0:
            return math.sqrt(2 * target * float(certificate.modulus.min()))
        return float(certificate.gradient_norm.norm()) * math.sqrt(target / suboptimality)

    def reason(self, problem: BlockProblem, certificate: Certificate, epochs: int) -> str | None:
        """Return why a block ends at a certificate after so many passes, or None if it continues."""
        if float(certificate.gradient_norm.norm()) <= self.tolerance(problem, certificate):
            return SOLVED
        return "max epochs" if epochs >= self.max_epochs else None
