"""Probing: batch sizes are found with the real tower, once; limits that cannot hold are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from extract import PassOptions, dry_run, dry_runs, open_backbone, read_data_set, run_pass, run_passes
from extract.batch_memory import BatchKey, BatchMemory
from extract.memory import estimate_memory
from extract.probing import bytes_on_cpu, remembered_size
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
    for run in (run_pass, dry_run):
        with pytest.raises(
            ValueError,
            match=r"^--max-memory 1,000\.0 MB is less than is needed on this CPU: text inputs with "
            r"'tiny-clip' take about 3,\d{3}\.\d MB\. Allow more",
        ):
            run(read_data_set(tmp_path / "set"), backbone, options)
    assert not options.out.exists()
    report = run_pass(read_data_set(tmp_path / "set"), backbone, replace(options, max_memory=8 * 10**9))
    assert report.counts["text"].computed > 0


def test_a_limit_counts_the_weights_of_a_folder(tmp_path: Path) -> None:
    """A folder's card knows no number of weights; its files do, exactly."""
    write_guid_data_set(tmp_path / "set", 6, 0)
    backbone = open_backbone(str(make_tiny_clip(tmp_path / "tiny-clip")))
    assert backbone.card.parameters is None
    weights = load_file(tmp_path / "tiny-clip" / "model.safetensors")
    assert backbone.count_parameters() == sum(weight.numel() for weight in weights.values())
    with pytest.raises(
        ValueError,
        match=r"text inputs with 'tiny-clip' take about 6\d\.\d MB; image inputs with .* take about 6\d\.\d",
    ):
        run_pass(
            read_data_set(tmp_path / "set"), backbone, PassOptions(out=tmp_path / "out", max_memory=10**6)
        )


def test_a_limit_is_for_all_towers_that_are_in_memory_together(tmp_path: Path) -> None:
    """Two image towers share a pass, so their estimates are added; texts are embedded one after the other."""
    write_guid_data_set(tmp_path / "set", 6, 0)
    data_set = read_data_set(tmp_path / "set")
    backbones = [open_backbone(str(make_tiny_clip(tmp_path / name))) for name in ("one", "two")]
    alone = [bytes_on_cpu(backbone, "image", "fp32") for backbone in backbones]
    options = PassOptions(out=tmp_path / "out", modalities=("image",), max_memory=sum(alone) - 1)
    for run in (run_passes, dry_runs):
        with pytest.raises(ValueError, match="this CPU: image inputs with 'one' and 'two' take about"):
            run(data_set, [(backbone, options) for backbone in backbones])
    run_passes(data_set, [(backbone, replace(options, max_memory=sum(alone))) for backbone in backbones])


def test_a_limit_is_for_all_processes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Each has the whole network; it is refused before any of them starts, in one line."""
    write_guid_data_set(tmp_path / "set", 6, 0)
    backbone = open_backbone(str(make_tiny_clip(tmp_path / "tiny-clip")))
    limit = bytes_on_cpu(backbone, "text", "fp32", n_processes=2) - 1
    options = PassOptions(out=tmp_path / "out", modalities=("text",), max_memory=limit, device="cpu,cpu")
    capfd.readouterr()
    with pytest.raises(ValueError, match="is needed on this CPU in 2 processes: text inputs"):
        run_pass(read_data_set(tmp_path / "set"), backbone, options)
    assert capfd.readouterr().err == ""
    run_pass(read_data_set(tmp_path / "set"), backbone, replace(options, device="cpu"))


def test_a_store_that_is_there_needs_no_memory(tmp_path: Path) -> None:
    """Under a limit that would be refused there is nothing to do either."""
    write_guid_data_set(tmp_path / "set", 6, 0)
    backbone = open_backbone(str(make_tiny_clip(tmp_path / "tiny-clip")))
    options = PassOptions(out=tmp_path / "out", modalities=("text",))
    run_pass(read_data_set(tmp_path / "set"), backbone, options)
    limited = replace(options, max_memory=1)
    assert run_pass(read_data_set(tmp_path / "set"), backbone, limited).nothing_to_do
    assert dry_run(read_data_set(tmp_path / "set"), backbone, limited).nothing_to_do


def test_vectors_that_an_earlier_store_has_need_no_memory(tmp_path: Path) -> None:
    """A pass that only copies is not refused; one with a text more is, and a rehearsal says the same."""
    write_guid_data_set(tmp_path / "set", 6, 0)
    backbone = open_backbone(str(make_tiny_clip(tmp_path / "tiny-clip")))
    options = PassOptions(out=tmp_path / "out", modalities=("text",))
    path = run_pass(read_data_set(tmp_path / "set"), backbone, options).path
    path.rename(path.with_name("earlier.h5"))
    limited = replace(options, max_memory=1)
    assert dry_run(read_data_set(tmp_path / "set"), backbone, limited).to_compute == {"text": 0}
    assert run_pass(read_data_set(tmp_path / "set"), backbone, limited).counts["text"].computed == 0
    path.unlink()
    (tmp_path / "set" / "data" / "100.txt").write_text("words that nobody wrote before", encoding="utf-8")
    for run in (run_pass, dry_run):
        with pytest.raises(ValueError, match="is needed on this CPU: text inputs"):
            run(read_data_set(tmp_path / "set"), backbone, limited)


@pytest.mark.parametrize(("modality", "n_inputs"), [("text", 4), ("image", 8)])
def test_what_a_cpu_takes_grows_with_its_cores(tmp_path: Path, modality: str, n_inputs: int) -> None:
    """A forward and a half of 8 pictures, or of 256 tokens in texts of 77, on each; the weights, as they are
    read and as they are used, are there once."""
    backbone = open_backbone(str(make_tiny_clip(tmp_path / "tiny-clip")))
    backbone.card = replace(backbone.card, parameters=10**6, token_limit=77)
    estimate = estimate_memory(backbone.card, modality, "fp32")
    assert estimate is not None
    threads = torch.get_num_threads()
    try:
        for n_cores in (1, 3):
            torch.set_num_threads(n_cores)
            needed = bytes_on_cpu(backbone, modality, "fp32")
            assert needed == estimate.total(n_cores * n_inputs * 3 // 2) + estimate.weights
    finally:
        torch.set_num_threads(threads)
