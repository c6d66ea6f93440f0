import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics import MetricCollection

from hierlit.metrics import (
    LabelAccuracy,
    LabelMetric,
    MarginError,
    MeanMargin,
    SmallestMargin,
    by_level,
)

N = 4
METRICS: dict[str, Any] = {
    "accuracy": lambda: LabelAccuracy(N),
    "smallest": lambda: SmallestMargin(N),
    "mean": lambda: MeanMargin(N),
    "error": lambda: MarginError(N, robustness=0.5),
}
every_metric = pytest.mark.parametrize("name", METRICS)


def draw(seed: int, rows: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores and labels [rows, 3, N]; the last label is never observed."""
    generator = np.random.default_rng(seed)
    labels = generator.choice([-1, 0, 1], size=(rows, 3, N))
    labels[..., -1] = 0
    return torch.tensor(generator.normal(size=(rows, 3, N)), dtype=torch.float32), torch.tensor(labels)


def expected(name: str, scores: torch.Tensor, labels: torch.Tensor) -> Any:
    margins, observed = (scores * labels).reshape(-1, N).numpy(), (labels != 0).reshape(-1, N).numpy()
    compute = {
        "accuracy": lambda z: (z > 0).mean(),
        "smallest": lambda z: z.min(),
        "mean": lambda z: z.astype(float).mean(),
        "error": lambda z: (z < 0.75).mean(),
    }
    columns = [margins[observed[:, j], j] for j in range(N)]
    return [compute[name](column) if len(column) else math.nan for column in columns]


def assert_equal(metric: Any, value: Any) -> None:
    np.testing.assert_allclose(metric.compute().numpy(), value, rtol=1e-6)


@every_metric
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 12), cut=st.integers(0, 12))
def test_batches_and_ranks_add_up_to_numpy(name: str, seed: int, rows: int, cut: int) -> None:
    scores, labels = draw(seed, rows)
    whole, batches, rank, other = (METRICS[name]() for _ in range(4))
    whole.update(scores, labels)
    for part in (slice(None, cut), slice(cut, None)):
        batches.update(scores[part], labels[part])
    rank.update(scores[:cut], labels[:cut])
    other.update(scores[cut:], labels[cut:])
    rank.merge_state(other)
    for metric in (whole, batches, rank):
        assert_equal(metric, expected(name, scores, labels))


@every_metric
def test_reset_and_second_epoch(name: str) -> None:
    metric = METRICS[name]()
    metric.update(*draw(0))
    metric.reset()
    metric.update(*draw(1))
    assert_equal(metric, expected(name, *draw(1)))


@every_metric
def test_unobserved_scores_do_not_count(name: str) -> None:
    scores, labels = draw(0)
    metric = METRICS[name]()
    metric.update(torch.where(labels == 0, -100.0, scores), labels)
    assert_equal(metric, expected(name, scores, labels))


@every_metric
def test_nothing_observed_is_nan(name: str) -> None:
    metric = METRICS[name]()
    metric.update(torch.ones(3, N), torch.zeros(3, N))
    assert metric.compute().isnan().all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metric.update(torch.ones(0, N), torch.zeros(0, N))


def test_collection_shares_states_and_nothing_wrongly() -> None:
    """A first batch on which every count agrees must not make unlike metrics share their counts."""
    collection = MetricCollection({name: build() for name, build in METRICS.items()} | {"strict": MarginError(N, 0.1)})
    zeros = torch.zeros(2, N)
    batches = [(zeros, torch.ones(2, N)), *(draw(seed) for seed in range(3))]
    for scores, labels in batches:
        collection.update(scores.reshape(-1, N), labels.reshape(-1, N))
    groups = sorted(sorted(group) for group in collection.compute_groups.values())
    assert groups == [["accuracy"], ["error"], ["mean"], ["smallest"], ["strict"]]
    scores, labels = (torch.cat([batch[i].reshape(-1, N) for batch in batches]) for i in (0, 1))
    values = collection.compute()
    for name in METRICS:
        np.testing.assert_allclose(values[name].numpy(), expected(name, scores, labels), rtol=1e-6)
    assert (values["strict"] >= values["error"]).all()


def test_forward_gives_the_batch_and_keeps_the_total() -> None:
    metric = LabelAccuracy(N)
    np.testing.assert_allclose(metric(*draw(0)).numpy(), expected("accuracy", *draw(0)))
    np.testing.assert_allclose(metric(*draw(1)).numpy(), expected("accuracy", *draw(1)))
    both = [torch.cat(parts) for parts in zip(draw(0), draw(1), strict=True)]
    assert_equal(metric, expected("accuracy", both[0], both[1]))


def test_diverged_scores_are_errors() -> None:
    scores, labels = torch.full((2, 1), math.nan), torch.ones(2, 1)
    for metric, value in ((LabelAccuracy(1), 0.0), (MarginError(1), 1.0)):
        metric.update(scores, labels)
        assert metric.compute().item() == value
    smallest, mean = SmallestMargin(1), MeanMargin(1)
    for other in (smallest, mean):
        other.update(scores, labels)
        assert other.compute().isnan()


@pytest.mark.filterwarnings("ignore:.*called before the ``update``.*")
def test_counts_stay_exact_beyond_float32() -> None:
    metric = LabelAccuracy(1)
    metric.observed += 10**9
    metric.correct += 10**9 - 1
    assert metric.compute().item() == (10**9 - 1) / 10**9


def test_margin_error_is_strict_at_the_margin() -> None:
    metric = MarginError(3, robustness=1.0)
    metric.update(torch.tensor([[0.5, 0.49, -0.5]]), torch.tensor([[1, 1, -1]]))
    assert metric.compute().tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LabelAccuracy(0), "n_labels must be a positive integer, got 0"),
        (lambda: MarginError(1, robustness=0), r"robustness must be in \(0, 1\], got 0"),
        (lambda: LabelAccuracy(2).update(torch.ones(3, 2), torch.ones(3, 1)), "scores and labels must both have .*"),
        (lambda: LabelAccuracy(2).update(torch.ones(2, 3), torch.ones(2, 3)), "scores and labels must both have .*"),
        (lambda: by_level(torch.ones(2), [1], "mean"), "levels must have one entry for each of 2 labels, got 1"),
        (lambda: by_level(torch.ones(2), None, "max"), "reduce must be one of mean, min, got 'max'"),  # type: ignore
    ],
)
def test_bad_arguments(build: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        build()  # type: ignore[operator]


def test_by_level() -> None:
    values = torch.tensor([0.5, math.nan, 1.0, 0.25, math.nan])
    levels = [2, 1, 1, 2, 3]
    assert by_level(values, levels, "mean") == pytest.approx({1: 1.0, 2: 0.375, 3: math.nan}, nan_ok=True)
    assert by_level(values, levels, "min") == pytest.approx({1: 1.0, 2: 0.25, 3: math.nan}, nan_ok=True)
    assert list(by_level(values, levels, "mean")) == [1, 2, 3]
    assert by_level(values, None, "min") == {1: 0.25}
    assert math.isnan(by_level(torch.full((2,), math.nan), None, "mean")[1])


def test_all_are_label_metrics() -> None:
    assert all(isinstance(build(), LabelMetric) for build in METRICS.values())
