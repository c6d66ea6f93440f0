"""The time that the bar says is left."""

from types import SimpleNamespace
from typing import Any

import pytest

from hierlit.layerwise import JointTraining
from hierlit.watching import progress
from hierlit.watching.progress import TimeLeft, outcome


@pytest.mark.parametrize(
    ("joint", "said"),
    [
        (True, ["", ", about 0:08 left", ", about 0:07 left"]),
        (False, [", about 15:00 left", ", about 6:44 left"]),
        (False, [", about 3:00:00 left", ", about 1:20:04 left"]),
    ],
    ids=["joint", "layerwise", "slow"],
)
def test_joint_epochs_are_not_expected_of_every_block(
    joint: bool, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    task: Any = SimpleNamespace(
        block=0, net=SimpleNamespace(blocks=range(10)), joint=JointTraining() if joint else None
    )
    time_left, left = TimeLeft(task), []
    for seconds in ((1200, 1) if "3:00:00" in said[0] else (100, 1, 1))[: len(said)]:
        clock.now += seconds
        task.block += 1
        left.append(time_left.after(task))
    assert left == said


@pytest.mark.parametrize(
    ("accepted", "said"), [(0, ", left out: no gain"), (2, ", no gain: each label is at its mean")]
)
def test_a_first_block_without_gain_is_not_left_out(accepted: int, said: str) -> None:
    report: Any = SimpleNamespace(stop_reason="no gain", accepted=accepted, accepted_labels=[accepted > 0] * 2)
    assert outcome(report) == said
