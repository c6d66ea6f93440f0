"""The classifier with adaptive draws."""

import numpy as np
import pytest

from hierlit.estimator import HierarchicalClassifier
from hierlit.layerwise import AdaptiveDraw


def test_by_default_draws_are_the_papers() -> None:
    assert HierarchicalClassifier().adaptation is None


def test_the_classifier_fits_with_it() -> None:
    x = np.random.default_rng(0).choice([-1.0, 1.0], (1200, 12))
    y = np.stack([x[:, 0] * x[:, 1], x[:, 2] * x[:, 3]], 1)
    scores = []
    for adaptation in (None, AdaptiveDraw(threshold=0.3)):
        small = {"n_blocks": 1, "n_features": 64, "solver": "exact"}
        classifier = HierarchicalClassifier(**small, adaptation=adaptation, accelerator="cpu")
        scores.append(classifier.fit(x[:1000], y[:1000]).score(x[1000:], y[1000:]))
    assert scores[0] < 0.95
    assert scores[1] == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"adaptation": 2}, "adaptation must be a AdaptiveDraw or None, got 2"),
        (
            {"adaptation": AdaptiveDraw(), "acceptance": "none", "acceptance_fraction": 0},
            "acceptance_fraction must be positive for an adaptation, got 0",
        ),
    ],
)
def test_the_classifier_names_what_does_not_go_with_it(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError) as error:
        HierarchicalClassifier(**arguments).fit(np.eye(4), 2 * np.eye(4) - 1)
    assert str(error.value) == message
