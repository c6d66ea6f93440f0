from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hierlit import Supervision, TokenLabels
from hierlit.data.located.token_inputs import affixes

WHOLE = {"val_fraction": 0.0, "acceptance_fraction": 0.0, "min_count": 1}


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def line(number: str, form: str, upos: str = "X", deprel: str = "dep", feats: str = "_", misc: str = "_") -> str:
    return "\t".join([number, form, form.lower(), upos, "_", feats, "0", deprel, "_", misc]) + "\n"


DOGS = "# text = Old dogs sleep.\n" + "".join(
    [
        line("1", "Old", "ADJ", "amod", "Degree=Pos"),
        line("2", "dogs", "NOUN", "nsubj:pass", "Gender=Masc|Number=Plur"),
        line("3", "sleep", "VERB", "root", "Number=Plur", "SpaceAfter=No"),
        line("4", ".", "PUNCT", "punct"),
    ]
)
CATS = "".join([line("1", "Cats", "NOUN", "nsubj", "Number=Plur"), line("2", "ran", "_", "root")])


def write(text: str, name: str = "train.conllu") -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


def loaded(files: str | list[str], **arguments: object) -> TokenLabels:
    data = TokenLabels(files, **{**WHOLE, **arguments})
    data.setup()
    return data


def signs(data: TokenLabels, name: str, row: int = 0, split: str = "train") -> str:
    """A label's values along a row, as a text."""
    labels = data.tables[split][row].labels[0, :, data.label_names.index(name)]
    return "".join("-0+"[int(label) + 1] for label in labels)


def test_characters_have_the_labels_of_their_tokens() -> None:
    names = ["char", "word", "upos=NOUN", "upos=VERB", "deprel:main=nsubj", "feats:Number"]
    data = loaded(write(DOGS + "\n" + CATS), label_columns=names)
    assert "".join(data.location_texts("train", [0])[0]) == "Old dogs sleep."
    text = "Old dogs sleep."
    expected = {
        "char:vowel": [character in "Oaeio" for character in text],
        "char:letter": [character.isalpha() for character in text],
        "word:begin": [place in (0, 4, 9, 14) for place in range(15)],
        "word:end": [place in (2, 7, 13, 14) for place in range(15)],
        "word:short": [place < 3 or place == 14 for place in range(15)],
        "word:long": [False] * 15,
        "word:capitalised": [place < 3 for place in range(15)],
        "word:suffix": [4 <= place < 8 for place in range(15)],
        "upos=NOUN": [4 <= place < 8 for place in range(15)],
        "upos=VERB": [9 <= place < 14 for place in range(15)],
        "deprel:main=nsubj": [4 <= place < 8 for place in range(15)],
        "feats:Number=Plur": [4 <= place < 8 or 9 <= place < 14 for place in range(15)],
    }
    assert data.label_names == list(expected)
    for name, holds in expected.items():
        assert signs(data, name) == "".join("-+"[each] for each in holds), name
    assert data.label_kinds == ["character"] * 2 + ["word"] * 6 + ["upos"] * 2 + ["deprel", "feats"]
    assert signs(data, "upos=NOUN", 1) == "++++-000"  # between tokens there is none, and of "ran" none is observed
    assert data.class_labels == {}


def test_inputs_of_characters() -> None:
    data = loaded(write("# text = Aa b! 1é\n" + line("1", "Aa") + line("2", "b!") + line("3", "1é")), min_count=1)
    assert data.input_names == ["present", "!", "1", "a", "b", "é", "upper", "digit", "space", "punctuation"]
    batch = data.tables["train"][0]
    assert batch.inputs[0, :, 0].tolist() == [1] * 8
    channels = [data.input_names[1:][place] for place in batch.inputs[0, :, 1:].argmax(1).tolist()]
    assert channels == ["a", "a", "space", "b", "!", "space", "1", "é"]
    assert batch.inputs[0, :, -4:].tolist() == [
        [1, 0, 0, 0],
        [0, 0, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 0, 0],
        [0, 0, 0, 1],
        [0, 0, 1, 0],
        [0, 1, 0, 0],
        [0, 0, 0, 0],
    ]
    rare = loaded("train.conllu", min_count=2, label_columns="char")
    assert rare.input_names == ["present", "a", "upper", "digit", "space", "punctuation"]


def test_tokens_have_affixes_and_classes() -> None:
    data = loaded(write(DOGS), unit="token", label_columns=["upos", "deprel:main", "word:short"], n_hashes=32)
    assert (data.n_inputs, data.n_locations, data.grid) == (33, 4, (4,))
    assert data.location_texts("train", [0]) == [["Old", "dogs", "sleep", "."]]
    assert data.class_labels == {"upos": [0, 1, 2, 3], "deprel:main": [4, 5, 6, 7]}
    batch = data.tables["train"][0]
    assert (batch.labels[0, :, :4] == 1).sum(1).tolist() == [1, 1, 1, 1]
    assert (batch.labels[0, :, 8]).tolist() == [1, -1, -1, 1]
    assert batch.inputs[0, :, 0].tolist() == [1] * 4 and batch.inputs[0, 0, 1:].abs().sum() > 5
    assert affixes("Dogs") == [
        *["word dogs", "begins d", "begins do", "begins dog", "begins dogs"],
        *["ends s", "ends gs", "ends ogs", "ends dogs", "is capitalised"],
    ]
    chosen = loaded("train.conllu", unit="token", label_columns=["upos=NOUN"])
    assert chosen.class_labels == {}


