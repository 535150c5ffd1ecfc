"""Every family of text encoder: equal to transformers' own forward, whatever shares the batch."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from extract.backbones import TextTower
from extract.backbones.encoders import ENCODERS
from extract.backbones.token_states import LISTS_LAYERS
from extract.registry import open_backbone
from tests.kit.tiny_text import FAMILIES, change_json, make_tiny_encoder, rename_tensors

READOUTS = ("pooled", "cls", "mean", "last", "layer:0", "layer:1", "layer:2")
#: Empty, emoji only, right to left, over the limit of 48, exactly 8 tokens in most tokenizers, NUL.
TEXTS = (
    "the cat sat on the mat", "", "😀😀🎉", "مرحبا cat", "the cat on the mat " * 40, "very HAPPY day!",
    "cat dog sun sad bad is", "not\0good", "我你好天气",
)  # fmt: skip

Folders = Callable[[str], Path]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Family -> its tiny checkpoint, made once."""
    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            made[family] = make_tiny_encoder(tmp_path_factory.mktemp("weights") / family, family)
        return made[family]

    return folder


def open_tower(folder: Path, readouts: tuple[str, ...] = READOUTS, precision: str = "fp32") -> TextTower:
    """Open the text tower of a folder."""
    tower = open_backbone(str(folder)).open_tower("text", readouts=readouts, precision=precision)
    assert isinstance(tower, TextTower)
    return tower


def reference(folder: Path, texts: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Embed with transformers alone: AutoModel, AutoTokenizer, one batch padded to its longest."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    model = AutoModel.from_pretrained(str(folder), dtype=torch.float32).eval()
    inputs = tokenizer(list(texts), padding=True, truncation=True, max_length=48, return_tensors="pt")
    with torch.no_grad():
        output = model(**inputs, output_hidden_states=True)
    mask = inputs["attention_mask"][..., None]
    states = output.last_hidden_state
    vectors = {f"layer:{k}": (s * mask).sum(1) / mask.sum(1) for k, s in enumerate(output.hidden_states)}
    vectors["mean"] = (states * mask).sum(1) / mask.sum(1)
    vectors["cls"] = states[:, 0]
    vectors["last"] = torch.stack([row[n - 1] for row, n in zip(states, mask[..., 0].sum(1), strict=True)])
    trained = model.config.model_type == "bert"
    vectors["pooled"] = output.pooler_output if trained else vectors["mean"]
    return {name: values.numpy() for name, values in vectors.items()}


def test_every_family_has_a_tiny_checkpoint() -> None:
    """The families tested here are the families that are supported."""
    assert set(FAMILIES) == set(ENCODERS)


@pytest.mark.parametrize("family", FAMILIES)
def test_encoder_equals_transformers(family: str, folders: Folders) -> None:
    """Every readout equals transformers' forward at batch sizes 1, 3 and 8, odd texts included."""
    tower, expected = open_tower(folders(family)), reference(folders(family), TEXTS)
    tokens = tower.tokenise(TEXTS)
    assert max(item.full_length for item in tokens) > 48 == max(len(item.ids) for item in tokens)
    for size in (1, 3, 8):
        parts = [tower.forward(tokens[i : i + size]) for i in range(0, len(tokens), size)]
        assert set(parts[0]) == set(READOUTS)
        for readout in READOUTS:
            rows = np.concatenate([part[readout] for part in parts])
            assert rows.dtype == np.float32
            np.testing.assert_allclose(rows, expected[readout], atol=1e-5)
    assert min(np.ptp(expected[readout], axis=0).max() for readout in READOUTS if readout != "cls") > 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_encoder_gives_a_row_the_same_bits_in_any_company(
    family: str, folders: Folders, two_torch_threads: None
) -> None:
    """A text's vector does not depend, to the last bit, on its neighbours, even if only they are padded."""
    tower = open_tower(folders(family))
    tokens = tower.tokenise(TEXTS)
    whole = tower.forward(tokens)
    order = np.random.default_rng(0).permutation(len(tokens))
    shuffled = tower.forward([tokens[i] for i in order])
    alone = [tower.forward([item]) for item in tokens]
    # transformers drops the mask when no row of a batch is padded, which must not show.
    full = [item for item in tokens if len(item.ids) == tower.bucket(item)]
    assert full, "a text fills its padded length"
    for readout in READOUTS:
        np.testing.assert_array_equal(shuffled[readout], whole[readout][order])
        np.testing.assert_array_equal(np.concatenate([row[readout] for row in alone]), whole[readout])


@pytest.mark.parametrize("family", FAMILIES)
def test_encoder_may_run_in_several_threads(family: str, folders: Folders) -> None:
    """Forwards at once in four threads, hidden states included, give what they give one after the other."""
    tower = open_tower(folders(family))
    tokens = tower.tokenise(TEXTS)
    expected = [tower.forward([item]) for item in tokens]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda item: tower.forward([item]), tokens * 4))
    for row, vectors in zip(found, expected * 4, strict=True):
        for readout in READOUTS:
            np.testing.assert_array_equal(row[readout], vectors[readout])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_encoder_in_half_precision_is_finite_and_near(family: str, precision: str, folders: Folders) -> None:
    """Padded rows in half precision are finite (transformers issue 31035) and near their float32 vectors."""
    whole, half = open_tower(folders(family)), open_tower(folders(family), precision=precision)
    tokens = whole.tokenise(TEXTS)
    exact, near = whole.forward(tokens), half.forward(tokens)
    for readout in READOUTS:
        a, b = exact[readout], near[readout]
        assert b.dtype == np.float32 and np.isfinite(b).all()
        cosine = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
        assert cosine.min() > 0.995


