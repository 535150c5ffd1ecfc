"""Edited inputs: what is not changed gets the vector of the pass, what is changed is changed everywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cache import FeatureStore, Status
from extract import (
    DataError,
    Edit,
    EditedInputs,
    PassOptions,
    SourceOptions,
    open_backbone,
    read_data_set,
    read_sources,
    run_pass,
)
from tests.kit.data_sets import write_guid_data_set
from tests.kit.tiny_checkpoints import make_resnet18, make_tiny_bert, make_tiny_clip
from tests.kit.tiny_joint import make_tiny_flava

NETWORKS = {
    "clip": (make_tiny_clip, ("text", "image")),
    "bert": (make_tiny_bert, ("text",)),
    "resnet18": (make_resnet18, ("image",)),
    "flava": (make_tiny_flava, ("joint",)),
}


def _setup(tmp_path: Path, name: str):
    make, modalities = NETWORKS[name]
    backbone = open_backbone(str(make(tmp_path / name)))
    write_guid_data_set(tmp_path / "set", 18, 0)
    (tmp_path / "set" / "data" / "103.txt").write_text("", encoding="utf-8")
    data_set = read_data_set(tmp_path / "set")
    sources = read_sources(data_set, SourceOptions())
    return backbone, modalities, data_set, sources, [sample.image_path for sample in data_set.samples]


@pytest.mark.parametrize("name", NETWORKS)
def test_unchanged_rows_get_the_vectors_of_the_pass(tmp_path: Path, name: str) -> None:
    """Without a change every vector is bit-equal to the stored one, and what has none is NaN."""
    backbone, modalities, data_set, sources, paths = _setup(tmp_path, name)
    report = run_pass(data_set, backbone, PassOptions(out=tmp_path, modalities=modalities))
    with FeatureStore.open(report.path) as store:
        for modality in modalities:
            valid = np.asarray(store.select(modality).valid).astype(bool)
            assert valid.all() == (modality == "image")
            with EditedInputs(sources, paths, backbone, modality, ["pooled"]) as inputs:
                same = inputs.embed([Edit(), Edit()], rows=None)["pooled"]
                some = inputs.embed([Edit()], rows=np.array([5, 1]))["pooled"][0]
            assert np.isnan(same[:, ~valid]).all()
            stored = np.asarray(store.select(modality)[:])
            for copy in same:
                np.testing.assert_array_equal(copy[valid], stored[valid])
            np.testing.assert_array_equal(some[[1, 5]], stored[[1, 5]])
            assert np.isnan(np.delete(some, [1, 5], axis=0)).all()


def test_edits_see_the_text_and_its_hash_and_an_emptied_text_has_no_vector(tmp_path: Path) -> None:
    """A changed text gets the vector of that text; a text of nothing is NaN, as in a pass."""
    backbone, _, _, sources, paths = _setup(tmp_path, "bert")
    seeds: dict[str, bytes] = {}

    def to_first(text: str, seed: bytes) -> str:
        seeds[text] = seed
        return sources[0].text

    with EditedInputs(sources, paths, backbone, "text", ["pooled"]) as inputs:
        plain, same, gone = inputs.embed([Edit(), Edit(text=to_first), Edit(text=lambda *_: " ")])["pooled"]
    usable = np.array([source.text_status == Status.OK for source in sources])
    assert np.isnan(gone).all()
    np.testing.assert_array_equal(same[usable], np.repeat(plain[:1], usable.sum(), axis=0))
    assert len(set(seeds.values())) == usable.sum()


def test_edits_of_pictures_reach_the_pair_of_a_joint_network(tmp_path: Path) -> None:
    """Text and picture of a pair can each be changed, and progress counts every input."""
    backbone, _, _, sources, paths = _setup(tmp_path, "flava")
    white = Edit(image=lambda image, _: Image.new("RGB", image.size, "white"))
    counted: list[int] = []
    with EditedInputs(sources, paths, backbone, "joint", ["pooled"]) as inputs:
        plain, image, text = inputs.embed(
            [Edit(), white, Edit(text=lambda *_: "the sun")], on_progress=counted.append
        )["pooled"]
    usable = np.isfinite(plain).all(axis=1)
    assert counted[-1] == 3 * usable.sum()
    for changed in (image, text):
        assert (np.abs(changed[usable] - plain[usable]).max(axis=1) > 1e-4).all()


@pytest.mark.parametrize(("name", "modality"), [("bert", "text"), ("flava", "joint")])
def test_every_text_is_edited_once(tmp_path: Path, name: str, modality: str) -> None:
    """An edit may be dear: whether a text is left and what is embedded come from one call of it."""
    backbone, _, _, sources, paths = _setup(tmp_path, name)
    edited: list[str] = []

    def note(text: str, _: bytes) -> str:
        edited.append(text)
        return f"{text} sun"

    with EditedInputs(sources, paths, backbone, modality, ["pooled"]) as inputs:
        for _ in range(2):
            found = inputs.embed([Edit(), Edit(text=note)])["pooled"]
    usable = [source for source in sources if source.text_status == Status.OK]
    assert sorted(edited) == sorted(2 * [source.text for source in usable])
    assert np.isfinite(found[1]).all(axis=1).sum() == len(usable)


def test_a_picture_that_changed_is_refused(tmp_path: Path) -> None:
    """Other bytes than those whose hash is known never get a vector."""
    backbone, _, _, sources, paths = _setup(tmp_path, "resnet18")
    paths[2].write_bytes(paths[3].read_bytes())
    with (
        EditedInputs(sources, paths, backbone, "image", ["pooled"]) as inputs,
        pytest.raises(DataError, match=r"has changed since the pass began"),
    ):
        inputs.embed([Edit()])
