"""A disk that loses power: record what a program asks of the system, replay what a disk may have kept of it.

The rules are POSIX's, which are weaker than any file system in use: what was written to a file is on the disk
only after that file was fsynced, a change of a folder only after that folder was, and of the rest any part
may be there, in any order, writes also by halves. (Method: SQLite's ``test6.c``, and Pillai et al., "All File
Systems Are Not Created Equal", OSDI 2014.)
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Call:
    """One call: on a `node` (a file or folder by number), for entries of folders with `name`.

    `kind` is write, truncate, link, unlink, rename, fsync or note. A rename's source is in `folder` and
    `name`, its target in `to_folder` and `to_name`.
    """

    kind: str
    node: int = 0
    folder: int = 0
    name: str = ""
    to_folder: int = 0
    to_name: str = ""
    is_folder: bool = False
    offset: int = 0
    data: bytes = b""


class Recorder:
    """Writes down the calls of this process that concern files below `root`.

    Attributes
    ----------
    calls : list of Call
        First those that make what is there already, all synced.
    n_before : int
        How many of them.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.calls: list[Call] = []
        self._nodes: dict[Path, int] = {self.root: 0}
        self._files: dict[tuple[int, int], int] = {}  # (device, inode) of files that live
        self._count = 0
        for path in sorted(self.root.rglob("*")):  # what is there already is on the disk
            self._link(path)
            if path.is_file():
                self.calls.append(Call("write", self._nodes[path], data=path.read_bytes()))
                self.calls.append(Call("fsync", self._nodes[path]))
            self.calls.append(Call("fsync", self._nodes[path.parent]))
        self.n_before = len(self.calls)

    def note(self, text: str) -> None:
        """Note what the program has been told is safe."""
        self.calls.append(Call("note", name=text))

    @contextmanager
    def recording(self) -> Iterator[Recorder]:
        """Record while the block runs."""
        names = ("open", "write", "fsync", "replace", "unlink", "mkdir", "rmdir", "ftruncate")
        real: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in names}

        def wrapped(name: str) -> Callable[..., Any]:
            method = getattr(self, f"_{name}")
            return lambda *args, **options: method(real[name], *args, **options)

        for name in names:
            setattr(os, name, wrapped(name))
        try:
            yield self
        finally:
            for name in names:
                setattr(os, name, real[name])

    def _place(self, path: Any) -> tuple[int, str] | None:
        """Return (folder, name) of a path below the root."""
        where = Path(os.path.abspath(path))  # noqa: PTH100 - a path may be a link, which must not be followed
        folder = self._nodes.get(where.parent)
        return None if folder is None else (folder, where.name)

    def _link(self, path: Path) -> int:
        self._count += 1
        where = self._place(path)
        assert where is not None
        self._nodes[path] = self._count
        self.calls.append(Call("link", self._count, *where, is_folder=path.is_dir()))
        if path.is_file():
            info = path.stat()
            self._files[info.st_dev, info.st_ino] = self._count
        return self._count

    def _node_of(self, fd: int) -> int | None:
        info = os.fstat(fd)
        for path in self._nodes:
            if path.is_dir() and os.path.samestat(path.stat(), info):
                return self._nodes[path]
        return self._files.get((info.st_dev, info.st_ino))

    def _open(self, real: Callable[..., int], path: Any, flags: int, *args: Any, **options: Any) -> int:
        where = self._place(path)
        is_new = where is not None and not os.path.lexists(path) and bool(flags & os.O_CREAT)
        fd = real(path, flags, *args, **options)
        if is_new:
            self._link(Path(os.path.abspath(path)))  # noqa: PTH100
        return fd

    def _write(self, real: Callable[..., int], fd: int, data: Any) -> int:
        node, offset = self._node_of(fd), 0
        if node is not None:
            offset = os.lseek(fd, 0, os.SEEK_CUR)
        written = real(fd, data)
        if node is not None:
            self.calls.append(Call("write", node, offset=offset, data=bytes(memoryview(data)[:written])))
        return written

    def _ftruncate(self, real: Callable[..., None], fd: int, size: int) -> None:
        real(fd, size)
        node = self._node_of(fd)
        if node is not None:
            self.calls.append(Call("truncate", node, offset=size))

    def _fsync(self, real: Callable[..., None], fd: int) -> None:
        real(fd)
        node = self._node_of(fd)
        if node is not None:
            self.calls.append(Call("fsync", node))

    def _replace(self, real: Callable[..., None], source: Any, target: Any) -> None:
        start, end = self._place(source), self._place(target)
        real(source, target)
        if start is None or end is None:
            return
        old, new = Path(source).absolute(), Path(target).absolute()
        node = self._nodes.pop(old)
        self._nodes[new] = node
        for path in [path for path in self._nodes if old in path.parents]:
            self._nodes[new / path.relative_to(old)] = self._nodes.pop(path)
        self.calls.append(Call("rename", node, *start, *end))

    def _mkdir(self, real: Callable[..., None], path: Any, *args: Any, **options: Any) -> None:
        real(path, *args, **options)
        if self._place(path) is not None:
            self._link(Path(path).absolute())

    def _unlink(self, real: Callable[..., None], path: Any, **options: Any) -> None:
        where, info = self._place(path), os.lstat(path)
        real(path, **options)
        if where is not None:
            self._files.pop((info.st_dev, info.st_ino), None)
            self.calls.append(Call("unlink", self._nodes.pop(Path(path).absolute()), *where))

    def _rmdir(self, real: Callable[..., None], path: Any, **options: Any) -> None:
        where = self._place(path)
        real(path, **options)
        if where is not None:
            self.calls.append(Call("unlink", self._nodes.pop(Path(path).absolute()), *where))


