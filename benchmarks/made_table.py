"""A made table of any number of rows, whose labels have a hierarchy.

40 inputs and 42 labels in three levels: 24 of a few inputs, 12 of three labels of the first level, 6 of three of the
second; 2% of them are wrong.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

N_INPUTS, SIZES, WRONG = 40, (24, 12, 6), 0.02
Bools = NDArray[np.bool_]


def make(n_rows: int, seed: int) -> pd.DataFrame:
    """Returns rows with columns x0, … and label_0, …."""
    draw = np.random.default_rng(seed)
    inputs = draw.normal(size=(n_rows, N_INPUTS)).astype(np.float32)
    weights = draw.normal(size=(N_INPUTS, SIZES[0])) * (draw.random((N_INPUTS, SIZES[0])) < 0.15)
    products = inputs[:, : SIZES[0]] * inputs[:, N_INPUTS - SIZES[0] :]
    levels = [np.tanh(inputs @ weights) + 0.3 * products > 0]
    for size in SIZES[1:]:
        levels.append(np.stack([mixed(levels[-1], draw) for _ in range(size)], 1))
    labels = np.concatenate(levels, 1)
    labels ^= draw.random(labels.shape) < WRONG
    columns = {f"x{number}": inputs[:, number].round(4) for number in range(N_INPUTS)}
    return pd.DataFrame(columns | {f"label_{number}": column for number, column in enumerate(labels.T.astype(int))})


def mixed(labels: Bools, draw: np.random.Generator) -> Bools:
    """A label of three others: (a xor b) or (a and c)."""
    a, b, c = labels[:, draw.choice(labels.shape[1], 3, replace=False)].T
    return np.asarray((a ^ b) | (c & a))
