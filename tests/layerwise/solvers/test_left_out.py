import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from hierlit.layerwise.solvers.left_out import LeftOut, factorise

PENALTY, SIZES = 3.0, [7, 9, 8, 6]


def table(n_features: int = 50) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(sum(SIZES), n_features, generator=generator, dtype=torch.float64) + 1
    return features, torch.randn(sum(SIZES), 3, generator=generator, dtype=torch.float64)


def ridge(features: torch.Tensor, residual: torch.Tensor) -> Ridge:
    return Ridge(alpha=PENALTY, fit_intercept=False).fit(features.numpy(), residual.numpy())


@pytest.mark.parametrize("n_features", [7, 50])
def test_a_fold_is_predicted_by_a_fit_to_the_others(n_features: int) -> None:
    features, residual = table(n_features)
    found = LeftOut(features @ features.T, PENALTY, residual).by_fold(SIZES)
    folds = torch.arange(4).repeat_interleave(torch.tensor(SIZES))
    for fold in range(4):
        kept = folds != fold
        expected = ridge(features[kept], residual[kept]).predict(features[~kept].numpy())
        np.testing.assert_allclose(found[~kept].numpy(), expected, rtol=1e-8, atol=1e-10)


def test_other_rows_are_predicted_by_the_fit() -> None:
    features, residual = table()
    fitted, others = features[9:], features[:9]
    found = LeftOut(fitted @ fitted.T, PENALTY, residual[9:]).others(others @ fitted.T)
    expected = ridge(fitted, residual[9:]).predict(others.numpy())
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-8, atol=1e-10)


def test_a_gram_matrix_that_rounding_leaves_indefinite_gets_more() -> None:
    gram = torch.full((200, 200), 1e6)
    gram += torch.randn(200, 200, generator=torch.Generator().manual_seed(0)).abs()
    gram = (gram + gram.T) / 2
    assert torch.linalg.cholesky_ex(gram)[1] > 0
    factor = factorise(gram, 1e-6)
    added = (factor @ factor.T - gram).diagonal().mean()
    assert float(added) > 1e-5
    assert factor.isfinite().all()


def test_features_that_are_not_finite() -> None:
    with pytest.raises(FloatingPointError, match="the features are not finite"):
        LeftOut(torch.full((3, 3), torch.nan), 1.0, torch.ones(3, 1))
