"""Sentence-transformers folders: equal to the library's own encode, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from extract.backbones import Backbone, TextTower
from extract.backbones.sentence_pipeline import read_pipeline
from extract.registry import open_backbone
from extract.weights import UnsafeWeightsError, WeightsMissingError
from tests.kit.tiny_text import change_json, make_tiny_encoder, make_tiny_pipeline

POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
TEXTS = [
    "the cat sat on the mat", "", "very HAPPY day 😀", "我你好 good", "the " * 100, " leading space",
    "[SEP] Cat [PAD]", "rain " * 14,
]  # fmt: skip
GENERAL = "config_sentence_transformers.json"


def open_text(folder: Path) -> tuple[Backbone, TextTower]:
    """Open a folder and its text tower."""
    backbone = open_backbone(str(folder))
    tower = backbone.open_tower("text")
    assert isinstance(tower, TextTower)
    return backbone, tower


def pooled(folder: Path) -> np.ndarray:
    """Embed TEXTS with our tower, three at a time."""
    _, tower = open_text(folder)
    tokens = tower.tokenise(TEXTS)
    return np.concatenate([tower.forward(tokens[i : i + 3])["pooled"] for i in range(0, len(tokens), 3)])


def assert_equals_library(folder: Path) -> np.ndarray:
    """Compare with SentenceTransformer.encode, at two batch sizes of its own; returns the vectors."""
    from sentence_transformers import SentenceTransformer

    library = SentenceTransformer(str(folder), device="cpu")
    found = pooled(folder)
    for size in (1, 8):
        np.testing.assert_allclose(found, library.encode(TEXTS, batch_size=size), atol=1e-5)
    assert np.ptp(found, axis=0).max() > 0.1, "the texts differ, so a mixed-up row would show"
    assert open_backbone(str(folder)).card.readouts["text"]["pooled"] == found.shape[1]
    return found


@pytest.mark.parametrize("pooling", [*((name,) for name in POOLINGS), ("cls", "mean"), POOLINGS])
def test_pipeline_follows_its_pooling(tmp_path: Path, pooling: tuple[str, ...]) -> None:
    """Every pooling, alone and joined, equals the library's, in the older and in the current spelling."""
    from sentence_transformers import SentenceTransformer

    old = make_tiny_pipeline(tmp_path / "old", pooling=pooling, steps=())
    before = assert_equals_library(old)
    SentenceTransformer(str(old), device="cpu").save(str(tmp_path / "new"))
    written = json.loads((tmp_path / "new" / "1_Pooling" / "config.json").read_text())
    assert written["pooling_mode"] == (pooling[0] if len(pooling) == 1 else list(pooling))
    np.testing.assert_array_equal(assert_equals_library(tmp_path / "new"), before)
    assert open_backbone(str(tmp_path / "new")).card.token_limit == 16


@pytest.mark.parametrize(
    "steps", [(), ("Normalize",), ("Dense",), ("LayerNorm",), ("Dense", "LayerNorm", "Normalize")]
)
def test_pipeline_follows_its_steps(tmp_path: Path, steps: tuple[str, ...]) -> None:
    """Dense, LayerNorm and Normalize act in their order, from pickled state dicts and from safetensors."""
    from sentence_transformers import SentenceTransformer

    old = make_tiny_pipeline(tmp_path / "old", pooling=("cls", "mean"), steps=steps)
    before = assert_equals_library(old)
    SentenceTransformer(str(old), device="cpu").save(str(tmp_path / "new"))
    np.testing.assert_array_equal(assert_equals_library(tmp_path / "new"), before)
    described = open_backbone(str(old)).preprocessing("text")["readouts"]["pooled"]
    assert [step["kind"] for step in described["steps"]] == list(steps)
    assert json.loads(json.dumps(described)) == described


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("width", [32, 20])
def test_dense_step_equals_the_library(tmp_path: Path, residual: bool, width: int) -> None:
    """Activation, bias and residual of a Dense step are its own."""
    import torch
    from sentence_transformers import SentenceTransformer, models

    encoder = models.Transformer(str(make_tiny_encoder(tmp_path / "encoder", "bert")))
    torch.manual_seed(1)
    dense = models.Dense(32, width, bias=False, activation_function=torch.nn.GELU(), use_residual=residual)
    modules = [encoder, models.Pooling(32, "mean"), dense]
    SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path / "st"))
    assert_equals_library(tmp_path / "st")


