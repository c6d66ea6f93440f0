"""What a run says in its last line."""

import math

import pytest
import torch

from hierlit.data import ArrayHierarchy, Supervision
from hierlit.watching.levels import columns, level_rows, margin_growth, margin_line, rows_to_print

N_ROWS, LEVELS = 40, [1, 2, 2]


def arrays(hidden: float = 0.0) -> ArrayHierarchy:
    inputs = torch.randn(N_ROWS, 3, 2, generator=torch.Generator().manual_seed(0))
    labels = inputs[..., [0, 1, 0]].sign()
    seen = torch.rand(labels.shape, generator=torch.Generator().manual_seed(1)) >= hidden
    return ArrayHierarchy(inputs, labels * seen, val=(inputs, labels), levels=LEVELS)


def rows(*blocks: tuple[float, float], noise: bool = False) -> list[dict[str, torch.Tensor]]:
    """Each block's rows of levels 1 and 2 by their mean margins, 0 being not learned; and level 0's, never learned."""
    of_margins = [
        [
            {
                "level": level,
                "accuracy": 1.0 if margin else 0.5,
                "mean_margin": margin,
                "margin_error": float(margin < 0.9),
            }
            for level, margin in enumerate(block, start=1)
        ]
        for block in blocks
    ]
    coin = {"level": 0, "accuracy": 0.5, "mean_margin": 0.0, "margin_error": 0.0}
    return [columns([coin, *block] if noise else block) for block in of_margins]


RUN = rows((0.5, 0.0), (0.9, 0.5), (0.99, 0.95))


@pytest.mark.parametrize("noise", [False, True])
def test_the_growth_is_that_of_the_slowest_level_and_level_0_is_none(noise: bool) -> None:
    run = rows((0.5, 0.0), (0.9, 0.5), (0.99, 0.95), noise=noise)
    assert margin_growth(run, 0.99) == pytest.approx(math.log(0.5 / 0.1))
    assert margin_growth(run[:2], 0.99) is None


@pytest.mark.parametrize(("hidden", "which"), [(0.0, "each label"), (0.5, "each observed label")])
def test_labels_that_are_hidden_are_not_claimed(hidden: float, which: str) -> None:
    data = Supervision(arrays(hidden))
    data.setup()
    line = margin_line(RUN, data, 0.2, 0.99)
    assert line.startswith(f"zero empirical margin error: y·ŷ ≥ 1 − ξ/2 for {which} at all 120 training pairs; D = 4 ")
    least = 2 * (math.ceil(math.log(8 * 120 / 0.2) / math.log(5)) + 1)
    assert line.endswith(f"is below the paper's bound, D ≥ {least} at this run's γ = 1.6")


def test_a_pair_without_its_margin_silences_it() -> None:
    data = arrays()
    data.setup()
    assert margin_line(rows((0.5, 0.0), (0.9, 0.5)), data, 0.2, 0.99) == ""


def test_many_levels_in_line_that_are_alike_share_a_row() -> None:
    levels = [level for level in range(1, 61) for _ in range(2)]
    accuracy = torch.ones(120)
    accuracy[[59, 100, 101]], accuracy[102:] = 0.9, 0.5
    metrics = {name: accuracy for name in ("accuracy", "min_margin", "mean_margin", "margin_error")}
    rows = rows_to_print(metrics, levels, 0.99)
    assert [row["level"] for row in rows] == ["1–29", 30, "31–50", "51–60"]
    assert [(row["n_labels"], row["learned"]) for row in rows] == [(58, 58), (2, 1), (40, 40), (20, 0)]
    assert [row["accuracy"] for row in rows] == pytest.approx([1.0, 0.95, 1.0, (0.9 * 2 + 0.5 * 18) / 20])
    noise = rows_to_print(metrics, [max(0, level - 51) for level in levels], 0.99)
    assert noise == level_rows(metrics, [max(0, level - 51) for level in levels], 0.99), "ten levels"
    shifted = rows_to_print(metrics, [60 - level for level in levels], 0.99)
    assert [row["level"] for row in shifted][:2] == [0, "1–9"], "level 0 is of no use to others"
    few = {name: values[:80] for name, values in metrics.items()}
    assert rows_to_print(few, levels[:80], 0.99) == level_rows(few, levels[:80], 0.99)
    assert rows_to_print(metrics, None, 0.99) == level_rows(metrics, None, 0.99)
