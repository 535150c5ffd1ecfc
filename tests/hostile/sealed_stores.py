"""Stores of strangers whose hashes all fit: what they hold must be checked, because no hash can tell."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Edit = Callable[[dict[str, Any]], Any]


def seal(path: Path) -> None:
    """Write hashes that fit whatever the file at `path` holds."""
    with h5py.File(path, "r+") as file:
        entries: dict[str, Any] = {}

        def note(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and name != "integrity":
                data = np.ascontiguousarray(item[()])
                digest = hashlib.sha256(data.tobytes()).hexdigest()
                entries[f"/{name}"] = {"dtype": data.dtype.name, "shape": list(item.shape), "sha256": digest}

        file.visititems(note)
        sealed = json.dumps(entries, sort_keys=True).encode()
        put(file, "/integrity", np.frombuffer(sealed, "u1"))
        file.attrs["integrity_sha256"] = np.bytes_(hashlib.sha256(sealed).hexdigest())


def put(file: Any, name: str, value: Any) -> None:
    """Replace a data set."""
    if name in file:
        del file[name]
    file.create_dataset(name, data=value)


def edit_meta(path: Path, edit: Edit) -> None:
    """Change ``/meta`` and seal the store; `edit` changes its argument, or returns what to write instead."""
    with h5py.File(path, "r+") as file:
        meta = json.loads(file["/meta"][()].tobytes())
        changed = edit(meta)
        meta = meta if changed is None else changed
        put(file, "/meta", np.frombuffer(json.dumps(meta).encode(), "u1"))
    seal(path)


def edit_data(path: Path, name: str, value: Any) -> None:
    """Replace one data set and seal the store."""
    with h5py.File(path, "r+") as file:
        put(file, name, value)
    seal(path)


def _set(*keys: Any, to: Any) -> Edit:
    def edit(meta: Any) -> None:
        for key in keys[:-1]:
            meta = meta[key]
        meta[keys[-1]] = to

    return edit


def _drop(*keys: Any) -> Edit:
    def edit(meta: Any) -> None:
        for key in keys[:-1]:
            meta = meta[key]
        del meta[keys[-1]]

    return edit


#: Edits of ``/meta`` that a reader must refuse by name, with its words.
REFUSED_META: dict[str, tuple[Edit, str]] = {
    "a list": (lambda meta: [meta], "'/meta' is not a JSON object"),
    "no spaces": (_set("spaces", to=[]), "'spaces' in '/meta' is empty"),
    "spaces twice": (lambda m: m["spaces"].append(m["spaces"][0]), "has a name twice"),
    "space without name": (_drop("spaces", 0, "name"), "'spaces' in '/meta' cannot be understood"),
    "space with a path": (_set("spaces", 0, "name", to="text.../../x"), "cannot be understood"),
    "space of another modality": (_set("spaces", 0, "name", to="sound.pooled"), "cannot be understood"),
    "space that is not there": (
        _set("spaces", 0, "name", to="text.cls"),
        "'/features/text.cls/x' is missing",
    ),
    "width of 10**30": (_set("spaces", 0, "width", to=10**30), r"is float32 \(10, 6\)"),
    "width -1": (_set("spaces", 0, "width", to=-1), "cannot be understood"),
    "fingerprint is a list": (_set("spaces", 0, "fingerprint", to=["a"]), "cannot be understood"),
    "views of 2**62": (_set("spaces", 0, "views", to=2**62), "'/features/text.pooled/views' is missing"),
    "modalities nested": (
        _set("modalities", to=[["text"]]),
        "is not a list of strings",
    ),
    "modality twice": (_set("modalities", to=["text", "text"]), "has a name twice"),
    "no classes": (_set("class_names", to=[]), "'/rows/label' holds codes"),
    "class twice": (_set("class_names", to=["a", "a", "b"]), "'class_names' in '/meta' has a name twice"),
    "surrogate class": (_set("class_names", to=["\ud800", "b", "c"]), "not valid Unicode"),
    "no encodings": (_set("encodings", to=[]), "'/text/encoding' holds codes"),
    "no identity": (_drop("identity"), "'identity' in '/meta' is missing"),
    "identity is a list": (_set("identity", to=[1]), "'identity' in '/meta' is not a JSON object"),
    "backbone is a number": (_set("identity", "backbone", to=7), "'identity.backbone' in '/meta' is 7"),
    "card is a list": (_set("card", to=["x"]), "'card' in '/meta' is not a JSON object"),
    "name is an object": (_set("card", to={"name": {}}), "'card.name' in '/meta' is {}"),
    "weights is text": (_set("weights", to="x"), "'weights' in '/meta' is not a JSON object"),
    "recipe is a number": (_set("clean", to={"recipe": 1}), "'clean.recipe' in '/meta' is 1"),
    "versions is null": (_set("versions", to=None), "'versions' in '/meta' is not a JSON object"),
    "notes is a list": (_set("data", to={"notes": []}), r"'data.notes' in '/meta' is \[\]"),
    "precision is a number": (_set("precision", to=16), "'precision' is not a string"),
}

#: Data sets that a reader must refuse by name, with its words.
REFUSED_DATA: dict[str, tuple[str, Any, str]] = {
    "offsets negative": ("/rows/id_off", np.full(11, -5, "<i8"), "the offsets do not rise from 0"),
    "offsets beyond the end": ("/rows/id_off", np.arange(11, dtype="<i8") << 58, "the offsets do not rise"),
    "offsets fall": ("/rows/id_off", np.arange(11, dtype="<i8")[::-1].copy(), "the offsets do not rise"),
    "label of no class": ("/rows/label", np.full(10, 3, "<i4"), "holds codes 3 to 3, allowed are -1 to 2"),
    "split of no name": ("/rows/split", np.full(10, 9, "u1"), "'/rows/split' holds codes 9"),
    "status of no name": ("/rows/status", np.full((10, 2), 99, "u1"), "'/rows/status' holds codes"),
    "group below -1": ("/rows/group", np.full(10, -2, "<i4"), "'/rows/group' holds codes -2"),
    "picture of negative size": ("/image/width", np.full(10, -1, "<i4"), "'/image/width' holds codes -1"),
    "valid is 2": ("/features/text.pooled/valid", np.full(10, 2, "u1"), "holds codes 2 to 2"),
    "meta nested deeply": ("/meta", np.frombuffer(b"[" * 100_000, "u1"), "'/meta' is not JSON"),
    "meta with a number of 5,000 digits": (
        "/meta",
        np.frombuffer(b'{"a":' + b"9" * 5000 + b"}", "u1"),
        "'/meta' is not JSON",
    ),
    "meta with NaN": ("/meta", np.frombuffer(b'{"a":NaN}', "u1"), "'/meta' is not JSON"),
    "meta of no bytes": ("/meta", np.zeros(0, "u1"), "'/meta' is not JSON"),
    "meta is not UTF-8": ("/meta", np.frombuffer(b'{"a":"\xff"}', "u1"), "'/meta' is not JSON"),
}
