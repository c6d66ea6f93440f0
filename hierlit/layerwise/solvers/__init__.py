"""Solvers: one contract, minimise F_k, with gradient steps or exactly."""

from hierlit.layerwise.solvers.base import Certificate, Solver, State
from hierlit.layerwise.solvers.exact import ExactSolver
from hierlit.layerwise.solvers.gradient import GradientSolver
from hierlit.layerwise.solvers.kernel import KernelSolver

__all__ = ["Certificate", "ExactSolver", "GradientSolver", "KernelSolver", "Solver", "State"]
