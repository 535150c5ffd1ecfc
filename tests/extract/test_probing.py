"""Probing: batch sizes are found with the real tower, once; limits that cannot hold are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from extract import PassOptions, open_backbone, read_data_set, run_pass
from extract.batch_memory import BatchKey, BatchMemory
from extract.probing import apply_memory_limit, remembered_size
from tests.kit.data_sets import write_guid_data_set
from tests.kit.tiny_checkpoints import make_tiny_clip


@pytest.mark.parametrize("modality", ["text", "image"])
def test_a_batch_size_is_probed_once_and_remembered(tmp_path: Path, modality: str) -> None:
    """The first pass tries, the second reads the file; another limit is another question."""
    backbone = open_backbone(str(make_tiny_clip(tmp_path / "tiny-clip")))
    tower = backbone.open_tower(modality)
    memory = BatchMemory(tmp_path / "sizes.json")
    key = BatchKey(backbone.weights_sha256(), modality, "fp32", "a device", None)
    found = remembered_size(key, modality, tower, memory)
    assert found >= 1
    unit = tower.bucket(tower.tokenise(["word " * 60])[0]) if modality == "text" else 1
    assert found % unit == 0
    memory.remember(key, 7)
    assert remembered_size(key, modality, tower, memory) == 7
    assert BatchMemory(tmp_path / "sizes.json").remembered(replace(key, max_memory=10**9)) is None


def test_a_limit_below_the_network_is_refused_on_a_cpu(tmp_path: Path) -> None:
    """The message says what is needed; a limit above it changes nothing."""
    write_guid_data_set(tmp_path / "set", 6, 0)
    folder = make_tiny_clip(tmp_path / "tiny-clip")
    backbone = open_backbone(str(folder))
    backbone.card = replace(backbone.card, parameters=400_000_000)
    options = PassOptions(out=tmp_path / "out", max_memory=10**9)
    with pytest.raises(ValueError, match=r"takes about 1\.\d\d GB on this CPU, more than"):
        run_pass(read_data_set(tmp_path / "set"), backbone, options)
    report = run_pass(read_data_set(tmp_path / "set"), backbone, replace(options, max_memory=8 * 10**9))
    assert report.counts["text"].computed > 0


def test_a_limit_counts_the_weights_of_a_folder(tmp_path: Path) -> None:
    """A folder's card knows no number of weights; its files do, exactly."""
    write_guid_data_set(tmp_path / "set", 6, 0)
    backbone = open_backbone(str(make_tiny_clip(tmp_path / "tiny-clip")))
    assert backbone.card.parameters is None
    weights = load_file(tmp_path / "tiny-clip" / "model.safetensors")
    assert backbone.count_parameters() == sum(weight.numel() for weight in weights.values())
    with pytest.raises(ValueError, match=r"Embedding text inputs with 'tiny-clip' takes about 0\.\d\d GB"):
        run_pass(
            read_data_set(tmp_path / "set"), backbone, PassOptions(out=tmp_path / "out", max_memory=10**6)
        )


def test_a_limit_is_for_all_towers_that_are_in_memory_together(tmp_path: Path) -> None:
    """Two image towers share a pass, so their estimates are added."""
    backbone = open_backbone(str(make_tiny_clip(tmp_path / "tiny-clip")))
    backbone.card = replace(backbone.card, parameters=400_000_000)
    apply_memory_limit([(backbone, "fp32")], "image", device="cpu", max_memory=2 * 10**9)
    with pytest.raises(ValueError, match="'tiny-clip' and 'tiny-clip' takes"):
        apply_memory_limit([(backbone, "fp32")] * 2, "image", device="cpu", max_memory=10**8)
