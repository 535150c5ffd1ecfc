"""Tokenizers of text encoders, in the files that repositories have: never guessed, never empty."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from extract.backbones import TextTower
from extract.registry import open_backbone
from extract.weights import WeightsMissingError
from tests.kit.tiny_text import change_json, make_tiny_encoder

TEXTS = ["the cat sat on the mat", "", "the happy cat!", "cats on rainy days"]


def open_tower(folder: Path) -> TextTower:
    """Open the text tower of a folder."""
    tower = open_backbone(str(folder)).open_tower("text", readouts=("mean",))
    assert isinstance(tower, TextTower)
    return tower


@pytest.mark.parametrize("family", ["roberta", "deberta"])
def test_vocabulary_and_merges_are_enough(tmp_path: Path, family: str) -> None:
    """twitter-roberta and deberta-large-mnli have vocab.json and merges.txt only; the tokens are the same."""
    folder = make_tiny_encoder(tmp_path / family, family)
    expected = [item.ids.tolist() for item in open_tower(folder).tokenise(TEXTS)]
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    backbone = open_backbone(str(folder))
    assert [item.ids.tolist() for item in open_tower(folder).tokenise(TEXTS)] == expected
    assert backbone.card.token_limit == 48
    before = backbone.preprocessing("text")["tokenizer_sha256"]
    (folder / "merges.txt").write_text("#version: 0.2\n")
    assert open_backbone(str(folder)).preprocessing("text")["tokenizer_sha256"] != before


@pytest.mark.parametrize(
    ("family", "file", "special"),
    [
        # The names and numbers of microsoft/deberta-v3-base and of xlm-roberta's own sentencepiece files.
        ("deberta-v2", "spm.model", {"pad": "[PAD]", "bos": "[CLS]", "eos": "[SEP]", "unk": "[UNK]"}),
        ("xlm-roberta", "sentencepiece.bpe.model", {"unk": "<unk>", "bos": "<s>", "eos": "</s>"}),
    ],
)
def test_sentencepiece_file_alone_is_enough(
    tmp_path: Path, family: str, file: str, special: dict[str, str]
) -> None:
    """deberta-v3-base and twitter-xlm-roberta have no tokenizer.json; the tokens are sentencepiece's own."""
    import sentencepiece

    model = io.BytesIO()
    words = "the cat sat on the mat happy rain sun day days rainy very good bad"
    numbers = {f"{role}_id": i for i, role in enumerate(special)} | (
        {} if "pad" in special else {"pad_id": -1}
    )
    pieces = {f"{role}_piece": token for role, token in special.items()}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([words, *words.split()] * 10),
        model_writer=model,
        vocab_size=45,
        hard_vocab_limit=False,
        minloglevel=2,
        **numbers,
        **pieces,
    )
    folder = make_tiny_encoder(tmp_path / family, family, vocab_size=60)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / file).write_bytes(model.getvalue())
    own = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    first, last, shift = (own.bos_id(), own.eos_id(), 0) if family == "deberta-v2" else (0, 2, 1)
    expected = [[first, *(i + shift for i in own.encode(text)), last] for text in TEXTS if "!" not in text]
    found = open_tower(folder).tokenise([text for text in TEXTS if "!" not in text])
    assert [item.ids.tolist() for item in found] == expected
    hashed = open_backbone(str(folder)).preprocessing("text")["tokenizer_sha256"]
    (folder / file).write_bytes(model.getvalue() + b"\0")
    assert open_backbone(str(folder)).preprocessing("text")["tokenizer_sha256"] != hashed


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert"])
def test_folder_without_a_vocabulary_is_refused(tmp_path: Path, family: str) -> None:
    """transformers 5 would make an empty tokenizer, in which every word is unknown."""
    folder = make_tiny_encoder(tmp_path / family, family)
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text("{}")  # without merges.txt
    with pytest.raises(
        WeightsMissingError, match=r"holds no vocabulary of a tokenizer: expected one of 'tok"
    ):
        open_tower(folder)


def test_tokenizer_without_a_padding_token_is_refused(tmp_path: Path) -> None:
    """One clear error, not a crash in the middle of the pass."""
    folder = make_tiny_encoder(tmp_path / "modernbert", "modernbert")
    change_json(folder / "tokenizer_config.json", pad_token=None)
    with pytest.raises(ValueError, match=r"has no fast version or no padding token\. Save it with"):
        open_tower(folder)


@pytest.mark.parametrize("content", [b"{", b'{"model": 1}', b"[]"])
def test_damaged_tokenizer_is_one_error(tmp_path: Path, content: bytes) -> None:
    """What the tokenizers library says about a file comes back in one message that names the folder."""
    folder = make_tiny_encoder(tmp_path / "modernbert", "modernbert")
    (folder / "tokenizer.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"Tokenizer in '.*modernbert' cannot be read \(.+\)\. Copy"):
        open_tower(folder)


def test_damaged_sentencepiece_file_is_one_error(tmp_path: Path) -> None:
    """A spm.model that is no sentencepiece model is refused."""
    folder = make_tiny_encoder(tmp_path / "deberta-v2", "deberta-v2")
    (folder / "tokenizer.json").unlink()
    (folder / "spm.model").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match=r"Tokenizer in '.*deberta-v2' cannot be read"):
        open_tower(folder)


def test_tokenizer_of_another_network_is_refused(tmp_path: Path) -> None:
    """Token numbers beyond the network's vocabulary would end the pass with an index error."""
    folder = make_tiny_encoder(tmp_path / "roberta", "roberta", vocab_size=100)
    with pytest.raises(ValueError, match=r"gives 269 token numbers, the network beside it takes 100\. Copy"):
        open_tower(folder)
