"""What float32 leaves of inputs."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

STEPS = 1000
"""Values that float32 must tell apart between the least and the largest of a column."""


def warn_of_rounding(table: Any) -> None:
    """Name columns of a dense table [N, d], of anything that NumPy makes numbers of, that vary by few steps of float32.

    Seconds since 1970, for example, of rows of a day: float32 counts them by 128.
    """
    values = np.asarray(table, np.float64)
    least, largest = values.min(0), values.max(0)
    steps = (largest - least) / (np.maximum(np.abs(least), np.abs(largest)) + 1e-300) / np.finfo(np.float32).eps
    names = np.asarray(getattr(table, "columns", np.arange(len(steps))))[(steps > 0) & (steps < STEPS)]
    if len(names):
        shown = ", ".join(map(str, names[:10])) + (f" and {len(names) - 10:,} more" if len(names) > 10 else "")
        what = f"{len(names)} of {len(steps)} columns of X vary too little for float32"
        warnings.warn(f"{what}: subtract their means, as StandardScaler does: {shown}", stacklevel=4)