@pytest.mark.parametrize(
    ("family", "head"),
    [
        ("roberta", "SequenceClassification"),  # cardiffnlp/twitter-roberta-base-sentiment-latest
        ("xlm-roberta", "SequenceClassification"),  # cardiffnlp/twitter-xlm-roberta-base-sentiment
        ("deberta", "SequenceClassification"),  # microsoft/deberta-large-mnli
        ("deberta-v2", "MaskedLM"),  # microsoft/deberta-v3-base
        ("bert", "MaskedLM"),
        ("modernbert", "MaskedLM"),
        ("mpnet", "MaskedLM"),
        ("distilbert", "MaskedLM"),
        ("electra", "SequenceClassification"),
        ("camembert", "MaskedLM"),
    ],
)
@pytest.mark.parametrize("safetensors", [True, False])
def test_encoder_loads_from_a_checkpoint_with_a_head(
    tmp_path: Path, family: str, head: str, safetensors: bool
) -> None:
    """The base is found under its prefix, the head is left out, the vectors are the base's."""
    folder = make_tiny_encoder(tmp_path / family, family, head=head, safetensors=safetensors)
    tower, expected = open_tower(folder, ("mean", "cls")), reference(folder, TEXTS)
    found = tower.forward(tower.tokenise(TEXTS))
    for readout in ("mean", "cls"):
        np.testing.assert_allclose(found[readout], expected[readout], atol=1e-5)


def test_encoder_without_a_tensor_of_the_base_is_refused(tmp_path: Path) -> None:
    """A head's checkpoint that lacks a part of the base is refused, never half random."""
    folder = make_tiny_encoder(tmp_path / "roberta", "roberta", head="SequenceClassification")
    rename_tensors(folder, {"roberta.encoder.layer.1": "roberta.encoder.layer.9"})
    with pytest.raises(ValueError, match=r"lack 16 tensors of the network \(encoder\.layer\.1\."):
        open_tower(folder)


