"""Runs: a folder with settings, scores, model, predictions and report, which appears whole or not at all.

While a run works, everything lies in ``<name>.work/`` beside it: finished trials (so that an interrupted run
goes on), then the finished files, which one rename makes visible.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cache import canonical_json, sha256_hex, sync_folder, write_file
from pipelines.errors import RunError
from pipelines.hashed_files import read_hashed, write_hashed
from pipelines.run_reading import check_config as check_config
from pipelines.run_reading import read_csv as read_csv
from pipelines.run_reading import read_json as read_json
from pipelines.work_lock import refuse_link, work_lock
from tuning import Configuration, Trial

CONFIG = "config.json"
METRICS = "metrics.json"
TRIALS = "trials.csv"
OUT_OF_FOLD = "oof.csv"
PREDICTIONS = "predictions.csv"
MODEL = "model"
REPORT = "report.html"


class RunFolder:
    """A run while it works.

    Parameters
    ----------
    out : Path
        Folder of the runs.
    name : str or None
        Name of the run; None makes one from the settings, so that the same command finds the same run.
    config : Mapping
        Every setting, JSON-able.

    Raises
    ------
    RunError
        If a run of this name exists or has begun with other settings (the first difference is named), or
        `out` is a file.
    """

    def __init__(self, out: Path, name: str | None, config: Mapping[str, Any]) -> None:
        if out.exists() and not out.is_dir():
            raise RunError(f"'{out}' is a file, but runs go into a folder. Choose another --out.")
        self.config = dict(config)
        self.path = out / (name or f"{config['command']}-{sha256_hex(canonical_json(self.identity))[:10]}")
        self.work = self.path.with_name(f"{self.path.name}.work")
        for folder in (self.path, self.work):
            if (folder / CONFIG).is_file():
                self._refuse_other(folder)
        if self.is_done and self.work.is_dir():
            self._remove_leftovers()

    @property
    def identity(self) -> dict[str, Any]:
        """Settings that may change the result: not the versions, nor where files lie."""
        return _identity(self.config)

    @property
    def is_done(self) -> bool:
        """Whether the finished run is there."""
        return (self.path / METRICS).is_file()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Hold the run for this process, and note its settings in the work folder.

        The system lets go of the lock when the process ends, however it does.

        Raises
        ------
        RunError
            If another process holds the run, or has just finished it, or something else is in its place.
        OSError
            If the work folder or one in it is a link.
        """
        if self.path.exists() and not self.is_done:
            raise RunError(
                f"'{self.path}' exists and is not a run (it has no {METRICS}). Choose another --out or "
                "--study."
            )
        with work_lock(self.work) as is_free:
            if not is_free:
                raise RunError(
                    f"Run '{self.path}' is being made by another process right now. Wait for it, or choose "
                    "another --out."
                )
            if self.is_done:
                shutil.rmtree(self.work)
                raise RunError(f"Run '{self.path}' was finished by another process just now; use it.")
            for name in ("trials", "result"):
                refuse_link(self.work / name)
            (self.work / "trials").mkdir(exist_ok=True)
            # What a killed call was writing, temporary files too, would be published with the rest.
            shutil.rmtree(self.work / "result", ignore_errors=True)
            write_file(self.work / CONFIG, _json(self.config))
            sync_folder(self.path.parent)  # else a power cut could take the work folder and all its trials
            yield

    @property
    def memory(self) -> TrialFolder:
        """Finished trials of this run."""
        return TrialFolder(self.work / "trials")

    @property
    def result(self) -> Path:
        """Where finished files are put before they are made visible."""
        folder = self.work / "result"
        folder.mkdir(exist_ok=True)
        return folder

    def publish(self) -> Path:
        """Make the finished run visible and remove the work folder."""
        write_file(self.result / CONFIG, _json(self.config))
        self.result.replace(self.path)
        sync_folder(self.path.parent)  # a power cut must not keep the removal below and lose the rename
        shutil.rmtree(self.work)
        return self.path

    def _remove_leftovers(self) -> None:
        """Remove the work folder of a finished run, whose process was killed while it tidied up."""
        with work_lock(self.work) as is_free:
            if is_free:  # else that process is still at it
                shutil.rmtree(self.work, ignore_errors=True)

    def _refuse_other(self, folder: Path) -> None:
        from cache import first_difference

        recorded = read_json(folder / CONFIG)
        difference = first_difference(_identity(recorded), self.identity)
        if difference is not None:
            field, old, new = difference
            raise RunError(
                f"Run '{folder}' was made with {field} = {old!r}, but {new!r} was asked for. Choose another "
                "--study or --out, or remove that folder."
            )


