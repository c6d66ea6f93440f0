import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from hierlit.layerwise.solvers.left_out import LeftOut, factorise, held_out

PENALTY = 3.0


def table(n_rows: int = 30, n_features: int = 50) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(n_rows, n_features, generator=generator, dtype=torch.float64) + 1
    residual = torch.randn(n_rows, 3, generator=generator, dtype=torch.float64)
    return features, residual, torch.arange(n_rows) % 4


@pytest.mark.parametrize("n_features", [7, 50])
@pytest.mark.parametrize("without", [None, 0, 2])
def test_left_out_is_what_fits_to_the_other_folds_predict(n_features: int, without: int | None) -> None:
    features, residual, folds = table(n_features=n_features)
    found = LeftOut(features @ features.T, PENALTY)(residual, folds, without)
    for fold in range(4):
        kept = ((folds != fold) & (folds != (fold if without is None else without))).numpy()
        fit = Ridge(alpha=PENALTY, fit_intercept=False).fit(features.numpy()[kept], residual.numpy()[kept])
        rows = (folds == fold).numpy()
        np.testing.assert_allclose(found[rows].numpy(), fit.predict(features.numpy()[rows]), rtol=1e-8, atol=1e-10)


def test_held_out_is_what_a_fit_to_the_other_rows_predicts() -> None:
    features, residual, folds = table()
    held, gram = folds == 1, features @ features.T
    kept = (~held).numpy()
    fit = Ridge(alpha=PENALTY, fit_intercept=False).fit(features.numpy()[kept], residual.numpy()[kept])
    expected = fit.predict(features.numpy()[held.numpy()])
    np.testing.assert_allclose(held_out(gram, residual, held, PENALTY).numpy(), expected, rtol=1e-8, atol=1e-10)


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
        LeftOut(torch.full((3, 3), torch.nan), 1.0)
