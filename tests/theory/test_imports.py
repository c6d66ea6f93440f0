"""What is imported when: theory and algorithm without Lightning, each public name when it is asked for."""

import subprocess
import sys

import pytest

import hierlit

WITHOUT_LIGHTNING = """
import sys
sys.modules["lightning"] = None
import hierlit.layerwise
from hierlit import AdaptiveDraw, ExactSolver, SquaredLoss, Window2d
from hierlit.theory import alpha, depth_bound, kernel, least_norm_ptf, random_majorities
print(depth_bound(4, 25_600, 0.5, 1.0), alpha(16, 3), kernel("erf", 0.0, 0.0))
print(round(least_norm_ptf([-1, 1, 1, -1], 2).norm, 9))
try:
    from hierlit import LayerwiseTask
except ImportError:
    print("LayerwiseTask needs it")
"""


def test_the_theory_and_the_algorithm_need_no_lightning() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_LIGHTNING], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "56 0.09375 0.0\n1.0\nLayerwiseTask needs it\n"


def test_every_public_name_is_there() -> None:
    assert set(hierlit.__all__) <= set(dir(hierlit))
    for name in hierlit.__all__:
        assert getattr(hierlit, name).__name__ == name


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="module 'hierlit' has no attribute 'Nothing'"):
        hierlit.Nothing  # noqa: B018