@pytest.mark.parametrize("name", ["words.txt", "words.vec", "words.npz"])
def test_tokens_have_given_vectors(name: str) -> None:
    if name.endswith("npz"):
        np.savez(name, words=np.array(["old", "Old", "dogs"]), vectors=np.array([[1, 2], [3, 4], [5, 6]]))
    else:
        write(("3 2\n" if name.endswith("vec") else "") + "old 1 2\nOld 3 4\ndogs 5 6\n", name)
    data = loaded(write(DOGS), unit="token", inputs=name)
    assert data.tables["train"][0].inputs[0].tolist() == [[1, 1, 3, 4], [1, 1, 5, 6], [1, 0, 0, 0], [1, 0, 0, 0]]


def test_multiword_tokens_and_empty_nodes() -> None:
    dont = (
        line("1-2", "don't", "_", "_") + line("1", "do", "AUX") + line("2", "n't", "PART") + line("2.1", "go", "VERB")
    )
    data = loaded(write(dont + line("3", "du", "ADP")), unit="token")
    assert data.location_texts("train", [0]) == [["do", "n't", "du"]]
    du = (
        line("1-2", "du", misc="SpaceAfter=No")
        + line("1", "de", "ADP")
        + line("2", "le", "DET")
        + line("3", "pain", "NOUN")
    )
    data = loaded(write("# text = du pain\n" + du.replace("SpaceAfter=No", "_")), label_columns=["upos=NOUN", "word"])
    assert "".join(data.location_texts("train", [0])[0]) == "du pain"
    assert signs(data, "upos=NOUN") == "00-++++"
    assert signs(data, "word:begin") == "+--+---"
    assert "".join(loaded(write(du)).location_texts("train", [0])[0]) == "dupain"


def test_columns_of_tokens_and_labels() -> None:
    text = "EU B-ORG\nrejects O\n\n\nGerman\tB-MISC\ncall\tO\n"
    data = loaded(write(text, "ner.txt"), unit="token")
    assert data.label_names == ["label=B-MISC", "label=B-ORG", "label=O"] and data.label_kinds == ["label"] * 3
    assert data.class_labels == {"label": [0, 1, 2]}
    assert data.location_texts("train", [1, 0]) == [["German", "call"], ["EU", "rejects"]]
    assert signs(data, "label=O", 1) == "-+"
    characters = loaded("ner.txt", label_columns=["label:main", "word:begin"])
    assert "".join(characters.location_texts("train", [0])[0]) == "EU rejects"
    write("1 EU NNP\n", "three.tsv")
    data = loaded("three.tsv", unit="token", columns=["id", "form", "pos"])
    assert data.label_names == ["id=1", "pos=NNP"]
    write("call\nEU unknown\n", "new.txt")
    data = TokenLabels("ner.txt", predict_files="new.txt", unit="token", **WHOLE)
    data.setup("predict")
    (batch,) = data.predict_dataloader()
    assert not data.tables and batch.inputs.shape[:2] == (1, 2) and not batch.labels.any()
    assert data.location_texts("predict", batch.index.tolist()) == [["call", "EU"]]


def many(n: int = 40) -> str:
    draw = np.random.default_rng(0)
    sentences = []
    for length in draw.permutation(np.arange(n) * 3 + 1):
        kinds = draw.choice(["NOUN", "VERB"], length)
        sentences.append("".join(line(str(k + 1), f"w{k}", kind) for k, kind in enumerate(kinds)))
    return "\n".join(sentences)


def test_sentences_of_any_length_are_whole() -> None:
    data = loaded(write(many()), batch_size=8, val_fraction=0.2, acceptance_fraction=0.1, min_count=10)
    rows = data.tables["train"]
    seen = []
    for batch in data.fit_dataloader():
        texts = data.location_texts("train", batch.index.tolist())
        assert batch.inputs[..., 0].sum(1).tolist() == [len(text) for text in texts]
        assert batch.inputs.shape[1] == max(map(len, texts))
        assert not batch.labels[batch.inputs[..., 0] == 0].any() and not batch.inputs[batch.inputs[..., 0] == 0].any()
        seen += batch.index.tolist()
    assert sorted(seen) == data.fit_rows.tolist()
    assert rows.counts().sum(0).tolist() == [data.n_pairs] * data.n_labels
    assert rows.labels.dtype == torch.int8 and rows.labels.shape[0] == len(rows)
    assert data.n_locations == len(" ".join(f"w{k}" for k in range(118)))
    tokens = loaded("train.conllu", unit="token", val_fraction=0.2)
    assert tokens.n_locations == 118