@pytest.mark.parametrize(
    "family", ["roberta", "xlm-roberta", "deberta-v2", "mpnet", "distilbert", "modernbert"]
)
@pytest.mark.parametrize("path", ["", "0_Transformer"])
def test_pipeline_takes_any_encoder_in_any_folder(tmp_path: Path, family: str, path: str) -> None:
    """The encoder may be of any supported family and lie in a folder of its own."""
    folder = make_tiny_pipeline(tmp_path / "st", family, encoder_path=path, max_tokens=None)
    assert_equals_library(folder)
    backbone = open_backbone(str(folder))
    assert backbone.card.family == "sentence-transformers" and backbone.card.token_limit == 48
    before = backbone.weights_sha256()
    change_json(folder / path / "tokenizer_config.json", model_max_length=47)
    assert open_backbone(str(folder)).weights_sha256() != before


@pytest.mark.parametrize("include_prompt", [True, False])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_default_prompt_is_put_before_every_text(tmp_path: Path, include_prompt: bool, pooling: str) -> None:
    """The folder's default prompt is applied, recorded, and left out of the pooling where it says so."""
    folder = make_tiny_pipeline(
        tmp_path / "st", "roberta", prompt="the day: ", include_prompt=include_prompt, pooling=(pooling,)
    )  # fmt: skip
    assert_equals_library(folder)
    settings = open_backbone(str(folder)).preprocessing("text")
    assert settings["prompt"] == "the day: " == open_backbone(str(folder)).card.prompt
    assert settings["readouts"]["pooled"]["include_prompt"] is include_prompt
    change_json(folder / GENERAL, default_prompt_name=None)
    assert open_backbone(str(folder)).preprocessing("text")["prompt"] == ""
    _, tower = open_text(folder)
    assert len(tower.tokenise(["cat"])[0].ids) < 6


def test_prompt_that_leaves_no_room_is_refused(tmp_path: Path) -> None:
    """A prompt as long as the limit would make every text the same."""
    folder = make_tiny_pipeline(tmp_path / "st", prompt="the cat " * 7, max_tokens=16)
    with pytest.raises(ValueError, match=r"takes 15 tokens of the 16 that a text may have"):
        open_text(folder)


def test_default_prompt_without_words_is_refused(tmp_path: Path) -> None:
    """A named prompt must exist; both names are said."""
    folder = make_tiny_pipeline(tmp_path / "st", prompt="the day: ")
    change_json(folder / GENERAL, default_prompt_name="query")
    with pytest.raises(ValueError, match=r"name the default prompt 'query', but hold topic"):
        open_backbone(str(folder))


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta"])
def test_pipeline_lower_cases_when_it_says_so(tmp_path: Path, family: str) -> None:
    """do_lower_case acts inside the tokenizer, as in the library: special tokens in a text stay special."""
    folder = make_tiny_pipeline(tmp_path / "st", family, lower_case=True, max_tokens=None)
    assert_equals_library(folder)
    _, tower = open_text(folder)
    one, two, special = (item.ids.tolist() for item in tower.tokenise(["the cat", "The CAT", "</s>"]))
    assert one == two and len(special) == 3 and special[1] == special[2]


def test_pipeline_gives_a_row_the_same_bits_in_any_company(tmp_path: Path, two_torch_threads: None) -> None:
    """Steps after pooling keep the promise of the encoder."""
    folder = make_tiny_pipeline(
        tmp_path / "st", pooling=("cls", "max", "weightedmean"), steps=("Dense", "LayerNorm", "Normalize")
    )  # fmt: skip
    _, tower = open_text(folder)
    tokens = tower.tokenise(TEXTS)
    whole = tower.forward(tokens)["pooled"]
    alone = np.concatenate([tower.forward([item])["pooled"] for item in tokens])
    np.testing.assert_array_equal(alone, whole)


def test_pipeline_offers_the_encoders_readouts_too(tmp_path: Path) -> None:
    """cls, mean, last and layers are those of the encoder; pooled alone has the pipeline's width."""
    folder = make_tiny_pipeline(tmp_path / "st", steps=("Dense",))
    backbone = open_backbone(str(folder))
    assert dict(backbone.card.readouts["text"]) == {"pooled": 24, "cls": 32, "mean": 32, "last": 32}
    tower = backbone.open_tower("text", readouts=("mean", "last", "layer:0", "layer:2"))
    assert isinstance(tower, TextTower)
    vectors = tower.forward(tower.tokenise(TEXTS))
    np.testing.assert_array_equal(vectors["layer:2"], vectors["mean"])
    assert {values.shape for values in vectors.values()} == {(len(TEXTS), 32)}


