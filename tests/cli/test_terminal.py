"""What a person sees: blocks, a table, warnings and errors of a line each, and nothing else."""

from pathlib import Path

import pytest
from processes import RUN, run

from hierlit.cli import main


def test_a_run_shows_its_blocks_and_a_table_and_no_notice(tmp_path: Path) -> None:
    printed = run(tmp_path, *RUN, "--layerwise.max_epochs_per_block", "10", apart=True).splitlines()
    assert printed[0].startswith("warning: block 1 stopped at max epochs: its gradient norm ")
    assert printed[1].startswith("block 1/3: epoch 10, ")
    assert [line.split(":")[0] for line in printed[2:6]] == ["warning", "block 2/3", "warning", "block 3/3"]
    assert "val rows after 3 of 3 blocks" in printed[6]
    assert not [line for line in printed if ".py" in line]


@pytest.mark.parametrize("command", ["fit", "plan"])
def test_an_error_is_a_line_below_a_line_of_usage_and_a_hint(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, *RUN[1:], "--model.n_blocks", "x"])
    assert end.value.code == 2
    usage, hint, error = capsys.readouterr().err.splitlines()
    assert usage.startswith("usage: ") and len(usage) < 100
    assert f"{command} --help" in hint
    assert error == "error: model.n_blocks must be int, got x"
