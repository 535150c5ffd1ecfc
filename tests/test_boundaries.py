"""The floors: who may import whom, and what importing a floor may cost."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = {
    "cache": set(),
    "heads": set(),
    "extract": {"cache"},
    "tuning": {"heads"},
    "pipelines": {"cache", "heads", "extract", "tuning"},
}
HEAVY = ("torch", "transformers", "lightgbm", "optuna", "sklearn", "imblearn", "h5py", "pandas")


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("floor", ALLOWED)
def test_floor_imports_only_downwards(floor: str) -> None:
    """No module imports a floor that is beside or above its own."""
    wrong = {
        str(path.relative_to(ROOT)): found
        for path in (ROOT / floor).rglob("*.py")
        if (found := _imports(path) & (set(ALLOWED) - ALLOWED[floor] - {floor}))
    }
    assert wrong == {}


@pytest.mark.parametrize("floor", ALLOWED)
def test_floor_import_loads_nothing_heavy(floor: str) -> None:
    """Importing a floor loads none of the big libraries, so `--help` answers at once."""
    code = f"import sys, {floor}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_gpu_wing_needs_no_cpu_wing_library() -> None:
    """Cache and extract work on a machine without optuna, lightgbm and imbalanced-learn."""
    missing = ("optuna", "lightgbm", "imblearn")
    code = (
        f"import sys\nfor name in {missing!r}: sys.modules[name] = None\n"
        "import cache, extract\n"
        "for module in (cache, extract):\n    [getattr(module, name) for name in module.__all__]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("floor", ["cache", "heads", "extract", "tuning"])
def test_public_face_names_exist(floor: str) -> None:
    """Every name of a floor's `__all__` can be imported."""
    module = __import__(floor)
    assert [name for name in module.__all__ if getattr(module, name, None) is None] == []
