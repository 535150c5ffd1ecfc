"""Broken folders of weights, each made by spoiling a tiny BERT: nothing in them may run, whatever it says."""

from __future__ import annotations

import io
import json
import os
import random
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from tests.hostile.broken_files import MARK, Broken, changed_json, pickles, safetensors_of

#: Code that leaves the canary's mark when it is imported.
_CODE = f"import os\nos.mkdir({MARK!r})\nclass Model: ...\nclass Config: ...\nclass Tok: ...\n"


def broken_weights() -> list[Broken]:
    """Return folders of strangers: pickles, code, bombs, names that lead outside, and plain damage."""
    made: dict[str, Callable[[Path], object]] = {
        "weights_with_code_of_their_own": _with_code,
        "weights_of_a_family_that_is_code": lambda folder: _with_code(folder, model_type="mine"),
        "tokenizer_that_is_code": _tokenizer_code,
        "weights_gone": lambda folder: (folder / "model.safetensors").unlink(),
        "config_gone": lambda folder: (folder / "config.json").unlink(),
        "tokenizer_gone": lambda folder: [path.unlink() for path in folder.glob("*token*")],
        "weights_that_are_a_folder": lambda folder: _instead(folder / "model.safetensors", Path.mkdir),
        "config_that_is_a_pipe": lambda folder: _instead(folder / "config.json", os.mkfifo),
        "weights_cut": lambda folder: os.truncate(folder / "model.safetensors", 5000),
        "index_that_leads_outside": lambda folder: _index(folder, "../../../../../../etc/passwd"),
        "index_that_names_a_device": lambda folder: _index(folder, "/dev/zero"),
        "index_of_numbers": lambda folder: _index(folder, 7),
        "index_of_nothing": lambda folder: _index(folder, None),
        "index_nested_deeply": lambda folder: _index(folder, None, b"[" * 100_000),
        "modules_that_lead_outside": lambda folder: _modules(folder, "../../../etc"),
        "modules_of_a_stranger": lambda folder: _modules(folder, "", "os.system"),
        "modules_that_are_no_list": lambda folder: (folder / "modules.json").write_text("{}"),
    }
    for name, content in {
        "a header of 2^63 bytes": safetensors_of({}, length=1 << 63),
        "a header of 90 MB": safetensors_of({}, length=90_000_000),
        "a header that is a list": safetensors_of([]),
        "a header of words": safetensors_of({"x": "y"}),
        "shapes of words": safetensors_of({"x": {"dtype": "F32", "shape": ["a"], "data_offsets": [0, 0]}}),
        "shapes of infinity": safetensors_of(
            b'{"x":{"dtype":"F32","shape":[Infinity],"data_offsets":[0,4]}}'
        ),
        "shapes of 2^60": safetensors_of(
            {"x": {"dtype": "F32", "shape": [1 << 60], "data_offsets": [0, 4]}}, bytes(4)
        ),
        "a header nested deeply": safetensors_of(b'{"a":' * 50_000 + b"}" * 50_000),
        "no tensors": safetensors_of({}),
    }.items():
        made[f"weights with {name}"] = _file("model.safetensors", content)
    for name, content in pickles().items():
        made[f"safetensors that are a {name}"] = _file("model.safetensors", content)
        made[f"bin that is a {name}"] = _bin(content)
    # Made only where one of them is tried: it takes seconds.
    made["safetensors that are an archive of 2 GB"] = lambda folder: (
        folder / "model.safetensors"
    ).write_bytes(_torch_bomb())
    made["bin that is an archive of 2 GB"] = lambda folder: _bin(_torch_bomb())(folder)
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        for name, content in {
            "empty": b"",
            "a list": b"[]",
            "a number": b"7",
            "null": b"null",
            "nested deeply": b"[" * 200_000,
            "nested objects": b'{"a":' * 100_000,
            "not UTF-8": b'{"a": "\xff"}',
            "of no entries": b"{}",
            "a pickle": pickles()["pickle"],
        }.items():
            made[f"{file} {name}"] = _file(file, content)
        made[f"{file} of 40 GB"] = lambda folder, file=file: _giant(folder / file)
    return [Broken(name, make) for name, make in made.items()]  # type: ignore[arg-type]


def chance_weights(seed: int, count: int) -> list[Broken]:
    """Return folders with one entry of a JSON file gone or something else."""

    def make(folder: Path, number: int) -> None:
        chance = random.Random(f"{seed} {number}")
        path = folder / ("config.json" if chance.random() < 0.7 else "tokenizer_config.json")
        path.write_text(json.dumps(changed_json(path.read_bytes(), chance)))

    return [Broken(f"chance_weights_{n}", lambda folder, n=n: make(folder, n)) for n in range(count)]


def _file(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def _giant(path: Path) -> None:
    path.touch()
    os.truncate(path, 40 << 30)


def _bin(content: bytes) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(content)

    return make


def _instead(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def _edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _with_code(folder: Path, **changes: Any) -> None:
    (folder / "mine.py").write_text(_CODE)
    names = {
        "AutoConfig": "mine.Config",
        "AutoModel": "mine.Model",
        "AutoTokenizer": ["mine.Tok", "mine.Tok"],
    }
    _edit(folder / "config.json", auto_map=names, trust_remote_code=True, **changes)


def _tokenizer_code(folder: Path) -> None:
    (folder / "mine.py").write_text(_CODE)
    names = {"AutoTokenizer": ["mine.Tok", "mine.Tok"]}
    _edit(folder / "tokenizer_config.json", auto_map=names, tokenizer_class="Tok", trust_remote_code=True)


def _index(folder: Path, name: Any, content: bytes | None = None) -> None:
    (folder / "model.safetensors").unlink()
    index = json.dumps({"weight_map": {"x": name}}).encode() if content is None else content
    (folder / "model.safetensors.index.json").write_bytes(index)


def _modules(folder: Path, path: str, kind: str = "sentence_transformers.models.Transformer") -> None:
    modules = [
        {"type": kind, "path": path},
        {"type": "sentence_transformers.models.Pooling", "path": "../../x"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))


@cache
def _torch_bomb() -> bytes:
    """Return what torch.save writes, but deflated: 2 MB whose pickle unpacks to 2 GB."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/version", "3\n")
        file.writestr("archive/byteorder", "little")
        with file.open("archive/data.pkl", "w", force_zip64=True) as entry:
            for _ in range(2048):
                entry.write(bytes(1 << 20))
    return buffer.getvalue()
