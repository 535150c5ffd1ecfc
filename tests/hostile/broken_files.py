"""Broken stores, runs, models, weights, arrays and spaces of a search, each made by spoiling a good one."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import random
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from heads.model_files import _card_hash
from tests.hostile.broken_data import spoiled
from tests.hostile.hdf5_corpus import TRICKS, WHOLE_FILES
from tests.hostile.sealed_stores import REFUSED_DATA, REFUSED_META, edit_data, edit_meta


@dataclass(frozen=True)
class Broken:
    """One broken file or folder: `make` spoils the good copy at a path."""

    name: str
    make: Callable[[Path], None]


class Canary:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.mark,)


#: Where code that ran would leave its mark, relative to the current folder.
MARK = "canary"


def pickles() -> dict[str, bytes]:
    """Return a pickle that leaves a mark, in every disguise."""
    plain = pickle.dumps(Canary(MARK))
    array = np.empty(1, dtype=object)
    array[0] = Canary(MARK)
    npy, archive, old = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(npy, array, allow_pickle=True)
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", plain)
        file.writestr("archive/version", "3\n")
        file.writestr("archive/byteorder", "little")
    with zipfile.ZipFile(old, "w") as file:
        file.writestr("arr_0.npy", npy.getvalue())
    return {
        "pickle": plain,
        "pickle of protocol 0": pickle.dumps(Canary(MARK), protocol=0),
        "npy of objects": npy.getvalue(),
        "npz of objects": old.getvalue(),
        "torch archive": archive.getvalue(),
        "skops archive": _skops(),
    }


def _skops() -> bytes:
    """Return what skops.io writes, with a type that runs a command."""
    schema = {
        "__class__": "system",
        "__module__": "os",
        "__loader__": "FunctionNode",
        "content": {"module_path": "os", "function": "mkdir"},
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("schema.json", json.dumps(schema))
    return buffer.getvalue()


# --- stores -----------------------------------------------------------------------------------------


def broken_stores(decoy: Path) -> list[Broken]:
    """Return every trick of the corpus, every odd entry under good hashes, and what is no store at all."""
    tricks = [Broken(t.name, lambda path, t=t: t.make(path, decoy)) for t in TRICKS]
    whole = [Broken(make.__name__, make) for make, _ in WHOLE_FILES]
    meta = [Broken(name, lambda p, e=edit: edit_meta(p, e)) for name, (edit, _) in REFUSED_META.items()]
    data = [
        Broken(name, lambda p, n=dataset, v=value: edit_data(p, n, v))
        for name, (dataset, value, _) in REFUSED_DATA.items()
    ]
    return [*tricks, *whole, *meta, *data, *(Broken(name, make) for name, make in _NO_STORES.items())]


def _replaced(content: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(content)

    return make


def _instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        path.unlink()
        make(path)

    return replace


_NO_STORES: dict[str, Callable[[Path], None]] = {
    "store_empty": _replaced(b""),
    "store_of_text": _replaced(b"id,label\na,positive\n"),
    "store_of_hdf5_signature": _replaced(b"\x89HDF\r\n\x1a\n"),
    "store_that_is_a_pickle": _replaced(pickle.dumps(Canary(MARK))),
    "store_cut_in_half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "store_without_its_last_byte": lambda path: os.truncate(path, path.stat().st_size - 1),
    "store_with_a_tail": lambda path: os.truncate(path, path.stat().st_size + 4096),
    "store_that_is_a_folder": _instead(Path.mkdir),
    "store_that_is_a_pipe": _instead(os.mkfifo),
    "store_that_links_to_itself": _instead(lambda path: path.symlink_to(path)),
    "store_that_is_gone": _instead(lambda _: None),
    "store_that_links_to_a_device": _instead(lambda path: path.symlink_to("/dev/zero")),
}


def chance_stores(seed: int, count: int) -> list[Broken]:
    """Return stores with bytes spoiled by chance."""

    def make(path: Path, number: int) -> None:
        path.write_bytes(spoiled(path.read_bytes(), random.Random(f"{seed} {number}")))

    return [Broken(f"chance_store_{n}", lambda path, n=n: make(path, n)) for n in range(count)]


# --- runs and their models --------------------------------------------------------------------------

#: What takes the place of a value of a JSON file.
_VALUES: tuple[Any, ...] = (
    None,
    -1,
    0,
    10**30,
    1e308,
    "",
    "x",
    "\ud800",
    "../../x",
    [],
    [[]],
    {},
    True,
    [None],
)


def _places(values: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every entry of JSON values, containers too."""
    items = (
        values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    )
    for key, value in items:
        yield (*here, key)
        yield from _places(value, (*here, key))