def test_encoder_reads_the_older_names_of_norms(tmp_path: Path) -> None:
    """gamma and beta, as in google-bert/bert-base-uncased, are the weight and bias of a norm."""
    folder = make_tiny_encoder(tmp_path / "bert", "bert")
    before = open_tower(folder).forward(open_tower(folder).tokenise(TEXTS))
    rename_tensors(folder, {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"})
    after = open_tower(folder).forward(open_tower(folder).tokenise(TEXTS))
    np.testing.assert_array_equal(after["pooled"], before["pooled"])


@pytest.mark.parametrize(("family", "positions"), [("roberta", 50), ("mpnet", 50), ("bert", 48)])
def test_encoder_limit_leaves_out_positions_that_no_token_takes(
    tmp_path: Path, family: str, positions: int
) -> None:
    """RoBERTa's table of 514 positions serves 512 tokens, with or without a declared length."""
    folder = make_tiny_encoder(tmp_path / family, family)
    assert json.loads((folder / "config.json").read_text())["max_position_embeddings"] == positions
    for declared in (48, None, 10**30, 500):
        change_json(folder / "tokenizer_config.json", model_max_length=declared)
        assert open_backbone(str(folder)).card.token_limit == 48
    change_json(folder / "tokenizer_config.json", model_max_length=20)
    assert open_backbone(str(folder)).card.token_limit == 20


def test_encoder_keeps_hidden_states_only_when_asked(folders: Folders) -> None:
    """Without a layer readout the network gives no hidden states; with one, it keeps only that one."""
    tower = open_tower(folders("roberta"), ("mean", "layer:1"))
    kept = []
    tower.network.register_forward_hook(lambda *call: kept.append(call[-1].hidden_states))  # type: ignore[attr-defined]
    tower.forward(tower.tokenise(["the cat"]))
    # Earlier versions of transformers cannot be asked for one layer alone.
    alone = [False, True, False] if LISTS_LAYERS else [True, True, True]
    assert [state is not None for state in kept[0]] == alone
    plain = open_tower(folders("roberta"), ("mean", "last"))
    plain.network.register_forward_hook(lambda *call: kept.append(call[-1].hidden_states))  # type: ignore[attr-defined]
    plain.forward(plain.tokenise(["the cat"]))
    assert kept[1] is None


def test_encoder_says_how_each_readout_is_made(folders: Folders) -> None:
    """Preprocessing describes every readout that can be asked for; bert's pooled differs from roberta's."""
    bert = open_backbone(str(folders("bert"))).preprocessing("text")
    roberta = open_backbone(str(folders("roberta"))).preprocessing("text")
    assert set(bert["readouts"]) == {"pooled", "cls", "mean", "last", "layer:k"}
    assert bert["readouts"]["pooled"].startswith("trained pooler")
    assert roberta["readouts"]["pooled"] == roberta["readouts"]["mean"]
    card = open_backbone(str(folders("bert"))).card
    assert card.layers == {"text": (32, 32, 32)}
    with pytest.raises(ValueError, match=r"'layer:3' .* layer:0 to layer:2"):
        open_tower(folders("bert"), ("layer:3",))


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "deberta-v2"])
def test_tokenise_takes_a_hundred_thousand_words(family: str, folders: Folders) -> None:
    """A huge text is cut to the limit, says how long it was, and keeps the closing token."""
    tower = open_tower(folders(family), ("mean",))
    huge, empty = tower.tokenise(["cat " * 100_000, ""])
    assert huge.full_length >= 100_002 and len(huge.ids) == 48
    assert huge.ids[-1] == empty.ids[-1] and huge.ids[0] == empty.ids[0] and len(empty.ids) == 2
    assert np.isfinite(tower.forward([huge, empty])["mean"]).all()


def test_decoder_is_refused(tmp_path: Path) -> None:
    """A network that sees only what stands to the left is no encoder."""
    folder = make_tiny_encoder(tmp_path / "roberta", "roberta")
    change_json(folder / "config.json", is_decoder=True)
    with pytest.raises(ValueError, match=r"is a decoder \(is_decoder in config.json is true\)"):
        open_backbone(str(folder))