def noted_weights(weights: Mapping[str, Path] | None) -> dict[str, Any]:
    """Return what the settings of a run say of folders of weights, so that ``--config`` finds them again.

    Parameters
    ----------
    weights : mapping of str to Path, or None
        Backbone -> folder.

    Returns
    -------
    dict
        Empty without folders. No part of a run's identity: their hash is compared with the store's.
    """
    named = {name: str(folder) for name, folder in (weights or {}).items()}
    return {"inputs": {"weights": named}} if named else {}


def _identity(config: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in config.items() if key not in ("versions", "storage", "inputs")}
    kept["spaces"] = [
        {k: v for k, v in space.items() if k not in ("path",)} for space in config.get("spaces", [])
    ]
    identity: dict[str, Any] = json.loads(canonical_json(kept))
    return identity


class TrialFolder:
    """Finished trials on disk, one file each: the `tuning.TrialMemory` of a run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> Trial | None:
        """Return the stored trial, or None. A file that was cut short or changed does not count."""
        stored = read_hashed(self._folder / f"{key}.trial")
        if stored is None:
            return None
        facts, oof = stored
        return Trial(
            number=facts["number"],
            configuration=Configuration(**facts["configuration"]),
            score=facts["score"],
            fold_scores=facts["fold_scores"],
            seconds=facts["seconds"],
            oof=oof,
            rung=facts["rung"],
            asked=None if facts.get("asked") is None else Configuration(**facts["asked"]),
        )

    def put(self, trial: Trial) -> None:
        """Store a trial durably."""
        facts = {
            "number": trial.number,
            "configuration": trial.configuration.as_dict(),
            "score": trial.score,
            "fold_scores": trial.fold_scores,
            "seconds": trial.seconds,
            "rung": trial.rung,
            "asked": None if trial.asked is None else trial.asked.as_dict(),
        }
        write_hashed(self._folder / f"{trial.key}.trial", facts, trial.oof)


# --- files of a run ---------------------------------------------------------------------------------


def _json(values: Any) -> bytes:
    return (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode("utf-8")


def write_json(path: Path, values: Any) -> None:
    """Write values as indented JSON, durably."""
    write_file(path, _json(values))


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file durably (UTF-8, ``\\n`` line ends)."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_file(path, buffer.getvalue().encode("utf-8"))


def write_trials(path: Path, trials: Sequence[Trial], failures: Sequence[tuple[Configuration, str]]) -> None:
    """Write ``trials.csv``: one row per configuration, by number; failures last with their reason."""
    rows: list[list[object]] = [
        [
            t.number,
            "dropped" if t.rung else "complete",
            t.configuration.head,
            t.configuration.resampler,
            f"{t.score:.6f}",
            t.rung,
            f"{t.seconds:.3f}",
            " ".join(f"{s:.6f}" for s in t.fold_scores),
            json.dumps(dict(t.configuration.parameters), sort_keys=True),
            "",
        ]
        for t in sorted(trials, key=lambda t: t.number)
    ]
    for configuration, reason in failures:
        parameters = json.dumps(dict(configuration.parameters), sort_keys=True)
        rows.append(
            ["", "failed", configuration.head, configuration.resampler, "", "", "", "", parameters, reason]
        )
    header = [
        "number",
        "state",
        "head",
        "resampler",
        "score",
        "rung",
        "seconds",
        "fold_scores",
        "parameters",
        "reason",
    ]
    write_csv(path, header, rows)


def write_out_of_fold(
    path: Path,
    ids: Sequence[str],
    fold_of: np.ndarray,
    labels: Sequence[str],
    probabilities: np.ndarray,
    class_names: Sequence[str],
) -> None:
    """Write ``oof.csv``: id, fold, label and one probability per class."""
    rows = [
        [guid, int(fold), label, *(f"{p:.6g}" for p in row)]
        for guid, fold, label, row in zip(ids, fold_of, labels, probabilities, strict=True)
    ]
    write_csv(path, ["id", "fold", "label", *(f"p_{name}" for name in class_names)], rows)


def write_predictions(path: Path, ids: Sequence[str], tags: Sequence[str]) -> None:
    """Write ``predictions.csv``: ``guid,tag``."""
    write_csv(path, ["guid", "tag"], zip(ids, tags, strict=True))