def changed_json(text: bytes, chance: random.Random) -> Any:
    """Return JSON values of which one entry, chosen by chance, is gone or something else."""
    values = json.loads(text)
    *way, last = chance.choice(list(_places(values)))
    inner = values
    for key in way:
        inner = inner[key]
    if chance.random() < 0.25:
        del inner[last]
    else:
        inner[last] = chance.choice(_VALUES)
    return values


def chance_runs(seed: int, count: int) -> list[Broken]:
    """Return runs with one entry or some bytes of one file spoiled, the model's card sealed again."""
    files = [
        "config.json",
        "metrics.json",
        "model/model.json",
        "oof.csv",
        "trials.csv",
        "model/arrays.safetensors",
    ]
    weights = [5, 5, 5, 2, 2, 1]

    def make(run: Path, number: int) -> None:
        chance = random.Random(f"{seed} {number}")
        path = run / chance.choices(files, weights)[0]
        if path.suffix != ".json" or chance.random() < 0.2:
            path.write_bytes(spoiled(path.read_bytes(), chance))
            if path.name == "arrays.safetensors":
                reseal(run / "model")
            return
        values = changed_json(path.read_bytes(), chance)
        if path.name == "model.json":
            values.pop("sha256", None)
            values["sha256"] = _card_hash(values)
        path.write_text(json.dumps(values))

    return [Broken(f"chance_run_{n}", lambda run, n=n: make(run, n)) for n in range(count)]


def reseal(model: Path) -> None:
    """Give a model's card the hashes of its files as they are, as an attacker would."""
    card = json.loads((model / "model.json").read_text())
    card["files"] = {name: hashlib.sha256((model / name).read_bytes()).hexdigest() for name in card["files"]}
    card.pop("sha256")
    (model / "model.json").write_text(json.dumps({**card, "sha256": _card_hash(card)}))


