"""Truncation: what a network never saw is counted in the store, whoever computed its vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import AutoTokenizer

from cache import FeatureStore, StoreCorruptError
from cache.header import _refuse_odd_provenance
from extract import PassOptions, backbone_names, open_backbone, read_data_set, run_pass
from extract.backbones.contract import Backbone
from tests.kit.data_sets import write_guid_data_set
from tests.kit.tiny_checkpoints import make_tiny_bert, make_tiny_clip
from tests.kit.tiny_joint import make_tiny_blip, make_tiny_flava, make_tiny_qwen
from tests.kit.tiny_paired import make_tiny_siglip
from tests.kit.tiny_text import make_tiny_pipeline

LONG = "the cat " * 30


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of 48 tokens."""
    return make_tiny_bert(tmp_path_factory.mktemp("weights") / "tiny-bert")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twenty rows; three of them, two of which are equal, are texts of 60 words."""
    write_guid_data_set(tmp_path / "set", 20, 0)
    for guid, text in (("103", LONG), ("109", LONG), ("114", LONG.replace("cat", "dog"))):
        (tmp_path / "set" / "data" / f"{guid}.txt").write_text(text, encoding="utf-8")
    return tmp_path / "set"


def _run(data: Path, weights: Path, out: Path, **options: object):
    return run_pass(
        read_data_set(data), open_backbone(str(weights)), replace(PassOptions(out=out), **options)
    )


def test_meta_says_how_much_was_cut(data: Path, bert: Path, tmp_path: Path) -> None:
    """Rows and tokens, repeats counted as rows; the report of the pass and of the next one repeat it."""
    report = _run(data, bert, tmp_path / "out")
    with FeatureStore.open(report.path) as store:
        found, texts = store.meta["truncated"], store.texts
    tokenizer = AutoTokenizer.from_pretrained(bert)
    tokens, cut = sum(len(ids) for ids in tokenizer(list(texts)).input_ids), 3 * (62 - 48)
    assert found == {
        "text": {
            "texts": 20,
            "texts_cut": 3,
            "tokens": tokens,
            "tokens_cut": cut,
        }
    }
    assert report.truncated == found
    assert _run(data, bert, tmp_path / "out").truncated == found
    assert report.counts["text"].truncated == 2  # computed rows; the third repeats one


def test_meta_counts_rows_of_other_processes(
    data: Path, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resumed and reused rows count as if computed here, to the byte, and no network is loaded for it."""
    whole = _run(data, bert, tmp_path / "whole").path.read_bytes()
    (tmp_path / "reused").mkdir()
    (tmp_path / "reused" / "other.h5").write_bytes(whole)
    data_set, backbone = read_data_set(data), open_backbone(str(bert))
    options = PassOptions(out=tmp_path / "resumed", shard_rows=4)
    monkeypatch.setattr("cache.PassFolder.publish", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_pass(data_set, backbone, options)
    monkeypatch.undo()
    monkeypatch.setattr(type(backbone), "open_tower", _no_network)
    resumed, reused = run_pass(data_set, backbone, options), _run(data, bert, tmp_path / "reused")
    assert (resumed.counts["text"].resumed, reused.counts["text"].reused) == (20, 20)
    assert resumed.path.read_bytes() == reused.path.read_bytes() == whole


def _interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def _no_network(*_: object, **__: object) -> None:
    raise AssertionError("a network was loaded")


FAMILIES: dict[str, Callable[[Path], Path]] = {
    "bert": make_tiny_bert,
    "sentence-transformers": lambda folder: make_tiny_pipeline(folder, prompt="the cat"),
    "clip": make_tiny_clip,
    "siglip": make_tiny_siglip,
    "flava": make_tiny_flava,
    "blip": make_tiny_blip,
    "qwen2_vl": make_tiny_qwen,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_tokeniser_is_that_of_the_tower(family: str, tmp_path: Path) -> None:
    """Tokens and what is cut agree with the loaded towers', text and joint."""
    backbone = open_backbone(str(FAMILIES[family](tmp_path / family)))
    texts = ["", "a dog", LONG, "the cat " * 600]
    modalities = [modality for modality in ("text", "joint") if modality in backbone.card.modalities]
    for modality in modalities:
        tokens = backbone.open_tokeniser(modality)(texts)
        tower = backbone.open_tower(modality)
        if modality == "text":
            known = tower.tokenise(texts)
            assert [t.ids.tolist() for t in tokens] == [t.ids.tolist() for t in known]
        else:
            picture = Image.fromarray(np.full((40, 48, 3), 90, dtype=np.uint8))
            known = [tower.prepare(text, picture).tokens for text in texts]
        unaided = Backbone.open_tokeniser(backbone, modality)(texts)
        assert [t.counts for t in tokens] == [t.counts for t in known] == [t.counts for t in unaided]
        assert tokens[-1].full_length > len(tokens[-1].ids)


@pytest.mark.parametrize("family", ["flava", "qwen2_vl"])
def test_pairs_bring_their_counts(
    family: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was cut of pairs is known when they are embedded; reused ones are tokenised, by any backbone."""
    (data / "data" / "103.txt").write_text("the cat " * 600, encoding="utf-8")
    weights = FAMILIES[family](tmp_path / family)
    backbone = type(open_backbone(str(weights)))
    options = {"modalities": ("joint",)}
    with monkeypatch.context() as patch:
        patch.setattr(backbone, "open_tokeniser", _no_network)
        whole = _run(data, weights, tmp_path / "whole", **options)
    assert whole.truncated["joint"]["texts_cut"] == (3 if family == "flava" else 1)
    for out in (tmp_path / "reused", tmp_path / "unaided"):
        out.mkdir()
        (out / "other.h5").write_bytes(whole.path.read_bytes())
    reused = _run(data, weights, tmp_path / "reused", **options)
    monkeypatch.setattr(backbone, "open_tokeniser", Backbone.open_tokeniser)
    unaided = _run(data, weights, tmp_path / "unaided", **options)
    assert reused.counts["joint"].reused == unaided.counts["joint"].reused == 20
    assert reused.path.read_bytes() == unaided.path.read_bytes() == whole.path.read_bytes()


def test_no_registered_backbone_loads_a_network_to_tokenise() -> None:
    """Those of ours that read texts say without their weights how they cut them."""
    opened = [open_backbone(name) for name in backbone_names()]
    readers = [backbone for backbone in opened if {"text", "joint"} & set(backbone.card.modalities)]
    assert len(readers) > 10
    assert all(type(backbone).open_tokeniser is not Backbone.open_tokeniser for backbone in readers)


def test_tokeniser_of_pictures_is_refused(tmp_path: Path) -> None:
    """Pictures have no tokens that could be cut."""
    backbone = open_backbone(str(make_tiny_clip(tmp_path / "clip")))
    with pytest.raises(ValueError, match="reads no texts for image vectors"):
        backbone.open_tokeniser("image")


@pytest.mark.parametrize("entry", [[], {"text": 3}, {"text": {"texts": 1, "texts_cut": -1}}])
def test_store_refuses_odd_counts(entry: object) -> None:
    """Who prints the counts may rely on them; a store of an earlier version has none."""
    meta = {"identity": {"backbone": "x"}, "truncated": entry}
    with pytest.raises(StoreCorruptError, match="'truncated"):
        _refuse_odd_provenance(meta, Path("x.h5"))
    _refuse_odd_provenance({"identity": {"backbone": "x"}}, Path("x.h5"))
