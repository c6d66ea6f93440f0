"""The paper's bounds (Daniely, arXiv 2601.00455) as functions. Each says what is the paper's, and what our reading."""

import math

import numpy as np

from hierlit.models.checks import raise_problems
from hierlit.theory.kernel import KernelExpansion
from hierlit.theory.polynomial import Polynomial


def depth_bound(n_levels: int, n_pairs: int, robustness: float, margin_growth: float) -> int:
    """Return the least D with D ≥ r·(⌈log(8m|G|/ξ)/γ⌉ + 1), which the paper asks for to reach zero margin error.

    D counts layers: D − 1 blocks and the output layer. γ is a constant of the paper's loss; in our reading the loss of
    a label that is learned falls by e^−γ a block, so that after ⌈log(8m|G|/ξ)/γ⌉ further blocks no pair of m|G| can be
    without its margin.

    Args:
        n_levels: r.
        n_pairs: m|G|.
        robustness: ξ in (0, 1].
        margin_growth: γ > 0.

    Raises:
        ValueError: If an argument is out of range.
    """
    check_positive(n_levels=n_levels, n_pairs=n_pairs, robustness=robustness, margin_growth=margin_growth)
    return n_levels * (math.ceil(math.log(8 * n_pairs / robustness) / margin_growth) + 1)


def check_positive(**arguments: float) -> None:
    """Raise ValueError, one line naming all, where arguments are not positive, or a robustness is above 1."""
    raise_problems(
        [
            f"{name} must be {'in (0, 1]' if name == 'robustness' else 'positive'}, got {value}"
            for name, value in arguments.items()
            if not value > 0 or (name == "robustness" and value > 1)
        ]
    )


def meets_depth_bound(n_blocks: int, n_levels: int, n_pairs: int, robustness: float, margin_growth: float) -> bool:
    """Return whether D = n_blocks + 1 layers are as many as `depth_bound` asks for."""
    return n_blocks + 1 >= depth_bound(n_levels, n_pairs, robustness, margin_growth)


def margin_growth_needed(n_blocks: int, n_levels: int, n_pairs: int, robustness: float) -> float:
    """Return the least γ at which D = n_blocks + 1 layers meet `depth_bound`; infinite if no γ does.

    Raises:
        ValueError: If an argument is out of range.
    """
    check_positive(n_levels=n_levels, n_pairs=n_pairs, robustness=robustness)
    steps = (n_blocks + 1) // n_levels - 1
    return math.log(8 * n_pairs / robustness) / steps if steps > 0 else math.inf


def certificate(gradient_norm: float, regularization: float) -> float:
    """F − min F ≤ ‖∇F‖²/(2λ) for a λ-strongly convex F (the paper; Boyd and Vandenberghe 2004, section 9.1.2).

    Raises:
        ValueError: If λ is not positive.
    """
    check_positive(regularization=regularization)
    return gradient_norm**2 / (2 * regularization)


def width_scaling(polynomial: Polynomial, expansion: KernelExpansion, fan_in: int, error: float) -> float:
    """Random features after which a polynomial of a window is approximated to a root mean square `error`, in order.

    The paper: a width polynomial in the constants of the hierarchy suffices. Ours, by the argument of random features
    (Rahimi and Recht, "Weighted sums of random kitchen sinks", NeurIPS 2008): p is a mean over the features'
    distribution, of square norm N² = Σ_S c_S²·f^|S|/(κ_|S|·|S|!) in the kernel's space, so q = N²·k(1)/error²
    independent features give an unbiased estimate of that error. κ_j is the kernel's coefficient of degree j, and f the
    number of coordinates of the window that vary. Infinite if a degree that p has is missing in the kernel.

    Raises:
        ValueError: If `error` is not positive.
    """
    check_positive(error=error)
    squared_norm = 0.0
    for chosen, coefficient in zip(polynomial.sets, polynomial.coefficients, strict=True):
        degree = len(chosen)
        if abs(coefficient) < 1e-12:
            continue
        weight = expansion.by_degree[degree] if degree < len(expansion.by_degree) else 0.0
        if weight < np.finfo(float).eps * expansion.total:
            return math.inf
        squared_norm += coefficient**2 * fan_in**degree / (weight * math.factorial(degree))
    return squared_norm * expansion.total / error**2


def sample_scaling(polynomial: Polynomial, expansion: KernelExpansion, fan_in: int, error: float) -> float:
    """Pairs after which the best of the functions of p's norm generalises to `error`, in order.

    The paper: a number of examples polynomial in the constants. Ours: the Rademacher complexity of a ball of radius N
    is at most N·√(k(1)/m) (Bartlett and Mendelson, JMLR 2002), so m = N²·k(1)/error², the same number as of features.

    Raises:
        ValueError: If `error` is not positive.
    """
    return width_scaling(polynomial, expansion, fan_in, error)
