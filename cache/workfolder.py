"""The folder of an unfinished pass: where its files lie and what their names say.

``<name>.h5.work/`` holds ``LOCK``, ``plan.json`` and ``shards/<start>-<stop>-<fp8>-<sha16>.h5``. The names
are the journal: a shard counts when its file has its final name, and its content is what the name says.
"""

from __future__ import annotations

import json
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.durable import TMP_SUFFIX, sync_folder
from cache.errors import StoreCorruptError, StoreIncompleteError
from cache.fingerprint import canonical_json, sha256_hex
from cache.plan import Plan, is_fingerprint

WORK_SUFFIX = ".work"
BAD_SUFFIX = ".bad"
MAX_PLAN_BYTES = 16 << 20
_SHARD = re.compile(r"(\d{10})-(\d{10})-([0-9a-f]{8})-([0-9a-f]{16})\.h5", re.ASCII)


@dataclass(frozen=True)
class Shard:
    """What the name of a shard file says.

    Attributes
    ----------
    start, stop : int
        Row range, `stop` not included.
    tag : str
        `modality_tag` of the plan and modality it belongs to.
    digest : str
        First 16 hexadecimal digits of the SHA-256 of the file.
    """

    start: int
    stop: int
    tag: str
    digest: str

    @property
    def name(self) -> str:
        """Name of the file."""
        return f"{self.start:010d}-{self.stop:010d}-{self.tag}-{self.digest}.h5"

    @classmethod
    def parse(cls, name: str) -> Shard | None:
        """Return what `name` says, or None if no shard is called that."""
        match = _SHARD.fullmatch(name)
        return None if match is None else cls(int(match[1]), int(match[2]), match[3], match[4])


@dataclass(frozen=True)
class WorkFolder:
    """Paths inside the work folder of one store.

    Attributes
    ----------
    target : pathlib.Path
        The store that will be published.
    """

    target: Path

    @property
    def root(self) -> Path:
        """The folder itself, beside the target."""
        return self.target.with_name(self.target.name + WORK_SUFFIX)

    @property
    def lock(self) -> Path:
        """Locked while a pass runs; its JSON names the writer."""
        return self.root / "LOCK"

    @property
    def plan(self) -> Path:
        """Fingerprint, plan and shard size; written once."""
        return self.root / "plan.json"

    @property
    def shards(self) -> Path:
        """Folder of the shard files."""
        return self.root / "shards"


@dataclass(frozen=True)
class RecordedPlan:
    """Content of ``plan.json``.

    Attributes
    ----------
    fingerprint : str
    shard_rows : int
    fields : dict
        `Plan.as_json` of the pass that started the folder.
    """

    fingerprint: str
    shard_rows: int
    fields: dict[str, Any]

    @property
    def n_rows(self) -> int:
        """Rows planned."""
        return int(self.fields["n_rows"])

    @property
    def modalities(self) -> list[str]:
        """Modalities planned."""
        return list(self.fields["modalities"])


def encode_plan(plan: Plan) -> bytes:
    """Return the content of ``plan.json``."""
    return canonical_json(
        {"fingerprint": plan.fingerprint, "shard_rows": plan.shard_rows, "plan": plan.as_json()}
    )


