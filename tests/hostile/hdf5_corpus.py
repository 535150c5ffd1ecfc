"""Hostile HDF5 files: each trick spoils a good store in one way, and has the words of its refusal."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t, h5z

LABEL = "/rows/label"
ZSTD = 32015


@dataclass(frozen=True)
class Trick:
    """One way to spoil a store.

    Attributes
    ----------
    name : str
    spoil : callable
        Takes the open file and the path of a file that no reader may open.
    message : str
        Regular expression of the reason, after "is refused: ".
    """

    name: str
    spoil: Callable[[Any, Path], None]
    message: str

    def make(self, path: Path, decoy: Path) -> None:
        """Spoil the store at `path`."""
        with h5py.File(path, "r+") as file:
            self.spoil(file, decoy)


TRICKS: list[Trick] = []


def _trick(message: str) -> Callable[[Callable[[Any, Path], None]], Callable[[Any, Path], None]]:
    def register(spoil: Callable[[Any, Path], None]) -> Callable[[Any, Path], None]:
        TRICKS.append(Trick(spoil.__name__, spoil, message))
        return spoil

    return register


# --- other files ------------------------------------------------------------------------------------


@_trick("'/rows/label' is a soft or external link")
def external_link(file: Any, decoy: Path) -> None:
    del file[LABEL]
    file[LABEL] = h5py.ExternalLink(str(decoy), "/x")


@_trick("'/rows' is a soft or external link")
def external_group(file: Any, decoy: Path) -> None:
    del file["/rows"]
    file["/rows"] = h5py.ExternalLink(str(decoy), "/")


@_trick("'/rows/label' keeps its data in another file")
def external_storage(file: Any, decoy: Path) -> None:
    del file[LABEL]
    file.create_dataset(LABEL, shape=(10,), dtype="<i4", external=[(str(decoy), 0, 40)])


@_trick("'/rows/label' keeps its data in another file")
def external_storage_in_many_pieces(file: Any, decoy: Path) -> None:
    del file[LABEL]
    pieces = [(str(decoy), 4 * i, 4) for i in range(10)]
    file.create_dataset(LABEL, shape=(10,), dtype="<i4", external=pieces)


@_trick("'/rows/label' is a virtual data set")
def virtual(file: Any, decoy: Path) -> None:
    del file[LABEL]
    layout = h5py.VirtualLayout(shape=(10,), dtype="<i4")
    layout[:] = h5py.VirtualSource(str(decoy), "x", shape=(10,))
    file.create_virtual_dataset(LABEL, layout)


@_trick("'/rows/label' is a virtual data set")
def virtual_on_itself(file: Any, decoy: Path) -> None:
    del file[LABEL]
    layout = h5py.VirtualLayout(shape=(10,), dtype="<i4")
    layout[:] = h5py.VirtualSource(".", "/rows/group", shape=(10,))
    file.create_virtual_dataset(LABEL, layout)


@_trick("'/rows/label' is compressed or filtered")
def filter_plugin(file: Any, decoy: Path) -> None:
    """Ask for a plug-in that HDF5 would look for in HDF5_PLUGIN_PATH."""
    del file[LABEL]
    created = h5p.create(h5p.DATASET_CREATE)
    created.set_chunk((10,))
    created.set_filter(ZSTD, h5z.FLAG_OPTIONAL, (3,))
    h5d.create(file.id, LABEL.encode(), h5t.STD_I32LE, h5s.create_simple((10,)), created)


# --- cycles and crowds ------------------------------------------------------------------------------


@_trick("'/rows/label' is a soft or external link")
def soft_link(file: Any, decoy: Path) -> None:
    del file[LABEL]
    file[LABEL] = h5py.SoftLink("/rows/group")


@_trick("'/rows/loop' is a soft or external link")
def soft_link_cycle(file: Any, decoy: Path) -> None:
    file["/rows/loop"] = h5py.SoftLink("/rows/loop2")
    file["/rows/loop2"] = h5py.SoftLink("/rows/loop")


@_trick("'/rows/nowhere' is a soft or external link")
def dangling_link(file: Any, decoy: Path) -> None:
    file["/rows/nowhere"] = h5py.SoftLink("/gone")


@_trick("'/rows/loop' is reached by two links")
def hard_link_cycle(file: Any, decoy: Path) -> None:
    file["/rows/loop"] = file["/rows"]


@_trick("'/rows/up' is reached by two links")
def hard_link_to_the_root(file: Any, decoy: Path) -> None:
    file["/rows/up"] = file["/"]


@_trick(r"'/rows/\w+' is reached by two links")
def second_name(file: Any, decoy: Path) -> None:
    file["/rows/again"] = file[LABEL]


@_trick("'/a/b/c/d/e' lies more than 4 groups deep")
def deep(file: Any, decoy: Path) -> None:
    file.create_group("/a/b/c/d/e/f")


@_trick("'/g/g/g/g/g' lies more than 4 groups deep")
def ten_thousand_deep(file: Any, decoy: Path) -> None:
    group = file
    for _ in range(10_000):
        group = group.create_group("g")


@_trick("'/x+' has a name of 300 bytes")
def long_name(file: Any, decoy: Path) -> None:
    file.create_group("/" + "x" * 300)


@_trick("'/crowd' has more than 1000 members")
def crowd(file: Any, decoy: Path) -> None:
    for number in range(1001):
        file.create_group(f"/crowd/{number}")


@_trick("is one of more than 1000 objects")
def crowds_of_crowds(file: Any, decoy: Path) -> None:
    for number in range(1100):
        file.create_group(f"/crowd{number // 600}/{number}")


# --- sizes ------------------------------------------------------------------------------------------


@_trick("'/rows/label' declares 4,398,046,511,104 bytes, more than the file has")
def sparse(file: Any, decoy: Path) -> None:
    del file[LABEL]
    file.create_dataset(LABEL, shape=(1 << 40,), dtype="<i4", chunks=(1024,))


@_trick(r"'/rows/label' declares 73,786,976,294,838,206,464 bytes, more than the file has")
def more_than_64_bits(file: Any, decoy: Path) -> None:
    """Declare 2**66 bytes, which is 0 when it wraps around in 64 bits."""
    del file[LABEL]
    file.create_dataset(LABEL, shape=(1 << 32, 1 << 32), dtype="<i4", chunks=(1, 1024))


@_trick("'/rows/label' declares 40 bytes and stores 0")
def half_stored(file: Any, decoy: Path) -> None:
    del file[LABEL]
    file.create_dataset(LABEL, shape=(10,), dtype="<i4")


@_trick("'/rows/label' is compressed or filtered")
def gzip_bomb(file: Any, decoy: Path) -> None:
    del file[LABEL]
    file.create_dataset(LABEL, data=np.zeros(5_000_000, dtype="<i4"), compression="gzip")


@_trick("'/rows/label' is compressed or filtered")
def fletcher(file: Any, decoy: Path) -> None:
    data = file[LABEL][()]
    del file[LABEL]
    file.create_dataset(LABEL, data=data, fletcher32=True, chunks=(10,))


@_trick("'/rows/extra' holds a single value or none, not rows")
def single_value(file: Any, decoy: Path) -> None:
    file["/rows/extra"] = np.int32(7)


@_trick("'/rows/extra' holds a single value or none, not rows")
def null_space(file: Any, decoy: Path) -> None:
    file["/rows/extra"] = h5py.Empty("<i4")


# --- types ------------------------------------------------------------------------------------------


def _typed(file: Any, data: Any, dtype: Any = None) -> None:
    del file[LABEL]
    file.create_dataset(LABEL, data=data, dtype=dtype)


@_trick("'/rows/label' has a type other than uint8, int32")
def vlen_string(file: Any, decoy: Path) -> None:
    _typed(file, ["a"] * 10, h5py.string_dtype())


@_trick("'/rows/label' has a type other than")
def vlen_array(file: Any, decoy: Path) -> None:
    del file[LABEL]
    rows = file.create_dataset(LABEL, shape=(10,), dtype=h5py.vlen_dtype("<i4"))
    rows[0] = np.arange(3, dtype="<i4")


@_trick("'/rows/label' has a type other than")
def object_reference(file: Any, decoy: Path) -> None:
    _typed(file, [file["/rows"].ref] * 10, h5py.ref_dtype)


@_trick("'/rows/label' has a type other than")
def region_reference(file: Any, decoy: Path) -> None:
    region = file[LABEL].regionref[0:2]
    _typed(file, [region] * 10, h5py.regionref_dtype)


@_trick("'/rows/label' has a type other than")
def opaque(file: Any, decoy: Path) -> None:
    _typed(file, np.zeros(10, dtype="V16"))


@_trick("'/rows/label' has a type other than")
def compound(file: Any, decoy: Path) -> None:
    _typed(file, np.zeros(10, dtype=[("a", "<i4"), ("b", "<f4")]))


@_trick("'/rows/label' has a type other than")
def enumeration(file: Any, decoy: Path) -> None:
    _typed(file, np.zeros(10, dtype="<i4"), h5py.enum_dtype({"a": 0, "b": 1}, basetype="<i4"))


@_trick("'/rows/label' has a type other than")
def big_endian(file: Any, decoy: Path) -> None:
    _typed(file, file[LABEL][()].astype(">i4"))


@_trick("'/rows/type' is neither a group nor a data set")
def named_type(file: Any, decoy: Path) -> None:
    file["/rows/type"] = np.dtype("<i4")


# --- attributes -------------------------------------------------------------------------------------


@_trick("'format' is an attribute that is not one number or short string")
def vlen_attribute(file: Any, decoy: Path) -> None:
    file.attrs["format"] = "embedonce-features"


@_trick("'more' is an attribute that is not one number")
def array_attribute(file: Any, decoy: Path) -> None:
    file.attrs["more"] = np.zeros(4000)


@_trick("'more' is an attribute that is not one number")
def reference_attribute(file: Any, decoy: Path) -> None:
    file.attrs["more"] = file["/rows"].ref


@_trick("'/' has more than 64 attributes")
def many_attributes(file: Any, decoy: Path) -> None:
    for number in range(100):
        file.attrs[f"a{number}"] = np.int64(number)


# --- whole files ------------------------------------------------------------------------------------


def huge_attribute(path: Path) -> None:
    """Rewrite a store in the latest layout, whose attributes may be larger than 64 KiB: one of 60 MB."""
    data = path.read_bytes()
    path.unlink()
    with h5py.File(path, "w", libver="latest") as new, h5py.File.in_memory(data) as old:
        for name in old:
            old.copy(name, new)
        for name, value in old.attrs.items():
            new.attrs[name] = value
        new.attrs.create("format", np.bytes_(b"e" * 60_000_000))


def user_block(path: Path) -> None:
    """Put a shell script before the store, where HDF5 looks over it."""
    data = path.read_bytes()
    path.write_bytes(b"#!/bin/sh\ntouch owned\nexit\n".ljust(512, b"\n") + data)


def sparse_giant(path: Path) -> None:
    """Grow the file to 1 TB without storing anything: the size cap speaks first."""
    os.truncate(path, 1 << 40)


#: Makers of whole files with the refusal each gets.
WHOLE_FILES: list[tuple[Callable[[Path], None], str]] = [
    (huge_attribute, "'format' is an attribute that is not one number or short string"),
    (user_block, "'/' stands behind 512 bytes of something else"),
    (sparse_giant, "1,099,511,627,776 bytes; at most"),
]
