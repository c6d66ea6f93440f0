"""The experiment on sentences, through the command line, on few that are made up."""

import itertools
from pathlib import Path

import pandas as pd
import pytest
import yaml

from hierlit.cli import main
from hierlit.experiments.text import CONTROLS

COLUMNS = ["char", "word:begin", "word:short", "upos=NOUN", "upos=VERB", "deprel:main=nsubj", "deprel:main=obj"]
QUICK = ("none", "lower kinds withheld", "last kind alone", "shuffled labels")
NOUNS, VERBS = ("dogs", "cats", "birds", "sheep"), ("see", "like", "follow")


def sentence(subject: str, verb: str, other: str) -> str:
    words = [(1, subject, "NOUN", 2, "nsubj"), (2, verb, "VERB", 0, "root"), (3, other, "NOUN", 2, "obj")]
    lines = [f"{n}\t{word}\t{word}\t{part}\t_\t_\t{head}\t{role}\t_\t_" for n, word, part, head, role in words]
    return "\n".join([f"# text = {subject} {verb} {other}", *lines])


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    sentences = [sentence(*words) for words in itertools.product(NOUNS, VERBS, NOUNS)]
    Path("all.conllu").write_text("\n\n".join(sentences) + "\n\n")
    config = yaml.safe_load((Path(__file__).parents[2] / "configs" / "text.yaml").read_text())
    config["data"]["init_args"]["label_columns"] = COLUMNS
    config["model"] |= {"n_features": 30, "n_blocks": 2}
    Path("text.yaml").write_text(yaml.safe_dump(config))
    Path("experiment.yaml").write_text(yaml.safe_dump({"configs": {"few": "text.yaml"}, "seeds": 1}))
    return ["experiment", "text", "--config", "experiment.yaml", "--joint_epochs", "1", "--workers", "2"]


@pytest.mark.usefixtures("forked_workers")
@pytest.mark.parametrize("controls", [QUICK, pytest.param(CONTROLS, marks=pytest.mark.slow)], ids=["some", "all"])
def test_every_control_has_the_precision_of_each_kind_that_it_is_supervised_with(
    controls: tuple[str, ...], command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main([*command, "--train_files", "[all.conllu]", "--controls", f"[{','.join(controls)}]"])
    folder = Path("lightning_logs/text/version_0")
    table = pd.read_csv(folder / "results.csv", keep_default_na=False, na_values=[""])
    assert sorted(table["control"]) == sorted(controls)
    kinds = table.set_index(["control", "seed"])[["character", "word", "upos", "deprel"]]
    assert kinds.loc["none"].min().min() > 0.5
    assert kinds.loc["lower kinds withheld"].isna().all().tolist() == [True, True, False, False]
    assert kinds.loc["last kind alone"].isna().all().tolist() == [True, True, True, False]
    assert (kinds.loc["shuffled labels", "deprel"] < kinds.loc["none", "deprel"]).all()
    assert (folder / "text.png").read_bytes().startswith(b"\x89PNG")
    assert "Average precision of upos" in capsys.readouterr().out
    commands = (folder / "report.html").read_text()
    assert "--data.test_fraction=0.2" in commands


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ([], "train_files must name files of sentences, got none"),
        (["--train_files", "[all.conllu]", "--controls", "[nothing]"], "controls must be of none, own labels alone"),
    ],
)
def test_wrong_arguments_are_one_line(
    wrong: list[str], line: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, *wrong])
    assert ended.value.code == 2 and line in capsys.readouterr().err
