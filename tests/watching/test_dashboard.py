"""What TensorBoard gets to show, read back with its own reader; and runs whose loggers are others."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from hierlit.cli import main
from hierlit.watching.dashboard import is_drawn

CONF = Path(__file__).parents[1] / "conf"


def fit(config: str, *args: str) -> Path:
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    cli = main(["fit", "--config", str(CONF / f"{config}.yaml"), *quiet, *args])
    assert cli is not None
    return Path(cli.trainer.log_dir or ".")


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_tensorboard_has_layout_card_figures_and_hparams() -> None:
    before = plt.get_fignums()
    found = events(fit("exact"))
    tags = found.Tags()
    assert sorted(tags["images"]) == ["staircase/labels", "staircase/levels", "staircase/margins"]
    for tag in tags["images"]:
        assert [image.step for image in found.Images(tag)] == [1, 2]
    assert plt.get_fignums() == before

    layout = layout_pb2.Layout()
    layout.ParseFromString(found.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    assert [category.title for category in layout.category] == ["levels", "blocks"]
    for category in layout.category:
        for chart in category.chart:
            for pattern in chart.multiline.tag:
                assert any(re.match(pattern, tag) for tag in tags["scalars"]), pattern

    text = found.Tensors("run/text_summary")[0].tensor_proto.string_val[0].decode()
    for part in ("CellularAutomaton", "| 2 | 1 |", "rule: 30", "ExactSolver"):
        assert part in text

    metadata = found.summary_metadata
    kinds = {tag: metadata[tag].plugin_data.content for tag in metadata if "hparams" in tag}
    start = plugin_data_pb2.HParamsPluginData.FromString(kinds["_hparams_/session_start_info"])
    arguments = start.session_start_info.hparams
    assert arguments["model.n_blocks"].number_value == 2
    assert arguments["data.rule"].number_value == 30
    assert arguments["data"].string_value.endswith("CellularAutomaton")
    assert not [name for name in arguments if name.startswith("checkpoint")]
    experiment = plugin_data_pb2.HParamsPluginData.FromString(kinds["_hparams_/experiment"]).experiment
    metrics = {info.name.tag for info in experiment.metric_infos}
    assert {"final/levels_learned", "final/least_accuracy"} <= metrics
    for name in metrics:
        assert [point.step for point in found.Scalars(name)] == [2]


def test_without_val_rows_there_are_no_margins_to_draw() -> None:
    found = events(fit("exact", "--trainer.limit_val_batches=0"))
    assert "staircase/margins" not in found.Tags()["images"]
    assert "staircase/levels" in found.Tags()["images"]


def test_other_loggers_and_none() -> None:
    csv = fit("exact", "--trainer.logger=CSVLogger", "--trainer.logger.save_dir=.")
    assert "accuracy/level_02" in (csv / "metrics.csv").read_text().splitlines()[0]
    assert (csv / "levels.csv").exists()
    both = (
        "[{class_path: CSVLogger, init_args: {save_dir: a}}, {class_path: TensorBoardLogger, init_args: {save_dir: b}}]"
    )
    fit("exact", f"--trainer.logger={both}")
    assert len(list(Path("a").rglob("metrics.csv"))) == 1
    assert "staircase/levels" in events(next(Path("b").rglob("events*")).parent).Tags()["images"]
    fit("exact", "--trainer.logger=false")


def test_figures_of_deep_runs_are_fewer_and_the_last_block_has_its_own() -> None:
    assert [block for block in range(1, 33) if is_drawn(block)] == [*range(1, 9), 16, 24, 32]
    found = events(fit("exact", "--model.n_blocks=10", "--layerwise.acceptance=none", "--data.n_train=40"))
    assert [image.step for image in found.Images("staircase/levels")] == [*range(1, 9), 10]
