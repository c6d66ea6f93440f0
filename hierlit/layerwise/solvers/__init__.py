"""Solvers: one contract, minimise F_k, with gradient steps or exactly."""

from hierlit.layerwise.solvers.base import Certificate, Solver, State
from hierlit.layerwise.solvers.exact import ExactSolver
from hierlit.layerwise.solvers.gradient import GradientSolver

__all__ = ["Certificate", "ExactSolver", "GradientSolver", "Solver", "State"]
