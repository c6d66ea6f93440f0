"""What TensorBoard gets to show, read back with its own reader; and runs whose loggers are others."""

import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import lightning as L
import matplotlib.pyplot as plt
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from hierlit.cli import main
from hierlit.data import ArrayHierarchy
from hierlit.layerwise import ExactSolver
from hierlit.training import LayerwiseTask, LayerwiseTraining
from hierlit.watching import Staircase

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
    before, folder = plt.get_fignums(), fit("exact")
    found = events(folder)
    tags = found.Tags()
    assert sorted(tags["images"]) == ["staircase/labels", "staircase/levels", "staircase/margins"]
    for tag in tags["images"]:
        assert found.Images(tag)[-1].step == 2
    assert plt.get_fignums() == before
    shown = plt.imread(BytesIO(found.Images("staircase/levels")[-1].encoded_image_string))
    np.testing.assert_allclose(shown, plt.imread(folder / "staircase.png"), atol=1 / 255)

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


@pytest.mark.parametrize(("share", "steps"), [(1.0, [1, 2, 3]), (1e-9, [3])])
def test_figures_are_drawn_as_often_as_their_share_of_the_time_allows_and_at_the_end(
    share: float, steps: list[int], xors: Callable[..., ArrayHierarchy], tmp_path: Path
) -> None:
    task = LayerwiseTask(6, 3, n_blocks=3, n_features=20, solver=ExactSolver())
    callbacks = [LayerwiseTraining(acceptance="none"), Staircase(share)]
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = L.Trainer(max_epochs=-1, accelerator="cpu", default_root_dir=tmp_path, callbacks=callbacks, **quiet)
    trainer.fit(task, datamodule=xors())
    found = events(Path(trainer.log_dir))
    for tag in ("levels", "labels", "margins"):
        assert [image.step for image in found.Images(f"staircase/{tag}")] == steps
    assert [point.step for point in found.Scalars("block/seconds")] == [1, 2, 3]


def test_a_share_out_of_range_is_refused() -> None:
    for share in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"share must be in \(0, 1\], got"):
            Staircase(share)