def module(kind: str, path: str) -> dict[str, str]:
    """One entry of modules.json."""
    return {"path": path, "type": kind if "." in kind else f"sentence_transformers.models.{kind}"}


SIZES = {"in_features": 32, "out_features": 8}
ENCODER, POOLING = module("Transformer", ""), module("Pooling", "1_Pooling")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("modules.json", [ENCODER, POOLING, module("WordWeights", "2")], "Transformer, Pooling, WordWeights"),
        ("modules.json", [{"type": "x"}], "is not a list of modules, each with a type and a path"),
        ("modules.json", [module("StaticEmbedding", "0")], "modules StaticEmbedding; supported are sentence"),
        ("modules.json", [module("custom_st.Transformer", ""), POOLING], r"modules custom_st\.Transformer"),
        ("modules.json", [ENCODER, module("Pooling", "../1")], r"folder '\.\./1', which lies outside"),
        ("1_Pooling/config.json", {"pooling_mode": "first"}, "pool by first; supported are cls, max"),
        ("1_Pooling/config.json", {"pooling_mode": "mean", "weights": 1}, "pool by weights; supported"),
        ("1_Pooling/config.json", {}, "pool by nothing"),
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "transformer_task is 'fill-mask'"),
        ("sentence_bert_config.json", {"model_args": {"revision": 1}}, "model_args sets revision"),
        ("sentence_bert_config.json", {"modality_config": {"message": {}}}, "modality_config is"),
        (GENERAL, {"model_type": "SparseEncoder"}, "is a SparseEncoder, which does not make one vector"),
        ("2_Dense/config.json", {**SIZES, "activation_function": "os.system"},
        r"activation_function is 'os\.system', supported are torch\.nn's ELU"),
        ("2_Dense/config.json", {**SIZES, "module_input_name": "token_embeddings"},
        "module_input_name is 'token_embeddings'"),
        ("2_Dense/config.json", {"in_features": 32}, "out_features is None, supported is a positive number"),
        ("2_Dense/config.json", {**SIZES, "in_features": 31}, "takes vectors of width 31, .* gives 32"),
    ],
)  # fmt: skip
def test_pipeline_refuses_what_it_would_get_wrong(
    tmp_path: Path, file: str, content: Any, message: str
) -> None:
    """A module, pooling or setting that is not supported is refused by name, never skipped."""
    folder = make_tiny_pipeline(tmp_path / "st", steps=("Dense",))
    (folder / file).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        open_backbone(str(folder))


def test_pipeline_names_all_faults_of_a_file(tmp_path: Path) -> None:
    """Two faults of one file come in one message."""
    folder = make_tiny_pipeline(tmp_path / "st")
    change_json(
        folder / "sentence_bert_config.json", query_length=3, config_args={"x": 1, "torch_dtype": "auto"}
    )
    with pytest.raises(ValueError, match=r"query_length is 3, supported is None; config_args sets x\."):
        read_pipeline(folder)


def test_step_weights_are_checked(tmp_path: Path) -> None:
    """Weights of a step that are missing, of another shape or more than tensors are one clear error each."""
    import torch

    folder = make_tiny_pipeline(tmp_path / "st", steps=("Dense",))
    file = folder / "2_Dense" / "pytorch_model.bin"
    torch.save({"linear.weight": torch.zeros(24, 31), "linear.bias": torch.zeros(24)}, file)
    with pytest.raises(ValueError, match=r"do not fit the step Dense that its config\.json describes"):
        open_text(folder)
    torch.save({"linear.weight": print}, file)
    with pytest.raises(UnsafeWeightsError, match=r"pickle that holds more than tensors"):
        open_text(folder)
    file.unlink()
    with pytest.raises(WeightsMissingError, match=r"Step '2_Dense' \(Dense\) of .* has no weights"):
        open_text(folder)


def test_step_weights_are_part_of_the_hash(tmp_path: Path) -> None:
    """Other weights of a step are other weights of the backbone."""
    folder = make_tiny_pipeline(tmp_path / "st", steps=("Dense",))
    before = open_backbone(str(folder)).weights_sha256()
    file = folder / "2_Dense" / "pytorch_model.bin"
    file.write_bytes(file.read_bytes() + b"\0")
    assert open_backbone(str(folder)).weights_sha256() != before
