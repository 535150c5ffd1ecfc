"""``embedonce backbones``: a list that reads well, says everything in JSON, and loads no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from extract import backbone_names, find_card
from pipelines.backbone_list import KINDS, describe, kind, weights_bytes
from pipelines.cli import main
from tests.kit.processor_time import children_seconds

LIST_AND_TELL = """
import sys
from pipelines.cli import main
main(["backbones"])
print(*sorted({name.split(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    """Return what ``embedonce backbones --json`` prints."""
    capsys.readouterr()
    assert main(["backbones", "--json", *words]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_list_is_complete_grouped_and_narrow(capsys: pytest.CaptureFixture[str]) -> None:
    """Every backbone stands on one line under its kind, with what it costs, within 120 columns."""
    assert main(["backbones"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 120
    headings = [lines.index(heading) for heading in KINDS.values()]
    assert headings == sorted(headings)
    for name in backbone_names():
        (row,) = (i for i, line in enumerate(lines) if line.split(" ")[0] == name)
        group = max(heading for heading in headings if heading < row)
        assert list(KINDS.values())[headings.index(group)] == KINDS[kind(find_card(name))]
    (row50,) = (line for line in lines if line.startswith("resnet50 "))
    assert row50.split()[2:8] == ["2048", "26", "M", "102", "MB", "244"]
    assert row50.endswith("MB  BSD-3-Clause    arXiv:1512.03385")


def test_list_loads_no_torch_and_is_quick() -> None:
    """The list answers at once: none of the heavy libraries is imported."""
    began = children_seconds()
    done = subprocess.run([sys.executable, "-c", LIST_AND_TELL], capture_output=True, text=True, check=True)
    seconds = children_seconds() - began
    imported = set(done.stderr.split())
    assert "extract" in imported
    assert not imported & {"torch", "transformers", "timm", "torchvision", "sklearn", "h5py"}
    assert seconds < 2, "half a second on a quiet machine"


def test_json_says_everything_of_a_card(capsys: pytest.CaptureFixture[str]) -> None:
    """One object per backbone holds its card, its kind, its size on disk and the memory of its towers."""
    found = {entry["name"]: entry for entry in listed(capsys)}
    assert list(found) == list(backbone_names())
    clip = found["clip-vit-l14"]
    assert find_card("clip-vit-l14").as_dict().items() <= (clip | {"weights_bytes": None}).items()
    assert clip["kind"] == "paired"
    assert clip["weights_bytes"] == 4 * 427_616_513 and clip["weights_bytes_estimated"]
    assert set(clip["gpu_memory"]["towers"]) == {"text", "image"}
    assert 600_000_000 < clip["gpu_memory"]["towers"]["image"]["weights_bytes"] < 640_000_000
    assert clip["gpu_memory"]["inputs"] == 16


def test_unknown_sizes_are_none_and_known_ones_are_kept() -> None:
    """A card that does not know its parameters gets no guess; one that knows its file keeps that size."""
    unknown = describe(replace(find_card("resnet50"), parameters=None))
    assert unknown["weights_bytes"] is None and unknown["gpu_memory"]["bytes"] is None
    assert not unknown["weights_bytes_estimated"]
    assert weights_bytes(replace(find_card("resnet50"), weights_bytes=7)) == 7


def test_list_can_be_narrowed(capsys: pytest.CaptureFixture[str]) -> None:
    """--modality and --match choose; joint networks that embed a modality alone count for it."""
    everything = listed(capsys)
    joint = listed(capsys, "--modality", "joint")
    assert joint == [entry for entry in everything if entry["kind"] == "joint"]
    chosen = listed(capsys, "--match", "CLIP", "--modality", "image")
    assert chosen and all("clip" in entry["name"] + entry["family"] for entry in chosen)
    capsys.readouterr()
    assert main(["backbones", "--match", "no such thing"]) == 2
    error = capsys.readouterr().err
    assert "No backbone has 'no such thing' in its name or family" in error and "Traceback" not in error