@dataclass
class Disk:
    """What a disk holds: entries of folders, and the bytes of files."""

    entries: dict[int, dict[str, int]]
    content: dict[int, bytearray]
    folders: set[int]

    @classmethod
    def after(cls, calls: list[Call]) -> Disk:
        """Return a disk on which exactly these calls have arrived, in this order."""
        disk = cls({0: {}}, {}, {0})
        for call in calls:
            disk.apply(call)
        return disk

    def apply(self, call: Call) -> None:
        """Let one call arrive; what it refers to may be missing, because that did not arrive."""
        if call.kind == "write":
            content = self.content.setdefault(call.node, bytearray())
            content.extend(bytes(max(0, call.offset + len(call.data) - len(content))))
            content[call.offset : call.offset + len(call.data)] = call.data
        elif call.kind == "truncate":
            content = self.content.setdefault(call.node, bytearray())
            content.extend(bytes(max(0, call.offset - len(content))))
            del content[call.offset :]
        elif call.kind == "link":
            self.entries.setdefault(call.folder, {})[call.name] = call.node
            if call.is_folder:
                self.folders.add(call.node)
        elif call.kind == "unlink":
            self.entries.setdefault(call.folder, {}).pop(call.name, None)
        elif call.kind == "rename":
            self.entries.setdefault(call.folder, {}).pop(call.name, None)
            self.entries.setdefault(call.to_folder, {})[call.to_name] = call.node

    def tree(self, folder: int = 0) -> dict[str, bytes | dict[str, Any]]:
        """Return the folder as nested dicts, files as bytes; equal disks give equal trees."""
        return {
            name: self.tree(node) if node in self.folders else bytes(self.content.get(node, b""))
            for name, node in sorted(self.entries.get(folder, {}).items())
        }


def put_tree(tree: dict[str, Any], folder: Path) -> None:
    """Write a tree into an empty folder."""
    folder.mkdir()
    for name, item in tree.items():
        if isinstance(item, dict):
            put_tree(item, folder / name)
        else:
            (folder / name).write_bytes(item)


def read_tree(folder: Path) -> dict[str, Any]:
    """Return a real folder in the form of `Disk.tree`."""
    return {
        path.name: read_tree(path) if path.is_dir() else path.read_bytes()
        for path in sorted(folder.iterdir())
    }


def crashes(
    calls: list[Call], rng: random.Random, *, n_random: int, n_before: int = 0
) -> Iterator[tuple[list[str], list[Call]]]:
    """Yield what may be left when the power goes after `n_before` calls: (notes given, calls that arrived).

    At every point of the recording nothing, everything, only the data or only the names of what was not
    synced arrive; then `n_random` times, at a random point, a random part of it.
    """
    points = [*range(n_before, len(calls) + 1)]
    keeps: list[Callable[[Call], bool]] = [
        lambda _: False,
        lambda _: True,
        _is_data,
        lambda call: not _is_data(call),
    ]
    for point in points:
        for keep in keeps:
            yield _left(calls[:point], lambda call, keep=keep: call if keep(call) else None)
    for _ in range(n_random):
        share = rng.choice([0.1, 0.5, 0.9])
        yield _left(calls[: rng.choice(points)], lambda call, share=share: _part(call, rng, share))


def _is_data(call: Call) -> bool:
    return call.kind in ("write", "truncate")


def _part(call: Call, rng: random.Random, share: float) -> Call | None:
    """Return the call, nothing, or a torn write."""
    if call.kind == "write" and rng.random() < 0.2:
        return replace(call, data=call.data[: rng.randrange(len(call.data) + 1)])
    return call if rng.random() < share else None


def _left(done: list[Call], keep: Callable[[Call], Call | None]) -> tuple[list[str], list[Call]]:
    """Return the notes among `done`, and the calls that arrived: synced ones, and those that `keep` keeps."""
    last_sync: dict[int, int] = {}
    for i, call in enumerate(done):
        if call.kind == "fsync":
            last_sync[call.node] = i
    notes, arrived = [], []
    for i, call in enumerate(done):
        if call.kind == "note":
            notes.append(call.name)
        elif call.kind != "fsync":
            # A rename across folders is one step of the file system's journal; its target's fsync forces it.
            holder = call.node if _is_data(call) else call.to_folder if call.kind == "rename" else call.folder
            kept = call if last_sync.get(holder, -1) > i else keep(call)
            if kept is not None:
                arrived.append(kept)
    return notes, arrived
