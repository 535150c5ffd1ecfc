"""Doctor: it finds what would stop a pass, and names the command that goes on with unfinished work."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cache import PassFolder, canonical_json, sha256_hex
from pipelines import doctor, machine
from pipelines.cli import main
from tests.cache.builders import Toy
from tests.kit.processor_time import children_seconds
from tests.pipelines.conftest import World

ROOT = Path(__file__).resolve().parents[2]

WRITTEN = "pipelines.written_run"
PROMPTED = ["--prompts", "a {class}"]


def _json(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any], str]:
    """Run the doctor; return exit status, its JSON object and stderr."""
    capsys.readouterr()
    status = main(["doctor", "--json", *words])
    printed = capsys.readouterr()
    return status, json.loads(printed.out), printed.err


def test_doctor_answers_within_two_seconds_without_torch(tmp_path: Path) -> None:
    """An empty folder on a good machine is healthy, and nothing heavy is loaded to say so."""
    code = (
        "import sys; from pipelines.cli import main; status = main(['doctor', '--json']); "
        "heavy = {'torch', 'transformers', 'lightgbm', 'optuna', 'sklearn', 'pandas'} & set(sys.modules); "
        "sys.stderr.write(f'heavy: {sorted(heavy)}'); raise SystemExit(status)"
    )
    began = children_seconds()
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path.cwd()), "PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    seconds = children_seconds() - began
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["ok"], answer["faults"]) == (0, True, [])
    assert done.stderr.endswith("heavy: []")
    assert answer["versions"]["h5py"]
    assert "minilm-l6" in answer["offline"]
    assert answer["registered"] > len(answer["offline"])
    assert list(tmp_path.iterdir()) == []
    assert seconds < 3  # of processor time: 0.4 on a quiet machine, 0.8 on a busy one


def test_doctor_names_all_faults_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Files in the place of folders, a data set and a backbone that are not there: exit 1, all named."""
    file = tmp_path / "file"
    file.write_text("")
    named = ("--data", str(tmp_path / "gone"), "--backbone", "nonsense", "--out", str(file / "x"))
    status, answer, error = _json(capsys, *named, "--runs", str(file))
    assert status == 1
    assert error == "embedonce: 4 fault(s) would stop a pass; each is listed above.\n"
    data, backbone, out, runs = answer["faults"]
    assert runs == f"'{file}' is a file, but runs lie in a folder. Pass --runs DIR."
    assert "gone' does not exist" in data
    assert "Backbone 'nonsense' is not known" in backbone
    assert "file' is not a folder" in out
    status = main(["doctor", "--out", str(tmp_path / "file/x")])
    printed = capsys.readouterr().out
    assert status == 1
    assert "file' cannot be written to" in printed
    assert printed.count("FAULT: ") == 1


def test_doctor_plans_the_space_that_a_pass_needs(
    in_world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes of the planned pass are those of the pass's own dry run; a disk with less is a fault."""
    planned = ("--data", ".", "--backbone", str(in_world.clip), "--views", "2")
    status, answer, _ = _json(capsys, *planned)
    needed = answer["disk"]["needed_bytes"]
    assert (status, answer["faults"]) == (0, [])
    assert "'.' lists 97 samples with text and image" in answer["notes"]
    assert main(["extract", "--dry-run", "--json", *planned, "--out", "elsewhere"]) == 0
    assert json.loads(capsys.readouterr().out)["needed_bytes"] == needed
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=needed - 1))
    status, answer, _ = _json(capsys, *planned)
    assert status == 1
    assert "free, but the planned pass needs" in answer["faults"][0]