def _in_run(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    return lambda run: (make(run / name), None)[1]


def _config(**changes: Any) -> Callable[[Path], None]:
    """Change entries of the first space in config.json."""

    def make(run: Path) -> None:
        config = json.loads((run / "config.json").read_text())
        config["spaces"][0].update(changes)
        (run / "config.json").write_text(json.dumps(config))

    return make


def broken_runs() -> list[Broken]:
    """Return runs that strangers could send: links, pipes, bombs, pickles, and stores that are none."""
    made: dict[str, Callable[[Path], None]] = {
        "run_that_is_empty": lambda run: [shutil.rmtree(run), run.mkdir()][1],
        "run_that_is_a_file": lambda run: [shutil.rmtree(run), run.touch()][1],
        "run_that_is_gone": lambda run: shutil.rmtree(run),
        "run_without_model": _in_run("model", shutil.rmtree),
    }
    for path in (
        "/etc/passwd",
        "../../../etc/passwd",
        "/dev/zero",
        "gone.h5",
        "x\0y.h5",
        "a" * 5000 + ".h5",
        "",
    ):
        made[f"run_with_the_store_{path[:12]!a}"] = _config(path=path)
    for name in (
        "config.json",
        "metrics.json",
        "trials.csv",
        "oof.csv",
        "model/model.json",
        "model/arrays.safetensors",
    ):
        bombs: dict[str, Callable[[Path], object]] = {
            "gone": Path.unlink,
            "empty": _replaced(b""),
            "a link": _instead(lambda path: path.symlink_to("/etc/passwd")),
            "a pipe": _instead(os.mkfifo),
            "a folder": _instead(Path.mkdir),
            "40 GB": lambda path: os.truncate(path, 40 << 30),
            "a pickle": _replaced(pickle.dumps(Canary(MARK))),
        }
        if name.endswith(".json"):
            bombs |= {
                "nested deeply": _replaced(b"[" * 1_000_000),
                "nested objects": _replaced(b'{"a":' * 100_000),
                "a long number": _replaced(b'{"a":' + b"9" * 100_000 + b"}"),
                "a list": _replaced(b"[]"),
                "not UTF-8": _replaced(b'{"a": "\xff"}'),
            }
        if name.endswith(".csv"):
            bombs |= {
                "one endless line": _replaced(b"x" * (20 << 20)),
                "millions of rows": _replaced(b"id\n" + b"1\n" * 8_000_000),
                "millions of columns": _replaced(b"a" + b",b" * 2_000_000 + b"\n"),
                "a header alone": lambda path: path.write_bytes(path.read_bytes().split(b"\n")[0] + b"\n"),
            }
        for what, make in bombs.items():
            made[f"{name} is {what}"] = _in_run(name, make)
    for what, content in pickles().items():
        made[f"arrays are a {what}"] = _sealed_arrays(content)
    for what, header in _HEADERS.items():
        made[f"arrays with {what}"] = _sealed_arrays(header)
    return [Broken(name, make) for name, make in made.items()]


def _sealed_arrays(content: bytes) -> Callable[[Path], None]:
    def make(run: Path) -> None:
        (run / "model" / "arrays.safetensors").write_bytes(content)
        reseal(run / "model")

    return make


def safetensors_of(header: Any, body: bytes = b"", *, length: int | None = None) -> bytes:
    """Return a safetensors file with any header and any claim about its length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


_HEADERS = {
    "a header of 2^63 bytes": safetensors_of({}, length=1 << 63),
    "a header of 90 MB": safetensors_of({}, length=90_000_000),
    "a header nested deeply": safetensors_of(b'{"a":' * 50_000 + b"}" * 50_000),
    "shapes of 2^60": safetensors_of(
        {"x": {"dtype": "F32", "shape": [1 << 60], "data_offsets": [0, 4]}}, bytes(4)
    ),
    "shapes that wrap": safetensors_of(
        {"x": {"dtype": "F32", "shape": [1 << 62, 4, 0], "data_offsets": [0, 0]}}
    ),
    "a million shapes": safetensors_of(
        {"x": {"dtype": "F32", "shape": [1] * 1_000_000, "data_offsets": [0, 4]}}, bytes(4)
    ),
    "no arrays": safetensors_of({}),
}


# --- arrays and tables to import --------------------------------------------------------------------


def _npy(header: bytes, body: bytes = b"") -> bytes:
    text = header + b" " * (63 - (len(header) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


def broken_arrays() -> dict[str, tuple[str, bytes]]:
    """Return file name and content of arrays that `import` must refuse."""
    made = {
        "array_empty": ("x.npy", b""),
        "array_of_2^40_rows": (
            "x.npy",
            _npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 2)}"),
        ),
        "array_of_negative_rows": (
            "x.npy",
            _npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-5, 2)}"),
        ),
        "array_with_code_in_its_header": ("x.npy", _npy(b"__import__('os').mkdir('canary')")),
        "array_nested_deeply": ("x.npy", _npy(b"(" * 5000)),
        "array_of_text": ("x.npy", _saved(np.array([["a", "b"]] * 4))),
        "array_of_one_axis": ("x.npy", _saved(np.zeros(4, "f4"))),
        "array_of_no_width": ("x.npy", _saved(np.zeros((4, 0), "f4"))),
        "array_with_infinity": ("x.npy", _saved(np.full((4, 2), np.inf))),
        "array_partly_nan": ("x.npy", _saved(np.array([[1, np.nan]] * 4))),
        "array_of_other_rows": ("x.npy", _saved(np.ones((5, 2)))),
        "array_of_complex_numbers": ("x.npy", _saved(np.ones((4, 2), "c8"))),
        "array_of_dates": ("x.npy", _saved(np.ones((4, 2), "M8[s]"))),
        "array_of_records": ("x.npy", _saved(np.zeros((4, 2), [("a", "f4")]))),
        "array_csv_of_words": ("x.csv", b"a,b\nx,y\n" * 3),
        "array_csv_without_header": ("x.csv", b"1,2\n3,4\n5,6\n7,8\n"),
        "array_npz_of_two": ("x.npz", _saved_many(a=np.ones((4, 2)), b=np.ones((4, 2)))),
        "array_npz_bomb": ("x.npz", _zip_bomb()),
        "array_of_no_format": ("x.dat", b"1 2 3"),
        "array_parquet_that_is_none": ("x.parquet", b"PAR1"),
    }
    for what, content in pickles().items():
        made[f"array_{what}"] = ("x.npz" if content[:2] == b"PK" else "x.npy", content)
    return made


def _saved(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _saved_many(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _zip_bomb() -> bytes:
    """Return an archive of some megabytes that unpacks to 4 GB."""
    buffer = io.BytesIO()
    header = _npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (4, 1073741824)}")
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file,
        file.open("x.npy", "w", force_zip64=True) as entry,
    ):
        entry.write(header)
        for _ in range(64):
            entry.write(bytes(1 << 20))
    return buffer.getvalue()


BROKEN_SPACES = {
    "space_empty": b"",
    "space_of_no_format": b"[[[",
    "space_of_bytes": bytes(range(256)),
    "space_of_an_unknown_head": b"[forest]\ndepth = [1, 2]\n",
    "space_of_an_unknown_parameter": b"[logreg]\nnonsense = [1, 2]\n",
    "space_nested_deeply": b"a = " + b"[" * 50_000,
    "space_of_nothing_to_choose": b"[logreg]\nC = []\n",
}
