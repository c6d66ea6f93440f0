"""Solvers: one contract, minimise the active block's F_k, with gradient steps or exactly."""

from hierlit.layerwise.solvers.base import Certificate, Solver
from hierlit.layerwise.solvers.cross_fitted import CrossFittedSolver
from hierlit.layerwise.solvers.exact import ExactSolver
from hierlit.layerwise.solvers.gradient import GradientSolver
from hierlit.layerwise.solvers.joint import JointSolver

__all__ = ["Certificate", "CrossFittedSolver", "ExactSolver", "GradientSolver", "JointSolver", "Solver"]