def test_doctor_names_missing_and_old_packages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A required package that is missing or too old is a fault with its remedy; one of an extra is not."""
    monkeypatch.chdir(tmp_path)
    wanted = ["no-such-package>=1", "numpy>=99", "no-such-extra; extra == 'demo'"]
    monkeypatch.setattr(doctor, "requires", lambda _: wanted)
    status, answer, _ = _json(capsys)
    assert status == 1
    assert answer["faults"][0] == "'no-such-package' is not installed: pip install 'no-such-package>=1'"
    assert "but >=99 is needed: pip install 'numpy>=99'" in answer["faults"][1]
    assert len(answer["faults"]) == 2
    assert answer["extras"]["demo"] == ["no-such-extra"]


def _stop(*_: object, **__: object) -> None:
    raise OSError(5, "Input/output error")


def _paste(command: str, folder: Path) -> str:
    """Run a command as a shell would, with the `embedonce` of this tree; return what it printed."""
    (folder / "bin").mkdir()
    script = folder / "bin" / "embedonce"
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m pipelines "$@"\n')
    script.chmod(0o755)
    environment = {"PATH": f"{script.parent}:/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_doctor_resumes_an_interrupted_pass_from_any_folder(
    in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pasted into a shell elsewhere, the command of a stopped pass embeds nothing again and publishes."""
    out = tmp_path / "some features"
    words = ["extract", "--backbone", str(in_world.clip), "--out", str(out), "--clean", "none"]
    words += ["--modality", "text", "--views", "1", "--limit", "20", "--max-bad", "5%"]
    with monkeypatch.context() as patch:
        patch.setattr(PassFolder, "publish", _stop)
        assert main(words) == 1
    _, answer, _ = _json(capsys, "--out", str(out))
    assert answer["unfinished"][0]["command"] == shlex.join(["embedonce", *words])
    monkeypatch.chdir(tmp_path)
    status, answer, _ = _json(capsys, "--out", "some features")
    (work,) = answer["unfinished"]
    assert (status, work["done"], work["total"], work["holder"]) == (0, 20, 20, "")
    assert work["command"].startswith(f"cd {in_world.root} && embedonce extract --backbone ")
    counts = json.loads(_paste(f"{work['command']} --json", tmp_path))["counts"]["text"]
    assert (counts["resumed"], counts["computed"]) == (20, 0)
    assert _json(capsys, "--out", "some features")[1]["unfinished"] == []


