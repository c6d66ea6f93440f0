"""Solvers: one contract, minimise the active block's F_k, with gradient steps or exactly."""

from hierlit.solvers.base import Certificate, Solver
from hierlit.solvers.cross_fitted import CrossFittedSolver
from hierlit.solvers.exact import ExactSolver
from hierlit.solvers.gradient import GradientSolver
from hierlit.solvers.joint import JointSolver

__all__ = ["Certificate", "CrossFittedSolver", "ExactSolver", "GradientSolver", "JointSolver", "Solver"]
