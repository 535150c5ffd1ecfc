"""``embedonce doctor``: whether a pass would run here, and what earlier ones left behind."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.console import duration, say, say_json, size, table, tell
from pipelines.errors import RunError
from pipelines.machine import Machine, look_at_machine
from pipelines.unfinished_work import UnfinishedWork, unfinished_passes, unfinished_runs

if TYPE_CHECKING:
    from extract import Backbone, DataSet

_PACKAGE = "embedonce"
#: Least free disk space without a planned pass: room for a small store and its shards.
_LEAST_FREE = 100_000_000


@dataclass(frozen=True)
class DoctorSettings:
    """Settings of ``embedonce doctor``, as on the command line."""

    out: Path = Path("features")
    runs: Path = Path("runs")
    data: Path | None = None
    backbone: tuple[str, ...] = ()
    weights: Path | None = None
    views: int = 0
    columns: Mapping[str, str] | None = None
    encodings: tuple[str, ...] = ("utf-8", "gb18030", "cp1252")


@dataclass
class Findings:
    """What the doctor saw.

    Attributes
    ----------
    faults : list of str
        What would stop a pass, one sentence each with what to do.
    notes : list of str
        What is worth knowing.
    versions : dict of str to str
        Package -> version, required ones only.
    extras : dict of str to list of str
        Optional group -> packages of it that are missing.
    machine : Machine
    disk : dict
        The folder looked at, ``free_bytes``, and ``needed_bytes`` of the planned pass (None without one).
    offline : list of str
        Registered backbones whose weights are on this machine.
    registered : int
        How many backbones there are.
    unfinished : list of UnfinishedWork
        Passes, then runs.
    """

    machine: Machine
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    extras: dict[str, list[str]] = field(default_factory=dict)
    disk: dict[str, Any] = field(default_factory=dict)
    offline: list[str] = field(default_factory=list)
    registered: int = 0
    unfinished: list[UnfinishedWork] = field(default_factory=list)


def examine(settings: DoctorSettings) -> Findings:
    """Look at everything that a pass needs; whatever is wrong becomes a fault, and nothing stays behind."""
    found = Findings(look_at_machine())
    _packages(found)
    _gpu_build(found)
    needed = _planned_bytes(settings, found)
    _disk(settings.out, needed, found)
    _weights(found)
    if settings.runs.is_file():
        found.faults.append(f"'{settings.runs}' is a file, but runs lie in a folder. Pass --runs DIR.")
    found.unfinished = [*unfinished_passes(settings.out, settings.data), *unfinished_runs(settings.runs)]
    found.faults += [work.fault for work in found.unfinished if work.fault]
    return found


# --- packages ---------------------------------------------------------------------------------------


def _packages(found: Findings) -> None:
    """Compare what is installed with what the package asks for."""
    import platform

    from packaging.requirements import Requirement

    found.versions["python"] = platform.python_version()
    try:
        found.versions[_PACKAGE] = version(_PACKAGE)
        asked = [Requirement(text) for text in requires(_PACKAGE) or ()]
        extras = metadata(_PACKAGE).get_all("Provides-Extra") or []
    except PackageNotFoundError:
        found.notes.append(f"'{_PACKAGE}' is not installed as a package, so versions are not compared")
        return
    for requirement in asked:
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            fault = _fault_of(requirement, found.versions)
            if fault:
                found.faults.append(f"{fault}: pip install '{requirement}'")
    for extra in extras:
        mine = [r for r in asked if r.marker is not None and r.marker.evaluate({"extra": extra})]
        wanted = [r for r in mine if r.marker is not None and not r.marker.evaluate({"extra": ""})]
        found.extras[extra] = sorted(r.name for r in wanted if r.name != _PACKAGE and _fault_of(r, {}))


def _fault_of(requirement: Any, versions: dict[str, str]) -> str:
    """Return what is wrong with an installed package, and note its version."""
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        return f"'{requirement.name}' is not installed"
    versions[requirement.name] = installed
    if requirement.specifier.contains(installed, prereleases=True):
        return ""
    return f"'{requirement.name}' is {installed}, but {requirement.specifier} is needed"


def _gpu_build(found: Findings) -> None:
    """Note a GPU that this torch cannot use; its version says how it was built."""
    machine = found.machine
    if machine.gpu_note:
        found.notes.append(machine.gpu_note)
    if (machine.gpus or machine.gpu_note) and "+cpu" in found.versions.get("torch", ""):
        found.notes.append(
            "a GPU is here, but this torch was built without GPU support: --device cpu is used"
        )


# --- the planned pass -------------------------------------------------------------------------------


def _planned_bytes(settings: DoctorSettings, found: Findings) -> int | None:
    """Return the disk space that the planned pass needs; None when it is not known."""
    data_set = _data_set(settings, found)
    needed = 0
    for name in settings.backbone:
        backbone = _backbone(name, settings.weights, found)
        if backbone is None or data_set is None:
            continue
        try:
            needed += _bytes_of_pass(backbone, data_set, settings.views)
        except ValueError as error:
            found.faults.append(str(error))
    return needed or None


def _data_set(settings: DoctorSettings, found: Findings) -> DataSet | None:
    if settings.data is None:
        return None
    from extract import read_data_set

    try:
        data_set = read_data_set(settings.data, columns=settings.columns, encodings=settings.encodings)
    except (ValueError, OSError) as error:
        found.faults.append(str(error))
        return None
    found.notes.append(
        f"'{settings.data}' lists {len(data_set.samples):,} samples with {' and '.join(data_set.modalities)}"
    )
    return data_set


def _backbone(name: str, weights: Path | None, found: Findings) -> Backbone | None:
    """Open a backbone by name; a fault if there is none, or its weights can neither be found nor fetched."""
    from extract import WeightsMissingError, open_backbone

    try:
        backbone = open_backbone(name, weights=weights)
        backbone.check_available(download=False)
    except WeightsMissingError as error:
        if os.environ.get("HF_HUB_OFFLINE") or not str(error).startswith("Weights '"):
            found.faults.append(str(error))
            return None
        found.notes.append(f"the weights of '{name}' are not here; the pass downloads them first")
        return open_backbone(name, weights=weights) if not name.startswith("hf:") else None
    except (ValueError, OSError, ImportError) as error:
        found.faults.append(str(error))
        return None
    return backbone


def _bytes_of_pass(backbone: Backbone, data_set: DataSet, views: int) -> int:
    """Return what a pass with the default readouts needs, by the rule that the pass itself uses."""
    from cache import Plan, SpaceSpec, required_bytes
    from extract.choices import shared_modalities

    modalities = shared_modalities(data_set, backbone)
    spaces = tuple(
        SpaceSpec(f"{m}.pooled", backbone.card.width(m, "pooled"), "float32", "planned", views=views)
        for m in modalities
    )
    plan = Plan(backbone.card.name, len(data_set.samples), 256, spaces, modalities, {})
    return required_bytes(plan)


def _disk(out: Path, needed: int | None, found: Findings) -> None:
    """Try to write where stores go, and compare the free space."""
    folder = out.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    found.disk = {"folder": str(folder), "free_bytes": None, "needed_bytes": needed}
    if not folder.is_dir():
        found.faults.append(
            f"'{folder}' is not a folder, so nothing can be written to '{out}'. Pass --out DIR."
        )
        return
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        found.faults.append(f"nothing can be written to '{folder}' ({error.strerror}). Pass --out DIR.")
        return
    free = shutil.disk_usage(folder).free
    found.disk["free_bytes"] = free
    if free < (needed or _LEAST_FREE):
        what = "the planned pass needs" if needed else "a small pass needs about"
        found.faults.append(
            f"'{folder}' has {size(free)} free, but {what} {size(needed or _LEAST_FREE)}. Free some space, "
            "or pass --out DIR on another disk."
        )


def _weights(found: Findings) -> None:
    """List the registered backbones whose weights are on this machine."""
    from extract import WeightsMissingError, backbone_names, open_backbone

    names = backbone_names()
    found.registered = len(names)
    for name in names:
        try:
            open_backbone(name).check_available(download=False)
        except WeightsMissingError:
            continue
        except (ValueError, OSError) as error:
            found.notes.append(f"the weights of '{name}' are here, but cannot be used: {error}")
            continue
        found.offline.append(name)


# --- what is printed --------------------------------------------------------------------------------


def print_findings(found: Findings, *, began: float, as_json: bool) -> None:
    """Print what was found.

    Raises
    ------
    RunError
        If there are faults, so that the command ends with status 1.
    """
    if as_json:
        say_json({"ok": not found.faults, **asdict(found)})
    else:
        _print_machine(found)
        _print_weights(found)
        _print_unfinished(found.unfinished)
        for note in found.notes:
            say(f"note: {note}")
        for fault in found.faults:
            say(f"FAULT: {fault}")
    if found.faults:
        raise RunError(f"{len(found.faults)} fault(s) would stop a pass; each is listed above.")
    tell(f"Nothing would stop a pass (looked at in {duration(time.perf_counter() - began)}).")


def _print_machine(found: Findings) -> None:
    machine, disk = found.machine, found.disk
    say(table(list(found.versions.items()), ["package", "version"]))
    lacking = [f"{extra} (lacks {', '.join(names)})" for extra, names in found.extras.items() if names]
    complete = [extra for extra, names in found.extras.items() if not names]
    say(f"extras: {', '.join([*complete, *lacking]) or 'not known'}")
    say()
    say(f"processors: {machine.cores}; memory: {size(machine.memory_bytes)}")
    gpus = [f"{g.name}, {size(g.free_bytes)} of {size(g.total_bytes)} free" for g in machine.gpus]
    say(f"GPU: {'; '.join(gpus) or 'none found'}")
    free = "cannot be written to" if disk["free_bytes"] is None else f"{size(disk['free_bytes'])} free"
    needed = (
        "" if disk["needed_bytes"] is None else f", {size(disk['needed_bytes'])} needed by the planned pass"
    )
    say(f"disk: '{disk['folder']}' {free}{needed}")


def _print_weights(found: Findings) -> None:
    names = ", ".join(found.offline) or "none"
    say(f"weights on this machine: {len(found.offline)} of {found.registered} backbones: {names}")


def _print_unfinished(works: Sequence[UnfinishedWork]) -> None:
    say(f"unfinished: {len(works) or 'nothing'}")
    for work in works:
        total = "" if work.total is None else f" of {work.total:,}"
        done = "" if work.done is None else f": {work.done:,}{total} done"
        state = f" (held by {work.holder})" if work.holder else ""
        say(f"  {work.folder}{done}{state}")
        if work.command and not work.holder:
            say(f"    go on with: {work.command}")