def test_doctor_resumes_a_pass_whose_command_is_not_known(
    in_world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a work folder that was moved, the plan says the settings; the folder of weights is left to say."""
    asked = ["--backbone", str(in_world.clip), "--clean", "none", "--modality", "text", "--views", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(PassFolder, "publish", _stop)
        assert main(["extract", *asked, "--out", str(tmp_path / "before")]) == 1
    out = tmp_path / "some features"
    (tmp_path / "before").rename(out)
    _, answer, _ = _json(capsys, "--out", str(out), "--data", ".")
    words = shlex.split(answer["unfinished"][0]["command"])
    assert words[:4] == ["embedonce", "extract", "--backbone", f"DIR/{in_world.clip.name}"]
    words[3] = str(in_world.clip)
    assert main([*words[1:], "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)["counts"]["text"]
    assert (counts["resumed"], counts["computed"]) == (97, 0)
    assert _json(capsys, "--out", str(out))[1]["unfinished"] == []


@pytest.mark.parametrize(
    "signed",
    [b"", b"{", b"[]", b"[" * 16_000, b'{"command": 1}', b'{"work": 1, "folder": 2, "command": ["extract"]}'],
)
def test_doctor_does_not_believe_a_damaged_lock_file(
    signed: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever stands in a lock file, the command is then made from the plan."""
    toy = Toy()
    with PassFolder(tmp_path / "toy.h5", toy.plan):
        pass
    (tmp_path / "toy.h5.work" / "LOCK").write_bytes(signed)
    _, answer, _ = _json(capsys, "--out", str(tmp_path))
    assert answer["unfinished"][0]["command"].startswith("embedonce extract --backbone DIR/toy --data PATH ")


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (
            ["tune", "--trials", "2", "--heads", "logreg", "--folds", "3"],
            f"{WRITTEN}.write_report",
        ),
        (["train", "--folds", "3", "--study", "it's mine"], f"{WRITTEN}.write_report"),
        (["train", "--head", "zero-shot", "--folds", "3", *PROMPTED], f"{WRITTEN}.write_report"),
        (["ablate", "--folds", "3"], "pipelines.runs.RunFolder.publish"),
        (["ablate", "--folds", "3", "--shuffles", "0", *PROMPTED], "pipelines.runs.RunFolder.publish"),
        (["stability", "--seeds", "2", "--splits", "2"], "pipelines.runs.RunFolder.publish"),
        (["augment", "--folds", "2", "--draws", "1", "--views", "1"], "pipelines.runs.RunFolder.publish"),
        (["robustness", "--rows", "9", "--faults", "typos,missing-image"], "pipelines.robustness._write"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_doctor_resumes_an_interrupted_run(
    words: list[str],
    where: str,
    in_world: World,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The command that it prints for a stopped run finishes that very run."""
    runs = str(tmp_path / "runs")
    shutil.copytree("runs/small", tmp_path / "runs" / "small")
    run = ["--run", f"{runs}/small"] if words[0] in ("stability", "augment", "robustness") else []
    if words[0] in ("augment", "robustness"):
        run += ["--data", "."]
    if words[0] in ("augment", "robustness") or "--prompts" in words:
        run += ["--weights", f"tiny-clip={in_world.clip}"]
    run += ["--out", runs] if words[0] != "robustness" else []
    with monkeypatch.context() as patch:
        patch.setattr(where, _stop)
        assert main([*words, *run]) == 1
    status, answer, _ = _json(capsys, "--runs", runs)
    (work,) = answer["unfinished"]
    assert status == 0
    kept = {path.suffix for path in Path(work["folder"]).rglob("*")} & {".trial", ".row", ".npz"}
    assert bool(work["done"]) == bool(kept) == (words[0] != "train")
    assert main(shlex.split(work["command"])[1:]) == 0
    done = Path(work["folder"].removesuffix(".work"))
    assert done.with_suffix(".json").is_file() or (done / "metrics.json").is_file()
    assert _json(capsys, "--runs", runs)[1]["unfinished"] == []


def test_doctor_names_who_holds_a_lock(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pass that is being written is shown with its process, and looking does not disturb it."""
    toy = Toy()
    with PassFolder(tmp_path / "toy.h5", toy.plan) as folder:
        _, answer, _ = _json(capsys, "--out", str(tmp_path))
        assert "process" in answer["unfinished"][0]["holder"]
        assert main(["doctor", "--out", str(tmp_path)]) == 0
        printed = capsys.readouterr().out
        assert "toy.h5.work: 0 of 20 done (held by process" in printed
        assert "go on with" not in printed
        folder.write("text", 0, 4, _first_rows(toy))
    _, answer, _ = _json(capsys, "--out", str(tmp_path))
    assert (answer["unfinished"][0]["holder"], answer["unfinished"][0]["done"]) == ("", 4)


def _first_rows(toy: Toy) -> Any:
    from tests.cache.builders import part

    return part(toy.data["text"], 0, 4)


def test_doctor_reports_damaged_work_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Plans and settings that cannot be read are faults with what to do, and none is a traceback."""
    (tmp_path / "features" / "a.h5.work").mkdir(parents=True)
    (tmp_path / "features" / "a.h5.work" / "plan.json").write_text("{")
    shards = tmp_path / "features" / "a.h5.work" / "shards"  # without any, a torn plan is no fault
    shards.mkdir()
    (shards / f"{0:010}-{2:010}-{'0' * 8}-{'0' * 16}.h5").write_bytes(b"")
    (tmp_path / "features" / "empty.h5.work").mkdir()
    fields = {"n_rows": 2, "modalities": ["text"]}  # the hash is right, but no pass writes such a plan
    plan = {"fingerprint": sha256_hex(canonical_json(fields)), "shard_rows": 1, "plan": fields}
    (tmp_path / "features" / "odd.h5.work").mkdir()
    (tmp_path / "features" / "odd.h5.work" / "plan.json").write_text(json.dumps(plan))
    secret = tmp_path / "secret.json"
    secret.write_text('{"command": "train"}')
    for name, content in (
        ("b", b"\xff"),
        ("c", b"[" * 200_000),
        ("d", b'{"command": "augment"}'),
        ("e", None),
    ):
        (tmp_path / "runs" / f"{name}.work").mkdir(parents=True)
        config = tmp_path / "runs" / f"{name}.work" / "config.json"
        config.symlink_to(secret) if content is None else config.write_bytes(content)
    status, answer, _ = _json(capsys, "--out", str(tmp_path / "features"), "--runs", str(tmp_path / "runs"))
    assert status == 1
    torn, odd, *runs = answer["faults"]
    assert "Delete the folder" in torn
    assert "odd.h5.work/plan.json' is not what a pass writes (KeyError: 'spaces')" in odd
    for fault, (name, said) in zip(
        runs,
        (("b", "invalid start byte"), ("c", "recursion"), ("d", "KeyError: 'inputs'"), ("e", "is a link")),
        strict=True,
    ):
        assert said in fault
        assert f"Remove '{tmp_path / 'runs' / name}.work'" in fault


@pytest.mark.parametrize(
    ("answer", "gpus", "note"),
    [
        ("NVIDIA H100 80GB HBM3, 81559, 81079\n", [("NVIDIA H100 80GB HBM3", 81559 << 20, 81079 << 20)], ""),
        ("Failed to initialize NVML\n", [], "does not answer as it should"),
    ],
)
def test_machine_reads_what_the_gpu_driver_says(
    answer: str, gpus: list[tuple[str, int, int]], note: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names and memory come from the driver's own tool; another answer is a note, not an error."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\nprintf '{answer}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = machine.look_at_machine()
    assert [(g.name, g.total_bytes, g.free_bytes) for g in found.gpus] == gpus
    assert note in found.gpu_note
    assert bool(note) == bool(found.gpu_note)
