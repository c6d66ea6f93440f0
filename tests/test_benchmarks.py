"""The benchmark of many methods on tables: what its rows say is what a method by itself reaches."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.rules import different
from benchmarks.tables import run


def measured(**task: object) -> dict[str, object]:
    fixed = {"is_searched": False, "seed": 0, "limit": 60, "labels": ["y*"], "changes": []}
    command = [sys.executable, "-m", "benchmarks.peers", json.dumps(fixed | task)]
    root = Path(__file__).parents[1]
    return json.loads(subprocess.run(command, capture_output=True, text=True, cwd=root).stdout.splitlines()[-1])


@pytest.mark.slow
def test_missing_labels_are_left_out_of_fits_and_of_scores(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(160, 4)).astype(np.float32)
    y = np.where(draw.random((160, 2)) < 0.2, np.nan, x[:, :2] + 0.5 * draw.normal(size=(160, 2)) > 0)
    y[:, 1] *= draw.random(160) < 0.3
    table = pd.DataFrame(np.hstack([x, y]), columns=[*"abcd", "y0", "y1"])
    paths = [str(tmp_path / name) for name in ("train.parquet", "test.parquet")]
    table[:100].to_parquet(paths[0], index=False)
    table[100:].to_parquet(paths[1], index=False)
    files = {"train": paths[:1], "test": paths[1:]}
    found = measured(method="extra trees", **files)

    scaled = ((x - x[:100].mean(0)) / x[:100].std(0)).astype(np.float32)
    scores, signs = [], []
    for labels in y.T:
        seen = ~np.isnan(labels)
        model = ExtraTreesClassifier(random_state=0).fit(scaled[:100][seen[:100]], labels[:100][seen[:100]])
        scores.append(model.predict_proba(scaled[100:][seen[100:]])[:, 1])
        signs.append(labels[100:][seen[100:]])
    expected = average_precision_score(np.concatenate(signs), np.concatenate(scores))
    assert abs(found["average_precision"] - expected) < 0.02
    assert abs(found["roc_auc"] - np.mean(list(map(roc_auc_score, signs, scores)))) < 0.02
    assert found["note"] == "one model a label, on its observed rows, 2 of 2"
    whole = measured(method="HierarchicalClassifier", **files)
    assert whole["average_precision"] > expected and not whole["note"]
    refused = measured(method="xgboost multi-output trees", **files)
    assert refused == {"why": "ValueError: it takes no missing labels"}


def test_a_method_stopped_by_the_limit_says_so(tmp_path: Path) -> None:
    (row,) = run(tmp_path, sets=["made_50"], methods=["ridge"], limit_seconds=0.1)
    assert np.isnan(row.value) and row.note == "did not run: not within 0.1 s"
    assert "not within" in (tmp_path / "tables.csv").read_text()


def test_rules_that_are_one_another_s_mirror_image_or_inverse_have_one_number() -> None:
    rules = different()
    assert len(rules) == 88
    assert {0, 30, 45, 54, 110} <= {*rules} and not {255, 86, 75, 147, 137, 124, 193} & {*rules}
