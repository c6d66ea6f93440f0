import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from hierlit.metrics import AveragePrecision, average_precision


@pytest.mark.parametrize("digits", [0, 1, 6])
def test_agrees_with_scikit_learn_ties_included(digits: int) -> None:
    draw = np.random.default_rng(0)
    scores, labels = draw.normal(size=(80, 2, 5)).round(digits), draw.choice([-1, 0, 1], (80, 2, 5))
    seen = labels != 0
    expected = average_precision_score(labels[seen] == 1, scores[seen])
    assert average_precision(torch.tensor(scores), torch.tensor(labels)) == pytest.approx(expected, abs=1e-12)


def test_batches_add_up() -> None:
    draw = torch.Generator().manual_seed(0)
    scores, labels = torch.randn(30, 1, 4, generator=draw), torch.randn(30, 1, 4, generator=draw).sign()
    metric = AveragePrecision()
    for rows in torch.arange(30).split(7):
        metric.update(scores[rows], labels[rows])
    assert float(metric.compute()) == average_precision(scores, labels)


def test_each_label_has_its_own() -> None:
    draw = torch.Generator().manual_seed(0)
    scores, labels = torch.randn(30, 2, 4, generator=draw), torch.randint(-1, 2, (30, 2, 4), generator=draw)
    labels[..., 2], labels[..., 3] = 1, -1
    metric = AveragePrecision()
    for rows in torch.arange(30).split(7):
        metric.update(scores[rows], labels[rows])
    found = metric.of_labels()
    expected = [average_precision(scores[..., label], labels[..., label]) for label in range(2)]
    assert found[:2].tolist() == expected and found[2:].isnan().all(), "labels of one sign cannot be ranked"


@pytest.mark.parametrize("label", [0.0, -1.0])
def test_nothing_positive(label: float) -> None:
    assert math.isnan(average_precision(torch.randn(4), torch.full((4,), label)))
    assert math.isnan(float(AveragePrecision().compute()))
