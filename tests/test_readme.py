"""The README's Python runs as it stands."""

import re
from pathlib import Path

import numpy as np
import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_python_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    inputs = np.random.default_rng(0).choice([-1.0, 1.0], size=(400, 6))
    names: dict[str, object] = {"X": inputs, "Y": inputs[:, :3] * inputs[:, 3:]}
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) == 2
    for block in blocks:
        exec(block, names)
    assert (tmp_path / "lightning_logs" / "version_0" / "blocks.csv").exists()
    assert (names["signs"] == names["Y"]).mean() > 0.99  # type: ignore[attr-defined]
