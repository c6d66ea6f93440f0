"""The paper's quantities as plain functions, usable without Lightning."""

from hierlit.theory.bounds import (
    certificate,
    depth_bound,
    margin_growth_needed,
    meets_depth_bound,
    sample_scaling,
    width_scaling,
)
from hierlit.theory.kernel import (
    KernelExpansion,
    expansion,
    hermite_coefficients,
    kernel,
    kernel_matrix,
    moment,
    width_for_error,
)
from hierlit.theory.majority import (
    alpha,
    alpha_by_enumeration,
    alpha_by_simulation,
    labels_for_error,
    random_majorities,
    reconstruct,
    reconstruction_error,
)
from hierlit.theory.polynomial import (
    LeastNorm,
    Polynomial,
    ThresholdConstants,
    cube,
    least_norm_ptf,
    multilinear_extension,
    threshold_constants,
    threshold_degree,
)

__all__ = [
    "KernelExpansion",
    "LeastNorm",
    "Polynomial",
    "ThresholdConstants",
    "alpha",
    "alpha_by_enumeration",
    "alpha_by_simulation",
    "certificate",
    "cube",
    "depth_bound",
    "expansion",
    "hermite_coefficients",
    "kernel",
    "kernel_matrix",
    "labels_for_error",
    "least_norm_ptf",
    "margin_growth_needed",
    "meets_depth_bound",
    "moment",
    "multilinear_extension",
    "random_majorities",
    "reconstruct",
    "reconstruction_error",
    "sample_scaling",
    "threshold_constants",
    "threshold_degree",
    "width_for_error",
    "width_scaling",
]
