"""Weights on disk: which files hold them, reading them without running code, and their precision."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import zipfile
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

#: Weight files of a transformers folder, in the order in which from_pretrained prefers them.
_TRANSFORMERS_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_STATE_DICT_SUFFIXES = (".safetensors", ".pth", ".pt")
_LARGEST_JSON = 16 << 20  # bytes; Python needs up to twenty times as much memory
_LARGEST_HEADER = 100_000_000  # bytes, safetensors' own limit


class WeightsMissingError(FileNotFoundError):
    """Weights, or files that belong to them, are not on this machine."""


class UnsafeWeightsError(ValueError):
    """A weight file is a pickle that needs more than plain tensors to be read."""


def transformers_weight_files(folder: Path) -> tuple[Path, ...]:
    """Return the weight files that transformers loads from `folder`.

    Raises
    ------
    WeightsMissingError
        If there is none, or a shard that an index names is missing.
    """
    for name in _TRANSFORMERS_FILES:
        if not (folder / name).is_file():
            continue
        if not name.endswith(".index.json"):
            return (folder / name,)
        shards = _shards(folder / name)
        missing = [shard for shard in shards if not (folder / shard).is_file()]
        if missing:
            raise WeightsMissingError(
                f"Folder '{folder}' lacks {len(missing)} of the {len(shards)} weight files that "
                f"'{name}' names, "
                f"first '{missing[0]}'. Copy the whole folder again."
            )
        return tuple(folder / shard for shard in shards)
    raise WeightsMissingError(
        f"Folder '{folder}' holds no weights: expected one of {', '.join(_TRANSFORMERS_FILES)}; "
        f"{_listing(folder)}."
    )


def _shards(index: Path) -> list[str]:
    """Return the weight files that an index names: plain names, which cannot lead out of its folder."""
    named = read_json(index).get("weight_map")
    values = list(named.values()) if isinstance(named, dict) else []
    shards = [value for value in values if isinstance(value, str) and value and Path(value).name == value]
    if not shards or len(shards) != len(values):
        raise ValueError(
            f"Index '{index}' does not name weight files beside it in a 'weight_map'. Copy the whole folder "
            "of the model again."
        )
    return sorted(set(shards))


def state_dict_file(folder: Path) -> Path:
    """Return the one file of `folder` that holds a state dict; .safetensors is preferred over .pth and .pt.

    Raises
    ------
    WeightsMissingError
        If there is none.
    ValueError
        If there are several of the preferred kind, so that choosing would be guessing.
    """
    for suffix in _STATE_DICT_SUFFIXES:
        found = sorted(folder.glob(f"*{suffix}"))
        if len(found) > 1:
            names = ", ".join(f"'{path.name}'" for path in found[:5])
            raise ValueError(
                f"Folder '{folder}' holds {len(found)} weight files: {names}. Keep the one to use there."
            )
        if found:
            return found[0]
    raise WeightsMissingError(
        f"Folder '{folder}' holds no weights: expected one {', '.join(_STATE_DICT_SUFFIXES)} file; "
        f"{_listing(folder)}."
    )


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict to CPU memory without running any code from the file.

    Parameters
    ----------
    path : Path
        A .safetensors file, or a file written by ``torch.save``.

    Returns
    -------
    dict of str to Tensor

    Raises
    ------
    UnsafeWeightsError
        If the pickle holds anything but tensors and plain containers.
    ValueError
        If the file is damaged or holds something other than named tensors.
    """
    import torch

    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"Weight file '{path}' is damaged ({error}). Copy it again.") from error
    state = _unpickle_tensors(path)
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(
            f"Weight file '{path}' does not hold a state dict (names -> tensors). Save model.state_dict()."
        )
    return state


def refuse_unsafe(paths: Iterable[Path]) -> None:
    """Raise UnsafeWeightsError if one of `paths` is a pickle that ``weights_only=True`` does not read."""
    for path in paths:
        if path.suffix != ".safetensors":
            _unpickle_tensors(path)


def hash_files(folder: Path, paths: Iterable[Path]) -> str:
    """Return the SHA-256 (hex) over names and contents of `paths`, which lie in `folder`."""
    from cache import file_sha256

    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{file_sha256(path)}\n".encode())
    return digest.hexdigest()


def count_parameters(paths: Iterable[Path]) -> int:
    """Return how many numbers the weight files among `paths` hold.

    Exact for safetensors, whose header is read and nothing else; other files are taken to be float32.
    """
    total = 0
    for path in paths:
        if path.suffix == ".safetensors":
            total += _safetensors_parameters(path)
        elif path.suffix in (".bin", ".pth", ".pt"):
            total += path.stat().st_size // 4
    return total