def read_plan(folder: WorkFolder) -> RecordedPlan | None:
    """Return the plan that started the folder, or None if there is none.

    Raises
    ------
    StoreCorruptError
        If ``plan.json`` is not what a pass writes.
    """
    try:
        info = folder.plan.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    # Looked at before it is opened: a work folder may be a stranger's, and a pipe would block for ever.
    if not stat.S_ISREG(info.st_mode) or info.st_size > MAX_PLAN_BYTES:
        raise _damaged(folder)
    try:
        parsed = json.loads(folder.plan.read_bytes())
        recorded = RecordedPlan(parsed["fingerprint"], parsed["shard_rows"], parsed["plan"])
        good = (
            is_fingerprint(recorded.fingerprint)
            and sha256_hex(canonical_json(recorded.fields)) == recorded.fingerprint
            and type(recorded.shard_rows) is int
            and recorded.shard_rows >= 1
            and recorded.n_rows >= 1
            and all(isinstance(modality, str) for modality in recorded.modalities)
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(folder) from error
    if not good:
        raise _damaged(folder)
    return recorded


def _damaged(folder: WorkFolder) -> StoreCorruptError:
    return StoreCorruptError(
        f"'{folder.plan}' is damaged, so the shards beside it cannot be trusted. Delete the folder "
        f"'{folder.root}' and start the pass again."
    )


def modality_tag(fingerprint: str, modality: str) -> str:
    """Return the 8 hexadecimal digits that mark shards of one modality of one plan."""
    return sha256_hex(f"{fingerprint}:{modality}".encode())[:8]


def list_shards(folder: WorkFolder) -> list[Shard]:
    """Return all shards by name, in row order; files of other names are left out."""
    if not folder.shards.is_dir():
        return []
    found = (Shard.parse(item.name) for item in folder.shards.iterdir())
    return sorted(
        (shard for shard in found if shard is not None), key=lambda shard: (shard.start, shard.name)
    )


def unfinished(path: str | Path) -> tuple[int, int] | None:
    """Return how far an unfinished pass has come.

    Parameters
    ----------
    path : str or pathlib.Path
        The store, or its work folder.

    Returns
    -------
    (int, int) or None
        Rows done and rows planned, counted over all modalities; None if no pass is under way. Counts names
        only; the next pass checks the content.

    Raises
    ------
    StoreCorruptError
        If the folder's plan is damaged, and there are shards.
    """
    folder = _folder_of(Path(path))
    try:
        recorded = read_plan(folder)
    except StoreCorruptError:
        if list_shards(folder):
            raise
        return None  # written for good with the first shard only: a power cut may tear it before
    if recorded is None:
        return None
    tags = {modality_tag(recorded.fingerprint, modality) for modality in recorded.modalities}
    ranges = {(shard.tag, shard.start, shard.stop) for shard in list_shards(folder) if shard.tag in tags}
    return sum(stop - start for _, start, stop in ranges), recorded.n_rows * len(recorded.modalities)


def _folder_of(path: Path) -> WorkFolder:
    return WorkFolder(
        path.with_name(path.name.removesuffix(WORK_SUFFIX)) if path.name != WORK_SUFFIX else path
    )


def refuse_unfinished(path: Path) -> None:
    """Refuse a work folder, and a store of which only the work folder is there.

    Raises
    ------
    StoreIncompleteError
        Saying how much is done and how to go on.
    """
    is_work = path.name.endswith(WORK_SUFFIX) and path.is_dir()
    if not is_work and path.exists():
        return
    progress = unfinished(path)
    if progress is None:
        return
    done, total = progress
    raise StoreIncompleteError(
        f"'{_folder_of(path).target}' is not finished: {done:,} of {total:,} inputs are embedded. "
        "Run the same extract command again to go on where it stopped.",
        done=done,
        total=total,
    )


def remove_temporary(folder: WorkFolder) -> None:
    """Remove what killed writes left behind."""
    for place in (folder.root, folder.shards):
        for path in place.glob(f"*{TMP_SUFFIX}"):
            path.unlink()


def clear(folder: WorkFolder) -> None:
    """Remove plan and shards; the plan first, because shards without a plan are known to be rubbish."""
    shards = list_shards(folder)
    if folder.plan.exists():
        folder.plan.unlink()
        if shards:
            sync_folder(folder.root)
    for shard in shards:
        (folder.shards / shard.name).unlink()
    for path in folder.shards.glob(f"*{BAD_SUFFIX}"):
        path.unlink()


def remove_folder(folder: WorkFolder) -> None:
    """Remove the folder of a finished pass; anything a person put there stays, and the folder with it."""
    remove_temporary(folder)
    if folder.shards.is_dir() and not any(folder.shards.iterdir()):
        folder.shards.rmdir()
    if {item.name for item in folder.root.iterdir()} <= {folder.lock.name}:
        folder.lock.unlink(missing_ok=True)
        folder.root.rmdir()