def test_several_files_and_line_ends() -> None:
    write("\ufeff" + (DOGS + "\n\n \n" + CATS).replace("\n", "\r\n"), "crlf.conllu")
    data = loaded([write(CATS), "crlf.conllu"], label_columns=["upos"])
    texts = ["".join(text) for text in data.location_texts("train", [0, 1, 2])]
    assert texts == ["Cats ran", "Old dogs sleep.", "Cats ran"]
    batch = data.tables["train"][torch.tensor([2, 1, 0])]
    assert torch.equal(batch.labels[0], batch.labels[2])
    assert batch.inputs.shape[1] == 15


def test_levels_are_those_of_kinds() -> None:
    names = ["char", "word:begin", "upos=NOUN", "deprel:main=nsubj"]
    levels = {"character": 1, "word": 2, "upos": 3, "deprel": 4}
    data = loaded(write(DOGS), label_columns=names, levels=levels)
    assert data.levels == [1, 1, 2, 3, 4]
    withheld = Supervision(data, supervised_levels=[3, 4])
    withheld.setup()
    assert withheld.label_kinds == data.label_kinds and withheld.grid == (15,)
    counts = withheld.tables["train"].counts()
    assert (counts[1] > 0).tolist() == [True, True, True, False, False]
    assert withheld.location_texts("train", [0]) == data.location_texts("train", [0])
    with pytest.raises(ValueError, match=r"^levels must have one for each of character, deprel, upos, word, got upos$"):
        loaded("train.conllu", label_columns=names, levels={"upos": 1})


def test_checkpoints_know_their_training_rows() -> None:
    data = loaded(write(DOGS))
    state = data.state_dict()
    loaded("train.conllu").load_state_dict(state)
    with pytest.raises(ValueError, match=r"labels .upos=ADJ., .* are in the checkpoint alone$"):
        loaded(write(CATS, "cats.conllu")).load_state_dict(state)


MISPLACED = "# text = Old cats sleep.\n" + DOGS.partition("\n")[2]
BROKEN = {
    "columns": (CATS + "\n" + "1\tfew\tcolumns\n", r"train.conllu, line 4: a token must have 10 columns .*, got 3$"),
    "text": (
        CATS + "\n" + MISPLACED,
        r"train.conllu, line 6: the sentence's text must go on with the token 'dogs', got 'cats",
    ),
    "more text": ("# text = Cats ran on\n" + CATS, r"train.conllu, line 3: the sentence's text must end .*, got 'on'$"),
    "no tokens": (
        CATS + "\n# text = none\n\n" + CATS,
        r"train.conllu, line 4: a sentence must have a token, got comments alone$",
    ),
    "no sentences": ("\n\n", r"train.conllu has no sentences$"),
    "id": (line("x", "Cats"), r"train.conllu, line 1: no sentence in CoNLL-U: "),
    "words": (line("1-2", "don't") + line("1", "do"), r"train.conllu, line 1: the multiword token .* up to 2$"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_malformed_sentences_are_named_by_file_and_line(case: str) -> None:
    text, message = BROKEN[case]
    with pytest.raises(ValueError, match=f"^{message}") as error:
        loaded(write(text))
    assert "\n" not in str(error.value)


def test_malformed_columns_are_named_by_file_and_line() -> None:
    with pytest.raises(ValueError, match=r"^a.txt, line 2: there must be 2 columns, form, label, got 3$"):
        loaded(write("EU O\nrejects O O\n", "a.txt"))
    Path("b.txt").write_bytes("EU O\n\nf O\nd\xe9 O\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"^b.txt, line 4: text must be UTF-8: "):
        loaded("b.txt")
    with pytest.raises(ValueError, match=r"^c.txt, line 1: a token must not be empty$"):
        loaded(write("\tO\n", "c.txt"))
    with pytest.raises(ValueError, match=r"^v.txt, line 2: a word must have 2 finite numbers, got 1$"):
        loaded(write(DOGS), unit="token", inputs=write("old 1 2\ndogs 3\n", "v.txt"))


def test_all_problems_of_arguments_are_one_error() -> None:
    write(DOGS)
    with pytest.raises(ValueError) as error:
        TokenLabels(
            ["train.conllu", write("", "empty.txt")],
            test_files=write("a", "a.csv"),
            unit="token",
            inputs="characters",
            label_columns=["word:begin", "upos=", "colour", "feats=Plur"],
            min_count=0,
        )
    for part in (
        "min_count must be an integer >= 1, got 0",
        "inputs must be affixes with unit token, got 'characters'",
        "train_files: empty.txt is empty",
        "test_files: the suffix must be one of .conllu, .txt, .tsv, .conll, .bio, .iob, got a.csv",
        "got 'word:begin'",
        "got 'upos='",
        "got 'colour'",
        "got 'feats=Plur'",
    ):
        assert part in str(error.value), part
    with pytest.raises(
        ValueError, match=r"^label_columns must have a token in the training rows, got none of 'upos=INTJ'$"
    ):
        loaded("train.conllu", label_columns="upos=INTJ")
    with pytest.raises(ValueError, match=r"^label_columns must have 5 tokens of a value .* got none of 'upos'$"):
        loaded("train.conllu", min_count=5)