def _safetensors_parameters(path: Path) -> int:
    """Return how many numbers a safetensors header declares; the file is checked when it is loaded."""
    with path.open("rb") as file:
        n_bytes = int.from_bytes(file.read(8), "little")
        if n_bytes > min(_LARGEST_HEADER, path.stat().st_size):
            raise ValueError(f"Weight file '{path}' is damaged (its header claims {n_bytes:,} bytes).")
        try:
            header = json.loads(file.read(n_bytes))
            shapes = [tensor["shape"] for name, tensor in header.items() if name != "__metadata__"]
            return sum(prod(map(int, shape)) for shape in shapes)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(
                f"Weight file '{path}' is damaged (its header is no list of tensors)."
            ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file that describes weights.

    Raises
    ------
    WeightsMissingError
        If the file is not there.
    ValueError
        If it is not a JSON object.
    OSError
        If it is no regular file, or larger than 16 MiB.
    """
    values = _parse_json(path)
    if not isinstance(values, dict):
        raise ValueError(f"File '{path}' does not hold a JSON object. Copy it again.")
    return values


def read_json_list(path: Path) -> list[Any]:
    """Read a JSON list from a file that describes weights. Raises as `read_json`."""
    values = _parse_json(path)
    if not isinstance(values, list):
        raise ValueError(f"File '{path}' does not hold a JSON list. Copy it again.")
    return values


def _parse_json(path: Path) -> Any:
    from extract.texts import read_regular_file

    try:
        return json.loads(read_regular_file(path, _LARGEST_JSON, advice="Copy it again."))
    except FileNotFoundError as error:
        raise WeightsMissingError(
            f"File '{path.name}' is missing in the weights folder '{path.parent}'; {_listing(path.parent)}. "
            "Copy the whole folder of the model."
        ) from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"File '{path}' is not valid JSON ({error}). Copy it again.") from error


def resolve_device(device: str) -> str:
    """Return the device that "auto" stands for: "cuda" if there is one, else "cpu".

    Raises
    ------
    ValueError
        If `device` is not "auto", "cpu", "cuda" or "cuda:N", or this machine lacks it.
    """
    if device in ("auto", "cpu") and not _has_gpu_driver():
        return "cpu"  # without the seconds that importing torch takes
    import torch

    n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return "cuda" if n_devices else "cpu"
    kind, _, index = device.partition(":")
    if device == "cpu":
        return device
    if kind != "cuda" or (device != "cuda" and not index.isdigit()):
        raise ValueError(f"Device '{device}' is not known; allowed are auto, cpu, cuda, cuda:N and all.")
    if int(index or 0) >= n_devices:
        raise ValueError(
            f"Device '{device}' is not on this machine ({n_devices} CUDA devices). Pass --device cpu."
        )
    return device


def _has_gpu_driver() -> bool:
    """Whether a driver that torch could use (CUDA or ROCm) is on this machine."""
    if os.path.exists("/dev/kfd"):  # noqa: PTH110 - a device node, asked for by name
        return True
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return False
    return True


def torch_dtype(precision: str) -> torch.dtype:
    """Return the torch dtype of a resolved precision."""
    import torch

    return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]


def _unpickle_tensors(path: Path) -> object:
    import pickle

    import torch

    _refuse_compressed(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UnsafeWeightsError(
            f"Weight file '{path}' is a pickle that holds more than tensors, or is damaged, and reading "
            "it could run "
            "code. Allowed are .safetensors files and state dicts. Convert it where you trust it: "
            "safetensors.torch.save_file(model.state_dict(), 'model.safetensors')."
        ) from error
    except (RuntimeError, EOFError) as error:
        raise ValueError(f"Weight file '{path}' is damaged ({error}). Copy it again.") from error


def _refuse_compressed(path: Path) -> None:
    """Refuse an archive that would unpack to more than it is: torch.save never compresses."""
    try:
        with zipfile.ZipFile(path) as archive:
            is_compressed = any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return  # not an archive, or a damaged one: torch.load says so
    if is_compressed:
        raise ValueError(f"Weight file '{path}' was not written by torch.save: its entries are compressed.")


def _listing(folder: Path) -> str:
    if not folder.is_dir():
        return "there is no such folder"
    names = sorted(path.name for path in folder.iterdir())
    return f"it holds {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}" if names else "it is empty"
