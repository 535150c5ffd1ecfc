"""Weights: found offline first, read without running code, hashed over what is loaded."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from extract.registry import open_backbone
from extract.weights import (
    UnsafeWeightsError,
    WeightsMissingError,
    read_state_dict,
    resolve_device,
    state_dict_file,
    torch_dtype,
    transformers_weight_files,
)
from tests.kit.tiny_checkpoints import make_resnet18, make_tiny_bert, make_tiny_clip


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_read_state_dict_reads_both_formats(tmp_path: Path) -> None:
    """safetensors and torch files give the same tensors."""
    state = {"w": torch.arange(6.0).reshape(2, 3)}
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "a.pth")
    for name in ("a.safetensors", "a.pth"):
        assert torch.equal(read_state_dict(tmp_path / name)["w"], state["w"])


def test_read_state_dict_runs_no_code(tmp_path: Path) -> None:
    """A pickle with a payload is refused, and its payload does not run."""
    torch.save({"w": Payload(tmp_path / "ran")}, tmp_path / "evil.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"w": Payload(tmp_path / "ran")}, protocol=2))
    for name in ("evil.pth", "plain.pth"):
        with pytest.raises(UnsafeWeightsError, match=rf"{name}' is a pickle that holds more.*safetensors"):
            read_state_dict(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_open_tower_runs_no_code(tmp_path: Path) -> None:
    """A transformers folder whose weights are an unsafe pickle is refused before transformers sees it."""
    folder = make_tiny_bert(tmp_path / "bert", safetensors=False)
    torch.save({"w": Payload(tmp_path / "ran")}, folder / "pytorch_model.bin")
    with pytest.raises(UnsafeWeightsError, match=r"pytorch_model.bin' is a pickle"):
        open_backbone(str(folder)).open_tower("text")
    assert not (tmp_path / "ran").exists()


def test_open_tower_reads_plain_torch_files(tmp_path: Path) -> None:
    """A pytorch_model.bin of plain tensors gives the same vectors as the same weights in safetensors."""
    towers = [
        open_backbone(str(make_tiny_bert(tmp_path / str(flag), safetensors=flag))).open_tower("text")
        for flag in (True, False)
    ]
    one, two = (tower.forward(tower.tokenise(["the cat sat"]))["pooled"] for tower in towers)
    assert (one == two).all()


@pytest.mark.parametrize("name", ["cut.pth", "cut.safetensors"])
def test_read_state_dict_refuses_a_cut_file(tmp_path: Path, name: str) -> None:
    """Half a file is refused as damaged."""
    state = {"w": torch.ones(1000)}
    whole = tmp_path / f"whole{Path(name).suffix}"
    save_file(state, whole) if whole.suffix == ".safetensors" else torch.save(state, whole)
    (tmp_path / name).write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"{name}' is (damaged|a pickle .*, or is damaged)"):
        read_state_dict(tmp_path / name)


def test_read_state_dict_refuses_other_contents(tmp_path: Path) -> None:
    """A file that holds something other than named tensors is refused."""
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"does not hold a state dict"):
        read_state_dict(tmp_path / "list.pth")


def test_state_dict_file_does_not_guess(tmp_path: Path) -> None:
    """Two weight files of one kind are refused; safetensors wins over torch files."""
    for name in ("a.pth", "b.pth"):
        torch.save({}, tmp_path / name)
    with pytest.raises(ValueError, match=r"holds 2 weight files: 'a.pth', 'b.pth'"):
        state_dict_file(tmp_path)
    save_file({"w": torch.ones(1)}, tmp_path / "c.safetensors")
    assert state_dict_file(tmp_path).name == "c.safetensors"


def test_transformers_weight_files_wants_every_shard(tmp_path: Path) -> None:
    """An index whose shard is missing counts as missing weights."""
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"a": "one", "b": "two"}}')
    (tmp_path / "one").write_text("")
    with pytest.raises(WeightsMissingError, match=r"lacks 1 of the 2 weight files .* first 'two'"):
        transformers_weight_files(tmp_path)
    (tmp_path / "two").write_text("")
    assert [path.name for path in transformers_weight_files(tmp_path)] == ["one", "two"]


def test_missing_clip_weights_say_what_where_and_how_at_once(tmp_path: Path) -> None:
    """Without a network and without weights one message names the repository, the cache and both remedies."""
    code = (
        "import sys, time\n"
        "waits, sleep = [], time.sleep\n"
        "time.sleep = lambda seconds: (waits.append(seconds), sleep(seconds))\n"
        "from extract.registry import open_backbone\n"
        "from extract.weights import WeightsMissingError\n"
        "try: open_backbone('clip-vit-l14').check_available()\n"
        "except WeightsMissingError as error: print(error)\n"
        "print(sum(waits), file=sys.stderr)"
    )
    for offline in ("1", ""):
        # Port 9 of this machine refuses at once: a network that is there but answers nothing.
        environment = {
            **os.environ,
            "HF_HOME": str(tmp_path),
            "HF_HUB_OFFLINE": offline,
            "HF_ENDPOINT": "http://127.0.0.1:9",
        }
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
        )
        assert float(done.stderr.splitlines()[-1]) < 1, "it is not tried again and again"
        for part in (
            "'openai/clip-vit-large-patch14'",
            str(tmp_path / "hub"),
            "hf download openai/clip-vit-large-patch14 --local-dir DIR",
            "--weights DIR",
            "HF_HOME",
            "HF_HUB_OFFLINE is set" if offline else "downloading it failed",
        ):
            assert part in done.stdout
        assert done.stdout.count("\n") == 1


def test_missing_resnet_weights_say_both_remedies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A torchvision backbone without its file names the file, the cache and both remedies."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsMissingError, match=r"'resnet50-0676ba61.pth'.*--weights DIR.*TORCH_HOME"):
        open_backbone("resnet50").check_available()


def test_resnet_weights_are_found_in_torchs_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own cache is looked into, and a file whose hash contradicts its name is refused."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    checkpoints = tmp_path / "hub" / "checkpoints"
    make_resnet18(checkpoints)
    (checkpoints / "resnet18.pth").rename(checkpoints / "resnet18-f37072fd.pth")
    backbone = open_backbone("resnet18")
    backbone.check_available()
    assert backbone.revision == "resnet18-f37072fd.pth"
    assert Path(torch.hub.get_dir()) / "checkpoints" == checkpoints
    with pytest.raises(ValueError, match=r"its SHA-256 starts with .*, its name says f37072fd"):
        backbone.open_tower("image")


def test_hub_cache_is_found_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot in the Hugging Face cache is used, with its commit as revision; an unfinished one is not."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--org--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    snapshot = make_tiny_clip(repository / "snapshots" / commit)
    backbone = open_backbone("hf:org/tiny")
    assert backbone.revision == commit
    assert backbone.card.readouts["image"] == {"pooled": 24, "hidden": 40, "cls": 40, "mean": 40}
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(WeightsMissingError, match="Weights 'org/tiny' are not on this machine"):
        open_backbone("hf:org/tiny")


def test_weights_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    """A missing --weights folder is missing weights, and a file in its place is said to be one."""
    with pytest.raises(WeightsMissingError, match=r"'/no/such/dir' does not exist"):
        open_backbone("clip-vit-b32", weights=Path("/no/such/dir"))
    (tmp_path / "afile").touch()
    with pytest.raises(WeightsMissingError, match=r"Weights folder '.*afile' is a file\. Pass --weights"):
        open_backbone("clip-vit-b32", weights=tmp_path / "afile")


def test_weights_sha256_covers_what_is_loaded_and_nothing_else(tmp_path: Path) -> None:
    """The hash changes with weights, tokenizer and config, and not with a README or the folder's place."""
    folder = make_tiny_bert(tmp_path / "a")
    first = open_backbone(str(folder)).weights_sha256()
    copy = Path(shutil.copytree(folder, tmp_path / "b"))
    (copy / "README.md").write_text("hello")
    assert open_backbone(str(copy)).weights_sha256() == first
    seen = {first}
    for name in ("model.safetensors", "vocab.txt", "config.json", "tokenizer_config.json"):
        changed = Path(shutil.copytree(folder, tmp_path / name))
        (changed / name).write_bytes((changed / name).read_bytes() + b"\n")
        seen.add(open_backbone(str(changed)).weights_sha256())
    assert len(seen) == 5


def test_resolve_device_picks_what_the_machine_has() -> None:
    """auto is CUDA where there is one, else the CPU; what is not there is refused."""
    has_cuda = torch.cuda.is_available()
    assert resolve_device("auto") == ("cuda" if has_cuda else "cpu")
    assert resolve_device("cpu") == "cpu"
    assert torch_dtype("bf16") is torch.bfloat16
    with pytest.raises(ValueError, match=r"Device 'cuda:99' is not on this machine .*--device cpu"):
        resolve_device("cuda:99")
    with pytest.raises(ValueError, match=r"Device 'gpu' is not known; allowed are auto, cpu"):
        resolve_device("gpu")
